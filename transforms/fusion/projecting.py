"""Modalities that are too wide for second moments, projected to fewer dimensions.

A very sparse random projection (Li, Hastie & Church 2006, Very sparse random projections): of the
d x k weights all but one in sqrt(d) are zero, the others plus or minus the same number, so that
lengths and products of vectors are kept up to a relative error of about sqrt(2 / k). The weights
are a function of seed, name and dimensions alone: every worker and every batch has the same.

A linear model of projected features is one of the features: its coefficients are weights @ coef.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from transforms.fusion.cells import Second

LARGEST = 2048
"""Most dimensions of a modality; wider ones are projected to as many."""


@lru_cache(maxsize=16)
def projection(name: str, dimension: int, width: int, seed: int) -> Any:
    """Weights of a projection, a scipy.sparse.csr_array float64[dimension, width].

    Args:
        name: of the modality, so that two are projected independently.
        dimension: d, of its features.
        width: k, of what they become.
        seed: of the projection.
    """
    from scipy.sparse import csc_array

    text = f"{seed}/{dimension}/{width}/{name}".encode()
    key = int.from_bytes(hashlib.sha256(text).digest()[:16], "little")
    # Raw bits are the same in every version of NumPy; drawn numbers need not be.
    draw = np.random.Philox(key=key).random_raw
    sparsity = np.sqrt(dimension)
    limit = np.uint64(2.0**63 / sparsity)
    rows, signs, ends = [], [], [0]
    for _ in range(width):
        bits = draw(dimension)
        chosen = np.flatnonzero(bits >> np.uint64(1) < limit)
        rows.append(chosen)
        signs.append(1.0 - 2.0 * (bits[chosen] & np.uint64(1)))
        ends.append(ends[-1] + len(chosen))
    values = np.concatenate(signs) * np.sqrt(sparsity / width)
    shape = (dimension, width)
    return csc_array((values, np.concatenate(rows), np.array(ends)), shape=shape).tocsr()


def project(
    blocks: Mapping[str, np.ndarray], widths: Mapping[str, int], seed: int
) -> dict[str, np.ndarray]:
    """The same rows with modalities that are wider than they may be projected.

    Args:
        blocks: modality -> float32[n, d].
        widths: modality -> dimensions it shall have; not less than d: it is left as it is.
        seed: of the projections.

    Returns:
        float32[n, d] as given, or float64[n, k]. A row's values do not depend on the others.
    """
    found = {}
    for name, block in blocks.items():
        d, k = block.shape[1], widths[name]
        # Each row is a sum over its weights, in their order, for all rows side by side.
        found[name] = block if d <= k else (projection(name, d, k, seed).T @ block.T).T
    return found


def widths(dims: Mapping[str, int], most_bytes: int, **kinds: Any) -> dict[str, int]:
    """How wide each modality may be so that the statistics fit: its own dimension, or a cap.

    The cap is the same for all, at most `LARGEST`.

    Args:
        dims: dimensions of each modality.
        most_bytes: that the statistics may take.
        kinds: what else `size` is told.

    Raises:
        ValueError: they do not fit with one dimension a modality.
    """
    low, high = 1, min(LARGEST, max(dims.values(), default=1))
    while low < high:
        middle = (low + high + 1) // 2
        fits = size({m: min(d, middle) for m, d in dims.items()}, **kinds) <= most_bytes
        low, high = (middle, high) if fits else (low, middle - 1)
    found = {m: min(d, low) for m, d in dims.items()}
    if size(found, **kinds) > most_bytes:
        raise ValueError(
            f"the statistics of {len(dims)} modalities take more than {most_bytes >> 20} MiB "
            "however narrow these are"
        )
    return found


def size(
    dims: Mapping[str, int],
    groups: int,
    classes: int = 1,
    second: Second = "pooled",
    patterns: Iterable[int] | None = None,
) -> int:
    """Memory in bytes that statistics take at most, before they are made.

    Args:
        dims: dimensions of each modality.
        groups: number of folds times domains, as far as both occur together.
        classes: number of classes.
        second: which second moments.
        patterns: those that occur (bit i: modality i); None: any may.
    """
    d = np.array(list(dims.values()), dtype=np.float64)
    if patterns is None:
        # Of all subsets of m modalities, half have a given one and a quarter a given pair.
        half = 2.0 ** len(d) / 2
        linear, square = half * d.sum(), half / 2 * (d.sum() ** 2 + (d**2).sum())
        number = 2 * half
    else:
        widths = [sum(x for i, x in enumerate(d) if p >> i & 1) for p in patterns]
        linear, square, number = sum(widths), sum(w * w for w in widths), len(widths)
    cells = groups * classes
    matrices = {"diagonal": 0, "pooled": groups, "class": cells}[second]
    return int(cells * (16 * linear + 32 * number) + matrices * 4 * (square + linear))
