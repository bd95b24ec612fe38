"""How much two modalities say the same, from the rows that have both."""

from __future__ import annotations

import numpy as np

MOST_ROWS = 10_000
"""More rows than these, equally spaced, do not change what is seen."""
MOST_COMPONENTS = 32


def linear_cka(X: np.ndarray, Y: np.ndarray) -> float | None:
    """Linear centred kernel alignment, 0 to 1; None if one of them does not vary.

    Kornblith et al. 2019, Similarity of neural network representations revisited. By products of
    rows where there are fewer of them than dimensions.

    Args:
        X: float[n, d].
        Y: float[n, e], of the same rows.
    """
    X, Y = _centred(X), _centred(Y)
    if len(X) < max(X.shape[1], Y.shape[1]):
        K, L = X @ X.T, Y @ Y.T
        shared, own = float((K * L).sum()), np.linalg.norm(K) * np.linalg.norm(L)
    else:
        shared = float(np.linalg.norm(X.T @ Y) ** 2)
        own = np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y)
    return float(shared / own) if own > 0 else None


def canonical_correlations(X: np.ndarray, Y: np.ndarray, most: int = 5) -> list[float]:
    """The largest canonical correlations, of principal components of both.

    Hotelling 1936, Relations between two sets of variates. Of each at most a twentieth as many
    components as rows: with more, correlations come from chance alone.

    Args:
        X: float[n, d].
        Y: float[n, e], of the same rows.
        most: number of correlations.
    """
    a, b = _scores(_centred(X)), _scores(_centred(Y))
    if not a.shape[1] or not b.shape[1]:
        return []
    found = np.linalg.svd(a.T @ b, compute_uv=False)
    return np.minimum(found, 1.0)[:most].tolist()


def _scores(X: np.ndarray) -> np.ndarray:
    """Orthonormal scores of the first components, float64[n, k]."""
    k = min(MOST_COMPONENTS, len(X) // 20, X.shape[1])
    if k < 1:
        return np.zeros((len(X), 0))
    # By the smaller of both products; its eigenvectors give the scores.
    if len(X) <= X.shape[1]:
        values, vectors = np.linalg.eigh(X @ X.T)
        keep = values > 1e-10 * max(float(values[-1]), 0.0)
        return vectors[:, keep][:, ::-1][:, :k]
    values, axes = np.linalg.eigh(X.T @ X)
    keep = values > 1e-10 * max(float(values[-1]), 0.0)
    return (X @ axes[:, keep] / np.sqrt(values[keep]))[:, ::-1][:, :k]


def _centred(X: np.ndarray) -> np.ndarray:
    step = -(-len(X) // MOST_ROWS) or 1
    rows = X[::step].astype(np.float64)
    return rows - rows.mean(axis=0) if len(rows) else rows
