"""Strategies as trees through the command line: the same as in memory, and the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from flows import hashes, must, sensorium, table, times
from pydantic import TypeAdapter
from vectors import DIMS, in_memory, metrics_of, write_recipe, write_vectors

from schemas.options.fuse import Fuse
from schemas.tables import matrix
from transforms.fusion.strategies import fit_rows
from transforms.fusion.trees import tree_of

TWO_LEVELS = {
    "method": "hierarchical",
    "tree": {"parts": [{"parts": ["image", "text"], "dimension": 8}, "audio"], "dimension": 6},
}


def expected(output: Path, fuse: dict[str, Any], missing: Any = "mean") -> tuple[Any, np.ndarray]:
    """The fusion fitted in memory, and what it makes of every key."""
    fused, blocks, present = in_memory(output)
    training = np.array(fused["split"].to_pylist()) == "train"
    tree = tree_of(TypeAdapter(Fuse).validate_python(fuse), list(DIMS))
    names = {
        name: json.loads(table(output, f"features/{name}").schema.metadata[b"names"])
        for name in DIMS
    }
    fusion = fit_rows(tree, missing, blocks, present, training, names)
    return fusion, fusion.apply(blocks, present)


def compare_with_memory(output: Path, fuse: dict[str, Any], missing: Any = "mean") -> None:
    fusion, vectors = expected(output, fuse, missing)
    fused = table(output, "fused").sort_by("key")
    np.testing.assert_allclose(matrix(fused["fused"]), vectors, rtol=1e-5, atol=1e-5)
    assert json.loads(fused.schema.metadata[b"names"]) == fusion.names
    slices = {name: list(ends) for name, ends in fusion.slices.items()}
    assert json.loads(fused.schema.metadata[b"slices"]) == slices


def check_predictions(folder: Path, output: Path, to: Path, **recipe: Any) -> None:
    """Predicting the training inputs gives what training said of the test rows."""
    write_recipe(folder / "new.yaml", None, **{"target": None, **recipe})
    must("predict", output, "--recipe", folder / "new.yaml", "--to", to)
    new = pl.read_parquet(to / "predictions/bucket-*.parquet")
    old = pl.read_parquet(output / "predictions/predictions.parquet")
    both = old.filter(pl.col("split") == "test").join(new, on="key", suffix="_new")
    assert both.height == metrics_of(output)["rows"]["test"] > 20
    assert both["prediction"].to_list() == both["prediction_new"].to_list()
    before, after = (np.array(both[n].to_list()) for n in ("probabilities", "probabilities_new"))
    assert np.abs(before - after).max() <= 1e-6
    again, first = (matrix(table(o, "fused").sort_by("key")["fused"]) for o in (to, output))
    assert again.tobytes() == first.tobytes()


@pytest.mark.slow
def test_a_tree_of_two_levels(tmp_path: Path) -> None:
    recipe, one, two = write_vectors(tmp_path, TWO_LEVELS), tmp_path / "one", tmp_path / "two"
    must("run", recipe, "--to", one, "--direct_num_workers=1")
    compare_with_memory(one, TWO_LEVELS)
    assert matrix(table(one, "fused")["fused"]).shape[1] == 6
    must("fuse", recipe, "--to", two, "--direct_num_workers=2")
    assert hashes(one) == hashes(two)
    levels = sorted(path.name for path in (one / "statistics/fused").glob("level-?"))
    assert levels == ["level-0", "level-1", "level-2"]
    before = times(one, ".")
    done = must("run", recipe, "--to", one)
    assert "Nothing to do" in done.stderr
    assert times(one, ".") == before
    check_predictions(tmp_path, one, tmp_path / "new")
    assert metrics_of(one)["fused"]["cross_validation"]["accuracy"] > 0.4


@pytest.mark.slow
def test_decisions_of_features_that_are_not_scaled(tmp_path: Path) -> None:
    # Nothing is learnt of the modalities themselves, but on the level above.
    tree = {"parts": [{"parts": ["image", "audio"], "dimension": 5}, "text"], "of": "decisions"}
    fuse = {"method": "hierarchical", "scale": "none", "tree": tree, "keep_modalities": True}
    join = {"missing": "zero"}
    recipe, output = write_vectors(tmp_path, fuse, join=join), tmp_path / "output"
    must("run", recipe, "--to", output)
    compare_with_memory(output, fuse, "zero")
    files = sorted(path.name for path in (output / "model").iterdir())
    assert files == ["image+audio.skops", "model.json", "text.skops"]
    metrics = metrics_of(output)
    assert list(metrics["heads"]) == ["image+audio", "text"]
    assert metrics["decision"]["rule"]["weights"] == [0.5, 0.5]
    assert table(output, "fused").schema.field("audio").type.list_size == 6
    check_predictions(tmp_path, output, tmp_path / "new", join=join)


@pytest.mark.slow
def test_one_modality_can_be_predicted_from(tmp_path: Path) -> None:
    fuse = {"method": "average", "shared": "cca", "dimension": 3}
    recipe, output = write_vectors(tmp_path, fuse), tmp_path / "output"
    must("run", recipe, "--to", output)
    compare_with_memory(output, fuse)
    check_predictions(tmp_path, output, tmp_path / "same")
    new = write_recipe(tmp_path / "new.yaml", None, target=None)
    alone = new.read_text().split("  image:")[0] + "  text:" + new.read_text().split("  text:")[1]
    new.write_text(alone.split("  audio:")[0])
    done = must("predict", output, "--recipe", new, "--to", tmp_path / "alone")
    assert "image: not in the recipe, so it is missing for every key" in done.stderr
    predictions = pl.read_parquet(tmp_path / "alone/predictions/bucket-*.parquet")
    labels = pl.read_csv(tmp_path / "labels.csv")
    both = predictions.join(labels, on="key")
    assert both.height > 100
    assert (both["prediction"] == both["label"]).mean() > 0.5


@pytest.mark.parametrize(
    ("fuse", "words"),
    [
        ("{method: hierarchical, tree: [[image, txt], audio]}", "fuse.tree: unknown name 'txt'"),
        ("{method: weighted, weights: {image: 1, text: 1}}", "fuse.weights: lacks a weight for"),
    ],
)
def test_wrong_names_end_with_2_and_one_line(tmp_path: Path, fuse: str, words: str) -> None:
    recipe = write_vectors(tmp_path, {"method": "average"})
    done = sensorium("run", recipe, "--to", tmp_path / "out", "--set", f"fuse={fuse}")
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
