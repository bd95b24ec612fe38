"""What the families of models share: the rows they are fitted on, and what they give back.

Most families see the rows through products with an orthonormal basis only, so that where there
are more dimensions than rows they are fitted in the span of the rows instead, once for all
candidates, and mapped back: same model, a fraction of the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from transforms.fusion.fitted import Sides

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Gaps:
    """Which rows lack which parts of their vectors.

    Attributes:
        ends: past-the-last dimension of each part, in order; that of the last is D.
        here: bool[n, len(ends)], false where a row has no modality of the part.
    """

    ends: tuple[int, ...]
    here: np.ndarray

    @classmethod
    def of(cls, sides: Sides, modalities: Sequence[str], present: np.ndarray) -> Gaps:
        """Those of rows that have some of the `modalities`, bool[n, m]."""
        own = [[list(modalities).index(m) for m in names] for names, _ in sides]
        here = np.stack([present[:, columns].any(axis=1) for columns in own], axis=1)
        return cls(tuple(stop for _, stop in sides), here)

    def take(self, rows: np.ndarray) -> Gaps:
        """Those of some rows."""
        return Gaps(self.ends, self.here[rows])

    def mark(self, X: np.ndarray) -> np.ndarray:
        """float64[n, D]: the vectors, NaN instead of whatever stands in for what is not there."""
        marked = X.astype(np.float64)
        marked[~np.repeat(self.here, np.diff(self.ends, prepend=0), axis=1)] = np.nan
        return marked


@dataclass(frozen=True)
class Rows:
    """The rows a family is fitted on.

    Attributes:
        values: float64[n, r]; of a rotation-invariant family: coordinates, of mean 0.
        y: int64[n] numbers of classes, not necessarily all of them, or float64[n].
        dimensions: D, that of the fused vector; r or more.
        fold: int32[n], folds of the data set that these rows are from, for what has to be
            cross-validated within them; None: any rows may be told apart.
        ends: past-the-last dimension of each part that a row may lack; of families that read gaps.
    """

    values: np.ndarray
    y: np.ndarray
    dimensions: int
    fold: np.ndarray | None = None
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class Fitted:
    """A fitted scikit-learn estimator, and whether its solver arrived."""

    estimator: Any
    converged: bool = True


@dataclass(frozen=True)
class Family:
    """A kind of model.

    Attributes:
        fit: (options of each candidate, rows) -> a fit of each.
        tasks: what it can be used for.
        rotation_invariant: whether it is the same model in any orthonormal basis of a space that
            the centred rows lie in, so that `Basis.expand` can map it back.
        reads_gaps: whether it wants to know what a row lacks, instead of what stands in for it:
            it is fitted to, and its estimator is asked about, vectors as `Gaps.mark` makes them.
    """

    fit: Callable[[list[dict[str, Any]], Rows], list[Fitted]]
    tasks: tuple[Task, ...] = ("classification",)
    rotation_invariant: bool = True
    reads_gaps: bool = False


INNER_FOLDS = 5  # within the rows fitted on, where they have no folds of their own


def inner_folds(fold: np.ndarray | None, codes: np.ndarray) -> np.ndarray:
    """Folds for what is cross-validated within the rows of a fit: int32[n].

    Args:
        fold: the data set's own folds of these rows, or None.
        codes: int64[n] numbers of classes, by which rows are dealt out if there are no folds.
    """
    if fold is not None and not (fold == fold[0]).all():
        return fold
    dealt = np.empty(len(codes), np.int32)
    dealt[np.argsort(codes, kind="stable")] = np.arange(len(codes)) % INNER_FOLDS
    return dealt


@dataclass(frozen=True)
class Basis:
    """Coordinates in which candidates are fitted: the rows less their mean, perhaps rotated.

    Attributes:
        mean: float64[D], of the rows fitted on.
        axes: float64[D, r] with orthonormal columns that span the centred rows; None: as they
            are, r = D.
    """

    mean: np.ndarray
    axes: np.ndarray | None

    @property
    def dimensions(self) -> int:
        """D, of the fused vector."""
        return len(self.mean)

    def expand(self, estimator: Any) -> Any:
        """The estimator, fitted in these coordinates, for fused vectors; changed in place.

        The `coef_` of a linear one becomes float64[1 or k, D] (float64[D] for a regression), the
        `means_` and `rotations_` of a QDA float64[k, D] and k times float64[D, components].
        """
        if hasattr(estimator, "rotations_"):
            if self.axes is not None:
                estimator.means_ = estimator.means_ @ self.axes.T
                estimator.rotations_ = [self.axes @ rotation for rotation in estimator.rotations_]
            estimator.means_ = estimator.means_ + self.mean
        else:
            if self.axes is not None:
                estimator.coef_ = estimator.coef_ @ self.axes.T
            estimator.intercept_ = estimator.intercept_ - estimator.coef_ @ self.mean
        estimator.n_features_in_ = self.dimensions
        return estimator


def find_basis(X: np.ndarray) -> tuple[Basis, np.ndarray]:
    """A basis for the rows X, float[n, D], and their coordinates in it, float64[n, r].

    With D > n the rows lie in at most n dimensions. An L2 penalty and a covariance shrunk towards
    a multiple of the identity do not change under rotation, and the best coefficients have no
    part outside the rows' span, so nothing is lost there (Hastie & Tibshirani 2004, "Efficient
    quadratic regularization for expression arrays").
    """
    mean = X.mean(axis=0, dtype=np.float64)
    centred = X.astype(np.float64) - mean
    if X.shape[1] <= X.shape[0]:
        return Basis(mean, None), centred
    # QR and not SVD: any orthonormal axes will do, and there is no rank to decide on.
    axes, triangle = np.linalg.qr(centred.T)
    return Basis(mean, axes), np.ascontiguousarray(triangle.T)
