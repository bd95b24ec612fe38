"""The EM algorithm for `missing.Gaussian`: its parameters from the moments of rows by pattern."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from transforms.fusion.correlation import pairwise_covariance
from transforms.fusion.missing import (
    Gaussian,
    Pattern,
    factorise,
    log_determinant,
    log_likelihood,
    patterns_of,
    solve,
    split,
)
from transforms.fusion.statistics import Statistics


def fit_gaussian(
    statistics: Statistics,
    shrinkage: float = 0.1,
    tolerance: float = 1e-3,
    most: int = 200,
) -> tuple[Gaussian, list[float]]:
    """The most likely parameters of the labelled rows of some statistics.

    The covariance is shrunken as that of LDA, (1 - s) S + s m I, where m is the mean variance
    within classes. It is the most probable one with an inverse Wishart prior worth n s / (1 - s)
    rows; the penalised likelihood (with the log of that prior) rises with each step.

    Args:
        statistics: with `pooled` second moments; if they have classes, rows without are left out.
        shrinkage: s, 0 to less than 1.
        tolerance: the fit ends when a step adds less than that a row to the log likelihood. Of
            hundreds of dimensions 0.01 changed no prediction that was looked at.
        most: most steps.

    Returns:
        What was fitted, and the penalised log likelihood a row before each step and at the end.

    Raises:
        ValueError: there are no rows, or their covariance is singular and is not shrunken.
    """
    patterns = patterns_of(statistics)
    count = sum((p.count for p in patterns), np.zeros(max(len(statistics.classes), 1)))
    n = float(count.sum())
    if not n:
        raise ValueError("there are no rows to fit a distribution to")
    mean, variance = _start(patterns, sum(statistics.dims.values()))
    # Where all rows of a class are alike, what is left is the distance to its mean.
    rows, level = n * shrinkage / (1 - shrinkage), float(variance.mean()) or 1.0
    # Dimensions that no row has are as wide as the others.
    covariance = np.diag(np.where(variance > 0, variance, level))
    history: list[float] = []
    for _ in range(most + 1):
        likelihood, *better = _step(patterns, mean, covariance, rows, level)
        if rows:
            factor = factorise(covariance)
            inverse = solve(factor, np.eye(len(covariance)))
            likelihood -= 0.5 * rows * (log_determinant(factor) + level * np.trace(inverse))
        history.append(likelihood / n)
        if len(history) > most or (len(history) > 1 and history[-1] - history[-2] < tolerance):
            break
        mean, covariance = better
    return Gaussian(dict(statistics.dims), statistics.classes, count / n, mean, covariance), history


def approximated_shrinkage(statistics: Statistics) -> float:
    """How much to shrink, 0 to 0.99: more, the fewer rows there are for the dimensions.

    Oracle approximating shrinkage (Chen, Wiesel, Eldar & Hero 2010, Shrinkage algorithms for MMSE
    covariance estimation), as in scikit-learn without terms of 2 / D: about what is best for
    normally distributed rows, from second moments alone. The number of rows is the mean over
    pairs of modalities of those that have both.

    Args:
        statistics: with `pooled` second moments.
    """
    covariance = pairwise_covariance(statistics)
    d = len(covariance)
    pairs = list(combinations(statistics.features, 2))
    n = sum(statistics.moments(pair, full=False).count for pair in pairs) / max(len(pairs), 1)
    squares, trace = float(np.square(covariance).sum()), float(np.trace(covariance)) ** 2
    if not d or squares <= trace / d:  # nothing but a multiple of the identity
        return 0.99
    return min((squares + trace) / ((n + 1) * (squares - trace / d)), 0.99)


def _start(patterns: list[Pattern], d: int) -> tuple[np.ndarray, np.ndarray]:
    """Means float64[k, D] and variances float64[D] of what is known of each dimension."""
    k = len(patterns[0].count)
    count, total = np.zeros((k, d)), np.zeros((k, d))
    for p in patterns:
        count[:, p.has] += p.count[:, None]
        total[:, p.has] += p.count[:, None] * p.mean
    overall = total.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    mean = np.where(count > 0, total / np.maximum(count, 1), overall)
    square = np.zeros(d)
    for p in patterns:
        square[p.has] += np.diagonal(p.within)
        square[p.has] += p.count @ np.square(p.mean - mean[:, p.has])
    return mean, square / np.maximum(count.sum(axis=0), 1)


def _step(
    patterns: list[Pattern],
    mean: np.ndarray,
    covariance: np.ndarray,
    rows: float,
    level: float,
) -> tuple[float, np.ndarray, np.ndarray]:
    """Log likelihood of mean and covariance, and those that are most likely if what is missing is
    as these expect. What follows for one pattern is forgotten before the next: there may be many.
    """
    d = len(covariance)
    count = sum((p.count for p in patterns), np.zeros(len(mean)))
    expected = []
    products = np.zeros((d, d))
    likelihood = 0.0
    for p in patterns:
        s = split(covariance, p)
        likelihood += log_likelihood(p, s, mean)
        whole = mean.copy()
        whole[:, p.has] = p.mean
        whole[:, p.lacks] += (p.mean - mean[:, p.has]) @ s.regression.T
        expected.append(whole)
        cross = s.regression @ p.within
        products[np.ix_(p.has, p.has)] += p.within
        products[np.ix_(p.lacks, p.has)] += cross
        products[np.ix_(p.has, p.lacks)] += cross.T
        missing = cross @ s.regression.T + p.count.sum() * s.residual
        products[np.ix_(p.lacks, p.lacks)] += (missing + missing.T) / 2
    # Classes without rows keep their mean.
    moved = [p.count[:, None] * (w - mean) for p, w in zip(patterns, expected, strict=True)]
    new = mean + sum(moved) / np.maximum(count, 1)[:, None]
    for p, whole in zip(patterns, expected, strict=True):
        step = np.sqrt(p.count)[:, None] * (whole - new)
        products += step.T @ step
    products.flat[:: d + 1] += rows * level
    return likelihood, new, products / (count.sum() + rows)
