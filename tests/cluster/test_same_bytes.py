"""The same recipe gives the same bytes on every runner, however many workers it has."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from infra.flink.cluster import TASK_MANAGERS, Cluster
from tests.pipelines.flows import ROOT, hashes, must
from tests.pipelines.vectors import write_vectors

DATA = ROOT.parent / "shared" / "data"
COMPARE = {
    "method": "compare",
    "strategies": {
        "side by side": {"method": "concatenate"},
        "product rule": {"method": "average", "of": "decisions"},
        "tree": {"method": "hierarchical"},
    },
}


@pytest.fixture(scope="module", params=["digits", "emoji", "wesnoth", "compared"])
def recipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe; `compared` leaves the strategy open, so that it takes two graphs."""
    if request.param == "digits":
        return request.getfixturevalue("digits")
    if request.param == "compared":
        return write_vectors(tmp_path_factory.mktemp("compared"), COMPARE)
    if not (DATA / request.param).is_dir():
        pytest.skip(f"the data set {DATA / request.param} is not there")
    return ROOT / "tests" / "recipes" / f"{request.param}.yaml"


@pytest.fixture(scope="module")
def expected(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """SHA-256 of every file of records, features, fused and fitted, by one local worker."""
    output = tmp_path_factory.mktemp("one") / "output"
    must("fuse", recipe, "--to", output, "--direct_num_workers=1")
    found = hashes(output)
    assert {name.partition("/")[0] for name in found} == {"records", "features", "fused", "fitted"}
    return found


def test_two_local_workers(recipe: Path, expected: dict[str, str], tmp_path: Path) -> None:
    must("fuse", recipe, "--to", tmp_path, "--direct_num_workers=2")
    assert hashes(tmp_path) == expected


def test_prism(recipe: Path, expected: dict[str, str], prism: list[str], tmp_path: Path) -> None:
    before = running("prism")
    must("fuse", recipe, "--to", tmp_path, *prism, timeout=600)
    assert hashes(tmp_path) == expected
    assert running("prism") <= before  # it has ended with the launcher


def running(name: str) -> set[str]:
    """Pids of all processes of a program."""
    lines = subprocess.check_output(["ps", "-e", "-o", "pid=,comm="], text=True).splitlines()
    return {pid for pid, command in (line.split(maxsplit=1) for line in lines) if command == name}


def test_flink(recipe: Path, expected: dict[str, str], cluster: Cluster, tmp_path: Path) -> None:
    before = {job["jid"] for job in cluster.jobs()}
    must("fuse", recipe, "--to", tmp_path, *cluster.options(), timeout=600)
    assert hashes(tmp_path) == expected
    jobs = [job for job in cluster.jobs() if job["jid"] not in before]
    assert len(jobs) == len(json.loads((tmp_path / "job.json").read_text())["runner_jobs"]) >= 1
    for job in jobs:
        assert job["state"] == "FINISHED"
        read = cluster.records_read(job["jid"])
        assert set(read) == set(TASK_MANAGERS)
        assert all(count > 0 for count in read.values()), read
