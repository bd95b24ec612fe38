"""Conditional means of missing modalities through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from flows import hashes, must, sensorium, table
from test_trees_flow import TWO_LEVELS, check_predictions, compare_with_memory
from vectors import metrics_of, write_recipe, write_vectors

from schemas.tables import matrix

CONDITIONAL = {"missing": "conditional"}
PLAIN = {"method": "concatenate"}


@pytest.mark.slow
def test_the_same_bytes_for_any_workers_and_at_prediction(tmp_path: Path) -> None:
    recipe = write_vectors(tmp_path, PLAIN, join=CONDITIONAL)
    one, two = tmp_path / "one", tmp_path / "two"
    must("run", recipe, "--to", one, "--direct_num_workers=1")
    must("fuse", recipe, "--to", two, "--direct_num_workers=2")
    assert hashes(one) == hashes(two)
    compare_with_memory(one, PLAIN, "conditional")
    levels = sorted(path.name for path in (one / "statistics/fused").glob("level-?"))
    assert levels == ["level-0", "level-1"]
    check_predictions(tmp_path, one, tmp_path / "same", join=CONDITIONAL)
    # Image and audio share noise: what one says of the other is not nothing.
    fused = table(one, "fused")
    slices = json.loads(fused.schema.metadata[b"slices"])
    lacks = np.array([not row["image"] and row["audio"] for row in fused["present"].to_pylist()])
    image = matrix(fused["fused"])[lacks, slice(*slices["image"])]
    assert lacks.any()
    assert (np.abs(image).max(axis=1) > 0.05).all()


@pytest.mark.slow
def test_a_modality_of_which_there_are_no_new_records(tmp_path: Path) -> None:
    recipe, output = write_vectors(tmp_path, TWO_LEVELS, join=CONDITIONAL), tmp_path / "output"
    must("run", recipe, "--to", output)
    compare_with_memory(output, TWO_LEVELS, "conditional")
    assert "removal" in metrics_of(output)["understanding"]
    new = write_recipe(tmp_path / "new.yaml", None, target=None, join=CONDITIONAL)
    text = new.read_text()
    new.write_text(text[: text.index("  audio:")] + text[text.index("split:") :])
    done = must("predict", output, "--recipe", new, "--to", tmp_path / "new")
    assert "audio: not in the recipe, so it is missing for every key" in done.stderr
    predictions = pl.read_parquet(tmp_path / "new/predictions/bucket-*.parquet")
    labels = pl.read_csv(tmp_path / "labels.csv")
    both = predictions.join(labels, on="key")
    assert both.height > 100
    assert (both["prediction"] == both["label"]).mean() > 0.5


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ("fuse={method: average, of: decisions}", "join.missing: conditional is for features of"),
        ("join={missing: conditional, how: inner}", "join.missing: nothing is missing in an inner"),
    ],
)
def test_what_cannot_use_it_ends_with_2_and_one_line(tmp_path: Path, sets: str, words: str) -> None:
    recipe = write_vectors(tmp_path, PLAIN, join=CONDITIONAL)
    done = sensorium("run", recipe, "--to", tmp_path / "out", "--set", sets)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_model_that_integrates_over_what_is_missing(tmp_path: Path) -> None:
    own = {"train": {"models": {"gaussian": {"shrinkage": [0.2]}}}}
    recipe, output = write_vectors(tmp_path, PLAIN, **own), tmp_path / "output"
    must("run", recipe, "--to", output)
    metrics = metrics_of(output)
    assert metrics["chosen"]["model"] == "gaussian"
    removal = [point["score"] for point in metrics["understanding"]["removal"]]
    assert removal[0] > removal[-1] > 1 / 3
    check_predictions(tmp_path, output, tmp_path / "same")
