"""Flink and Beam's job server for it, from Maven, into the cache.

    python -m infra.flink.jars

The first time takes a minute or two and some 250 MB from a Maven repository (~/.m2/settings.xml
says which, as for any other build); after that nothing is done.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from infra.maven import maven, scratch
from infra.processes import CACHE

HERE = Path(__file__).resolve().parent


def flink_jars() -> Path:
    """Folder with Flink's jars."""
    wanted = CACHE / "flink-jars"
    if not wanted.is_dir():
        new = scratch(wanted)
        maven(
            HERE / "cluster_jars" / "pom.xml",
            "Flink",
            "dependency:copy-dependencies",
            f"-DoutputDirectory={new}",
        )
        new.rename(wanted)  # whole or not at all, however it ends
    return wanted


def job_server_jar() -> Path:
    """Beam's job server for Flink."""
    wanted = CACHE / "flink-job-server.jar"
    if not wanted.is_file():
        new = scratch(wanted)
        new.mkdir(parents=True)
        jar = new / "job-server.jar"
        maven(
            HERE / "job_server" / "pom.xml",
            "its job server",
            "package",
            f"-DbuildDirectory={new}",
            f"-Doutput={jar}",
        )
        jar.rename(wanted)
        shutil.rmtree(new)
    return wanted


if __name__ == "__main__":
    print(flink_jars(), job_server_jar(), sep="\n")
