"""The same bytes on Spark, also where something is killed in the middle."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from infra.processes import wait_for
from infra.spark.cluster import WORKERS, Cluster
from tests.cluster.middle import HERE, SECONDS, SLOW, children, extracted, in_the_middle, options
from tests.pipelines.flows import SAME, hashes, must, sensorium


@pytest.fixture(scope="module")
def undisturbed(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What comes out of the slow recipe where nothing goes wrong."""
    output = tmp_path_factory.mktemp("whole") / "output"
    must("fuse", digits, "--set", SLOW, "--to", output, path=[HERE])
    return hashes(output)


def test_the_same_bytes(
    recipe: Path, expected: dict[str, str], spark: Cluster, tmp_path: Path
) -> None:
    before = set(spark.applications())
    must("fuse", recipe, "--to", tmp_path, *spark.options(), timeout=SECONDS)
    assert hashes(tmp_path, *SAME) == expected
    new = set(spark.applications()) - before
    assert new
    for application in new:
        tasks = spark.tasks(application)
        assert {worker for worker, _ in tasks} == set(WORKERS)
        assert all(well for _, well in tasks)


def executor(cluster: Cluster, worker: str) -> int:
    """The process in which a worker does the tasks of the one job that runs."""
    (pid,) = children(cluster.processes.pid(worker))
    return pid


def went_on(cluster: Cluster) -> bool:
    """Whether the newest job has lost tasks, and gone on."""
    tasks = [well for _, well in cluster.tasks(cluster.applications()[-1])]
    return False in tasks and tasks[-1]


def test_a_killed_worker(
    digits: Path, undisturbed: dict[str, str], spark: Cluster, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    with in_the_middle(digits, output, spark) as launcher:
        os.kill(executor(spark, "worker-1"), signal.SIGKILL)
        spark.processes.kill("worker-1")
        assert extracted(output) < 16
        assert launcher.wait(timeout=SECONDS) == 0, output.with_suffix(".log").read_text()
    assert went_on(spark)
    assert hashes(output) == undisturbed


def test_a_killed_python_worker(
    digits: Path, undisturbed: dict[str, str], spark: Cluster, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    with in_the_middle(digits, output, spark) as launcher:
        (worker,) = children(executor(spark, "worker-2"))
        os.kill(worker, signal.SIGKILL)
        assert extracted(output) < 16
        assert launcher.wait(timeout=SECONDS) == 0, output.with_suffix(".log").read_text()
    assert went_on(spark)
    assert hashes(output) == undisturbed


def test_a_killed_launcher_run_again(
    digits: Path, undisturbed: dict[str, str], spark: Cluster, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    with in_the_middle(digits, output, spark, 0.2) as launcher:
        launcher.kill()
        launcher.wait()
        assert extracted(output) < 16
    command = ["fuse", digits, "--set", SLOW, "--to", output, *options(spark)]
    must(*command, path=[HERE], timeout=SECONDS)
    # The job server holds one Spark context: what was left there had to make room.
    assert not spark.overview()["activeapps"]
    assert hashes(output) == undisturbed


def test_an_interrupted_launcher_takes_its_job_with_it(
    digits: Path, spark: Cluster, tmp_path: Path
) -> None:
    with in_the_middle(digits, tmp_path / "output", spark, 0.2) as launcher:
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(timeout=SECONDS) == 130
    wait_for(lambda: not spark.overview()["activeapps"], "the job still runs", 60)


def test_an_error_in_the_data_ends_the_job_with_its_cause(
    digits: Path, spark: Cluster, tmp_path: Path
) -> None:
    command = ["ingest", digits, "--set", "modalities.image.duplicates=error", "--to", tmp_path]
    done = sensorium(*command, *spark.options(), timeout=SECONDS)
    assert done.returncode == 1
    # Which of the buckets with such a key fails first is chance.
    assert re.search(r"failed: image: key 'd\d+' has several rows \(images.csv row ", done.stderr)
    assert "Traceback" not in done.stderr
