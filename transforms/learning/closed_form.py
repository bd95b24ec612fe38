"""Models that are fitted to second moments alone, with no further look at the rows.

`lda` and `naive_bayes` want moments by class (`Statistics.by_class`), `qda` those along `Whitened`
axes, `ridge` wants `normal_equations`; they know the rows as these statistics do: filled, scaled,
of a subset. How much to shrink is chosen by `curves`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy.linalg import eigh, lstsq, solve
from scipy.special import log_softmax

from schemas.recipe import TARGET
from transforms.fusion.components import axes_of_covariance
from transforms.fusion.nodes import in_blocks
from transforms.fusion.statistics import ClassMoments, Statistics

SMALLEST_SCALING = 1e-6
"""Of the variance of a class along one of its axes, as a share of that of all rows."""


@dataclass(frozen=True, eq=False)
class Linear:
    """Scores that are linear in the features.

    Attributes:
        coef: float64[k, D].
        intercept: float64[k]; -inf for classes that cannot be.
        output: what scores are: `logits` up to a constant, `shares` of classes estimated by
            regression, or a `number` (k = 1).
    """

    coef: np.ndarray
    intercept: np.ndarray
    output: Literal["logits", "shares", "number"]

    def decision(self, X: np.ndarray) -> np.ndarray:
        """float64[n, k] scores, or float64[n] numbers, of float[n, D]."""
        found = in_blocks(X, len(self.coef), lambda rows: rows @ self.coef.T + self.intercept)
        return found[:, 0] if self.output == "number" else found

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """float64[n, k]; shares are cut to 0 to 1 and divided by their sum."""
        scores = self.decision(X)
        if self.output == "logits":
            return np.exp(log_softmax(scores, axis=1))
        if self.output == "number":
            raise ValueError("a regression has no probabilities")
        scores = np.clip(scores, 0.0, 1.0)
        # Shares of a row sum to 1 before they are cut, so not all of them can be 0.
        return scores / scores.sum(axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class NaiveBayes:
    """A normal distribution a class, of independent dimensions.

    Attributes:
        mean, variance: float64[k, D].
        log_prior: float64[k]; -inf for classes that cannot be.
    """

    mean: np.ndarray
    variance: np.ndarray
    log_prior: np.ndarray

    def decision(self, X: np.ndarray) -> np.ndarray:
        """float64[n, k], log of the joint density of row and class."""
        constant = self.log_prior - 0.5 * np.log(2 * np.pi * self.variance).sum(axis=1)

        def density(rows: np.ndarray) -> np.ndarray:
            squares = [
                (np.square(rows - mean) / variance).sum(axis=1)
                for mean, variance in zip(self.mean, self.variance, strict=True)
            ]
            return constant - 0.5 * np.stack(squares, axis=1)

        return in_blocks(X, len(self.mean), density)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """float64[n, k]."""
        return np.exp(log_softmax(self.decision(X), axis=1))


@dataclass(frozen=True, eq=False)
class Quadratic:
    """A normal distribution a class, each with its own covariance, in a space of r axes.

    Attributes:
        mean: float64[k, D].
        rotation: float64[k, D, r], axes along which a class has no correlations.
        variance: float64[k, r], of the class along them.
        log_prior: float64[k]; -inf for classes that cannot be.
    """

    mean: np.ndarray
    rotation: np.ndarray
    variance: np.ndarray
    log_prior: np.ndarray

    def decision(self, X: np.ndarray) -> np.ndarray:
        """float64[n, k], log of the joint density of row and class, up to a constant."""
        constant = self.log_prior - 0.5 * np.log(self.variance).sum(axis=1)
        whitener = self.rotation / np.sqrt(self.variance)[:, None, :]

        def density(rows: np.ndarray) -> np.ndarray:
            squares = [
                np.square((rows - mean) @ axes).sum(axis=1)
                for mean, axes in zip(self.mean, whitener, strict=True)
            ]
            return constant - 0.5 * np.stack(squares, axis=1)

        return in_blocks(X, len(self.mean), density)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """float64[n, k]."""
        return np.exp(log_softmax(self.decision(X), axis=1))


Model: TypeAlias = Linear | NaiveBayes | Quadratic


# --- fitting -----------------------------------------------------------------------------------


def lda(known: ClassMoments, shrinkage: float, priors: np.ndarray | None = None) -> Linear:
    """Linear discriminant analysis with the covariance (1 - s) S + s m I, m = trace(S) / D.

    S is that of the rows less their class's mean, divided by their number.

    Args:
        known: of two or more classes with rows.
        shrinkage: s, 0 to 1.
        priors: float64[k]; by default the shares of the classes.
    """
    n, d = int(known.count.sum()), known.mean.shape[1]
    S = known.within / n
    seen = known.count > 0
    means = known.mean[seen]
    spread = float(np.trace(S))
    total = spread + float(known.count[seen] @ np.square(means - known.centre()).sum(axis=1)) / n
    covariance, floor = (1 - shrinkage) * S, shrinkage * spread / d
    if spread <= 1e-12 * total:
        # Rows of a class are all alike: what is left is the distance to its mean.
        covariance, floor = np.zeros_like(S), total / d
    covariance.flat[:: d + 1] += floor
    # About the centre, so that a large mean costs no digits.
    centred = means - known.centre()
    if floor > 1e-12 * spread:
        own = solve(covariance, centred.T, assume_a="pos").T
    else:  # as good as singular: the shortest solution
        own = lstsq(covariance, centred.T)[0].T
    coef = np.zeros_like(known.mean)
    coef[seen] = own
    intercept = _log_prior(known.count, priors)
    intercept[seen] -= 0.5 * (own * centred).sum(axis=1) + own @ known.centre()
    return Linear(coef, intercept, "logits")


def naive_bayes(
    known: ClassMoments, smoothing: float = 1e-9, priors: np.ndarray | None = None
) -> NaiveBayes:
    """Gaussian naive Bayes.

    Args:
        known: of one or more classes with rows.
        smoothing: share of the largest variance of any dimension that is added to all, as in
            scikit-learn.
        priors: float64[k]; by default the shares of the classes.
    """
    count = np.maximum(known.count, 1)[:, None]
    between = known.count @ np.square(known.mean - known.centre())
    largest = float((known.square.sum(axis=0) + between).max(initial=0)) / known.count.sum()
    # Of classes without rows, and where nothing varies, any variance will do.
    variance = known.square / count + (smoothing * largest or 1.0)
    return NaiveBayes(known.mean, variance, _log_prior(known.count, priors))


@dataclass(frozen=True, eq=False)
class Whitened:
    """Moments of classes along principal axes, divided by the deviation of all rows along them.

    Attributes:
        count: int64[k]; a class may have no rows.
        mean: float64[k, D], of the features as they are.
        axes: float64[r, D], most variance first.
        each: float64[k, r, r], sums of products along the axes about the class's mean.
    """

    count: np.ndarray
    mean: np.ndarray
    axes: np.ndarray
    each: np.ndarray

    @classmethod
    def of(cls, known: ClassMoments, components: int) -> Whitened:
        """Along as many axes, or as many as there are.

        Raises:
            ValueError: only pooled matrices were collected.
        """
        between = np.sqrt(known.count)[:, None] * (known.mean - known.centre())
        covariance = (known.within + between.T @ between) / known.count.sum()
        axes = whitening(covariance, components)
        each = known.projected(axes).each
        assert each is not None
        return cls(known.count, known.mean, axes, each)


def whitening(covariance: np.ndarray, components: int) -> np.ndarray:
    """Axes float64[r, D], r <= components, along which a covariance float64[D, D] becomes I."""
    axes = axes_of_covariance(covariance.copy(), np.ones(len(covariance)), components)
    return axes / np.sqrt(((axes @ covariance) * axes).sum(axis=1))[:, None]


def qda(
    known: Whitened, components: int, shrinkage: float, priors: np.ndarray | None = None
) -> Quadratic:
    """Quadratic discriminant analysis of whitened principal components.

    A class has the covariance (1 - s) C + s I there; C is its own, divided by its count, and I
    that of all rows (Friedman 1989, "Regularized discriminant analysis", with the covariance of
    all rows as what is shrunk to). With s > 0 a class may have any number of rows, even one.

    Args:
        known: along `components` axes or more.
        components: that are looked at.
        shrinkage: s, 0 to 1.
        priors: float64[k]; by default the shares of the classes.
    """
    own = known.each[:, :components, :components] / np.maximum(known.count, 1)[:, None, None]
    variance, vectors = np.linalg.eigh(own)
    # Without shrinkage a class of few rows has no extent in some direction, which must not make
    # it infinitely unlikely.
    variance = np.maximum((1 - shrinkage) * variance + shrinkage, SMALLEST_SCALING)
    rotation = known.axes[:components].T @ vectors
    return Quadratic(known.mean, rotation, variance, _log_prior(known.count, priors))


def _log_prior(count: np.ndarray, priors: np.ndarray | None) -> np.ndarray:
    """float64[k], -inf for classes without rows."""
    shares = count.astype(np.float64) if priors is None else np.asarray(priors, np.float64)
    shares = np.where(count > 0, shares, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(shares / shares.sum())


@dataclass(frozen=True, eq=False)
class NormalEquations:
    """Second moments of features and targets, all about their means.

    Attributes:
        count: n, rows.
        mean, target_mean: float64[D], float64[q].
        xx, xy: float64[D, D], float64[D, q], sums of products.
        yy: float64[q], sums of squares.
        output: what the targets are: `number`, or `shares`: 1 for the row's class and 0 for others.
    """

    count: int
    mean: np.ndarray
    target_mean: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray
    output: Literal["shares", "number"]


def normal_equations(statistics: Statistics) -> NormalEquations:
    """Those of complete rows that have a label: to predict numbers, or the indicators of classes.

    Raises:
        ValueError: rows lack a modality: fill them, or take a subset.
    """
    if TARGET in statistics.dims:
        labelled = statistics.labelled()
        labelled.complete()
        known = labelled.moments()
        x, y = slice(None, -1), slice(-1, None)
        return NormalEquations(
            known.count,
            known.mean[x],
            known.mean[y],
            known.scatter[x, x],
            known.scatter[x, y],
            np.diagonal(known.scatter)[y],
            "number",
        )
    classes = statistics.by_class()
    centre, n = classes.centre(), int(classes.count.sum())
    steps = np.sqrt(classes.count)[:, None] * (classes.mean - centre)
    return NormalEquations(
        n,
        centre,
        classes.count / n,
        classes.within + steps.T @ steps,
        np.ascontiguousarray((classes.count[:, None] * (classes.mean - centre)).T),
        classes.count * (1 - classes.count / n),
        "shares",
    )


def ridge(equations: NormalEquations, alpha: float) -> Linear:
    """Linear regression with a penalty of alpha on the squares of the coefficients.

    (Hoerl & Kennard 1970; the intercept is free.) Of classes it predicts indicators.
    """
    values, vectors = eigh(equations.xx)
    coef = vectors @ shrunken(values, vectors.T @ equations.xy, alpha, equations.count)
    intercept = equations.target_mean - equations.mean @ coef
    return Linear(np.ascontiguousarray(coef.T), intercept, equations.output)


def shrunken(values: np.ndarray, projected: np.ndarray, alpha: float, n: int) -> np.ndarray:
    """Ridge coefficients float64[D, q] in the basis of the eigenvectors of the features' products.

    Args:
        values: float64[D], the eigenvalues.
        projected: float64[D, q], the products of features and targets in that basis.
        alpha: the penalty.
        n: rows.
    """
    scale = (values + alpha)[:, None]
    smallest = np.finfo(np.float64).eps * n * max(float(values[-1:].max(initial=0)), 0.0)
    # alpha = 0 may leave directions without any say.
    return np.divide(projected, scale, out=np.zeros_like(projected), where=scale > smallest)
