"""The whole flow with inputs and output on a real S3 server: the same bytes as on local paths."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from flows import hashes, must, sensorium
from s3_server import Bucket
from vectors import write_vectors

from pipelines.example import write_digits

KEYS = 150
LATE = "a payload is missing"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, its local output, and a local prediction of the same records with it."""
    folder = tmp_path_factory.mktemp("s3_flow") / "digits"
    write_digits(folder, KEYS)
    must("run", folder / "recipe.yaml", "--to", folder / "output")
    return folder


def all_but_logs(output: Path) -> dict[str, str]:
    """Hashes of all that the flow writes, but for what names where it lies, or when."""
    folders = ("records", "features", "fused", "fitted", "model", "predictions", "statistics")
    return hashes(output, *folders) | {
        name: (output / name).read_bytes().hex()
        for name in ("report/audit.json", "report/metrics.json")
    }


@pytest.mark.slow
def test_the_example_from_s3_to_s3(digits: Path, s3: Bucket, tmp_path: Path) -> None:
    output = digits / "output"
    url = s3.take(digits, "in")
    done = must("run", f"{url}/recipe.yaml", "--to", f"{s3.url}/out", cwd=tmp_path, timeout=900)
    assert "Traceback" not in (tmp_path / "sensorium.log").read_text()
    assert "Unclosed" not in done.stderr + (tmp_path / "sensorium.log").read_text()

    ours, local = all_but_logs(s3.folder / "out"), all_but_logs(output)
    # Remote payloads are not asked for one by one at ingest: one that is missing is a dead letter
    # of the step that reads it, so its record is there, and in that bucket's file alone.
    late = lost(output, "ingest") - lost(s3.folder / "out", "ingest")
    assert late == lost(s3.folder / "out", "extract") - lost(output, "extract")
    assert len(late) < 3
    differ = {name for name in ours | local if ours.get(name) != local.get(name)}
    # The audit holds hashes of the receipts, which tell of what the inputs were.
    assert differ - {"report/audit.json"} == {f"records/image/{bucket}" for bucket in late}

    # A second run looks, and does nothing.
    before = s3.gate.puts
    again = must("run", f"{url}/recipe.yaml", "--to", f"{s3.url}/out", cwd=tmp_path, timeout=900)
    assert "Nothing to do" in again.stderr
    assert s3.gate.puts == before


def lost(output: Path, step: str) -> set[str]:
    """Buckets with a missing image among the dead letters of a step."""
    found = sorted((output / "dead_letters" / step / "image").glob("bucket-*.parquet"))
    return {
        file.name for file in found if "missing_file" in pq.read_table(file)["kind"].to_pylist()
    }


@pytest.mark.slow
def test_predictions_from_s3_to_s3(s3: Bucket, tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    folder.mkdir()
    recipe = write_vectors(folder, {"method": "average", "shared": "pca", "dimension": 4})
    must("run", recipe, "--to", folder / "output")
    must("predict", folder / "output", "--recipe", recipe, "--to", folder / "predicted")
    url = s3.take(folder, "in")
    # Where a name has to be looked up, the client has threads of its own before workers fork.
    by_name = {"AWS_ENDPOINT_URL": s3.gate.url.replace("127.0.0.1", "localhost")}
    args = ("predict", f"{url}/output", "--recipe", f"{url}/recipe.yaml", "--to", f"{s3.url}/out")
    done = sensorium(*args, variables=by_name, cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    ours, local = (hashes(at, "predictions") for at in (s3.folder / "out", folder / "predicted"))
    assert ours == local
    assert len(ours) == 16


@pytest.mark.slow
def test_only_what_a_change_touches_is_redone(s3: Bucket, tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    folder.mkdir()
    write_vectors(folder, {"method": "concatenate"})
    url = s3.take(folder, "in")
    args = ("run", f"{url}/recipe.yaml", "--to", f"{s3.url}/out")
    must(*args, cwd=tmp_path, timeout=900)

    # Another strategy: records and features stay.
    s3.gate.reset()
    must(*args, "--set", "fuse.scale=none", cwd=tmp_path, timeout=900)
    assert s3.gate.puts < 16 * 4 + 30
    assert "scale: none" in (s3.folder / "out/recipe.yaml").read_text()

    # Another number of buckets: of the old files none is left.
    state = s3.folder / "out/receipts/state.json"
    old = json.loads(state.read_text())
    many = write_vectors(tmp_path, {"method": "concatenate"}, keys=33_000)
    for file in tmp_path.glob("*.parquet"):
        (s3.folder / "in" / file.name).write_bytes(file.read_bytes())
    (s3.folder / "in/labels.csv").write_bytes((tmp_path / "labels.csv").read_bytes())
    must(*args, cwd=tmp_path, timeout=900)
    must("run", many, "--to", tmp_path / "local")
    assert json.loads(state.read_text())["buckets"] == 32 > old["buckets"]
    assert hashes(s3.folder / "out") == hashes(tmp_path / "local")
