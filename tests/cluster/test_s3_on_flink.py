"""Inputs and output on S3, the work on Flink: the same bytes as on local paths."""

from __future__ import annotations

from pathlib import Path

from infra.flink.cluster import TASK_MANAGERS, Cluster
from pipelines.example import write_digits
from tests.pipelines.flows import hashes, must
from tests.pipelines.s3_server import Bucket, environment


def test_from_s3_to_s3_on_flink(cluster: Cluster, s3: Bucket, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    recipe = write_digits(folder, 100)
    must("fuse", recipe, "--to", tmp_path / "local", "--direct_num_workers=1")
    url = s3.take(folder, "in")
    options = cluster.options(**environment(s3.gate.url))
    args = ("fuse", f"{url}/recipe.yaml", "--to", f"{s3.url}/out", *options)
    before = {job["jid"] for job in cluster.jobs()}
    must(*args, timeout=600, cwd=tmp_path)

    ours, local = hashes(s3.folder / "out"), hashes(tmp_path / "local")
    # A missing remote payload shows when it is read, not at ingest: its record is there.
    differ = {name for name in ours | local if ours.get(name) != local.get(name)}
    assert all(name.startswith("records/image/") for name in differ)
    assert len(differ) <= 2
    (job,) = [job for job in cluster.jobs() if job["jid"] not in before]
    read = cluster.records_read(job["jid"])
    assert set(read) == set(TASK_MANAGERS)
    assert all(count > 0 for count in read.values()), read

    puts = s3.gate.puts
    again = must(*args, timeout=600, cwd=tmp_path)
    assert "Nothing to do" in again.stderr
    assert s3.gate.puts == puts
