"""The textbook example: two modalities of 100 records, scaled, fused, learnt and predicted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from flows import ROOT, must, table
from scipy.special import softmax
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from schemas.tables import matrix

RECIPE = ROOT / "tests/recipes/textbook.yaml"


def records(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ten features of the text and ten of the image, of other scales, and a label of both."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    meaning = 2.0 * label[:, None] + rng.normal(size=(n, 2)) * [1, 0.5]
    mixing = np.random.default_rng(99).normal(size=(2, 20))
    X = meaning @ mixing + 0.3 * rng.normal(size=(n, 20))
    return 100 * X[:, :10] + 7, X[:, 10:] / 50, label


def write(folder: Path, prefix: str, text: np.ndarray, image: np.ndarray) -> list[str]:
    """The modalities in files of their own, whose rows are in no common order.

    Columns are in another order in each pair of files, too.
    """
    keys = [f"{prefix}{i:03d}" for i in range(len(text))]
    columns = [f"f{i}" for i in range(10)]
    order = [*columns[:: -1 if prefix == "n" else 1], "key"]
    words = pl.DataFrame(text, schema=columns).with_columns(key=pl.Series(keys))
    words.sample(fraction=1, shuffle=True, seed=1)[order].write_csv(folder / "text.csv")
    pixels = pl.DataFrame(image, schema=columns).with_columns(key=pl.Series(keys))
    pixels.sample(fraction=1, shuffle=True, seed=2)[order].write_parquet(folder / "image.parquet")
    return keys


def vectors(output: Path, keys: list[str]) -> np.ndarray:
    rows = table(output, "fused")
    of = dict(zip(rows["key"].to_pylist(), matrix(rows["fused"]), strict=True))
    return np.array([of[key] for key in keys])


@pytest.mark.slow
def test_scaled_fused_learnt_and_predicted_from_both(tmp_path: Path) -> None:
    text, image, label = records(100, 0)
    shutil.copy(RECIPE, tmp_path / "recipe.yaml")
    keys = write(tmp_path, "r", text, image)
    named = {"key": keys, "label": np.array(["no", "yes"])[label]}
    pl.DataFrame(named).write_csv(tmp_path / "labels.csv")
    must("run", tmp_path / "recipe.yaml", "--to", tmp_path / "output")

    # The same with scikit-learn. Features are kept as float32, which is what counts.
    text, image = text.astype(np.float32), image.astype(np.float32)
    scalers = [StandardScaler().fit(X.astype(np.float64)) for X in (text, image)]

    def scaled(*modalities: np.ndarray) -> np.ndarray:
        pairs = zip(scalers, modalities, strict=True)
        return np.hstack([scaler.transform(X.astype(np.float64)) for scaler, X in pairs])

    pca = PCA(2, svd_solver="full").fit(scaled(text, image))
    axes = pca.components_
    pca.components_ = axes * np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, None]
    Z = pca.transform(scaled(text, image))
    np.testing.assert_allclose(vectors(tmp_path / "output", keys), Z, rtol=1e-5, atol=1e-5)
    model = LogisticRegression(C=1.0, tol=1e-8).fit(Z, label)
    metrics = json.loads((tmp_path / "output/report/metrics.json").read_text())
    assert metrics["fused"]["cross_validation"]["accuracy"] > 0.85

    new = tmp_path / "new"
    new.mkdir()
    text, image, truth = records(40, 1)
    asked = write(new, "n", text, image)
    recipe = RECIPE.read_text()
    (new / "recipe.yaml").write_text(recipe[: recipe.index("target:")])
    must("predict", tmp_path / "output", "--recipe", new / "recipe.yaml", "--to", new / "output")
    Z = pca.transform(scaled(text.astype(np.float32), image.astype(np.float32)))
    np.testing.assert_allclose(vectors(new / "output", asked), Z, rtol=1e-5, atol=1e-5)
    found = pl.read_parquet(new / "output/predictions/*.parquet").sort("key")
    assert found["key"].to_list() == asked
    assert found["prediction"].to_list() == np.array(["no", "yes"])[model.predict(Z)].tolist()
    temperature = metrics["heads"]["text+image"]["temperature"]
    expected = softmax(model.predict_log_proba(Z) / temperature, axis=1)
    np.testing.assert_allclose(found["probabilities"].to_list(), expected, atol=1e-4)
    assert np.mean(model.predict(Z) == truth) > 0.85
