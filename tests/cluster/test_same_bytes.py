"""The same recipe gives the same bytes on every runner, however many workers it has."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from infra.flink.cluster import TASK_MANAGERS, Cluster
from tests.pipelines.flows import SAME, hashes, must


def test_two_local_workers(recipe: Path, expected: dict[str, str], tmp_path: Path) -> None:
    must("fuse", recipe, "--to", tmp_path, "--direct_num_workers=2")
    assert hashes(tmp_path, *SAME) == expected


def test_prism(recipe: Path, expected: dict[str, str], prism: list[str], tmp_path: Path) -> None:
    before = running("prism")
    must("fuse", recipe, "--to", tmp_path, *prism, timeout=600)
    assert hashes(tmp_path, *SAME) == expected
    assert running("prism") <= before  # it has ended with the launcher


def running(name: str) -> set[str]:
    """Pids of all processes of a program."""
    lines = subprocess.check_output(["ps", "-e", "-o", "pid=,comm="], text=True).splitlines()
    return {pid for pid, command in (line.split(maxsplit=1) for line in lines) if command == name}


def test_flink(recipe: Path, expected: dict[str, str], cluster: Cluster, tmp_path: Path) -> None:
    before = {job["jid"] for job in cluster.jobs()}
    must("fuse", recipe, "--to", tmp_path, *cluster.options(), timeout=600)
    assert hashes(tmp_path, *SAME) == expected
    jobs = [job for job in cluster.jobs() if job["jid"] not in before]
    assert len(jobs) == len(json.loads((tmp_path / "job.json").read_text())["runner_jobs"]) >= 1
    for job in jobs:
        assert job["state"] == "FINISHED"
        read = cluster.records_read(job["jid"])
        assert set(read) == set(TASK_MANAGERS)
        assert all(count > 0 for count in read.values()), read
