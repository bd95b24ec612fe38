"""How alike modalities are, from rows: against the formulae on all dimensions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from transforms.learning.similarity import canonical_correlations, linear_cka


def pair(n: int, d: int, e: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of features that share three variables."""
    rng = np.random.default_rng(n + d)
    shared = rng.normal(size=(n, 3))
    one = shared @ rng.normal(size=(3, d)) + rng.normal(size=(n, d)) + 5
    other = shared @ rng.normal(size=(3, e)) + rng.normal(size=(n, e)) - 2
    return one.astype(np.float32), other.astype(np.float32)


@pytest.mark.parametrize(("n", "d", "e"), [(200, 6, 9), (30, 200, 4), (30, 70, 90)])
def test_alignment_is_that_of_all_products(n: int, d: int, e: int) -> None:
    X, Y = pair(n, d, e)
    x, y = (a.astype(np.float64) - a.mean(axis=0, dtype=np.float64) for a in (X, Y))
    K, L = x @ x.T, y @ y.T
    expected = (K * L).sum() / (np.linalg.norm(K) * np.linalg.norm(L))
    assert linear_cka(X, Y) == pytest.approx(expected, rel=1e-9)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0]
    assert linear_cka(3 * X @ turn, Y) == pytest.approx(expected, rel=1e-4)


def test_correlations_are_those_of_scikit_learn() -> None:
    X, Y = pair(400, 4, 5)
    scores = CCA(n_components=3, max_iter=5000, tol=1e-12).fit_transform(X, Y)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(*(s.T for s in scores), strict=True)]
    np.testing.assert_allclose(canonical_correlations(X, Y, 3), expected, atol=1e-4)


def test_wide_features_do_not_agree_by_chance() -> None:
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=(100, 500)), rng.normal(size=(100, 300))
    assert max(canonical_correlations(X, Y)) < 0.7  # with all dimensions they would be 1
    assert len(canonical_correlations(X[:19], Y[:19])) == 0


def test_what_does_not_vary_or_is_not_there() -> None:
    X, Y = pair(50, 4, 4)
    assert linear_cka(X, np.ones((50, 2))) is None
    assert canonical_correlations(X, np.ones((50, 2))) == []
    assert linear_cka(X[:0], Y[:0]) is None
    assert canonical_correlations(X[:0], Y[:0]) == []
