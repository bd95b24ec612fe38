"""Moments up to the fourth, and the scale that follows from them: `tails`.

To deviation 1, a word that one row in a hundred has is 10 in that row, and a network with many
such words learns rows by heart. As they are (`block`), dimensions of little variance have no say,
however much they tell. To one fourth moment, of two dimensions that are alike but for their units
both count the same, as by deviations; one that is 0 but for a share p of the rows has a variance
of the order of the square root of p beside one that is never 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from transforms.fusion.components import scaling
from transforms.fusion.moments import Moments


@dataclass(frozen=True, eq=False)
class Tailed(Moments):
    """Moments of each dimension by itself; `scatter` is a diagonal.

    Attributes:
        third, fourth: float64[d], sums of these powers of centred values.
    """

    third: np.ndarray
    fourth: np.ndarray

    @classmethod
    def of_rows(cls, rows: np.ndarray) -> Tailed:
        """Of float[n, d]; n may be 0.

        Raises:
            ValueError: a value is infinite or not a number.
        """
        known = Moments.of(rows, full=False)
        centred = rows.astype(np.float64) - known.mean
        cubes = centred**3
        third, fourth = cubes.sum(axis=0), (cubes * centred).sum(axis=0)
        return cls(known.count, known.mean, known.scatter, third, fourth)


def merge_tails(parts: Iterable[Tailed]) -> Tailed:
    """Those of all rows, of one part or more (Pebay 2008, "Formulas for robust, one-pass parallel
    computation of covariances and arbitrary-order statistical moments").
    """
    return reduce(_merged, parts)


def _merged(one: Tailed, other: Tailed) -> Tailed:
    n = one.count + other.count
    if not one.count or not other.count:
        return one if one.count else other
    a, b = one.count / n, other.count / n
    step = other.mean - one.mean
    square = step * step
    return Tailed(
        n,
        one.mean + step * b,
        one.scatter + other.scatter + n * a * b * square,
        one.third
        + other.third
        + n * a * b * (a - b) * square * step
        + 3 * step * (a * other.scatter - b * one.scatter),
        one.fourth
        + other.fourth
        + n * a * b * (a * a - a * b + b * b) * square * square
        + 6 * square * (a * a * other.scatter + b * b * one.scatter)
        + 4 * step * (a * other.third - b * one.third),
    )


def scaling_by_tails(known: Tailed) -> tuple[np.ndarray, np.ndarray]:
    """What to subtract and what to multiply by, both float64[d]; see `components.scaling`."""
    mean, factor = scaling("standard", known)
    varies = factor > 0
    if known.count < 2 or not varies.any():
        return mean, factor
    variance = known.variance()
    fourth = np.maximum(known.fourth / known.count, np.square(variance))  # but for rounding, it is
    factor[varies] = fourth[varies] ** -0.25
    factor *= np.sqrt(len(factor) / (np.square(factor) * variance).sum())
    return mean, factor
