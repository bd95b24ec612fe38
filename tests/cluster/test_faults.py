"""Whatever is killed in the middle of a run on Flink, the same bytes come out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.flink.cluster import Cluster
from tests.pipelines.flows import ROOT, hashes, must, sensorium

HERE = Path(__file__).parent
SLOW = "modalities.note.extract={slow.Slow: {}}"
SECONDS = 600


@pytest.fixture(scope="module")
def expected(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What comes out where nothing goes wrong."""
    output = tmp_path_factory.mktemp("whole") / "output"
    must("fuse", digits, "--set", SLOW, "--to", output, path=[HERE])
    return hashes(output)


def options(cluster: Cluster) -> list[str]:
    return cluster.options(PYTHONPATH=str(HERE))


@contextmanager
def in_the_middle(
    digits: Path, output: Path, cluster: Cluster
) -> Iterator[subprocess.Popen[bytes]]:
    """A launcher whose job has extracted some buckets of the slow modality, and not all."""
    command = [sys.executable, "-m", "pipelines.cli", "fuse", str(digits), "--set", SLOW]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
    log = output.with_suffix(".log")
    with log.open("wb") as file:
        launcher = subprocess.Popen(
            [*command, "--to", str(output), *options(cluster)],
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


def attempts(cluster: Cluster) -> int:
    """Most often that a task of the newest job was started."""
    job = cluster.rest(f"/jobs/{cluster.jobs()[-1]['jid']}")
    return 1 + max(
        subtask["attempt"]
        for vertex in job["vertices"]
        for subtask in cluster.rest(f"/jobs/{job['jid']}/vertices/{vertex['id']}")["subtasks"]
    )


def test_a_killed_task_manager(
    digits: Path, expected: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    with in_the_middle(digits, output, cluster) as launcher:
        cluster.processes.kill("taskmanager-1")
        assert extracted(output) < 16
        assert launcher.wait(timeout=SECONDS) == 0, output.with_suffix(".log").read_text()
    assert cluster.task_managers() == ["taskmanager-2"]
    assert attempts(cluster) > 1
    assert hashes(output) == expected


def test_a_killed_python_worker(
    digits: Path, expected: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    with in_the_middle(digits, output, cluster) as launcher:
        workers = children(cluster.processes.pid("taskmanager-2"))
        assert workers
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        assert extracted(output) < 16
        assert launcher.wait(timeout=SECONDS) == 0, output.with_suffix(".log").read_text()
    assert attempts(cluster) > 1
    assert hashes(output) == expected


def test_a_killed_launcher_run_again(
    digits: Path, expected: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    with in_the_middle(digits, output, cluster) as launcher:
        launcher.kill()
        launcher.wait()
        assert extracted(output) < 16
    assert json.loads((output / "job.json").read_text())["state"] == "running"
    left = cluster.jobs()[-1]["jid"]
    command = ["fuse", digits, "--set", SLOW, "--to", output]
    must(*command, *options(cluster), path=[HERE], timeout=SECONDS)
    # What it had left with Flink does not go on writing beside the new one.
    assert cluster.rest(f"/jobs/{left}")["state"] == "CANCELED"
    assert "left by another launcher" in (output / "run.log").read_text()
    assert hashes(output) == expected


def test_an_interrupted_launcher_takes_its_job_with_it(
    digits: Path, cluster: Cluster, tmp_path: Path
) -> None:
    with in_the_middle(digits, tmp_path / "output", cluster) as launcher:
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(timeout=SECONDS) == 130
    assert cluster.jobs()[-1]["state"] == "CANCELED"


def test_a_worker_that_never_comes(digits: Path, cluster: Cluster, tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    boot.write_text("#!/bin/sh\nexec sleep 3600\n")  # alive, but says nothing to the runner
    boot.chmod(0o755)
    environment = f"--environment_config={json.dumps({'command': str(boot)})}"
    where = [one for one in cluster.options() if not one.startswith("--environment_config")]
    output = tmp_path / "output"
    done = sensorium(
        "fuse", digits, "--to", output, *where, environment, "--worker_timeout=10", timeout=SECONDS
    )
    assert done.returncode == 1
    assert f"failed: no worker has written to {output} within 10 s" in done.stderr
    assert "--worker_timeout" in done.stderr
    assert "Traceback" not in done.stderr
    assert cluster.jobs()[-1]["state"] == "CANCELED"


def test_a_worker_that_cannot_start(digits: Path, cluster: Cluster, tmp_path: Path) -> None:
    environment = f"--environment_config={json.dumps({'command': str(tmp_path / 'none')})}"
    where = [one for one in cluster.options() if not one.startswith("--environment_config")]
    done = sensorium(
        "fuse", digits, "--to", tmp_path / "output", *where, environment, timeout=SECONDS
    )
    assert done.returncode == 1
    assert "failed: no worker could begin" in done.stderr
    assert f'{{"command": "{tmp_path / "none"}"}} says' in done.stderr
    assert "No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_of_the_data_says_what_it_says_locally(
    digits: Path, cluster: Cluster, tmp_path: Path
) -> None:
    wrong = ("fuse", digits, "--set", "modalities.image.duplicates=error", "--to")
    local = sensorium(*wrong, tmp_path / "local")
    there = sensorium(*wrong, tmp_path / "there", *cluster.options(), timeout=SECONDS)
    assert local.returncode == there.returncode == 1
    said = [one.stderr.strip().splitlines()[-1] for one in (local, there)]
    # Which of the buckets with such keys comes first differs from run to run.
    which = re.compile(r"'d\d+' has several rows \(.*?\)")
    assert all(which.search(one) for one in said), said
    assert which.sub("", said[0]) == which.sub("", said[1])
