"""A normal distribution a class, with one covariance for all, of rows that lack modalities.

Fitted by the EM algorithm (`em`) to all rows, whatever they have (Little & Rubin 2019, Statistical
Analysis with Missing Data, 3rd edition, chapters 8 and 11). That is right if what a row lacks may
depend on what is known of it, but not on what is missing. A step needs only the moments of the
rows of each pattern of modalities, so it takes the same time for any number of rows: for D
dimensions in p patterns about p D^3 operations, and memory for a few D x D matrices.

Without classes it is one normal distribution. If a number to predict is among the dimensions
(`TARGET`), then what is filled in for it is a linear regression on whatever a row has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.special import log_softmax, logsumexp

from transforms.fusion.cells import CLASS
from transforms.fusion.nodes import in_blocks
from transforms.fusion.statistics import Statistics

MOST_PATTERNS = 256
"""For which what follows is kept, a few D x D matrices each."""

LOG_2_PI = float(np.log(2 * np.pi))


@dataclass(frozen=True, eq=False)
class Gaussian:
    """What was fitted.

    Attributes:
        dims: modality -> dimensions, in order; D in all.
        classes: their names; none: k = 1, one distribution of all rows.
        prior: float64[k].
        mean: float64[k, D].
        covariance: float64[D, D].
    """

    dims: dict[str, int]
    classes: tuple[str, ...]
    prior: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    _given: dict[int, _Given] = field(default_factory=dict, init=False, repr=False)

    def posteriors(self, blocks: Mapping[str, np.ndarray], present: np.ndarray) -> np.ndarray:
        """Probabilities of the classes given what a row has; other rows do not matter.

        Args:
            blocks: modality -> float32[n, d]; of those fitted some may be lacking.
            present: bool[n, len(blocks)], in the order of `blocks`.

        Returns:
            float64[n, k]; the prior for rows that have nothing.
        """
        found = np.empty((len(present), len(self.prior)))
        for rows, given, values in self._by_pattern(blocks, present):
            found[rows] = in_blocks(values, found.shape[1], given.scores)
        return np.exp(log_softmax(found, axis=1))

    def log_density(self, blocks: Mapping[str, np.ndarray], present: np.ndarray) -> np.ndarray:
        """Log of the density of what a row has, of all classes together.

        Args:
            blocks: modality -> float32[n, d]; of those fitted some may be lacking.
            present: bool[n, len(blocks)], in the order of `blocks`.

        Returns:
            float64[n]; 0 for rows that have nothing.
        """
        found = np.empty(len(present))
        for rows, given, values in self._by_pattern(blocks, present):
            found[rows] = in_blocks(values, 1, given.density)[:, 0]
        return found

    def fill(self, blocks: Mapping[str, np.ndarray], present: np.ndarray) -> dict[str, np.ndarray]:
        """What a row has, and for modalities that it lacks their mean given what it has.

        Args:
            blocks: modality -> float32[n, d]; of those fitted some may be lacking.
            present: bool[n, len(blocks)], in the order of `blocks`.

        Returns:
            float32[n, d] of each modality in `dims`; other rows do not matter.
        """
        n = len(present)
        found = {name: np.empty((n, d), np.float32) for name, d in self.dims.items()}
        for rows, given, values in self._by_pattern(blocks, present):
            whole = np.empty((len(rows), self.mean.shape[1]), np.float32)
            whole[:, given.has] = values
            whole[:, given.lacks] = in_blocks(values, len(given.lacks), given.expected)
            start = 0
            for name, d in self.dims.items():
                found[name][rows] = whole[:, start : start + d]
                start += d
        return found

    def log_likelihood(self, statistics: Statistics) -> float:
        """Of some rows and their classes, from the rows' moments alone.

        Of classes that were not among the training rows nothing can be said: -inf.
        """
        found = 0.0
        for p in patterns_of(statistics):
            of_class = p.count > 0
            with np.errstate(divide="ignore"):
                found += float(p.count[of_class] @ np.log(self.prior[of_class]))
            found += log_likelihood(p, split(self.covariance, p), self.mean)
        return found

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays of numbers and text, named `<prefix>/...`."""
        return {
            f"{prefix}/modalities": np.array(list(self.dims), dtype=str),
            f"{prefix}/dims": np.array(list(self.dims.values()), dtype=np.int64),
            f"{prefix}/classes": np.array(self.classes, dtype=str),
            f"{prefix}/prior": self.prior,
            f"{prefix}/mean": self.mean,
            f"{prefix}/covariance": self.covariance,
        }

    @classmethod
    def from_arrays(cls, prefix: str, arrays: Mapping[str, np.ndarray]) -> Gaussian:
        """What `to_arrays` was called on, bit for bit."""
        names, dims, classes = (
            arrays[f"{prefix}/{name}"].tolist() for name in ("modalities", "dims", "classes")
        )
        own = dict(zip(names, dims, strict=True))
        prior, mean = arrays[f"{prefix}/prior"], arrays[f"{prefix}/mean"]
        return cls(own, tuple(classes), prior, mean, arrays[f"{prefix}/covariance"])

    def _by_pattern(
        self, blocks: Mapping[str, np.ndarray], present: np.ndarray
    ) -> Iterator[tuple[np.ndarray, _Given, np.ndarray]]:
        """For each pattern that occurs: its rows, and float32[rows, d] of what they have."""
        patterns = np.zeros(len(present), np.int64)
        for i, name in enumerate(self.dims):
            if name in blocks:
                patterns |= present[:, list(blocks).index(name)].astype(np.int64) << i
        for pattern in np.unique(patterns).tolist():
            if pattern not in self._given:
                if len(self._given) == MOST_PATTERNS:
                    self._given.clear()
                self._given[pattern] = _Given(self, *_columns(self.dims, pattern))
            rows = np.flatnonzero(patterns == pattern)
            own = [blocks[m][rows] for i, m in enumerate(self.dims) if pattern >> i & 1]
            yield rows, self._given[pattern], np.hstack([np.zeros((len(rows), 0)), *own])


@dataclass(frozen=True, eq=False)
class _Given:
    """What a fitted distribution says of rows that have some dimensions and lack the others."""

    model: Gaussian
    has: np.ndarray
    lacks: np.ndarray

    @cached_property
    def _centre(self) -> np.ndarray:
        """float64[D]; values are looked at less this, so that a large mean costs no digits."""
        return self.model.prior @ self.model.mean

    @cached_property
    def _known(self) -> Split:
        return split(self.model.covariance, self)

    @cached_property
    def _linear(self) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients float64[d, k] and intercepts float64[k] of the classes' scores."""
        mean = (self.model.mean - self._centre)[:, self.has]
        coef = solve(self._known.factor, mean.T)
        with np.errstate(divide="ignore"):
            prior = np.log(self.model.prior)
        return coef, prior - 0.5 * (coef * mean.T).sum(axis=0)

    def scores(self, own: np.ndarray) -> np.ndarray:
        """Log of the joint density of row and class, less that of a row at all: float64[n, k]."""
        coef, intercept = self._linear
        return (own - self._centre[self.has]) @ coef + intercept

    def density(self, own: np.ndarray) -> np.ndarray:
        """Log of the density of rows, float64[n, 1]."""
        white = (own - self._centre[self.has]).T
        if len(self.has):
            white = solve_triangular(self._known.factor, white, lower=True)
        constant = self._known.log_determinant + len(self.has) * LOG_2_PI
        common = 0.5 * (np.square(white).sum(axis=0) + constant)
        return (logsumexp(self.scores(own), axis=1) - common)[:, None]

    def expected(self, own: np.ndarray) -> np.ndarray:
        """Means of what rows lack, float64[n, D - d]."""
        regression = self._known.regression
        mean = self.model.mean - self._centre
        of_class = mean[:, self.lacks] - mean[:, self.has] @ regression.T
        probability = np.exp(log_softmax(self.scores(own), axis=1))
        found = (own - self._centre[self.has]) @ regression.T + probability @ of_class
        return found + self._centre[self.lacks]


@dataclass(frozen=True, eq=False)
class Pattern:
    """Moments of the rows of one pattern of modalities.

    Attributes:
        has, lacks: int64[d], int64[D - d], positions of the dimensions.
        count: float64[k], rows of each class.
        mean: float64[k, d].
        within: float64[d, d], sum of products about the mean of a row's class.
    """

    has: np.ndarray
    lacks: np.ndarray
    count: np.ndarray
    mean: np.ndarray
    within: np.ndarray


@dataclass(frozen=True, eq=False)
class Split:
    """What follows from some dimensions being known.

    Attributes:
        factor: float64[d, d], lower Cholesky factor of their covariance.
        log_determinant: of their covariance.
        regression: float64[D - d, d], B: the others are expected at mean + B (x - mean).
        residual: float64[D - d, D - d], covariance of the others about that.
    """

    factor: np.ndarray
    log_determinant: float
    regression: np.ndarray
    residual: np.ndarray


def patterns_of(statistics: Statistics) -> list[Pattern]:
    """Moments of the labelled rows (or all, if there are no classes) that have anything."""
    k = max(len(statistics.classes), 1)
    found = []
    for pattern, cells in statistics.cells.items():
        if statistics.classes:
            cells = cells.where(cells.keys[:, CLASS] >= 0)
        if not pattern or not len(cells.keys):
            continue
        keys = np.zeros_like(cells.keys)
        keys[:, CLASS] = np.maximum(cells.keys[:, CLASS], 0)
        cells = cells.relabel(keys)
        count, mean = np.zeros(k), np.zeros((k, cells.dimensions))
        codes = cells.keys[:, CLASS]
        count[codes], mean[codes] = cells.count, cells.mean
        has, lacks = _columns(statistics.dims, pattern)
        found.append(Pattern(has, lacks, count, mean, cells.products_of()))
    return found


def _columns(dims: Mapping[str, int], pattern: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the dimensions that a pattern has, and of those it lacks."""
    bits = np.repeat(np.arange(len(dims)), list(dims.values()))
    has = (pattern >> bits & 1).astype(bool)
    return np.flatnonzero(has), np.flatnonzero(~has)


def split(covariance: np.ndarray, columns: Pattern | _Given) -> Split:
    """What follows from the dimensions that a pattern has being known."""
    has, lacks = columns.has, columns.lacks
    factor = factorise(covariance[np.ix_(has, has)])
    cross = covariance[np.ix_(lacks, has)]
    regression = solve(factor, cross.T).T
    residual = covariance[np.ix_(lacks, lacks)] - regression @ cross.T
    return Split(factor, log_determinant(factor), regression, residual)


def log_likelihood(p: Pattern, split: Split, mean: np.ndarray) -> float:
    """Of a pattern's rows given their classes."""
    step = np.sqrt(p.count)[:, None] * (p.mean - mean[:, p.has])
    products = p.within + step.T @ step
    squares = float(np.trace(solve(split.factor, products)))
    constant = len(p.has) * LOG_2_PI + split.log_determinant
    return -0.5 * (float(p.count.sum()) * constant + squares)


def factorise(covariance: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor."""
    if not len(covariance):
        return covariance
    try:
        return cholesky(covariance, lower=True)
    except LinAlgError:
        raise ValueError("the covariance is singular: shrink it") from None


def solve(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The inverse of the matrix with this lower Cholesky factor, times `right`."""
    return cho_solve((factor, True), right) if right.size else right.copy()


def log_determinant(factor: np.ndarray) -> float:
    """Of the matrix with this Cholesky factor."""
    return 2 * float(np.log(np.diagonal(factor)).sum())
