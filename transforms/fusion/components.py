"""Scaling and principal components of one modality.

Of fewer than two rows nothing can be learnt: mean 0, factor 1. A dimension that is constant
over the rows has factor 0, so that it becomes 0 and takes no part in components.

Components are the eigenvectors of the covariance of the scaled features (Jolliffe 2002,
Principal Component Analysis), largest variance first, not whitened. Their sign makes the loading
of largest size positive.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from transforms.fusion.moments import Moments

SMALLEST_VARIANCE = 1e-10
"""Components of less than this share of the largest variance are rounding, not data."""


def scaling(scale: str, known: Moments) -> tuple[np.ndarray, np.ndarray]:
    """What to subtract and what to multiply by, both float64[d]."""
    d = len(known.mean)
    if known.count < 2:
        return np.zeros(d), np.ones(d)
    variance = known.variance()
    # The rounding of the variance itself, as in scikit-learn's StandardScaler.
    epsilon = np.finfo(np.float64).eps * known.count
    varies = variance > epsilon * variance + np.square(epsilon * known.mean)
    factor = np.zeros(d)
    if scale == "standard":
        factor[varies] = 1 / np.sqrt(variance[varies])
    elif scale == "block" and varies.any():
        factor[varies] = np.sqrt(d / variance[varies].sum())
    elif scale == "none":
        factor[varies] = 1
    return known.mean, factor


def axes_of_covariance(covariance: np.ndarray, factor: np.ndarray, most: int) -> np.ndarray:
    """Principal axes float64[k, d], k <= most, from the covariance, which is overwritten."""
    covariance *= factor
    covariance *= factor[:, None]
    d = len(factor)
    most = min(most, d)
    # The transposed view is column-major, which LAPACK takes without a copy.
    values, vectors = _eigh()(
        covariance.T, subset_by_index=[d - most, d - 1], overwrite_a=True, check_finite=False
    )
    return _signed(vectors[:, ::-1][:, : _rank(values)].T)


def axes_of_rows(rows: np.ndarray, mean: np.ndarray, factor: np.ndarray, most: int) -> np.ndarray:
    """Principal axes float64[k, d], k <= most, by way of the products of all pairs of rows."""
    scaled = rows.astype(np.float64)
    scaled -= mean
    scaled *= factor
    n = len(rows)
    most = min(most, n)
    values, vectors = _eigh()(
        scaled @ scaled.T, subset_by_index=[n - most, n - 1], overwrite_a=True, check_finite=False
    )
    axes = vectors[:, ::-1][:, : _rank(values)].T @ scaled
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    return _signed(axes)


def _rank(values: np.ndarray) -> int:
    """How many of some ascending eigenvalues, the largest among them, are not just rounding."""
    largest = max(float(values[-1]), 0.0)
    return int(np.count_nonzero(values > SMALLEST_VARIANCE * largest))


def _signed(axes: np.ndarray) -> np.ndarray:
    """Each axis turned so that its loading of largest size is positive, the first if some tie."""
    size = np.abs(axes)
    # Equal loadings differ by rounding, which must not decide.
    first = np.argmax(size >= size.max(axis=1, keepdims=True) * (1 - 1e-6), axis=1)
    return axes * np.sign(axes[np.arange(len(axes)), first])[:, None]


def _eigh() -> Any:
    """The solver; imported late, as linear algebra takes a tenth of a second to import."""
    from scipy.linalg import eigh

    return eigh
