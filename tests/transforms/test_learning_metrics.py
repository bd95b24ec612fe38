"""Metrics against scikit-learn's, and where they are not defined."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from transforms.learning import metrics


@settings(max_examples=60)
@given(n=st.integers(1, 40), k=st.integers(2, 6), seed=st.integers(0, 10_000))
def test_classification_is_that_of_scikit_learn(n, k, seed):
    rng = np.random.default_rng(seed)
    classes = np.array([f"c{i}" for i in range(k)])
    labels = rng.choice(classes, n)
    p = rng.dirichlet(np.full(k, 0.3), n)
    p = np.maximum(p, 1e-12)
    p /= p.sum(axis=1, keepdims=True)
    predicted = classes[p.argmax(axis=1)]
    found = metrics.classification(labels, p, classes)
    truth = (labels[:, None] == classes).astype(float)
    assert found["rows"] == n
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    recall = reference.recall_score(
        labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
    )
    assert found["balanced_accuracy"] == pytest.approx(recall)
    assert found["log_loss"] == pytest.approx(reference.log_loss(labels, p, labels=classes))
    assert found["brier"] == pytest.approx(((p - truth) ** 2).sum(axis=1).mean())
    table = metrics.confusion(labels, p, classes)
    expected = reference.confusion_matrix(labels, predicted, labels=classes)
    assert table["confusion"] == {"labels": classes.tolist(), "matrix": expected.tolist()}
    assert table["unseen_labels"] == {}


def test_labels_that_are_no_class_are_wrong():
    classes = np.array(["a", "b"])
    labels = np.array(["a", "z", "b", "B"])
    p = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.5, 0.5]])
    found = metrics.classification(labels, p, classes)
    assert found["accuracy"] == 0.5
    assert found["balanced_accuracy"] == 0.5
    assert found["brier"] == (0 + 2 + 0 + 1.5) / 4
    assert found["log_loss"] == pytest.approx(-np.log(metrics.SMALLEST_PROBABILITY) / 2)
    table = metrics.confusion(labels, p, classes)
    assert table["unseen_labels"] == {"B": 1, "z": 1}
    assert table["confusion"]["labels"] == ["a", "b", "B", "z"]
    assert table["confusion"]["matrix"] == [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]]


@settings(max_examples=60)
@given(n=st.integers(2, 40), seed=st.integers(0, 10_000))
def test_regression_is_that_of_scikit_learn(n, seed):
    rng = np.random.default_rng(seed)
    y, p = rng.normal(5, 3, n), rng.normal(5, 3, n)
    found = metrics.regression(y, p)
    assert found["r2"] == pytest.approx(reference.r2_score(y, p))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(y, p))
    assert found["rmse"] == pytest.approx(np.sqrt(reference.mean_squared_error(y, p)))


def test_r2_of_equal_labels_is_null():
    found = metrics.regression(np.array([2.0, 2.0]), np.array([1.0, 3.0]))
    assert found == {"rows": 2, "r2": None, "mae": 1.0, "rmse": 1.0}


def test_deviation_leaves_out_nulls():
    assert metrics.deviation([1.0, None, 3.0]) == pytest.approx(np.sqrt(2))
    assert metrics.deviation([1.0, None]) is None
    assert metrics.deviation([]) is None
