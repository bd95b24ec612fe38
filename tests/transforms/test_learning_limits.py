"""What is rare, lopsided or hardly there: a result, or a clear error."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from training_sets import LDA, RIDGE, make, training_set

from schemas.options.fuse import Average, Compare, Concatenate, Hierarchical, Node, Weighted
from schemas.options.models import Models
from transforms.fusion.strategies import fit_rows
from transforms.fusion.trees import tree_of
from transforms.learning.artefacts import load_model, model_files
from transforms.learning.choosing import choose
from transforms.learning.problem import TrainingSet
from transforms.learning.training import Trained, judging, train

FUSES: dict[str, Any] = {
    "side by side": Concatenate(),
    "raw": Concatenate(scale="none"),
    "components": Concatenate(pca=2),
    "average": Average(method="average", dimension=2),
    "cca": Average(method="average", dimension=2, shared="cca"),
    "product": Average(method="average", of="decisions"),
    "stacking": Weighted(method="weighted", of="decisions", weights="stacking"),
    "errors": Weighted(method="weighted", of="decisions", weights="error_covariance"),
    "weights": Weighted(method="weighted", dimension=2),
    "tree": Hierarchical(
        method="hierarchical",
        tree=Node(parts=[Node(parts=["image", "audio"], dimension=3), "text"], of="decisions"),
    ),
    "auto": Hierarchical(method="hierarchical"),
    "cka": Hierarchical(method="hierarchical", tree="cka"),
    "compare": Compare(method="compare"),
}
SOME = {name: FUSES[name] for name in ("components", "cca", "errors", "tree", "weights", "compare")}
EVERY = Models.model_validate(
    {
        "logistic": {"C": [1.0]},
        "lda": {},
        "naive_bayes": {},
        "qda": {"components": [2]},
        "svm": {"C": [0.1]},
        "kernel": {"C": [1.0]},
        "boosting": {"iterations": [3]},
    }
)


def whole(
    data: TrainingSet, fuse: Any, task: Any = "classification", models: Any = None
) -> Trained:
    """Choose and train; what comes out is JSON, finite, and the same in a loaded model."""
    models = models or (LDA if task == "classification" else RIDGE)
    with judging(data, models, task) as heads:
        chosen = choose(heads, fuse)
        result = train(heads, chosen.fuse)
    for found in (chosen.report, result.metrics):
        assert json.loads(json.dumps(found, allow_nan=False)) == found
    name = "prediction" if task == "regression" else "probabilities"
    said = np.array(result.predictions[name].to_pylist())
    assert np.isfinite(said).all()
    model = load_model(model_files(result.model).__getitem__)
    names = {m: [f"x{i}" for i in range(b.shape[1])] for m, b in data.blocks.items()}
    tree = tree_of(chosen.fuse, data.modalities)
    fusion = fit_rows(tree, "mean", data.blocks, data.present, ~data.test, names)
    again = model.outputs(fusion.apply(data.blocks, data.present), data.present)
    np.testing.assert_allclose(again[data.test], said[data.test], rtol=1e-6, atol=1e-6)
    return result


def three(**fields: Any) -> TrainingSet:
    return make(n=100, widths=(4, 5, 3), **fields)


@pytest.mark.parametrize("fuse", FUSES.values(), ids=FUSES)
@pytest.mark.parametrize("case", ["one fold", "one row", "one test row", "never", "one class"])
def test_a_modality_that_is_hardly_there(fuse: Any, case: str) -> None:
    data = three()
    here = data.present[:, 1]
    if case == "one fold":
        here[data.fold != 2] = False
    elif case == "one row":
        here[:] = np.arange(100) == 7
    elif case == "one test row":
        here[:] = np.arange(100) == 10
    elif case == "never":
        here[:] = False
    else:
        here[:] = data.labels == "bee"
    m = whole(data, fuse).metrics
    assert m["fused"]["cross_validation"]["accuracy"] > 0.6
    assert set(m["modalities"]) == {"image", "audio", "text"}


@pytest.mark.parametrize("fuse", SOME.values(), ids=SOME)
def test_numbers_of_a_modality_that_is_hardly_there(fuse: Any) -> None:
    data = three(task="regression")
    data.present[:, 1] = np.arange(100) == 7
    data.present[:, 2] = data.fold == 1
    assert whole(data, fuse, "regression").metrics["folds"] == 4


@pytest.mark.parametrize("fuse", SOME.values(), ids=SOME)
def test_features_that_are_all_the_same(fuse: Any) -> None:
    data = three()
    for block in data.blocks.values():
        block[:] = 3.5
    m = whole(data, fuse).metrics
    y = data.labels[~data.test]
    most = max((y == c).mean() for c in set(y))
    assert m["fused"]["cross_validation"]["accuracy"] <= most
    assert m["fused"]["cross_validation"]["log_loss"] < 1.2


@pytest.mark.parametrize("fuse", SOME.values(), ids=SOME)
def test_a_class_in_one_fold_only(fuse: Any) -> None:
    data = three()
    data.labels = data.labels.astype(object)
    data.labels[np.flatnonzero(data.fold == 2)[:3]] = "zebra"
    m = whole(data, fuse).metrics
    assert m["classes"] == ["ant", "bee", "cat", "zebra"]
    assert m["fused"]["cross_validation"]["confusion"]["matrix"][3][3] == 0


@pytest.mark.parametrize("fuse", SOME.values(), ids=SOME)
def test_folds_of_one_class_each(fuse: Any) -> None:
    data = three()
    data.labels = np.array(["ant", "bee", "cat", "dog"])[data.fold]
    assert whole(data, fuse).metrics["fused"]["cross_validation"]["accuracy"] == 0


@pytest.mark.parametrize("fuse", SOME.values(), ids=SOME)
def test_two_classes_and_labels_of_the_test_alone(fuse: Any) -> None:
    data = three(classes=("no", "yes"))
    data.labels = data.labels.astype(object)
    data.labels[np.flatnonzero(data.test)[:3]] = "perhaps"
    m = whole(data, fuse).metrics
    assert m["classes"] == ["no", "yes"]
    assert m["fused"]["test"]["unseen_labels"] == {"perhaps": 3}
    assert m["fused"]["cross_validation"]["accuracy"] > 0.7


@pytest.mark.parametrize("fuse", [FUSES["product"], FUSES["stacking"], FUSES["compare"]])
def test_thirty_classes_of_few_rows(fuse: Any) -> None:
    classes = tuple(f"c{i:02d}" for i in range(30))
    data = make(n=240, widths=(20, 20, 20), classes=classes, folds=5)
    m = whole(data, fuse).metrics
    assert len(m["classes"]) == 30
    assert m["fused"]["cross_validation"]["accuracy"] > 0.4


@pytest.mark.parametrize("case", ["complete", "hardly there", "one class", "constant"])
def test_every_family_of_models_below_decisions(case: str) -> None:
    data = three()
    if case == "hardly there":
        data.present[:, 1] = np.arange(100) == 7
    elif case == "one class":
        data.present[:, 1] = data.labels == "bee"
    elif case == "constant":
        data.blocks["audio"][:] = 1
    for name in type(EVERY).model_fields:
        if getattr(EVERY, name) is not None:
            models = Models.model_validate({name: EVERY.model_dump()[name]})
            m = whole(data, FUSES["product"], models=models).metrics
            assert m["heads"]["audio"]["chosen"]["model"] == name


def test_boosting_of_numbers_below_decisions() -> None:
    data = three(task="regression")
    data.present[:, 1] = np.arange(100) == 7
    models = Models.model_validate({"boosting": {"iterations": [3]}, "ridge": {}})
    m = whole(data, FUSES["product"], "regression", models).metrics
    assert {c["model"] for c in m["candidates"]} == {"boosting", "ridge"}


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("fuse", SOME.values(), ids=SOME)
def test_features_that_are_no_numbers_are_one_line(fuse: Any, wrong: float) -> None:
    data = three()
    data.blocks["audio"][13, 2] = wrong
    with pytest.raises(ValueError, match="the features of key 'k0013' from audio are not finite"):
        whole(data, fuse)
    data.present[13, 1] = False  # then it does not matter what is there
    assert whole(data, fuse)


@pytest.mark.parametrize("fuse", [FUSES["stacking"], FUSES["compare"]])
def test_a_row_a_fold(fuse: Any) -> None:
    data = three(fold=np.where(np.arange(100) % 5 == 0, -1, np.arange(100)).astype(np.int32))
    assert whole(data, fuse).metrics["folds"] == 80


def test_a_row_a_fold_has_no_score_to_compare_numbers_by() -> None:
    fold = np.where(np.arange(100) % 5 == 0, -1, np.arange(100)).astype(np.int32)
    data = three(task="regression", fold=fold)
    assert whole(data, FUSES["product"], "regression").metrics["folds"] == 80
    with pytest.raises(ValueError, match="no fold in which every contender has a score"):
        whole(data, FUSES["compare"], "regression")


@pytest.mark.parametrize("fuse", SOME.values(), ids=SOME)
def test_more_dimensions_than_rows_and_hardly_any_rows(fuse: Any) -> None:
    rng = np.random.default_rng(0)
    blocks = {name: rng.normal(size=(12, 40)) for name in ("image", "audio", "text")}
    data = training_set(blocks, np.array(["a", "b"] * 6), folds=3)
    assert whole(data, fuse).metrics["rows"] == {"train": 9, "test": 3}
