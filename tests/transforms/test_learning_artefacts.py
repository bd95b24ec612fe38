"""Models as bytes and back."""

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

from transforms.learning.artefacts import load_model, model_bytes
from transforms.learning.candidates import Candidate, fit_rows
from transforms.learning.training import predict

CANDIDATES = [
    Candidate("logistic", {"C": 0.5}),
    Candidate("lda", {"shrinkage": "auto"}),
    Candidate("lda", {"shrinkage": 0.3}),
    Candidate("ridge", {"alpha": 2.0}),
    Candidate("naive_bayes", {"smoothing": 1e-9}),
    Candidate("naive_bayes", {"smoothing": 0.1, "class_weight": "balanced"}),
    Candidate("qda", {"components": 4, "shrinkage": 0.1}),
    Candidate("svm", {"C": 0.1}),
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
    file.write_bytes(model_bytes(model))
    loaded = load_model(file.read_bytes())
    assert type(loaded) is type(model)
    for before, after in zip(predict(model, X), predict(loaded, X), strict=True):
        np.testing.assert_array_equal(before, after)
    assert model_bytes(loaded) == file.read_bytes()


@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
def test_same_model_same_bytes(candidate):
    first, _ = model_of(candidate)
    second, _ = model_of(candidate)
    assert first is not second
    assert model_bytes(first) == model_bytes(second)


def test_boosted_numbers_come_back_as_they_were():
    model, X = model_of(BOOSTED, numbers=True)
    loaded = load_model(model_bytes(model))
    np.testing.assert_array_equal(predict(model, X)[0], predict(loaded, X)[0])
    assert model_bytes(loaded) == model_bytes(model) == model_bytes(model_of(BOOSTED, 3, True)[0])


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
            load_model(model_bytes(model))
    for other in (np.zeros(0, nodes.dtype), np.zeros(3), np.zeros((2, 2), nodes.dtype)):
        model, _ = model_of(BOOSTED)
        model._predictors[0][0].nodes = other
        with pytest.raises(ValueError, match="not a model file of Sensorium"):
            load_model(model_bytes(model))


def test_trees_are_for_boosted_models_alone():
    model, _ = model_of(CANDIDATES[0])
    model.coef_ = model_of(BOOSTED)[0]._predictors[0][0]
    with pytest.raises(ValueError, match=r"refused: it holds .*TreePredictor"):
        load_model(dumps(model))


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
            load_model(dumps(other))


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
    data = model_bytes(model_of(CANDIDATES[0])[0])

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
            load_model(changed(data, change))


def test_what_is_no_model_file_is_refused():
    data = model_bytes(model_of(CANDIDATES[0])[0])
    bad = [
        b"",
        b"nonsense",
        pickle.dumps({"a": 1}),
        data[: len(data) // 2],
        changed(data, dict.clear),
    ]
    for content in bad:
        with pytest.raises(ValueError, match="not a model file of Sensorium"):
            load_model(content)
