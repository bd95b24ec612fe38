"""How modalities agree: multi-view canonical correlation, and similarity of representations.

All of it from second moments. Where rows lack modalities, two modalities are compared on the
rows that have both; `em` fits one covariance to all rows.

A modality's covariance S may be shrunken, to S + s / (1 - s) m I where m is its mean variance:
that is (1 - s) S + s m I but for a factor, so that what is explained by it stays below 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from transforms.fusion.components import SMALLEST_VARIANCE
from transforms.fusion.components import _signed as signed
from transforms.fusion.statistics import Statistics


@dataclass(frozen=True, eq=False)
class Shared:
    """Variables that modalities share.

    Attributes:
        axes: modality -> float64[k, d]. What a modality knows of the variables is
            (x - mean) @ axes.T, the (ridge) regression of the variables on it, so that those
            which know little say little.
        values: float64[k], m to 0: over the m modalities the sum of the shares of a variable's
            variance, 1, that each explains. A variable of one modality alone has 1 or less.
    """

    axes: dict[str, np.ndarray]
    values: np.ndarray


def shared_variables(
    covariance: np.ndarray, dims: Mapping[str, int], most: int, shrinkage: float
) -> Shared:
    """Multi-view canonical correlation analysis: the variables that are nearest to all modalities.

    MAXVAR (Kettenring 1971, Canonical analysis of several sets of variables), in the form of
    Carroll (1968): k uncorrelated variables g and coefficients W_m that make the sum over
    modalities of |g - x_m W_m|^2, and of the penalty that shrinking amounts to, the least. They
    are the first solutions of A v = value B v for the covariance A of all modalities and its
    shrunken diagonal blocks B. Signs as in `components`, over all modalities.

    Args:
        covariance: float64[D, D] of all modalities, such as `pairwise_covariance`.
        dims: dimensions of each, in order.
        most: k, number of variables; less if there are not as many.
        shrinkage: s of each modality's covariance, 0 to less than 1.
    """
    from scipy.linalg import eigh

    spans = _blocks(dims)
    whiteners = [_whitener(covariance[b, b], shrinkage) for b in spans]
    ranks = _blocks({name: w.shape[1] for name, w in zip(dims, whiteners, strict=True)})
    r = ranks[-1].stop
    inner = np.empty((r, r))
    for a, i, left in zip(spans, ranks, whiteners, strict=True):
        for b, j, right in zip(spans, ranks, whiteners, strict=True):
            inner[i, j] = left.T @ covariance[a, b] @ right
    most = min(most, r)
    if not most:
        return Shared({name: np.zeros((0, d)) for name, d in dims.items()}, np.zeros(0))
    values, vectors = eigh(inner, subset_by_index=[r - most, r - 1], overwrite_a=True)
    # A pairwise covariance may have eigenvalues a little below 0.
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    parts = [w @ vectors[i] for w, i in zip(whiteners, ranks, strict=True)]
    axes = signed(np.concatenate(parts).T) * np.sqrt(values)[:, None]
    return Shared({name: axes[:, b] for name, b in zip(dims, spans, strict=True)}, values)


def canonical_correlations(
    covariance: np.ndarray, dims: Mapping[str, int], shrinkage: float
) -> np.ndarray:
    """Correlations of the canonical variables of two modalities, largest first.

    Hotelling (1936), Relations between two sets of variates; the variables are those of shrunken
    covariances, as with few rows for the dimensions others always correlate by nearly 1.

    Args:
        covariance: float64[d + e, d + e], of rows that have both.
        dims: dimensions of both.
        shrinkage: s of each one's covariance, 0 to less than 1.

    Returns:
        float64[k], 1 to 0, k being the lesser rank.
    """
    a, b = _blocks(dims)
    left = _whitener(covariance[a, a], shrinkage)
    right = _whitener(covariance[b, b], shrinkage)
    u, _, vt = np.linalg.svd(left.T @ covariance[a, b] @ right, full_matrices=False)
    x, y = left @ u, right @ vt.T
    both = (x * (covariance[a, b] @ y)).sum(axis=0)
    alone = (x * (covariance[a, a] @ x)).sum(axis=0) * (y * (covariance[b, b] @ y)).sum(axis=0)
    found = np.divide(both, np.sqrt(alone), out=np.zeros_like(both), where=alone > 0)
    return np.sort(np.clip(found, 0.0, 1.0))[::-1]


def linear_cka(covariance: np.ndarray, dims: Mapping[str, int]) -> float:
    """Linear centred kernel alignment of two modalities, 0 to 1; NaN if one does not vary.

    Kornblith et al. 2019, Similarity of neural network representations revisited: it does not
    change if a modality is rotated or multiplied by a number.

    Args:
        covariance: float64[d + e, d + e], of rows that have both.
        dims: dimensions of both.
    """
    a, b = _blocks(dims)
    own = np.linalg.norm(covariance[a, a]) * np.linalg.norm(covariance[b, b])
    return float(np.linalg.norm(covariance[a, b]) ** 2 / own) if own else float("nan")


def pairwise_covariance(statistics: Statistics) -> np.ndarray:
    """Covariance of all modalities, float64[D, D], each block from all rows that can tell.

    That of two modalities comes from the rows that have both. Where rows lack modalities at
    random every block is that of all rows, up to chance; but the whole may then have eigenvalues
    a little below 0.
    """
    found = np.zeros((statistics.dimension, statistics.dimension))
    for name in statistics.features:
        at = statistics.columns(name)
        found[at, at] = statistics.moments([name]).covariance()
    for one, other in combinations(statistics.features, 2):
        a, b = statistics.columns(one), statistics.columns(other)
        both = statistics.moments([one, other]).covariance()
        found[a, b] = both[: statistics.dims[one], statistics.dims[one] :]
        found[b, a] = found[a, b].T
    return found


def _blocks(dims: Mapping[str, int]) -> list[slice]:
    ends = np.cumsum([0, *dims.values()]).tolist()
    return [slice(a, b) for a, b in pairwise(ends)]


def _whitener(covariance: np.ndarray, shrinkage: float) -> np.ndarray:
    """W, float64[d, rank], such that W' S W = I for the shrunken covariance S.

    Directions without variance are left out.
    """
    from scipy.linalg import eigh

    values, vectors = eigh(covariance)
    values += shrinkage / (1 - shrinkage) * values.mean()
    kept = values > SMALLEST_VARIANCE * values.max(initial=0)
    return vectors[:, kept] / np.sqrt(values[kept])
