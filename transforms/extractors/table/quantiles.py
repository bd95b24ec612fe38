"""How many values there are where, in bounded memory, the same for any split into parts.

A summary counts the distinct values of each of some columns, as long as there are at most CELLS
of them: then quantiles are exact, whatever the number of rows. With more, it counts the values in
the cells of a grid. A cell holds the numbers whose float64 begin with the same bits, and the grid
is the finest, that is with the most of these bits, that has at most CELLS cells with values in
them. Which it is follows from the values alone. As the grid of some rows is never coarser than
that of more rows, the summary of all follows from those of any parts, bit for bit.

A quantile is off by less than the width of its cell. In a cell that keeps b bits of the mantissa
that is less than 2**-b of the number itself. Numbers in p powers of two (those of either sign
count by themselves, zero as one more) fill at most p 2**b such cells, so b is at least
log2(CELLS / p), rounded down: in a column of positive numbers from a thousandth to a million, say,
a quantile is off by less than 1/256 of itself. Numbers that lie close together, such as 1e6 and
some, have a grid as fine as their spread asks for. How many rows are below the edge of a cell is
exact.

The uniform collapse of cells is that of UDDSketch; here cells are those of the float64 itself,
which takes no logarithm, and goes down to single numbers.

References:
    Epicoco, Melle, Cafaro, Pulimeno, Morleo: UDDSketch: accurate tracking of quantiles in data
    streams. IEEE Access 8, 2020.
    Masson, Rim, Lee: DDSketch: a fast and fully-mergeable quantile sketch with relative-error
    guarantees. VLDB 12(12), 2019.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np

from transforms.extractors.base import State

CELLS = 8192
_SIGN = np.uint64(1 << 63)


def summarise(columns: Sequence[np.ndarray], limit: int = CELLS) -> State:
    """Count the values of k columns.

    Args:
        columns: float64[n], finite; n may differ.
        limit: most cells of a column.

    Returns:
        shift: int64[k], bits of a float64 that make no difference; cells: int64[k], how many
        have values; of those of all columns, one after the other and ascending, cell: uint64[c],
        the other bits, and count: int64[c], the values in it; least, most: float64[k], of all
        values (infinity, -infinity: there are none).
    """
    parts = [_coarsened(0, *np.unique(_ordered(v), return_counts=True), limit) for v in columns]
    return {
        **_packed(parts),
        "least": np.array([np.min(values, initial=np.inf) for values in columns], np.float64),
        "most": np.array([np.max(values, initial=-np.inf) for values in columns], np.float64),
    }


def merge(states: Sequence[State], limit: int = CELLS) -> State:
    """The summary of all values of several summaries of the same columns."""
    parts = [_unpacked(state) for state in states]
    merged = []
    for column in zip(*parts, strict=True):
        shift = max(own for own, _, _ in column)
        cells = np.concatenate([cell >> np.uint64(shift - own) for own, cell, _ in column])
        counts = np.concatenate([count for _, _, count in column])
        order = np.argsort(cells)
        merged.append(_coarsened(shift, *_together(cells[order], counts[order]), limit))
    return {
        **_packed(merged),
        "least": np.min([state["least"] for state in states], axis=0),
        "most": np.max([state["most"] for state in states], axis=0),
    }


def quantiles(state: State, shares: np.ndarray) -> np.ndarray:
    """Quantiles of each column, as `numpy.quantile` defines them by default.

    Args:
        state: of k columns.
        shares: float64[q], from 0 to 1.

    Returns:
        float64[k, q], ascending where the shares are; zeros for a column without values.
    """
    out = np.zeros((len(state["shift"]), len(shares)))
    for i, (shift, cells, counts) in enumerate(_unpacked(state)):
        if not len(cells):
            continue
        below = np.cumsum(counts)
        place = shares * (below[-1] - 1)
        first = np.floor(place).astype(np.int64)
        ranks = np.stack([first, np.minimum(first + 1, below[-1] - 1)])
        at = np.searchsorted(below, ranks, side="right")
        # Values of a cell are taken to lie evenly between its edges.
        share = (ranks - (below - counts)[at] + 0.5) / counts[at]
        low = np.fmax(_number(cells[at] << np.uint64(shift)), state["least"][i])
        last = (cells[at] + np.uint64(1) << np.uint64(shift)) - np.uint64(1)
        high = np.fmin(_number(last), state["most"][i])
        found = _between(low, high, share)
        found[ranks == 0] = state["least"][i]
        found[ranks == below[-1] - 1] = state["most"][i]
        out[i] = _between(found[0], found[1], place - first)
    return out


def _between(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Linear interpolation; of equal numbers exact, and never out of bounds."""
    return np.where(low == high, low, np.clip(low * (1 - share) + high * share, low, high))


def _ordered(values: np.ndarray) -> np.ndarray:
    """uint64[n] in the order of float64[n]; both zeros are one."""
    bits = (values + 0.0).view(np.uint64)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _number(ordered: np.ndarray) -> np.ndarray:
    """The float64[n] that stand in that order; NaN beyond infinity."""
    return np.where(ordered & _SIGN, ordered ^ _SIGN, ~ordered).view(np.float64)


_Counted = tuple[int, np.ndarray, np.ndarray]  # shift, cells, counts of a column


def _together(cells: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells that repeat, ascending, with the sums of their counts."""
    if not len(cells):
        return cells, counts
    first = np.flatnonzero(np.concatenate([[True], cells[1:] != cells[:-1]]))
    return cells[first], np.add.reduceat(counts, first)


def _coarsened(shift: int, cells: np.ndarray, counts: np.ndarray, limit: int) -> _Counted:
    """The least number of bits given up that leaves at most `limit` cells."""
    if len(cells) > limit:
        steps = cells[1:] ^ cells[:-1]
        more = bisect.bisect_left(
            range(64),
            True,
            key=lambda bits: int(np.count_nonzero(steps >> np.uint64(bits))) < limit,
        )
        cells, counts = _together(cells >> np.uint64(more), counts)
        shift += more
    return shift, cells, counts


def _packed(parts: Sequence[_Counted]) -> State:
    return {
        "shift": np.array([shift for shift, _, _ in parts], np.int64),
        "cells": np.array([len(cells) for _, cells, _ in parts], np.int64),
        "cell": np.concatenate([np.zeros(0, np.uint64), *(cells for _, cells, _ in parts)]),
        "count": np.concatenate([np.zeros(0, np.int64), *(counts for _, _, counts in parts)]),
    }


def _unpacked(state: State) -> list[_Counted]:
    ends = np.cumsum(state["cells"])[:-1]
    cells, counts = np.split(state["cell"], ends), np.split(state["count"], ends)
    return list(zip(state["shift"].tolist(), cells, counts, strict=True))
