"""A network as the strategy, through the command line: what is written, reused and needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from flows import hashes, must, sensorium, table, times
from vectors import in_memory, metrics_of, write_recipe, write_vectors

from schemas.options.fuse import Deep
from schemas.tables import matrix
from transforms.fusion.fusing import load_network
from transforms.learning.predicting import load_trained

DEEP = {"method": "deep", "dimension": 8, "epochs": 15, "learning_rate": 0.01}
SPLIT = {"folds": 3, "test_share": 0.2}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set and a run with a network, in `output`."""
    folder = tmp_path_factory.mktemp("deep")
    must("run", write_vectors(folder, DEEP, split=SPLIT), "--to", folder / "output")
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))


@pytest.fixture
def without_jax(tmp_path: Path) -> Path:
    """A folder on the path that makes JAX impossible to import."""
    folder = tmp_path / "hiding"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\nsys.modules['jax'] = sys.modules['optax'] = None\n"
    )
    return folder


@pytest.mark.slow
def test_the_fused_vector_is_the_networks(trained: Path) -> None:
    output = trained / "output"
    fused, blocks, present = in_memory(output)
    network = load_network(str(output), Deep(**DEEP))
    expected = np.zeros((len(fused), 8 + 3), np.float32)  # and what is said of three classes
    network.write(blocks, {n: present[:, i] for i, n in enumerate(blocks)}, expected)
    assert (matrix(fused["fused"]) == expected).all()
    assert json.loads(fused.schema.metadata[b"slices"]) == {"image+text+audio": [0, 11]}
    metrics = metrics_of(output)
    assert [c["model"] for c in metrics["candidates"]] == ["network"]
    assert metrics["fused"]["cross_validation"]["accuracy"] > 0.6
    assert len(metrics["understanding"]["subsets"]) == 7
    assert metrics["understanding"]["removal"][3]["score"] > 0.4
    known = json.loads(next((output / "fitted/networks").rglob("networks.json")).read_text())
    assert len(known["networks"]) == 7  # of all, of each fold, of each two folds
    before = times(output, ".")
    assert "Nothing to do" in must("run", trained / "recipe.yaml", "--to", output).stderr
    assert times(output, ".") == before


@pytest.mark.slow
def test_predictions_need_no_jax(trained: Path, tmp_path: Path, without_jax: Path) -> None:
    output, new = trained / "output", tmp_path / "new"
    recipe = write_recipe(trained / "new.yaml", None, target=None)
    must("predict", output, "--recipe", recipe, "--to", new, path=[without_jax])
    fresh = pl.read_parquet(new / "predictions/bucket-*.parquet")
    old = pl.read_parquet(output / "predictions/predictions.parquet")
    both = old.filter(pl.col("split") == "test").join(fresh, on="key", suffix="_new")
    assert both.height == metrics_of(output)["rows"]["test"] > 20
    one, two = (np.array(both[n].to_list()) for n in ("probabilities", "probabilities_new"))
    assert np.abs(one - two).max() < 1e-6
    assert hashes(new, "fused") == {} or matrix(table(new, "fused")["fused"]).shape[1] == 11


def test_training_without_jax_is_one_line(tmp_path: Path, without_jax: Path) -> None:
    recipe = write_vectors(tmp_path, DEEP, split=SPLIT)
    done = sensorium("run", recipe, "--to", without_jax / "x", path=[without_jax])
    assert done.returncode == 2
    assert 'deep needs jax and optax: pip install "sensorium[deep]"' in done.stderr
    assert not (without_jax / "x").exists()


@pytest.mark.slow
def test_more_rows_than_memory_and_networks_that_are_there(copy: Path) -> None:
    output = copy / "output"
    before, fused = times(output, "fitted/networks"), hashes(output, "fused")
    must("run", copy / "recipe.yaml", "--to", output, "--set", "train.memory=1e-9")
    assert times(output, "fitted/networks") == before
    assert hashes(output, "fused") == fused
    metrics = metrics_of(output)
    assert metrics["nested"] is False
    assert metrics["chosen"] == {"model": "network", "options": {}}
    assert metrics["fused"]["cross_validation"]["accuracy"] > 0.6
    model = load_trained(str(output))
    coef, intercept = load_network(str(output), Deep(**DEEP)).joint_head()
    assert (model.heads[0].estimator.coef_ == coef).all()
    assert (model.heads[0].estimator.intercept_ == intercept).all()


@pytest.mark.slow
def test_a_network_compared_with_others(copy: Path) -> None:
    output = copy / "output"
    before = times(output, "fitted/networks")
    fuse = {"method": "compare", "strategies": {"plain": {"scale": "none"}, "network": DEEP}}
    write_recipe(copy / "recipe.yaml", fuse, split=SPLIT)
    must("run", copy / "recipe.yaml", "--to", output)
    assert times(output, "fitted/networks") == before
    report = metrics_of(output)["strategy"]
    assert [line["name"] for line in report["strategies"]] == ["plain", "network"]
    assert report["reason"] in (output / "report/index.html").read_text()
    # Of a recipe without a network nothing is left of it.
    write_recipe(copy / "recipe.yaml", {"method": "concatenate"}, split=SPLIT)
    must("run", copy / "recipe.yaml", "--to", output)
    assert not list((output / "fitted").rglob("*.safetensors"))


@pytest.mark.slow
def test_another_run_gives_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    must("run", trained / "recipe.yaml", "--to", tmp_path / "x", "--direct_num_workers=1")
    folders = ("features", "fused", "fitted", "model")
    assert hashes(tmp_path / "x", *folders) == hashes(trained / "output", *folders)
