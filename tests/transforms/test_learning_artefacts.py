"""Estimators as bytes and back, and whole models as files."""

import io
import json
import pickle
from zipfile import ZipFile

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skops.io import dumps
from training_sets import LDA, RIDGE, learn, make

from schemas.options.fuse import Average, Concatenate, Hierarchical, Node, Weighted
from transforms.learning.artefacts import (
    estimator_bytes,
    load_estimator,
    load_model,
    model_files,
)
from transforms.learning.candidates import Candidate, fit_rows

CANDIDATES = [
    Candidate("logistic", {"C": 0.5}),
    Candidate("lda", {"shrinkage": "auto"}),
    Candidate("lda", {"shrinkage": 0.3}),
    Candidate("ridge", {"alpha": 2.0}),
    Candidate("naive_bayes", {"smoothing": 1e-9}),
    Candidate("naive_bayes", {"smoothing": 0.1, "class_weight": "balanced"}),
    Candidate("qda", {"components": 4, "shrinkage": 0.1}),
    Candidate("gaussian", {"shrinkage": 0.1}),
    Candidate("svm", {"C": 0.1}),
    Candidate("kernel", {"C": 1.0, "gamma": 1.0}),
    Candidate("logistic", {"C": 0.5, "class_weight": "balanced"}),
    Candidate("boosting", {"learning_rate": 0.1, "iterations": 3, "leaves": 4}),
    Candidate(
        "boosting",
        {"learning_rate": 0.1, "iterations": 3, "leaves": 4, "class_weight": "balanced"},
    ),
]
BOOSTED = CANDIDATES[-2]


def model_of(candidate, k=3, numbers=False):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 80)).astype(np.float32), np.arange(60) % k
    numbers = numbers or candidate.model == "ridge"
    if numbers:
        y = y.astype(np.float64)
    (result,) = fit_rows([candidate], X, y)
    model = result.estimator
    if not numbers:
        model.classes_ = np.array(["ant", "bee", "übel"][:k])
    return model, X


@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
@pytest.mark.parametrize("k", [2, 3])
def test_a_model_comes_back_as_it_was(candidate, k, tmp_path):
    model, X = model_of(candidate, k)
    file = tmp_path / "model.skops"
    file.write_bytes(estimator_bytes(model))
    loaded = load_estimator(file.read_bytes())
    assert type(loaded) is type(model)
    for said in ("predict", "predict_proba")[: 1 if candidate.model == "ridge" else 2]:
        before, after = (getattr(m, said)(X.astype(np.float64)) for m in (model, loaded))
        np.testing.assert_array_equal(before, after)
    assert estimator_bytes(loaded) == file.read_bytes()


@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
def test_same_model_same_bytes(candidate):
    first, _ = model_of(candidate)
    second, _ = model_of(candidate)
    assert first is not second
    assert estimator_bytes(first) == estimator_bytes(second)


def test_boosted_numbers_come_back_as_they_were():
    model, X = model_of(BOOSTED, numbers=True)
    loaded = load_estimator(estimator_bytes(model))
    np.testing.assert_array_equal(model.predict(X), loaded.predict(X))
    again, _ = model_of(BOOSTED, numbers=True)
    assert estimator_bytes(loaded) == estimator_bytes(model) == estimator_bytes(again)


def test_trees_that_lead_nowhere_are_refused():
    """scikit-learn would read outside of its arrays, or walk in a circle, when it predicts."""
    bad = {
        "left": 0,  # itself, or a node before it
        "right": 99,
        "feature_idx": 80,
        "is_categorical": 1,
    }
    for name, value in bad.items():
        model, _ = model_of(BOOSTED)
        nodes = model._predictors[1][2].nodes
        inner = np.flatnonzero(nodes["is_leaf"] == 0)
        nodes[name][inner[-1]] = value
        with pytest.raises(ValueError, match="damaged one: a broken tree"):
            load_estimator(estimator_bytes(model))
    for other in (np.zeros(0, nodes.dtype), np.zeros(3), np.zeros((2, 2), nodes.dtype)):
        model, _ = model_of(BOOSTED)
        model._predictors[0][0].nodes = other
        with pytest.raises(ValueError, match="not a model file of Sensorium"):
            load_estimator(estimator_bytes(model))


def test_trees_are_for_boosted_models_alone():
    model, _ = model_of(CANDIDATES[0])
    model.coef_ = model_of(BOOSTED)[0]._predictors[0][0]
    with pytest.raises(ValueError, match=r"refused: it holds .*TreePredictor"):
        load_estimator(dumps(model))


def test_other_types_are_refused():
    model, X = model_of(CANDIDATES[0])
    others = [
        StandardScaler().fit(X),
        make_pipeline(FunctionTransformer(np.log1p), model),
        {"model": model},
        LogisticRegression(random_state=np.random.RandomState(0)),
    ]
    for other in others:
        with pytest.raises(ValueError, match="the model file is refused: it holds"):
            load_estimator(dumps(other))


def changed(data, change):
    out = io.BytesIO()
    with ZipFile(io.BytesIO(data)) as source, ZipFile(out, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                change(schema)
                content = json.dumps(schema).encode()
            target.writestr(name, content)
    return out.getvalue()


def test_a_changed_file_is_refused():
    data = estimator_bytes(model_of(CANDIDATES[0])[0])

    def call_system(schema):
        schema["content"]["content"]["C"] = {
            "__class__": "system",
            "__module__": "os",
            "__loader__": "FunctionNode",
            "content": {"module_path": "os", "function": "system"},
        }

    def other_loader(schema):
        schema["content"]["content"]["C"]["__loader__"] = "MethodNode"

    def other_model(schema):
        schema["__class__"], schema["__module__"] = "Popen", "subprocess"

    for change, word in (
        (call_system, "os.system"),
        (other_loader, "Method"),
        (other_model, "Popen"),
    ):
        with pytest.raises(ValueError, match=word):
            load_estimator(changed(data, change))


def test_what_is_no_model_file_is_refused():
    data = estimator_bytes(model_of(CANDIDATES[0])[0])
    bad = [
        b"",
        b"nonsense",
        pickle.dumps({"a": 1}),
        data[: len(data) // 2],
        changed(data, dict.clear),
    ]
    for content in bad:
        with pytest.raises(ValueError, match="not a model file of Sensorium"):
            load_estimator(content)


HIERARCHY = Node(parts=["image", Node(parts=["audio", "text"], dimension=3)], of="decisions")
FUSES = [
    Concatenate(),
    Average(method="average", of="decisions"),
    Weighted(method="weighted", of="decisions", weights="stacking", rule="mean"),
    Hierarchical(method="hierarchical", tree=HIERARCHY),
]


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("fuse", FUSES, ids=lambda fuse: fuse.method)
def test_a_model_as_files_comes_back_as_it_was(task, fuse):
    data = make(widths=(5, 7, 4), task=task)
    trained = learn(data, LDA if task == "classification" else RIDGE, task, fuse)
    files = model_files(trained.model)
    heads = [head.name for head in trained.model.heads]
    wanted = [f"{name}.skops" for name in heads] if len(heads) > 1 else ["model.skops"]
    assert list(files) == ["model.json", *wanted]
    loaded = load_model(files.__getitem__)
    assert model_files(loaded) == files
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, trained.model.heads[-1].stop)).astype(np.float32)
    present = rng.random((40, 3)) < 0.6
    expected = trained.model.predict(X, present)
    for before, after in zip(expected, loaded.predict(X, present), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_damaged_description_is_refused():
    files = model_files(learn(make(), LDA).model)
    described = json.loads(files["model.json"])
    del described["heads"][0]["slice"]
    for content in (b"", b"\xff", b"[]", b"{}", json.dumps(described).encode()):
        with pytest.raises(ValueError, match="not a model of Sensorium, or a damaged one"):
            load_model({**files, "model.json": content}.__getitem__)
