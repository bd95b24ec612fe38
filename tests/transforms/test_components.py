"""Scaling and principal components: both ways agree, with each other and with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from transforms.fusion.components import axes_of_covariance, axes_of_rows, scaling
from transforms.fusion.moments import Moments, merge_all


def both(rows: np.ndarray, scale: str, most: int) -> tuple[np.ndarray, np.ndarray]:
    known = Moments.of(rows, True)
    mean, factor = scaling(scale, known)
    return (
        axes_of_covariance(known.covariance(), factor, most),
        axes_of_rows(rows, mean, factor, most),
    )


@pytest.mark.parametrize("scale", ["standard", "block", "none"])
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("shape", [(40, 300), (300, 40), (40, 40), (2, 5)])
def test_axes_from_rows_and_from_moments_agree(
    shape: tuple[int, int], offset: float, scale: str
) -> None:
    rows = np.random.default_rng(0).normal(size=shape) * np.linspace(1, 5, shape[1]) + offset
    by_covariance, by_rows = both(rows.astype(np.float32), scale, 20)
    assert by_rows.shape == by_covariance.shape == (min(20, shape[0] - 1, shape[1]), shape[1])
    np.testing.assert_allclose(by_rows, by_covariance, atol=1e-8)
    np.testing.assert_allclose(by_rows @ by_rows.T, np.eye(len(by_rows)), atol=1e-8)


def test_axes_are_those_of_scikit_learn() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 300)).astype(np.float32)
    expected = PCA(20, svd_solver="full").fit(rows.astype(np.float64)).components_
    for axes in both(rows, "none", 20):
        top = np.abs(axes).argmax(axis=1)
        index = np.arange(20)
        assert (axes[index, top] > 0).all()
        signed = expected * np.sign(expected[index, top])[:, None]
        np.testing.assert_allclose(axes, signed, atol=1e-8)


def test_rounding_does_not_choose_the_sign_where_loadings_tie() -> None:
    # Two standardised dimensions always have loadings of equal size.
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = rng.normal(size=(40, 1))
        rows = np.hstack([x, -x + 0.3 * rng.normal(size=(40, 1))]).astype(np.float32)
        for axes in both(rows, "standard", 2):
            np.testing.assert_allclose(axes, np.array([[1, -1], [1, 1]]) / np.sqrt(2), atol=1e-8)


def test_dimensions_that_repeat_add_no_axes() -> None:
    rows = np.random.default_rng(0).normal(1e3, 1, size=(30, 4)).astype(np.float32)
    for axes in both(np.hstack([rows, rows, rows]), "standard", 12):
        assert len(axes) == 4


@pytest.mark.parametrize("scale", ["standard", "block", "none"])
@pytest.mark.parametrize("parts", [1, 7])
def test_constant_dimensions_take_no_part(parts: int, scale: str) -> None:
    # In float64 the mean of equal numbers is not quite that number.
    rows = np.tile(np.array([0.1, 1e6 + 0.1, -7.7]), (37, 1))
    known = merge_all(Moments.of(part, True) for part in np.array_split(rows, parts))
    assert known.variance().any()
    mean, factor = scaling(scale, known)
    assert not factor.any()
    assert axes_of_covariance(known.covariance(), factor, 3).shape == (0, 3)
    assert axes_of_rows(rows, mean, factor, 3).shape == (0, 3)


def test_factors() -> None:
    rows = np.array([[0, 0, 0.1], [2, 4, 0.1], [4, 8, 0.1]], np.float32)
    variance = np.array([8 / 3, 32 / 3])
    known = Moments.of(rows, False)
    for scale, expected in (
        ("standard", 1 / np.sqrt(variance)),
        ("block", np.full(2, np.sqrt(3 / variance.sum()))),
        ("none", np.ones(2)),
    ):
        mean, factor = scaling(scale, known)
        np.testing.assert_allclose(mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(factor, np.append(expected, 0), rtol=1e-12)
    mean, factor = scaling("standard", Moments.of(rows[:1], False))
    assert mean.tolist() == [0, 0, 0]
    assert factor.tolist() == [1, 1, 1]
