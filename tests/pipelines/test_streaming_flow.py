"""Training a bucket at a time gives what training with all rows in memory gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from flows import must, sensorium, table
from vectors import metrics_of, write_vectors

pytestmark = pytest.mark.slow

LITTLE = "--set=train.memory=0.000001"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streaming")
    models = {"models": {"lda": {"shrinkage": [0.1]}}}
    recipe = write_vectors(folder, {"method": "concatenate"}, keys=600, train=models)
    must("run", recipe, "--to", folder / "memory")
    must("run", recipe, "--to", folder / "streamed", LITTLE)
    return folder


def test_the_way_chosen_is_in_the_log(folder: Path) -> None:
    logs = [(folder / name / "run.log").read_text() for name in ("memory", "streamed")]
    assert "training with all rows in memory" in logs[0]
    assert "training a bucket at a time" in logs[1]


def test_predictions_are_those_of_training_in_memory(folder: Path) -> None:
    one, other = (
        pq.read_table(folder / name / "predictions/predictions.parquet").sort_by("key")
        for name in ("memory", "streamed")
    )
    for column in ("key", "split", "fold", "label"):
        assert one[column].to_pylist() == other[column].to_pylist()
    said, streamed = (np.array(t["probabilities"].to_pylist()) for t in (one, other))
    test = np.array(one["split"].to_pylist()) == "test"
    # Fused vectors are rounded to 32 bits, the streamed ones are not.
    np.testing.assert_allclose(streamed[test], said[test], atol=1e-4)
    # Out of fold the temperature is another, which moves no prediction.
    assert one["prediction"].to_pylist() == other["prediction"].to_pylist()


def test_scores_are_those_of_training_in_memory(folder: Path) -> None:
    one, other = metrics_of(folder / "memory"), metrics_of(folder / "streamed")
    for found in ("fused", *one["modalities"]):
        a, b = (m["fused"] if found == "fused" else m["modalities"][found] for m in (one, other))
        assert a["test"]["rows"] == b["test"]["rows"]
        if found == "fused":
            assert a["cross_validation"]["confusion"] == b["cross_validation"]["confusion"]
    assert other["nested"] is False
    assert other["chosen"] == one["chosen"]


def test_its_model_predicts_new_records(folder: Path, tmp_path: Path) -> None:
    args = ["--recipe", folder / "recipe.yaml", "--to", tmp_path / "new"]
    must("predict", folder / "streamed", *args)
    new = table(tmp_path / "new", "predictions").sort_by("key")
    old = pq.read_table(folder / "streamed/predictions/predictions.parquet").sort_by("key")
    test = np.array(old["split"].to_pylist()) == "test"
    at = {key: row for row, key in enumerate(new["key"].to_pylist())}
    rows = [at[key] for key in old.filter(test)["key"].to_pylist()]
    found = np.array(new["probabilities"].to_pylist())[rows]
    np.testing.assert_allclose(found, old.filter(test)["probabilities"].to_pylist(), atol=1e-4)


@pytest.mark.parametrize(
    ("models", "close"),
    [
        ("{naive_bayes: {smoothing: [0.1]}}", 1e-4),
        ("{naive_bayes: {smoothing: [0.1], class_weight: balanced}}", 1e-4),
        ("{lda: {shrinkage: [0.1], class_weight: balanced}}", 1e-4),
        ("{qda: {components: [3], shrinkage: [0.1]}}", 1e-3),
        ("{qda: {components: [3], shrinkage: [0.1], class_weight: balanced}}", 1e-3),
        ("{logistic: {C: [0.1], class_weight: balanced}}", None),
    ],
)
def test_other_models_and_balanced_classes(
    tmp_path: Path, models: str, close: float | None
) -> None:
    recipe = write_vectors(tmp_path, {"method": "concatenate"}, keys=600)
    lines = (tmp_path / "labels.csv").read_text().split()
    # Of three classes two become one, so that it is twice as large as the other.
    (tmp_path / "labels.csv").write_text("\n".join(line.replace(",c", ",b") for line in lines))
    must("run", recipe, "--to", tmp_path / "memory", f"--set=train.models={models}")
    must("run", recipe, "--to", tmp_path / "streamed", f"--set=train.models={models}", LITTLE)
    one, other = (
        pq.read_table(tmp_path / name / "predictions/predictions.parquet").sort_by("key")
        for name in ("memory", "streamed")
    )
    test = np.array(one["split"].to_pylist()) == "test"
    said, streamed = (np.array(t["probabilities"].to_pylist())[test] for t in (one, other))
    # Their temperatures differ a little, being fitted to rows in other groups.
    said, streamed = (np.log(p[:, 0] / p[:, 1]) for p in (said, streamed))
    heats = [
        next(iter(metrics_of(tmp_path / name)["heads"].values()))["temperature"]
        for name in ("memory", "streamed")
    ]
    streamed, said = streamed * heats[1], said * heats[0]
    if close is not None:
        np.testing.assert_allclose(streamed, said, rtol=close, atol=close)
    else:  # gradient descent comes near; without weights it would be off by the log of 2
        assert abs((streamed - said).mean()) < 0.2
    args = ["--recipe", recipe, "--to", tmp_path / "new"]
    must("predict", tmp_path / "streamed", *args)
    new = table(tmp_path / "new", "predictions")
    at = dict(zip(new["key"].to_pylist(), new["prediction"].to_pylist(), strict=True))
    keys = np.array(other["key"].to_pylist())[test]
    assert [at[key] for key in keys] == other.filter(test)["prediction"].to_pylist()


def test_numbers_and_gradient_descent(tmp_path: Path) -> None:
    recipe = write_vectors(
        tmp_path, {"method": "concatenate"}, keys=600, train={"models": {"logistic": {"C": [0.1]}}}
    )
    must("run", recipe, "--to", tmp_path / "memory")
    must("run", recipe, "--to", tmp_path / "streamed", LITTLE)
    one, other = (
        metrics_of(tmp_path / name)["fused"]["cross_validation"] for name in ("memory", "streamed")
    )
    # Five passes of gradient descent come near the optimum, not to it.
    assert other["accuracy"] == pytest.approx(one["accuracy"], abs=0.03)
    labels = (tmp_path / "labels.csv").read_text().split()
    numbers = [f"{line[:6]}{'abc'.index(line[6])}.5" for line in labels[1:]]
    (tmp_path / "labels.csv").write_text("\n".join(["key,label", *numbers]) + "\n")
    ridge = ["--set=target.task=regression", "--set=train={models: {ridge: {alpha: [1, 10]}}}"]
    must("run", recipe, "--to", tmp_path / "memory", *ridge)
    must("run", recipe, "--to", tmp_path / "streamed", *ridge, LITTLE)
    one, other = (
        metrics_of(tmp_path / name)["fused"]["cross_validation"] for name in ("memory", "streamed")
    )
    assert other["r2"] == pytest.approx(one["r2"], abs=0.01)


def test_what_needs_all_rows_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    for option, why in (
        ("--set=fuse.pca=3", "fuse must be `concatenate` without `pca`"),
        ("--set=train.models={boosting: {}}", "not boosting"),
        ("--set=join.missing=conditional", "join.missing must be `mean` or `zero`"),
        ("--set=fuse={method: compare}", "choosing how to fuse takes all rows in memory"),
    ):
        done = sensorium("run", folder / "recipe.yaml", "--to", tmp_path / "out", LITTLE, option)
        assert done.returncode == 1
        assert why in done.stderr
        assert "train.memory" in done.stderr
        assert "Traceback" not in done.stderr
