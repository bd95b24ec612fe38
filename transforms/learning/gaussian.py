"""Models by their likelihood, with a normal distribution a class: LDA, QDA, naive Bayes, and one
for rows that lack modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.linalg import solve
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.naive_bayes import GaussianNB

from transforms.fusion.collecting import Rows as Counted
from transforms.fusion.collecting import collect
from transforms.fusion.em import fit_gaussian
from transforms.fusion.missing import Gaussian
from transforms.learning.closed_form import Quadratic, Whitened, qda, whitening
from transforms.learning.fitting import Family, Fitted, Rows


def fit_lda(options: list[dict[str, Any]], rows: Rows) -> list[Fitted]:
    """Linear discriminant analysis for each shrinkage s of the pooled covariance S.

    The covariance within classes is (1 - s) S + s m I, m = trace(S) / D; S is that of the rows
    less their class's mean, divided by n.
    """
    T, dimensions = rows.values, rows.dimensions
    classes, codes, counts = np.unique(rows.y, return_inverse=True, return_counts=True)
    indicator = (codes[:, None] == np.arange(len(classes))).astype(np.float64)
    means = (indicator.T @ T) / counts[:, None]
    within = T - means[codes]
    S = within.T @ within / len(T)
    spread = float(np.trace(S))

    found = []
    for chosen in options:
        value = chosen["shrinkage"]
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
        priors = _priors(counts, chosen)
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


def fit_qda(options: list[dict[str, Any]], rows: Rows) -> list[Fitted]:
    """Quadratic discriminant analysis for each number of components and shrinkage.

    See `closed_form.qda`.
    """
    T = rows.values
    classes, codes, counts = np.unique(rows.y, return_inverse=True, return_counts=True)
    means = np.array([T[codes == c].mean(axis=0) for c in range(len(classes))])
    axes = whitening(T.T @ T / len(T), max(chosen["components"] for chosen in options))
    whitened = (T - means[codes]) @ axes.T
    each = np.stack([own.T @ own for c in range(len(classes)) for own in [whitened[codes == c]]])
    known = Whitened(counts, means, axes, each)

    found = []
    for chosen in options:
        priors = _priors(counts, chosen)
        model = qda(known, chosen["components"], chosen["shrinkage"], priors)
        estimator = qda_of(model, chosen["shrinkage"])
        estimator.classes_ = classes
        found.append(Fitted(estimator))
    return found


def qda_of(model: Quadratic, shrinkage: float) -> QuadraticDiscriminantAnalysis:
    """The scikit-learn estimator of a model, without its classes."""
    estimator = QuadraticDiscriminantAnalysis(reg_param=shrinkage)
    estimator.means_, estimator.priors_ = model.mean, np.exp(model.log_prior)
    estimator.rotations_, estimator.scalings_ = list(model.rotation), list(model.variance)
    estimator.n_features_in_ = model.mean.shape[1]
    return estimator


def fit_naive_bayes(options: list[dict[str, Any]], rows: Rows) -> list[Fitted]:
    """Gaussian naive Bayes: each class has a mean and a variance in each dimension."""
    _, counts = np.unique(rows.y, return_counts=True)
    found = []
    for chosen in options:
        model = GaussianNB(priors=_priors(counts, chosen), var_smoothing=chosen["smoothing"])
        model.fit(rows.values, rows.y)
        # One array in two places would be two after loading, and other bytes when saved again.
        model.class_prior_ = model.priors.copy()
        if not model.epsilon_ > 0:
            model.var_[:] = 1.0  # no dimension varies: all that is left are the priors
        found.append(Fitted(model))
    return found


class GaussianClassifier(ClassifierMixin, BaseEstimator):
    """A normal distribution a class, with one covariance for all, of vectors with gaps.

    What a row lacks is integrated out: its posteriors are those given what it has. With nothing
    lacking it is LDA.

    Attributes:
        classes_: int64[k] or str[k].
        priors_: float64[k].
        means_: float64[k, D].
        covariance_: float64[D, D], within classes.
        ends_: int64[p], past-the-last dimension of each part that a row may lack.
        n_features_in_: D.
    """

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """float64[n, k] of float[n, D], where parts that a row lacks are NaN."""
        blocks, here = _parts(X, self.ends_.tolist())
        dims = {name: block.shape[1] for name, block in blocks.items()}
        names = tuple(map(str, self.classes_))
        known = Gaussian(dims, names, self.priors_, self.means_, self.covariance_)
        return known.posteriors(blocks, here)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable classes."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def fit_with_gaps(options: list[dict[str, Any]], rows: Rows) -> list[Fitted]:
    """A `GaussianClassifier` for each shrinkage, by the EM algorithm; see `em.fit_gaussian`.

    Parts that a row lacks are NaN in `rows.values`.
    """
    classes, codes, counts = np.unique(rows.y, return_inverse=True, return_counts=True)
    blocks, here = _parts(rows.values, rows.ends)
    if not here.any():  # nothing is known of any row but its class
        only = DummyClassifier(strategy="prior").fit(rows.values, rows.y)
        only.n_features_in_ = rows.dimensions
        return [Fitted(only) for _ in options]
    names = tuple(f"{c:09d}" for c in range(len(classes)))  # statistics sort them
    known = collect([Counted(blocks, here, np.zeros(len(codes), int), codes, names)])
    found = []
    for chosen in options:
        fitted, _ = fit_gaussian(known, chosen["shrinkage"])
        model = GaussianClassifier()
        model.classes_, model.priors_ = classes, _priors(counts, chosen)
        model.means_, model.covariance_ = fitted.mean, fitted.covariance
        model.ends_ = np.array(rows.ends, np.int64)
        model.n_features_in_ = rows.dimensions
        found.append(Fitted(model))
    return found


def _parts(X: np.ndarray, ends: Sequence[int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The parts of vectors by their number, float[n, d], and bool[n, p]: those that are not NaN."""
    starts = [0, *ends[:-1]]
    blocks = {
        str(i): X[:, start:stop] for i, (start, stop) in enumerate(zip(starts, ends, strict=True))
    }
    return blocks, ~np.isnan(X[:, starts])


def _priors(counts: np.ndarray, chosen: dict[str, Any]) -> np.ndarray:
    """Of each class: its share of the rows, or the same for all if classes are to be balanced."""
    if chosen.get("class_weight") == "balanced":
        return np.full(len(counts), 1 / len(counts))
    return counts / counts.sum()


LDA = Family(fit_lda)
QDA = Family(fit_qda)
NAIVE_BAYES = Family(fit_naive_bayes, rotation_invariant=False)
GAUSSIAN = Family(fit_with_gaps, rotation_invariant=False, reads_gaps=True)
