"""Whatever is killed in the middle of a run on Flink, the same bytes come out."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from infra.flink.cluster import Cluster
from tests.cluster.middle import HERE, SECONDS, SLOW, children, extracted, in_the_middle, options
from tests.pipelines.flows import hashes, must, sensorium


@pytest.fixture(scope="module")
def expected(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What comes out where nothing goes wrong."""
    output = tmp_path_factory.mktemp("whole") / "output"
    must("fuse", digits, "--set", SLOW, "--to", output, path=[HERE])
    return hashes(output)


def attempts(cluster: Cluster) -> int:
    """Most often that a task of the newest job was started."""
    job = cluster.get(f"/jobs/{cluster.jobs()[-1]['jid']}")
    return 1 + max(
        subtask["attempt"]
        for vertex in job["vertices"]
        for subtask in cluster.get(f"/jobs/{job['jid']}/vertices/{vertex['id']}")["subtasks"]
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
    with in_the_middle(digits, output, cluster, 0.2) as launcher:
        launcher.kill()
        launcher.wait()
        assert extracted(output) < 16
    assert json.loads((output / "job.json").read_text())["state"] == "running"
    left = cluster.jobs()[-1]["jid"]
    command = ["fuse", digits, "--set", SLOW, "--to", output]
    must(*command, *options(cluster), path=[HERE], timeout=SECONDS)
    # What it had left with Flink does not go on writing beside the new one.
    assert cluster.get(f"/jobs/{left}")["state"] == "CANCELED"
    assert "left by another launcher" in (output / "run.log").read_text()
    assert hashes(output) == expected


def test_an_interrupted_launcher_takes_its_job_with_it(
    digits: Path, cluster: Cluster, tmp_path: Path
) -> None:
    with in_the_middle(digits, tmp_path / "output", cluster, 0.2) as launcher:
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
