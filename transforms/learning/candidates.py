"""The models that are compared: logistic regression, LDA and ridge, all linear.

All three see the data through products with an orthonormal basis only, so that where there are
more dimensions than rows they are fitted in the span of the rows instead, once for all
candidates, and mapped back: same model, a fraction of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.linalg import solve
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge

from schemas.options.models import LdaOptions, LogisticOptions, RidgeOptions
from schemas.recipe import Models

# Of the gradient. scikit-learn's default of 1e-4 leaves probabilities wrong by several hundredths
# where the penalty is weak.
TOLERANCE = 1e-6
MAX_ITERATIONS = 1000  # 20 to 60 are usual

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Candidate:
    """A model and one value of each of its options, such as `logistic`, `{"C": 0.1}`."""

    model: Literal["logistic", "lda", "ridge"]
    options: dict[str, Any]


@dataclass(frozen=True)
class Fitted:
    """A fitted scikit-learn estimator, and whether its solver arrived."""

    estimator: Any
    converged: bool = True


def candidates_of(models: Models, task: Task) -> list[Candidate]:
    """The candidates a recipe asks for, in its order; the defaults of the task if it names none.

    Raises:
        ValueError: a model is named that is not for this task.
    """
    wrong = ("ridge",) if task == "classification" else ("logistic", "lda")
    for name in wrong:
        if getattr(models, name) is not None:
            raise ValueError(f"train.models.{name} is not for {task}")
    if models.logistic is None and models.lda is None and models.ridge is None:
        if task == "classification":
            models = Models(logistic=LogisticOptions(), lda=LdaOptions())
        else:
            models = Models(ridge=RidgeOptions())
    found = []
    if models.logistic is not None:
        found += [Candidate("logistic", {"C": C}) for C in models.logistic.C]
    if models.lda is not None:
        found += [Candidate("lda", {"shrinkage": s}) for s in models.lda.shrinkage]
    if models.ridge is not None:
        found += [Candidate("ridge", {"alpha": a}) for a in models.ridge.alpha]
    return found


# --- the basis -------------------------------------------------------------------------------


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

    def coordinates(self, X: np.ndarray) -> np.ndarray:
        """float[n, D] -> float64[n, r]."""
        centred = X.astype(np.float64) - self.mean
        return centred if self.axes is None else centred @ self.axes

    def expand(self, estimator: Any) -> Any:
        """The linear estimator, fitted in these coordinates, for fused vectors; changed in place.

        Its `coef_` becomes float64[1 or k, D] (float64[D] for a regression).
        """
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


# --- fitting ---------------------------------------------------------------------------------


def fit(
    candidates: Sequence[Candidate], T: np.ndarray, y: np.ndarray, dimensions: int
) -> list[Fitted]:
    """Every candidate fitted on the same rows.

    Args:
        candidates: of one task.
        T: float64[n, r], coordinates of the rows, each column of mean 0.
        y: int64[n] numbers of classes, not necessarily all of them, or float64[n].
        dimensions: D, that of the fused vector; r or more.

    Returns:
        The fits in the order of the candidates.
    """
    classification = any(c.model != "ridge" for c in candidates)
    if classification and (y == y[0]).all():
        only = DummyClassifier(strategy="prior").fit(T, y)
        return [Fitted(only) for _ in candidates]
    found: dict[int, Fitted] = {}
    for model, fit_family in _FAMILIES.items():
        family = [i for i, c in enumerate(candidates) if c.model == model]
        if family:
            values = [next(iter(candidates[i].options.values())) for i in family]
            found.update(zip(family, fit_family(values, T, y, dimensions), strict=True))
    return [found[i] for i in range(len(candidates))]


def _fit_logistic(values: list[float], T: np.ndarray, y: np.ndarray, _: int) -> list[Fitted]:
    """Multinomial (two classes: binomial) logistic regression for each C."""
    found = []
    for C in values:
        model = LogisticRegression(C=C, tol=TOLERANCE, max_iter=MAX_ITERATIONS)
        model.fit(T, y)
        found.append(Fitted(model, bool(model.n_iter_.max() < MAX_ITERATIONS)))
    return found


def _fit_lda(
    values: list[float | str], T: np.ndarray, y: np.ndarray, dimensions: int
) -> list[Fitted]:
    """Linear discriminant analysis for each shrinkage s of the pooled covariance S.

    The covariance within classes is (1 - s) S + s m I, m = trace(S) / D; S is that of the rows
    less their class's mean, divided by n.
    """
    classes, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    indicator = (codes[:, None] == np.arange(len(classes))).astype(np.float64)
    means = (indicator.T @ T) / counts[:, None]
    within = T - means[codes]
    S = within.T @ within / len(T)
    spread = float(np.trace(S))
    priors = counts / len(T)

    found = []
    for value in values:
        shrinkage = ledoit_wolf(within, S, dimensions) if value == "auto" else float(value)
        covariance, floor = (1 - shrinkage) * S, shrinkage * spread / dimensions
        total = float((T * T).sum()) / len(T)
        if spread <= 1e-12 * total:
            # Rows of a class are all alike: what is left is the distance to its mean.
            covariance, floor = np.zeros_like(S), total / dimensions
        covariance.flat[:: len(S) + 1] += floor
        if floor > 1e-12 * spread:
            coef = solve(covariance, means.T, assume_a="pos").T
        else:  # as good as singular: the shortest solution
            coef = np.linalg.lstsq(covariance, means.T)[0].T
        intercept = np.log(priors) - 0.5 * (coef * means).sum(axis=1)
        if len(classes) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
        model.coef_, model.intercept_ = coef, intercept
        model.classes_, model.priors_ = classes, priors
        model.n_features_in_ = T.shape[1]
        found.append(Fitted(model))
    return found


def ledoit_wolf(rows: np.ndarray, S: np.ndarray, dimensions: int) -> float:
    """The best shrinkage of a covariance towards a multiple of the identity, 0 to 1.

    Ledoit & Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".

    Args:
        rows: float64[n, r], of mean 0 (here: less the mean of their class).
        S: float64[r, r], rows' rows / n.
        dimensions: D, of the vectors that `rows` are rotations of; r or more.
    """
    n = len(rows)
    squares = float((S * S).sum())
    distance = squares / dimensions - (float(np.trace(S)) / dimensions) ** 2
    noise = (float(((rows * rows).sum(axis=1) ** 2).sum()) / n - squares) / (n * dimensions)
    if dimensions == 1 or distance <= 0 or noise <= 0:
        return 0.0
    return min(noise / distance, 1.0)


def _fit_ridge(values: list[float], T: np.ndarray, y: np.ndarray, _: int) -> list[Fitted]:
    """Ridge regression for each penalty, from one eigendecomposition."""
    mean = float(y.mean())
    variances, vectors = np.linalg.eigh(T.T @ T)
    projected = vectors.T @ (T.T @ (y - mean))
    smallest = np.finfo(np.float64).eps * len(T) * max(float(variances[-1]), 0.0)
    found = []
    for alpha in values:
        scale = variances + alpha
        usable = scale > smallest  # alpha = 0 may leave directions without any say
        model = Ridge(alpha=alpha)
        model.coef_ = vectors @ np.divide(
            projected, scale, out=np.zeros_like(projected), where=usable
        )
        model.intercept_ = mean
        model.n_features_in_ = T.shape[1]
        found.append(Fitted(model))
    return found


_FAMILIES: dict[str, Any] = {"logistic": _fit_logistic, "lda": _fit_lda, "ridge": _fit_ridge}
