"""A machine of the Gaussian kernel, for classes that no plane parts: least squares, calibrated."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import lapack
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight

from schemas.errors import DataError
from transforms.learning.calibration import best_scale
from transforms.learning.fitting import Family, Fitted, Rows, inner_folds

MOST_ROWS = 6_000
"""Rows that it is fitted on at most: each pair of them takes 16 bytes, and time is their cube."""

BLOCK = 4096
"""Rows whose similarities to all rows of the training are in memory at once, at prediction."""


class KernelClassifier(ClassifierMixin, BaseEstimator):
    """Classes by weighted similarities to the rows of the training.

    The decision value of class j for x is sum_i w_ij exp(-gamma |x - x_i|^2) - 1 + 2 / k, and the
    probabilities are the softmax of the decision values times `scale_`.

    Attributes:
        rows_: float64[n, D], of the training.
        weights_: float64[n, k].
        gamma_: of the kernel.
        scale_: see above.
        classes_: k classes.
    """

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities of float64[m, D]: float64[m, k]."""
        found = [
            softmax(self.scale_ * _decisions(self, X[start : start + BLOCK]), axis=1)
            for start in range(0, len(X), BLOCK)
        ]
        return np.concatenate([np.zeros((0, len(self.classes_))), *found])

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The likeliest class of each row."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def _decisions(model: KernelClassifier, X: np.ndarray) -> np.ndarray:
    return similarities(X, model.rows_, model.gamma_) @ model.weights_ + _offset(model.classes_)


def _offset(classes: np.ndarray) -> float:
    """The mean of the targets, 1 for the own class and -1 for others, where all are as frequent.

    It is no mean of the rows, so that what is held out has no part in it.
    """
    return 2 / len(classes) - 1


def similarities(X: np.ndarray, Z: np.ndarray, gamma: float) -> np.ndarray:
    """exp(-gamma |x - z|^2) of float64[n, D] and float64[m, D]: float64[n, m]."""
    found = X @ Z.T  # all else in place: it may be as large as memory allows
    found *= -2
    found += np.square(X).sum(axis=1)[:, None]
    found += np.square(Z).sum(axis=1)
    np.maximum(found, 0, out=found)
    found *= -gamma
    return np.exp(found, out=found)


def fit_kernel(options: list[dict[str, Any]], rows: Rows) -> list[Fitted]:
    """Least-squares support vector machines, each class against the rest.

    All classes are fitted by one Cholesky factor, as ridge regression in the kernel's space on
    targets 1 and -1. Decision values out of fold, which the scale of the probabilities is fitted
    to, follow from the same inverse: those of held-out rows B are y_B - (M_BB)^-1 (M y)_B, with M
    the inverse of the regularised kernel matrix.

    References:
        Suykens and Vandewalle: Least squares support vector machine classifiers. Neural
        Processing Letters 9, 1999.
        Rifkin and Lippert: Notes on regularized least squares. MIT CSAIL, 2007 (held-out values).

    Raises:
        DataError: of more than `MOST_ROWS` rows.
    """
    X, (classes, codes) = rows.values, np.unique(rows.y, return_inverse=True)
    if len(X) > MOST_ROWS:
        raise DataError(
            f"train.models.kernel: {len(X):,} rows to train on are more than the {MOST_ROWS:,} "
            "whose similarities fit in memory: leave it out, or take boosting"
        )
    target = np.where(codes[:, None] == np.arange(len(classes)), 1.0, -1.0) - _offset(classes)
    found = []
    for chosen in options:
        gamma = chosen["gamma"] / (X.shape[1] * max(float(X.var()), 1e-12))
        matrix = similarities(X, X, gamma)
        weight = compute_sample_weight(chosen.get("class_weight"), codes)
        matrix[np.diag_indices(len(X))] += 1 / (chosen["C"] * weight)
        inverse = inverted(matrix)
        model = KernelClassifier()
        model.rows_, model.gamma_ = X, gamma
        model.weights_ = inverse @ target
        model.classes_, model.n_features_in_ = classes, X.shape[1]
        held = held_out(inverse, model.weights_, target, inner_folds(rows.fold, codes))
        model.scale_ = float(best_scale(held + _offset(classes), codes))
        found.append(Fitted(model))
    return found


def inverted(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a symmetric positive definite float64[n, n], which is overwritten."""
    # In a third of the operations that solving for the columns of an identity takes.
    factor, wrong = lapack.dpotrf(matrix.T, lower=True, overwrite_a=True)
    if not wrong:
        inverse, wrong = lapack.dpotri(factor, lower=True, overwrite_c=True)
    assert not wrong, "a kernel matrix with a positive diagonal added is positive definite"
    inverse += np.tril(inverse, -1).T  # above the diagonal there were zeros
    return inverse


def held_out(
    inverse: np.ndarray, weights: np.ndarray, target: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """What a fit without a row's fold says of it, for all rows: float64[n, k].

    Args:
        inverse: float64[n, n], of the regularised kernel matrix.
        weights: float64[n, k], inverse @ target.
        target: float64[n, k].
        fold: int[n], two different ones at least.
    """
    found = np.empty_like(target)
    for one in np.unique(fold):
        held = np.flatnonzero(fold == one)
        found[held] = target[held] - np.linalg.solve(inverse[np.ix_(held, held)], weights[held])
    return found


KERNEL = Family(fit_kernel, rotation_invariant=False)
