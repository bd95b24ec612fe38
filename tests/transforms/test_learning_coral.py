"""CORAL against its definition, and who trains when a domain is left out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import inv, sqrtm
from sklearn.covariance import oas

from transforms.fusion.moments import Moments
from transforms.learning.coral import Coral, fit_coral, leave_one_domain_out, shrink


def rows(n, d, seed):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(0, 5, d)).astype(
        np.float32
    )


@settings(max_examples=30)
@given(n=st.integers(2, 40), d=st.integers(1, 20), seed=st.integers(0, 1000))
def test_shrinkage_is_that_of_scikit_learn(n, d, seed):
    X = rows(n, d, seed).astype(np.float64)
    expected, shrinkage = oas(X)
    if d > 1:
        expected = expected if shrinkage >= 1e-6 else None
    if expected is not None:
        scale = np.abs(expected).max()
        np.testing.assert_allclose(shrink(Moments.of(X, True)), expected, atol=1e-9 * scale)


def test_the_map_is_the_definition():
    source, target = rows(200, 6, 1), rows(150, 6, 2)
    known, other = Moments.of(source, True), Moments.of(target, True)
    found = fit_coral(known, other)
    expected = inv(sqrtm(shrink(known))) @ sqrtm(shrink(other))
    np.testing.assert_allclose(found.matrix, expected.real, atol=1e-8)
    mapped = (source - known.mean) @ expected.real + other.mean
    np.testing.assert_allclose(found.apply(source), mapped, rtol=1e-4, atol=1e-4)


def test_the_mapped_source_has_the_targets_mean_and_covariance():
    source, target = rows(20_000, 5, 1), rows(20_000, 5, 2)
    mapped = fit_coral(Moments.of(source, True), Moments.of(target, True)).apply(source)
    assert mapped.dtype == np.float32
    np.testing.assert_allclose(mapped.mean(axis=0), target.mean(axis=0), atol=1e-3)
    expected = np.cov(target.T)
    np.testing.assert_allclose(np.cov(mapped.T), expected, atol=0.01 * np.abs(expected).max())


def test_equal_domains_are_left_as_they_are():
    source = rows(100, 4, 3)
    known = Moments.of(source, True)
    np.testing.assert_allclose(fit_coral(known, known).apply(source), source, atol=1e-4)


def test_the_unit_of_features_does_not_matter():
    source, target = rows(50, 4, 1), rows(60, 4, 2)
    plain = fit_coral(Moments.of(source, True), Moments.of(target, True)).apply(source)
    big = fit_coral(Moments.of(source * 2**20, True), Moments.of(target * 2**20, True))
    np.testing.assert_allclose(big.apply(source * 2**20), plain * 2**20, rtol=1e-4, atol=10)


def test_alignment_helps_a_model_that_is_used_elsewhere():
    rng = np.random.default_rng(0)
    y = np.arange(2000) % 2
    shape = rng.normal(size=(4, 4))
    source = rng.normal(size=(2000, 4)) + 2 * np.outer(y, [1, 0, 0, 0])
    target = (rng.normal(size=(2000, 4)) + 2 * np.outer(y, [1, 0, 0, 0])) @ (
        np.eye(4) + 0.4 * (shape + shape.T) / 2
    ) + 3

    def accuracy(X):
        step = np.linalg.solve(np.cov(X.T), X[y == 1].mean(0) - X[y == 0].mean(0))
        middle = (X[y == 1].mean(0) + X[y == 0].mean(0)) / 2
        return ((((target - middle) @ step) > 0) == y).mean()

    mapped = fit_coral(Moments.of(source, True), Moments.of(target, True)).apply(source)
    assert accuracy(mapped.astype(np.float64)) > accuracy(source) + 0.1


@pytest.mark.parametrize("n", [1, 3])
def test_domains_of_few_or_equal_rows_stay_finite(n):
    few, many = np.ones((n, 5), np.float32), rows(30, 5, 0)
    for source, target in ((few, many), (many, few), (few, few), (many[:2], many[:3])):
        found = fit_coral(Moments.of(source, True), Moments.of(target, True))
        assert np.isfinite(found.apply(source)).all()


def test_a_map_comes_back_as_it_was():
    found = fit_coral(Moments.of(rows(20, 3, 0), True), Moments.of(rows(20, 3, 1), True))
    again = Coral.load(found.to_arrays())
    np.testing.assert_array_equal(again.apply(rows(5, 3, 2)), found.apply(rows(5, 3, 2)))


def test_what_cannot_be_aligned_says_so():
    full = Moments.of(rows(20, 3, 0), True)
    with pytest.raises(ValueError, match="a domain without rows"):
        fit_coral(full, Moments.empty(3, True))
    with pytest.raises(ValueError, match=r"domains of \[3, 3\] and \[4, 4\]"):
        fit_coral(full, Moments.of(rows(20, 4, 0), True))
    with pytest.raises(ValueError, match="only the diagonal"):
        fit_coral(*(Moments.of(rows(20, 3, 0), False) for _ in range(2)))


def test_each_domain_is_left_out_once():
    domain = np.array(["b", "a", None, "a", "", "c", "b"], dtype=object)
    test = np.array([False, False, False, True, False, False, False])
    found = list(leave_one_domain_out(domain, test))
    assert [name for name, _, _ in found] == ["a", "b", "c"]
    usable = np.array([True, True, False, False, False, True, True])
    for name, train, held in found:
        np.testing.assert_array_equal(train | held, usable)
        assert not (train & held).any()
        assert set(domain[held]) == {name}
    with pytest.raises(ValueError, match="at least two: found 1"):
        list(leave_one_domain_out(np.array(["a", "a"]), np.zeros(2, bool)))
