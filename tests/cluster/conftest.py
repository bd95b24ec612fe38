"""A Flink cluster and Prism for the tests, and what a plain local run gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.flink.cluster import TASK_MANAGERS, Cluster
from infra.prism.build import options as prism_options
from infra.processes import tail, wait_for
from pipelines.example import write_digits


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of the tests' own, with the jars of the checkout's cache."""
    cluster = Cluster(tmp_path_factory.mktemp("flink"))
    try:
        cluster.up()
        yield cluster
        for name in cluster.processes.names():
            assert cluster.processes.pid(name), f"{name} ended: {tail(cluster.processes.log(name))}"
    finally:
        cluster.down()


@pytest.fixture
def cluster(started: Cluster) -> Cluster:
    """The cluster, whole: a TaskManager that a test has killed is there again."""
    for name in TASK_MANAGERS:
        started.start_task_manager(name)
    wait_for(lambda: started.task_managers() == list(TASK_MANAGERS), "TaskManagers", 120)
    return started


@pytest.fixture(scope="session")
def prism() -> list[str]:
    """Options that run a pipeline on Prism."""
    return prism_options()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of the example data set."""
    return Path(write_digits(tmp_path_factory.mktemp("example") / "digits"))
