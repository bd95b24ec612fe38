"""The kernel machine beside scikit-learn's kernel ridge regression, and where planes fail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.kernel_ridge import KernelRidge
from training_sets import rows

from schemas.errors import DataError
from transforms.learning import kernel
from transforms.learning.candidates import Candidate, fit_rows
from transforms.learning.fitting import inner_folds


def fitted(X: np.ndarray, y: np.ndarray, fold: np.ndarray | None = None, **options: object):
    candidate = Candidate("kernel", {"C": 2.0, "gamma": 1.0, **options})
    (result,) = fit_rows([candidate], X, y, fold)
    return result.estimator


def peer(X: np.ndarray, target: np.ndarray, C: float, weight: np.ndarray | None = None):
    X = X.astype(np.float64)
    ridge = KernelRidge(alpha=1 / C, kernel="rbf", gamma=1 / (X.shape[1] * X.var()))
    return ridge.fit(X, target, weight)


def targets(y: np.ndarray, k: int) -> np.ndarray:
    return np.where(y[:, None] == np.arange(k), 1.0, -1.0) - (2 / k - 1)


@pytest.mark.parametrize(("n", "D"), [(120, 8), (60, 90)])
@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_it_is_ridge_regression_in_the_space_of_the_kernel(n, D, k, class_weight):
    X, y, Z = rows(n, D, k)
    X, y = X[: n - 7], y[: n - 7]  # classes of unequal size
    weight = (len(y) / (k * np.bincount(y)))[y] if class_weight else None
    model = fitted(X, y, class_weight=class_weight)
    expected = peer(X, targets(y, k), 2.0, weight).predict(Z) + 2 / k - 1
    np.testing.assert_allclose(
        model.predict_proba(Z), softmax(model.scale_ * expected, axis=1), atol=1e-9
    )
    assert model.scale_ > 0
    assert (model.predict(Z) == expected.argmax(axis=1)).all()


def test_what_it_says_of_held_out_rows_is_what_a_fit_without_them_says():
    X, y, _ = rows(90, 5, 3)
    fold, target = np.arange(90) % 4, targets(y, 3)
    gamma = 1 / (5 * X.astype(np.float64).var())
    matrix = kernel.similarities(X.astype(np.float64), X.astype(np.float64), gamma)
    inverse = kernel.inverted(matrix + np.eye(90) / 2)
    held = kernel.held_out(inverse, inverse @ target, target, fold)
    for one in range(4):
        ridge = KernelRidge(alpha=0.5, kernel="rbf", gamma=gamma)
        ridge.fit(X[fold != one].astype(np.float64), target[fold != one])
        np.testing.assert_allclose(
            held[fold == one], ridge.predict(X[fold == one].astype(np.float64)), atol=1e-9
        )


def test_an_inverse_is_an_inverse():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(40, 40))
    A = A @ A.T + np.eye(40)
    found = kernel.inverted(A.copy())
    np.testing.assert_allclose(found @ A, np.eye(40), atol=1e-10)
    np.testing.assert_array_equal(found, found.T)


def test_it_parts_what_no_plane_parts():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(400, 2)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
    Z = rng.normal(size=(400, 2))
    truth = Z[:, 0] * Z[:, 1] > 0
    assert (fitted(X, y, C=10.0).predict(Z) == truth).mean() > 0.93
    (plane,) = fit_rows([Candidate("logistic", {"C": 1.0})], X, y)
    assert (plane.estimator.predict(Z) == truth).mean() < 0.65


def test_its_probabilities_are_fitted_to_the_folds_of_the_rows():
    X, y, _ = rows(100, 6, 3)
    repeated = np.concatenate([X, X]), np.concatenate([y, y])
    own = np.concatenate([np.arange(100), np.arange(100)]) % 10  # a row and its copy in one fold
    apart = fitted(*repeated, fold=own)
    blind = fitted(*repeated)  # copies tell each other's class
    assert apart.scale_ < blind.scale_


def test_many_rows_at_prediction_go_by_blocks(monkeypatch):
    X, y, Z = rows(60, 4, 2)
    model = fitted(X, y)
    whole = model.predict_proba(Z)
    monkeypatch.setattr(kernel, "BLOCK", 7)
    np.testing.assert_allclose(model.predict_proba(Z), whole, atol=1e-12)
    assert model.predict_proba(Z[:0]).shape == (0, 2)


def test_more_rows_than_fit_are_refused(monkeypatch):
    monkeypatch.setattr(kernel, "MOST_ROWS", 50)
    X, y, _ = rows(51, 3, 2)
    with pytest.raises(DataError, match="51 rows to train on are more than the 50"):
        fitted(X, y)


def test_folds_are_dealt_out_by_class_where_there_are_none():
    codes = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    dealt = inner_folds(np.zeros(10, np.int32), codes)
    assert all(set(codes[dealt == one]) == {0, 1} for one in range(5))
    own = np.arange(10, dtype=np.int32) % 2
    assert inner_folds(own, codes) is own
