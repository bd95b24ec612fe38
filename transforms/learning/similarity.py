"""How much two modalities say the same, from the rows that have both."""

from __future__ import annotations

import numpy as np

from transforms.fusion import correlation
from transforms.learning.fitting import find_basis

MOST_ROWS = 10_000
"""More rows than these, equally spaced, do not change what is seen."""
MOST_COMPONENTS = 32


def linear_cka(X: np.ndarray, Y: np.ndarray) -> float | None:
    """Linear centred kernel alignment, 0 to 1; None without rows, or if one does not vary.

    See `correlation.linear_cka`.

    Args:
        X: float[n, d].
        Y: float[n, e], of the same rows.
    """
    if not len(X):
        return None
    found = correlation.linear_cka(*_together(_turned(X), _turned(Y)))
    return None if np.isnan(found) else found


def canonical_correlations(X: np.ndarray, Y: np.ndarray, most: int = 5) -> list[float]:
    """The largest canonical correlations, of principal components of both.

    See `correlation.canonical_correlations`. Of each at most a twentieth as many components as
    rows: with more, correlations come from chance alone.

    Args:
        X: float[n, d].
        Y: float[n, e], of the same rows.
        most: number of correlations.
    """
    if not len(X):
        return []
    a, b = _components(_turned(X)), _components(_turned(Y))
    if not a.shape[1] or not b.shape[1]:
        return []
    found = correlation.canonical_correlations(*_together(a, b), shrinkage=0.0)
    return found[:most].tolist()


def _turned(X: np.ndarray) -> np.ndarray:
    """Centred rows in no more dimensions than there are rows, which changes neither measure."""
    step = -(-len(X) // MOST_ROWS)
    return find_basis(X[::step])[1]


def _components(T: np.ndarray) -> np.ndarray:
    """float64[n, k], the scores of the first principal components."""
    k = min(MOST_COMPONENTS, len(T) // 20, T.shape[1])
    _, axes = np.linalg.eigh(T.T @ T)
    return T @ axes[:, ::-1][:, :k]


def _together(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """The covariance of both, and their dimensions."""
    Z = np.hstack([a, b])
    return Z.T @ Z / len(Z), {"a": a.shape[1], "b": b.shape[1]}
