"""What scores are made of: what each modality is worth, and what is lost without it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from transforms.records.keys import hash64, uniform

MOST_MODALITIES = 6
"""64 subsets, each with models of its own; the next would double them."""

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """All but the empty one, small before large, each in the order of the modalities.

    Raises:
        ValueError: there are too many.
    """
    if len(modalities) > MOST_MODALITIES:
        raise ValueError(
            f"{len(modalities)} modalities have {2 ** len(modalities) - 1} subsets: all of them "
            f"are looked at with {MOST_MODALITIES} modalities at most"
        )
    sizes = range(1, len(modalities) + 1)
    return [chosen for size in sizes for chosen in combinations(modalities, size)]


def shapley_values(
    modalities: Sequence[str], scores: Mapping[tuple[str, ...], float], nothing: float
) -> dict[str, Any]:
    """What each modality adds to the score, averaged over all orders of adding them.

    Shapley 1953, "A value for n-person games", exactly, from the scores of all subsets.

    Args:
        modalities: n names.
        scores: of each of `subsets(modalities)`.
        nothing: score without any modality: the share of the most frequent class, or 0 for R2.

    Returns:
        nothing: as given.
        total: score of all modalities.
        values: of each modality; they sum to `total` less `nothing`. A negative one says that the
            modality makes scores worse on average.
    """
    values = {}
    n = len(modalities)
    for name in modalities:
        others = [m for m in modalities if m != name]
        gains = []
        for chosen in [(), *subsets(others)]:
            joined = tuple(m for m in modalities if m in chosen or m == name)
            before = scores[chosen] if chosen else nothing
            orders = math.factorial(len(chosen)) * math.factorial(n - len(chosen) - 1)
            gains.append(orders * (scores[joined] - before))
        values[name] = math.fsum(gains) / math.factorial(n)
    return {"nothing": nothing, "total": scores[tuple(modalities)], "values": values}


def removal_masks(
    keys: Sequence[str] | np.ndarray,
    present: np.ndarray,
    modalities: Sequence[str],
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
) -> np.ndarray:
    """Who still has which modality when a share of them is removed at random.

    A modality of a key is removed at all levels above a number in [0, 1) that is drawn from both
    names, so that what is removed at 0.1 is removed at 0.2, too, and a key's draws depend on
    nothing else. Of a key's modalities the one with the largest number always stays, unless it
    is the only one: with two modalities, at most half of them go.

    Args:
        keys: str[n].
        present: bool[n, m].
        modalities: m names.
        levels: shares to remove, 0 to 1.
        seed: another seed, other draws.

    Returns:
        bool[levels, n, m].
    """
    text = pa.array(list(keys), pa.string())
    seeds = hash64(pa.array(list(modalities), pa.string()), seed)
    drawn = np.stack([uniform(text, int(one)) for one in seeds], axis=1)
    drawn[~present] = -1.0
    last = drawn.argmax(axis=1)
    several = np.flatnonzero(present.sum(axis=1) > 1)
    drawn[several, last[several]] = 1.0
    return np.stack([present & (drawn >= level) for level in levels])


def removal_curve(
    keys: Sequence[str] | np.ndarray,
    present: np.ndarray,
    modalities: Sequence[str],
    score: Callable[[np.ndarray], float | None],
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """How the score falls as modalities are removed; see `removal_masks`.

    Args:
        keys: str[n].
        present: bool[n, m].
        modalities: m names.
        score: of the rows, given who is present, bool[n, m].
        levels: shares to remove, 0 to 1.
        seed: another seed, other draws.

    Returns:
        Of each level, from 0: `level` (the probability of removal), `removed` (share of all
        modalities that are gone; less than the level, as a key keeps one) and `score`.
    """
    masks = removal_masks(keys, present, modalities, levels, seed)
    total = max(int(present.sum()), 1)
    return [
        {
            "level": float(level),
            "removed": 1 - int(mask.sum()) / total if present.any() else 0.0,
            "score": score(mask),
        }
        for level, mask in zip((0.0, *levels), (present, *masks), strict=True)
    ]
