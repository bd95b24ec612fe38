"""Canonical correlations and similarity, against decompositions of the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
from patterned import DIMS, make, matrix
from scipy.linalg import orth, subspace_angles

from transforms.fusion.collecting import collect
from transforms.fusion.correlation import (
    canonical_correlations,
    linear_cka,
    pairwise_covariance,
    shared_variables,
)

PAIR = {"image": 4, "audio": 3}


def views(seed: int = 0, n: int = 300) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Three views of two hidden variables with noise, centred; and their covariance."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 2))
    found = {}
    for name, d in DIMS.items():
        rows = hidden @ rng.normal(size=(2, d)) + 0.5 * rng.normal(size=(n, d))
        found[name] = rows - rows.mean(axis=0)
    whole = np.hstack(list(found.values()))
    return whole.T @ whole / n, found


def test_shared_variables_are_those_of_a_decomposition_of_the_rows() -> None:
    covariance, rows = views()
    n = 300
    found = shared_variables(covariance, DIMS, 9, 0.0)
    # Carroll: the left singular vectors of orthonormal bases of the views side by side.
    bases = {name: orth(view) for name, view in rows.items()}
    left, values, _ = np.linalg.svd(np.hstack(list(bases.values())), full_matrices=False)
    np.testing.assert_allclose(found.values, values**2, atol=1e-10)
    assert found.values.sum() == pytest.approx(9)
    for i in range(4):
        wanted = left[:, i] * np.sqrt(n)
        told = {name: rows[name] @ found.axes[name][i] for name in rows}
        sign = np.sign(wanted @ sum(told.values()))
        for name, basis in bases.items():
            # What a view says is the projection of the variable on its columns.
            expected = sign * basis @ (basis.T @ wanted)
            np.testing.assert_allclose(told[name], expected, atol=1e-8)


def test_signs_are_fixed_and_axes_are_those_of_the_largest_values() -> None:
    covariance, _ = views(1)
    found = shared_variables(covariance, DIMS, 3, 0.1)
    stacked = np.hstack(list(found.axes.values()))
    assert stacked.shape == (3, 9)
    assert (stacked[np.arange(3), np.abs(stacked).argmax(axis=1)] > 0).all()
    assert (np.diff(found.values) <= 0).all()
    more = shared_variables(covariance, DIMS, 100, 0.1)
    assert more.values[:3] == pytest.approx(found.values)
    assert len(more.values) == 9


def test_shrunken_blocks_solve_the_generalised_problem() -> None:
    covariance, _ = views(2)
    s = 0.3
    blocks = np.zeros((9, 9))
    for at in (slice(0, 4), slice(4, 7), slice(7, 9)):
        own = covariance[at, at]
        blocks[at, at] = own + s / (1 - s) * np.trace(own) / len(own) * np.eye(len(own))
    found = shared_variables(covariance, DIMS, 5, s)
    for value, axis in zip(found.values, np.hstack(list(found.axes.values())), strict=True):
        np.testing.assert_allclose(covariance @ axis, value * blocks @ axis, atol=1e-9)
    # Each modality's axes are the ridge regression of the variables on it.
    rows = views(2)[1]
    variable = sum(rows[name] @ found.axes[name][0] for name in DIMS) / found.values[0]
    assert variable.var() == pytest.approx(1)
    image = rows["image"]
    coef = np.linalg.solve(blocks[:4, :4], image.T @ variable / len(image))
    np.testing.assert_allclose(found.axes["image"][0], coef, atol=1e-9)


def test_dimensions_that_repeat_or_are_constant_change_nothing() -> None:
    covariance, _ = views(3)
    repeat = np.zeros((11, 9))
    repeat[[0, 1, 2, 3], [0, 1, 2, 3]] = 1
    repeat[4, 0] = 1  # a copy of the first
    repeat[[6, 7, 8, 9, 10], [4, 5, 6, 7, 8]] = 1  # after one that is constant
    wide = shared_variables(repeat @ covariance @ repeat.T, {"a": 6, "b": 3, "c": 2}, 4, 0.0)
    found = shared_variables(covariance, DIMS, 4, 0.0)
    np.testing.assert_allclose(wide.values, found.values, atol=1e-10)
    nothing = shared_variables(np.zeros((3, 3)), {"a": 1, "b": 2}, 2, 0.0)
    assert (len(nothing.values), nothing.axes["b"].shape) == (0, (0, 2))


def test_canonical_correlations_are_cosines_of_angles() -> None:
    covariance, rows = views(4)
    found = canonical_correlations(covariance[:7, :7], PAIR, 0.0)
    angles = subspace_angles(rows["image"], rows["audio"])
    np.testing.assert_allclose(found, np.cos(angles[::-1]), atol=1e-10)
    less = canonical_correlations(covariance[:7, :7], PAIR, 0.5)
    assert 0.9 * found[0] < less[0] < found[0]


def test_shrinking_keeps_chance_from_looking_like_correlation() -> None:
    """Unrelated modalities of as many dimensions as rows."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 80)) * np.tile(1 / np.arange(1, 41), 2)
    covariance = np.cov(rows.T, bias=True)
    dims = {"a": 40, "b": 40}
    assert canonical_correlations(covariance, dims, 0.0)[0] == pytest.approx(1)
    assert canonical_correlations(covariance, dims, 0.5)[0] < 0.9


def test_cka_is_that_of_the_rows_products() -> None:
    covariance, rows = views(5)
    x, y = rows["image"] @ rows["image"].T, rows["audio"] @ rows["audio"].T
    expected = (x * y).sum() / (np.linalg.norm(x) * np.linalg.norm(y))
    assert linear_cka(covariance[:7, :7], PAIR) == pytest.approx(expected, rel=1e-10)
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    change = np.eye(7)
    change[:4, :4] = 3 * turn
    turned = change @ covariance[:7, :7] @ change.T
    assert linear_cka(turned, PAIR) == pytest.approx(expected, rel=1e-10)
    assert linear_cka(change[:, :4] @ change[:, :4].T, {"a": 4, "b": 0}) != 1
    assert np.isnan(linear_cka(np.diag([1.0, 0.0]), {"a": 1, "b": 1}))


def test_a_pairwise_covariance_is_of_the_rows_that_have_both() -> None:
    rows = make(6, 400)
    x = matrix(rows)[rows.fold >= 0]
    found = pairwise_covariance(collect([rows]))
    blocks = {"image": range(4), "audio": range(4, 7), "text": range(7, 9)}
    for a in blocks.values():
        for b in blocks.values():
            both = x[~np.isnan(x[:, [*a, *b]]).any(axis=1)]
            expected = np.cov(both[:, a].T, both[:, b].T, bias=True)[: len(a), len(a) :]
            np.testing.assert_allclose(found[np.ix_(a, b)], expected, atol=1e-10)
