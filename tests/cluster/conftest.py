"""Clusters and Prism for the tests, recipes, and what a plain local run of them gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from infra.clusters import LocalCluster
from infra.flink.cluster import TASK_MANAGERS, Cluster
from infra.prism.build import options as prism_options
from infra.processes import Processes, tail, wait_for
from infra.spark.cluster import WORKERS
from infra.spark.cluster import Cluster as Spark
from pipelines.example import write_digits
from tests.pipelines.flows import ROOT, SAME, hashes, must
from tests.pipelines.vectors import write_vectors

C = TypeVar("C", bound=LocalCluster)
DATA = ROOT.parent / "shared" / "data"
COMPARE = {
    "method": "compare",
    "strategies": {
        "side by side": {"method": "concatenate"},
        "product rule": {"method": "average", "of": "decisions"},
        "tree": {"method": "hierarchical"},
    },
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@contextmanager
def running(cluster: C) -> Iterator[C]:
    """A cluster while it is up: at the end nothing of it has ended by itself."""
    try:
        cluster.up()
        yield cluster
        still_there(cluster.processes)
    finally:
        cluster.down()


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of the tests' own, with the jars of the checkout's cache."""
    with running(Cluster(tmp_path_factory.mktemp("flink"))) as cluster:
        yield cluster


def still_there(processes: Processes) -> None:
    """See that nothing has ended by itself."""
    for name in processes.names():
        assert processes.pid(name), f"{name} ended: {tail(processes.log(name))}"


@pytest.fixture
def cluster(started: Cluster) -> Cluster:
    """The cluster, whole: a TaskManager that a test has killed is there again."""
    for name in TASK_MANAGERS:
        started.start_task_manager(name)
    wait_for(lambda: started.task_managers() == list(TASK_MANAGERS), "TaskManagers", 120)
    return started


@pytest.fixture(scope="session")
def started_spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    """The same of Spark."""
    with running(Spark(tmp_path_factory.mktemp("spark"))) as cluster:
        yield cluster


@pytest.fixture
def spark(started_spark: Spark) -> Spark:
    """The cluster, whole: a worker that a test has killed is there again."""
    for name in WORKERS:
        started_spark.start_worker(name)
    wait_for(lambda: started_spark.overview()["aliveworkers"] >= len(WORKERS), "workers", 120)
    return started_spark


@pytest.fixture(scope="session")
def prism() -> list[str]:
    """Options that run a pipeline on Prism."""
    return prism_options()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of the example data set."""
    return Path(write_digits(tmp_path_factory.mktemp("example") / "digits"))


@pytest.fixture(scope="session", params=["digits", "emoji", "wesnoth", "compared"])
def recipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe; `compared` leaves the strategy open, so that it takes two graphs."""
    if request.param == "digits":
        return request.getfixturevalue("digits")
    if request.param == "compared":
        return write_vectors(tmp_path_factory.mktemp("compared"), COMPARE)
    if not (DATA / request.param).is_dir():
        pytest.skip(f"the data set {DATA / request.param} is not there")
    return ROOT / "tests" / "recipes" / f"{request.param}.yaml"


@pytest.fixture(scope="session")
def expected(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """SHA-256 of every file that must not depend on the runner, by one local worker."""
    output = tmp_path_factory.mktemp("one") / "output"
    must("fuse", recipe, "--to", output, "--direct_num_workers=1")
    found = hashes(output, *SAME)
    assert {name.partition("/")[0] for name in found} == {part.partition("/")[0] for part in SAME}
    return found
