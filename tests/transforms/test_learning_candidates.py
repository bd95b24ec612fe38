"""Each candidate against the same model computed densely, in all dimensions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf as dense_ledoit_wolf
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.linear_model import LogisticRegression, Ridge

from schemas.options.models import Models
from transforms.learning.candidates import Candidate, candidates_of, fit_rows
from transforms.learning.fitting import find_basis
from transforms.learning.gaussian import ledoit_wolf

SHAPES = [(60, 8), (40, 90), (30, 30)]


def rows(n, D, k, seed=1):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % k)
    X = rng.normal(size=(n, D)) @ np.diag(rng.uniform(0.3, 2, D)) + 0.5 * rng.normal(size=(k, D))[y]
    return (X + 3).astype(np.float32), y, (rng.normal(size=(25, D)) + 3).astype(np.float32)


def fitted(candidate, X, y):
    (result,) = fit_rows([candidate], X, y)
    return result.estimator


def dense_lda(X, y, Z, shrinkage):
    """Probabilities from the D x D covariance, as the textbook writes them."""
    X, Z = X.astype(np.float64), Z.astype(np.float64)
    k, D = y.max() + 1, X.shape[1]
    means = np.array([X[y == c].mean(axis=0) for c in range(k)])
    within = X - means[y]
    if shrinkage == "auto":
        covariance, _ = dense_ledoit_wolf(within, assume_centered=True)
    else:
        S = within.T @ within / len(X)
        covariance = (1 - shrinkage) * S + shrinkage * np.trace(S) / D * np.eye(D)
    inverse = np.linalg.pinv(covariance, hermitian=True)
    d = Z[:, None, :] - means
    score = -0.5 * np.einsum("nki,ij,nkj->nk", d, inverse, d) + np.log(np.bincount(y) / len(y))
    p = np.exp(score - score.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("shrinkage", ["auto", 0.05, 0.5, 1.0])
def test_lda_is_the_dense_one(shape, k, shrinkage):
    X, y, Z = rows(*shape, k)
    model = fitted(Candidate("lda", {"shrinkage": shrinkage}), X, y)
    assert model.coef_.shape == (1 if k == 2 else k, shape[1])
    expected = dense_lda(X, y, Z, shrinkage)
    np.testing.assert_allclose(model.predict_proba(Z.astype(np.float64)), expected, atol=1e-8)


def test_lda_without_shrinkage():
    X, y, Z = rows(60, 8, 3)
    model = fitted(Candidate("lda", {"shrinkage": 0.0}), X, y)
    expected = dense_lda(X, y, Z, 0.0)
    np.testing.assert_allclose(model.predict_proba(Z.astype(np.float64)), expected, atol=1e-8)
    X, y, Z = rows(40, 90, 3)  # singular: the shortest coefficients
    model = fitted(Candidate("lda", {"shrinkage": 0.0}), X, y)
    assert np.isfinite(model.coef_).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("C", [0.01, 1.0])
def test_logistic_is_the_one_in_all_dimensions(shape, k, C):
    X, y, Z = (a.astype(np.float64) if a.dtype == np.float32 else a for a in rows(*shape, k))
    model = fitted(Candidate("logistic", {"C": C}), X, y)
    dense = LogisticRegression(C=C, tol=1e-10, solver="newton-cg", max_iter=1000).fit(X, y)
    assert model.coef_.shape == dense.coef_.shape
    np.testing.assert_allclose(model.predict_proba(Z), dense.predict_proba(Z), atol=5e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [0.1, 100.0])
def test_ridge_is_the_one_in_all_dimensions(shape, alpha):
    X, _, Z = rows(*shape, 2)
    y = X[:, 0] + np.random.default_rng(0).normal(size=len(X))
    model = fitted(Candidate("ridge", {"alpha": alpha}), X, y)
    dense = Ridge(alpha=alpha, solver="svd").fit(X.astype(np.float64), y)
    np.testing.assert_allclose(model.coef_, dense.coef_, atol=1e-8)
    np.testing.assert_allclose(model.predict(Z), dense.predict(Z), atol=1e-6)


def test_ridge_without_penalty_is_the_shortest_solution():
    X, _, _ = rows(20, 50, 2)
    y = np.arange(20.0)
    model = fitted(Candidate("ridge", {"alpha": 0.0}), X, y)
    centred = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)
    expected = np.linalg.lstsq(centred, y - y.mean(), rcond=1e-10)[0]
    np.testing.assert_allclose(model.coef_, expected, atol=1e-7)


@settings(max_examples=50)
@given(n=st.integers(2, 30), D=st.integers(2, 40), seed=st.integers(0, 1000))
def test_ledoit_wolf_is_that_of_scikit_learn(n, D, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, D)) * rng.uniform(0.1, 10, D)
    expected = ledoit_wolf_shrinkage(X, assume_centered=True)
    assert ledoit_wolf(X, X.T @ X / n, D) == pytest.approx(expected, abs=1e-9)
    if n < D:  # in the span of the rows, the same number
        _, R = np.linalg.qr(X.T)
        assert ledoit_wolf(R.T, R @ R.T / n, D) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=50)
@given(n=st.integers(1, 12), D=st.integers(1, 30), seed=st.integers(0, 1000))
def test_a_basis_keeps_products_and_loses_nothing(n, D, seed):
    X = np.random.default_rng(seed).integers(-3, 4, size=(n, D)).astype(np.float32)
    basis, T = find_basis(X)
    assert T.shape == (n, min(n, D))
    centred = X - basis.mean
    own = centred if basis.axes is None else centred @ basis.axes
    np.testing.assert_allclose(own, T, atol=1e-9)
    np.testing.assert_allclose(T @ T.T, centred @ centred.T, atol=1e-9)
    if basis.axes is not None:
        np.testing.assert_allclose(T @ basis.axes.T, centred, atol=1e-9)
        np.testing.assert_allclose(basis.axes.T @ basis.axes, np.eye(n), atol=1e-9)


def test_candidates_follow_the_recipe():
    default = candidates_of(Models(), "classification")
    assert [(c.model, c.options) for c in default] == [
        ("logistic", {"C": 0.01}),
        ("logistic", {"C": 0.1}),
        ("logistic", {"C": 1.0}),
        ("lda", {"shrinkage": "auto"}),
    ]
    assert {c.model for c in candidates_of(Models(), "regression")} == {"ridge"}
    only = candidates_of(
        Models.model_validate({"lda": None, "logistic": {"C": [2]}}), "classification"
    )
    assert [c.model for c in only] == ["logistic", "lda"]
    with pytest.raises(ValueError, match=r"train\.models\.lda is not for regression"):
        candidates_of(Models.model_validate({"lda": {}}), "regression")
