"""Runs on a cluster that can be caught in the middle."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.flink.cluster import Cluster as Flink
from infra.spark.cluster import Cluster as Spark
from tests.pipelines.flows import ROOT

HERE = Path(__file__).parent
SLOW = "modalities.note.extract={slow.Slow: {}}"
SECONDS = 600


def options(cluster: Flink | Spark, seconds: float = 0) -> list[str]:
    """Options that send the recipe there, and let each text take some seconds."""
    return cluster.options(PYTHONPATH=str(HERE), SECONDS_A_TEXT=str(seconds))


@contextmanager
def in_the_middle(
    digits: Path, output: Path, cluster: Flink | Spark, seconds: float = 0.02
) -> Iterator[subprocess.Popen[bytes]]:
    """A launcher whose job has extracted some buckets of the slow modality, and not all."""
    command = [sys.executable, "-m", "pipelines.cli", "fuse", str(digits), "--set", SLOW]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
    log = output.with_suffix(".log")
    with log.open("wb") as file:
        launcher = subprocess.Popen(
            [*command, "--to", str(output), *options(cluster, seconds)],
            stdout=file,
            stderr=file,
            env=environment,
        )
    try:
        end = time.monotonic() + SECONDS
        while extracted(output) < 2:
            assert launcher.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield launcher
    finally:
        launcher.kill()
        launcher.wait()


def extracted(output: Path) -> int:
    """Number of buckets of the slow modality that are done."""
    return len(list((output / "receipts/extract/note").glob("*.json")))


def children(pid: int | None) -> list[int]:
    """Processes that a process has started."""
    assert pid is not None
    command = ["ps", "-o", "pid=", "--ppid", str(pid)]
    return [int(one) for one in subprocess.check_output(command, text=True).split()]
