"""Flink and Beam's job server for it, from Maven, into the cache.

    python -m infra.flink.jars

The first time takes a minute or two and some 250 MB from a Maven repository (~/.m2/settings.xml
says which, as for any other build); after that nothing is done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from infra.processes import CACHE, need

HERE = Path(__file__).resolve().parent
SECONDS = 1200


def flink_jars() -> Path:
    """Folder with Flink's jars."""
    wanted = CACHE / "flink-jars"
    if not wanted.is_dir():
        new = _scratch(wanted)
        _maven("cluster_jars", "dependency:copy-dependencies", f"-DoutputDirectory={new}")
        new.rename(wanted)  # whole or not at all, however it ends
    return wanted


def job_server_jar() -> Path:
    """Beam's job server for Flink."""
    wanted = CACHE / "flink-job-server.jar"
    if not wanted.is_file():
        new = _scratch(wanted)
        new.mkdir(parents=True)
        jar = new / "job-server.jar"
        _maven("job_server", "package", f"-DbuildDirectory={new}", f"-Doutput={jar}")
        jar.rename(wanted)
        shutil.rmtree(new)
    return wanted


def _scratch(wanted: Path) -> Path:
    """A name of this process's own, beside the wanted one."""
    CACHE.mkdir(parents=True, exist_ok=True)
    return wanted.with_name(f"{wanted.name}.{os.getpid()}.tmp")


def _maven(module: str, *arguments: str) -> None:
    need("java", "mvn")
    print(f"Maven: {module} (the first time only)", flush=True)
    command = ["mvn", "-B", "-ntp", "-q", "-f", str(HERE / module / "pom.xml"), *arguments]
    try:
        subprocess.run(command, check=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    except subprocess.CalledProcessError:
        sys.exit(f"Maven failed; again by hand, with all it says: {' '.join(command)}")
    except subprocess.TimeoutExpired:
        sys.exit(f"Maven did not end within {SECONDS} s: is its repository reachable?")


if __name__ == "__main__":
    print(flink_jars(), job_server_jar(), sep="\n")
