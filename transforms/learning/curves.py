"""Cross-validation of closed-form models from the statistics of each fold, with no look at rows.

For each fold, what was not in it is filled, scaled and fitted; and the fold's own moments tell the
error there: for ridge regression exactly, for every penalty; for LDA up to one assumption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import eigh
from scipy.special import ndtr

from schemas.options.fuse import Scale
from transforms.fusion.components import scaling
from transforms.fusion.statistics import ClassMoments, Statistics
from transforms.learning.closed_form import Linear, lda, normal_equations, shrunken


@dataclass(frozen=True, eq=False)
class Curve:
    """How good each value of an option is on the held-out folds.

    Attributes:
        values: float64[v], of the option.
        error: float64[v, folds], summed over the rows of a fold.
        rows: int64[folds], labelled ones.
    """

    values: np.ndarray
    error: np.ndarray
    rows: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """float64[v], error a row over all folds."""
        return self.error.sum(axis=1) / self.rows.sum()

    @property
    def best(self) -> float:
        """The value with the least error, the largest of those that tie."""
        mean = self.mean
        return float(self.values[mean <= mean.min()].max())


def standardiser(
    statistics: Statistics, scale: Scale, missing: Literal["mean", "zero"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the fusion by concatenation makes of rows, learnt from their statistics.

    Returns:
        fill, shift, factor: float64[D]; a missing dimension is `fill`, then x becomes
        (x - shift) * factor.
    """
    found = [scaling(scale, statistics.moments([name], full=False)) for name in statistics.features]
    shift = np.concatenate([mean for mean, _ in found])
    factor = np.concatenate([own for _, own in found])
    fill = np.zeros_like(shift) if (scale, missing) == ("none", "zero") else shift
    return fill, shift, factor


def prepared(
    statistics: Statistics, scale: Scale, missing: Literal["mean", "zero"]
) -> Iterator[tuple[Statistics, Statistics]]:
    """For each fold: all other rows and its own, filled and scaled as the others say."""
    for _, rest, held in statistics.leave_out():
        fill, shift, factor = standardiser(rest, scale, missing)
        yield rest.filled(fill).scaled(shift, factor), held.filled(fill).scaled(shift, factor)


def lda_curve(
    statistics: Statistics,
    shrinkages: Sequence[float],
    scale: Scale = "standard",
    missing: Literal["mean", "zero"] = "mean",
    priors: np.ndarray | None = None,
) -> Curve:
    """Expected errors of LDA on the held-out folds for each shrinkage; see `expected_errors`."""
    values = np.asarray(shrinkages, dtype=np.float64)
    errors, rows = [], []
    for rest, held in prepared(statistics, scale, missing):
        known, asked = rest.by_class(), held.by_class()
        errors.append([expected_errors(lda(known, s, priors), asked) for s in values])
        rows.append(int(asked.count.sum()))
    return Curve(values, np.array(errors).T, np.array(rows))


def expected_errors(model: Linear, held: ClassMoments) -> float:
    """Number of rows that a linear classifier gets wrong, if its scores are normally distributed.

    For each class c and each other class j, the score of j less that of c has the mean and the
    variance (pooled over classes) that the moments say, and so a probability to be above 0. A
    row of c is right if none is; the probability of that is taken to be the product of those of
    each, as if they were independent. That is exact for two classes, and serves to compare the
    values of an option.

    Args:
        model: of which scores are compared.
        held: moments of rows that the model was not fitted to.
    """
    possible = np.isfinite(model.intercept)
    seen = np.flatnonzero(held.count)
    score = held.mean[seen] @ model.coef.T + np.where(possible, model.intercept, 0.0)
    covariance = model.coef @ (held.within / held.count.sum()) @ model.coef.T
    spread = np.diagonal(covariance)
    variance = spread + spread[seen, None] - 2 * covariance[seen]
    ahead = score - score[np.arange(len(seen)), seen][:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        beaten = ndtr(ahead / np.sqrt(np.maximum(variance, 0.0)))
    beaten = np.where(np.isnan(beaten), 0.5, beaten)
    beaten[:, ~possible] = 0.0
    beaten[np.arange(len(seen)), seen] = 0.0
    # By way of logarithms, as few errors would be lost in 1 - product.
    with np.errstate(divide="ignore"):
        wrong = -np.expm1(np.log1p(-beaten).sum(axis=1))
    return float(held.count[seen] @ np.where(possible[seen], wrong, 1.0))


def ridge_curve(
    statistics: Statistics,
    alphas: Sequence[float],
    scale: Scale = "standard",
    missing: Literal["mean", "zero"] = "mean",
) -> Curve:
    """Squared errors of ridge regression on the held-out folds for each penalty, exactly.

    With the eigenvectors of the features' products in the other folds, each penalty costs a
    product of the held-out fold's matrix and the coefficients:

        sum (y - a - x b)^2 = n (mean of y - a - x b)^2 + yy - 2 b' xy + b' xx b

    For classes it is the sum over their indicators.
    """
    values = np.asarray(alphas, dtype=np.float64)
    errors, rows = [], []
    for rest, held in prepared(statistics, scale, missing):
        known, asked = normal_equations(rest), normal_equations(held)
        variances, vectors = eigh(known.xx)
        projected = vectors.T @ known.xy
        xx = vectors.T @ asked.xx @ vectors
        xy = vectors.T @ asked.xy
        step = vectors.T @ (asked.mean - known.mean)
        offset = asked.target_mean - known.target_mean
        own = []
        for alpha in values:
            b = shrunken(variances, projected, float(alpha), known.count)
            about = asked.yy - 2 * (b * xy).sum(axis=0) + (b * (xx @ b)).sum(axis=0)
            own.append((asked.count * (offset - step @ b) ** 2 + about).sum())
        errors.append(own)
        rows.append(asked.count)
    return Curve(values, np.array(errors).T, np.array(rows))
