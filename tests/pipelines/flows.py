"""Helpers of the flow's tests: real recipes on real files, run as a person would run them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.tables import unpacked_vectors, vectors

ROOT = Path(__file__).resolve().parents[2]
HIDDEN = Path(__file__).parent / "hidden"
SAME = ("records", "features", "fused", "fitted", "report/audit.json")
"""What is the same in bytes from the same recipe and inputs, however it was made."""


def sensorium(
    *args: str | Path,
    path: Sequence[Path] = (),
    variables: Mapping[str, str] | None = None,
    timeout: float = 300,
    **options: object,
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, without pandas: see `hidden`.

    Args:
        args: of the command line.
        path: more folders for its imports.
        variables: more of the environment.
        timeout: in seconds.
        options: for the process.
    """
    command = [sys.executable, "-m", "pipelines.cli", *map(str, args)]
    folders = os.pathsep.join(map(str, [ROOT, HIDDEN, *path]))
    environment = {**os.environ, "PYTHONPATH": folders, "COLUMNS": "200", **(variables or {})}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment,
        **options,
    )


def must(*args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line, as `sensorium` does; it must succeed."""
    done = sensorium(*args, **options)
    assert done.returncode == 0, f"{args}\n{done.stdout}\n{done.stderr}"
    return done


def hashes(output: Path, *folders: str) -> dict[str, str]:
    """SHA-256 of every file in some folders of an output, or of single files."""
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders or ("records", "features", "fused", "fitted")
        for path in (output / folder, *sorted((output / folder).rglob("*")))
        if path.is_file()
    }


def times(output: Path, *folders: str) -> dict[str, int]:
    """Time of modification of every file in some folders of an output."""
    return {
        str(path.relative_to(output)): path.stat().st_mtime_ns
        for folder in folders
        for path in sorted((output / folder).rglob("*"))
        if path.is_file()
    }


def table(output: Path, folder: str) -> pa.Table:
    """All files of a folder as one table; features as lists of numbers."""
    files = sorted((output / folder).rglob("bucket-*.parquet"))
    found = pa.concat_tables([pq.read_table(file) for file in files])
    if "features" in found.column_names:
        lists = vectors(unpacked_vectors(found["features"]))
        found = found.set_column(found.column_names.index("features"), "features", lists)
    return found
