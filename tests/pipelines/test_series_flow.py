"""Series through the whole flow, from each kind of manifest, bad rows included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flows import must, sensorium, table

RATE = 50.0
BAD = {
    "none": (None, "extract", "missing_value"),
    "empty": ([], "extract", "empty"),
    "unknown": ([None, None], "extract", "missing_value"),
    "infinite": ([1.0, float("inf"), 2.0], "ingest", "infinite"),
    "long": ([0.0] * 401, "extract", "too_long"),
}
RECIPE = """\
name: sway
modalities:
  sway:
    kind: series
    source: {path: FILE, column: values}
    rate: 50
    max_length: 400
    extract:
      statistics: {}
      resampled: {length: 16, standardize: true}
      bands: {bands: [0, 2, 5, 10, 25]}
target: {source: {path: labels.csv}, column: label}
split: {folds: 3, test_share: 0.2}
max_dead_letters: 0.2
"""


def sway(number: int) -> list[float | None]:
    """About 3 Hz or about 8 Hz, 1 to 6 seconds; a value in thirty is missing."""
    rng = np.random.default_rng(number)
    time = np.arange(rng.integers(50, 300)) / RATE
    hertz = (3, 8)[number % 2] * rng.uniform(0.9, 1.1)
    wave = rng.normal(0, 3) + np.sin(2 * np.pi * (hertz * time + rng.uniform()))
    values = (wave + rng.normal(0, 0.5, len(time))).round(3).tolist()
    return [None if i % 30 == 7 else value for i, value in enumerate(values)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows: dict[str, Any] = {f"k{i:03d}": sway(i) for i in range(60)}
    rows |= {key: value for key, (value, _, _) in BAD.items()}
    lines = [json.dumps({"key": key, "values": values}) for key, values in rows.items()]
    (tmp_path / "sway.jsonl").write_text("\n".join(lines).replace("Infinity", "1e999") + "\n")
    columns = {"key": list(rows), "values": pa.array(list(rows.values()), pa.list_(pa.float64()))}
    pq.write_table(pa.table(columns), tmp_path / "sway.parquet")
    # As pandas writes lists.
    cells = [f'{key},"{"" if values is None else values}"' for key, values in rows.items()]
    (tmp_path / "sway.csv").write_text("\n".join(["key,values", *cells]) + "\n")
    labels = [f"{key},{['slow', 'fast'][i % 2]}" for i, key in enumerate(rows)]
    (tmp_path / "labels.csv").write_text("\n".join(["key,label", *labels]) + "\n")
    for ending in ("jsonl", "parquet", "csv"):
        (tmp_path / f"{ending}.yaml").write_text(RECIPE.replace("FILE", f"sway.{ending}"))
    return tmp_path


@pytest.mark.slow
def test_series_from_each_kind_of_manifest(folder: Path) -> None:
    found = {}
    for ending, command in (("jsonl", "run"), ("parquet", "extract"), ("csv", "extract")):
        output = folder / ending
        must(command, folder / f"{ending}.yaml", "--to", output)
        letters = {
            letter["key"]: (letter["step"], letter["kind"])
            for file in (output / "dead_letters").rglob("*.parquet")
            for letter in pq.read_table(file).to_pylist()
        }
        assert letters == {key: (step, kind) for key, (_, step, kind) in BAD.items()}
        features = table(output, "features/sway").sort_by("key")
        assert len(features) == 60
        found[ending] = features.column("features").to_pylist()
    assert found["jsonl"] == found["parquet"] == found["csv"]
    report = folder / "jsonl" / "report"
    assert json.loads((report / "audit.json").read_text())["balanced"]
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["fused"]["cross_validation"]["accuracy"] > 0.95


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["source.column=valuse"], ["sway.csv has no column 'valuse'; did you mean 'values'?"]),
        (["source={path: labels.csv, column: label}"], ["'slow' is not a number"]),
        (
            ["rate=0", "extract.bands.bands=many"],
            ["rate: must be at least 1e-09", "must be a whole number or a list, got 'many'"],
        ),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said(
    folder: Path, settings: list[str], words: list[str]
) -> None:
    sets = [part for one in settings for part in ("--set", f"modalities.sway.{one}")]
    done = sensorium("validate", folder / "csv.yaml", *sets)
    assert done.returncode == 2
    assert all(one in done.stderr for one in words), done.stderr
    assert "Traceback" not in done.stderr
