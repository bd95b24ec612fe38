"""Histograms over a grid of cells."""

from __future__ import annotations

import numpy as np


def edges(length: int, cells: int) -> list[tuple[int, int]]:
    """First and past-the-last row (or column) of each cell.

    They differ by one in length at most; with more cells than rows, some are empty.
    """
    return [(i * length // cells, (i + 1) * length // cells) for i in range(cells)]


def cell_names(cells: int, bins: list[str]) -> list[str]:
    """Names of the bins of cells x cells histograms, row by row; of one alone, its bins'."""
    if cells == 1:
        return bins
    return [f"y{y}_x{x}_{b}" for y in range(cells) for x in range(cells) for b in bins]


def shares(counts: np.ndarray, root: bool) -> np.ndarray:
    """Make histograms of counts, float32[..., bins], sum to 1; those of empty cells stay zero.

    Args:
        counts: overwritten.
        root: take square roots, which makes the distance of two histograms Hellinger's.
    """
    counts /= np.maximum(counts.sum(axis=-1, keepdims=True, dtype=np.float64), 1)
    return np.sqrt(counts, out=counts) if root else counts
