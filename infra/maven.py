"""Jars from Maven, into the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from infra.processes import CACHE, need

SECONDS = 1200


def scratch(wanted: Path) -> Path:
    """A name of this process's own, beside the wanted one.

    What is made under it is renamed in the end: so it is there whole or not at all.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    return wanted.with_name(f"{wanted.name}.{os.getpid()}.tmp")


def maven(pom: Path, what: str, *arguments: str) -> None:
    """Run Maven.

    Args:
        pom: the project.
        what: it gets, in words for a person who waits.
        arguments: goals and properties.

    Raises:
        SystemExit: if it fails; says how to see why.
    """
    need("java", "mvn")
    print(f"Maven: {what} (the first time only)", flush=True)
    command = ["mvn", "-B", "-ntp", "-q", "-f", str(pom), *arguments]
    try:
        subprocess.run(command, check=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    except subprocess.CalledProcessError:
        sys.exit(f"Maven failed; again by hand, with all it says: {' '.join(command)}")
    except subprocess.TimeoutExpired:
        sys.exit(f"Maven did not end within {SECONDS} s: is its repository reachable?")
