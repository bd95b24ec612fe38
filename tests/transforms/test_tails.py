"""The scale `tails` of networks: from which moments, and what it makes of features."""

from __future__ import annotations

import numpy as np
import pytest

from transforms.learning.network.batches import scales_of
from transforms.learning.network.tails import Tailed, merge_tails, scaling_by_tails


def scaled(rows: np.ndarray) -> np.ndarray:
    """The rows as `tails` makes them."""
    shift, factor = scaling_by_tails(Tailed.of_rows(rows))
    return np.asarray((rows - shift) * factor)


def test_moments_of_parts_are_those_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    rows = rng.gamma(0.5, 2, (500, 4)) * [1, 1e-3, 50, 0] + [0, 7, 1e6, 3]
    parts = [rows[:0], rows[:1], rows[1:40], rows[40:400], rows[400:], rows[:0]]
    merged, whole = merge_tails(map(Tailed.of_rows, parts)), Tailed.of_rows(rows)
    assert merged.count == 500
    for name in ("mean", "scatter", "third", "fourth"):
        np.testing.assert_allclose(
            getattr(merged, name), getattr(whole, name), rtol=1e-8, atol=1e-12
        )
    centred = rows - rows.mean(axis=0)
    np.testing.assert_allclose(whole.fourth, (centred**4).sum(axis=0), rtol=1e-8, atol=1e-12)


def test_units_do_not_count_but_rareness_does() -> None:
    rng = np.random.default_rng(1)
    normal = rng.normal(size=(20_000, 1))
    rare = (np.arange(20_000) % 100 == 0).astype(np.float64)[:, None]
    rows = np.hstack([normal, 1000 * normal + 1e6, rare, 1e-3 * rare, np.full_like(rare, 2.0)])
    found = scaled(rows)
    variance = found.var(axis=0)
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1e-6)
    np.testing.assert_allclose(found[:, 2], found[:, 3], atol=1e-6)
    # One row in a hundred: sqrt(0.01), and the normal distribution's fourth moment is 3.
    assert variance[2] / variance[0] == pytest.approx(np.sqrt(0.01 * 3), rel=0.05)
    assert variance[4] == 0
    assert variance.sum() == pytest.approx(5)


@pytest.mark.parametrize("rows", [np.zeros((0, 2)), np.ones((1, 2)), np.ones((9, 2))])
def test_where_nothing_varies(rows: np.ndarray) -> None:
    (known,) = scales_of("tails", [Tailed.of_rows(rows)])
    standard = scales_of("standard", [Tailed.of_rows(rows)])[0]
    assert (known == standard).all()
