"""How many values there are where, in bounded memory, the same for any split into parts.

A summary counts the distinct values of each of some columns, as long as there are at most CELLS
of them: then quantiles are exact, whatever the number of rows. With more, it counts the values in
the cells of a grid. A cell holds the numbers whose float64 begin with the same bits, and the grid
is the finest, that is with the most of these bits, that has at most CELLS cells with values in
them. Of each cell also its least and its greatest value are kept, and how many values are just
those. All of this follows from the values alone. As the grid of some rows is never coarser than
that of more rows, the summary of all follows from those of any parts, bit for bit.

A quantile is off by less than the width of its cell. In a cell that keeps b bits of the mantissa
that is less than 2**-b of the number itself. Numbers in p powers of two (those of either sign
count by themselves, zero as one more) fill at most p 2**b such cells, so b is at least
log2(CELLS / p), rounded down: in a column of positive numbers from a thousandth to a million, say,
a quantile is off by less than 1/256 of itself. Numbers that lie close together, such as 1e6 and
some, have a grid as fine as their spread asks for.

The share of rows below a quantile is off by less than the share of its cell's rows that lie
strictly between the cell's least and greatest value. For a million normal, log-normal, uniform,
exponential or Cauchy numbers that is some 0.1 %, and since values of a cell are taken to lie
evenly in it, what is seen is below 0.01 %. A value that many rows have (zero, a limit, a round
number) is as a rule an end of its cell, which makes it exact. It is not so good where most rows
lie close together and thousands of others are spread over many powers of two.

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
from typing import NamedTuple

import numpy as np

from transforms.extractors.base import State

CELLS = 8192
_SIGN = np.uint64(1 << 63)


def summarise(columns: Sequence[np.ndarray], limit: int = CELLS) -> State:
    """Count the values of k columns.

    Args:
        columns: float64[n], finite; n may differ.
        limit: most cells of a column, at least 2.

    Returns:
        shift: int64[k], bits of a float64 that make no difference; cells: int64[k], how many
        have values; of those of all columns, one after the other and ascending, low: uint64[c],
        the least value (see `ordered`), and rows: unsigned[c], how many values there are; of the
        cells of columns whose shift is not 0, also high: uint64[d], the greatest value, at_low
        and at_high: unsigned[d], how many values are the least and the greatest.
    """
    parts = []
    for values in columns:
        low, rows = np.unique(ordered(values), return_counts=True)
        parts.append(_coarsened(_Cells(0, low, rows, low, rows, rows), limit))
    return _packed(parts)


def merge(states: Sequence[State], limit: int = CELLS) -> State:
    """The summary of all values of several summaries of the same columns."""
    merged = []
    for parts in zip(*map(_unpacked, states), strict=True):
        shift = max(part.shift for part in parts)
        whole = _Cells(shift, *map(np.concatenate, zip(*(part[1:] for part in parts), strict=True)))
        order = np.argsort(whole.low)
        whole = _together(whole._replace(**{n: getattr(whole, n)[order] for n in _ARRAYS}))
        merged.append(_coarsened(whole, limit))
    return _packed(merged)


def quantiles(state: State, shares: np.ndarray) -> np.ndarray:
    """Quantiles of each column, as `numpy.quantile` defines them by default.

    Args:
        state: of k columns.
        shares: float64[q], from 0 to 1.

    Returns:
        float64[k, q], ascending where the shares are; zeros for a column without values.
    """
    out = np.zeros((len(state["shift"]), len(shares)))
    for i, cells in enumerate(_unpacked(state)):
        if not len(cells.low):
            continue
        below = np.cumsum(cells.rows)
        place = shares * (below[-1] - 1)
        first = np.floor(place).astype(np.int64)
        low, high = (_at(cells, below, np.minimum(first + n, below[-1] - 1)) for n in (0, 1))
        out[i] = _between(low, high, place - first)
    return out


def extremes(state: State) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest value of each column, float64[k]; of none infinity, -infinity."""
    found = [
        (_numbers(part.low[:1])[0], _numbers(part.high[-1:])[0])
        if len(part.low)
        else (np.inf, -np.inf)
        for part in _unpacked(state)
    ]
    least, most = np.array(found, np.float64).reshape(-1, 2).T
    return least, most


def ordered(values: np.ndarray) -> np.ndarray:
    """uint64[n] in the order of float64[n]; both zeros are one."""
    bits = (values + 0.0).view(np.uint64)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _numbers(order: np.ndarray) -> np.ndarray:
    """The float64[n] that `ordered` was given."""
    return np.where(order & _SIGN, order ^ _SIGN, ~order).view(np.float64)


class _Cells(NamedTuple):
    """The cells of one column: see `summarise`; all arrays are of one length."""

    shift: int
    low: np.ndarray
    rows: np.ndarray
    high: np.ndarray
    at_low: np.ndarray
    at_high: np.ndarray


_ARRAYS = _Cells._fields[1:]


def _at(cells: _Cells, below: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The values of some ranks, from 0; those within a cell are taken to lie evenly in it."""
    at = np.searchsorted(below, ranks, side="right")
    low, high = _numbers(cells.low[at]), _numbers(cells.high[at])
    place = ranks - (below[at] - cells.rows[at]) - cells.at_low[at]
    inside = cells.rows[at] - cells.at_low[at] - cells.at_high[at]
    share = np.where(
        place < 0, 0, np.where(place < inside, (place + 0.5) / np.maximum(inside, 1), 1)
    )
    return _between(low, high, share)


def _between(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Linear interpolation: ascending with the share to the last bit, and never out of bounds."""
    with np.errstate(over="ignore", invalid="ignore"):
        span = high - low
        found = low + span * share
    # Numbers that are farther apart than the largest of all: halves of them are not.
    far = np.isinf(span)
    halves = low / 2 + (high / 2 - low / 2) * share
    found = np.clip(np.where(far, 2 * halves, found), low, high)
    return np.where(share == 1, high, found)


def _together(cells: _Cells) -> _Cells:
    """Cells that the shift makes one, from ascending ones."""
    if not len(cells.low):
        return cells
    grid = cells.low >> np.uint64(cells.shift)
    new = np.concatenate([[True], grid[1:] != grid[:-1]])
    first, of = np.flatnonzero(new), np.cumsum(new) - 1
    low, high = cells.low[first], np.maximum.reduceat(cells.high, first)
    return _Cells(
        cells.shift,
        low,
        np.add.reduceat(cells.rows, first),
        high,
        np.add.reduceat(np.where(cells.low == low[of], cells.at_low, 0), first),
        np.add.reduceat(np.where(cells.high == high[of], cells.at_high, 0), first),
    )


def _coarsened(cells: _Cells, limit: int) -> _Cells:
    """The least number of bits given up that leaves at most `limit` cells."""
    if len(cells.low) <= limit:
        return cells
    steps = cells.low[1:] ^ cells.low[:-1]
    shift = bisect.bisect_left(
        range(64), True, key=lambda bits: int(np.count_nonzero(steps >> np.uint64(bits))) < limit
    )
    return _together(cells._replace(shift=shift))


def _packed(parts: Sequence[_Cells]) -> State:
    # Of most rows, values are single ones with a count of 1: they need not take much room.
    coarse = [part for part in parts if part.shift]

    def joined(name: str, of: Sequence[_Cells]) -> np.ndarray:
        arrays = [getattr(part, name) for part in of]
        whole = np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
        if name in ("low", "high"):
            return whole.astype(np.uint64)
        return whole.astype(np.min_scalar_type(whole.max(initial=0)))

    return {
        "shift": np.array([part.shift for part in parts], np.int64),
        "cells": np.array([len(part.low) for part in parts], np.int64),
        **{name: joined(name, parts) for name in ("low", "rows")},
        **{name: joined(name, coarse) for name in ("high", "at_low", "at_high")},
    }


def _unpacked(state: State) -> list[_Cells]:
    start = extra = 0
    parts = []
    for shift, n in zip(state["shift"].tolist(), state["cells"].tolist(), strict=True):
        low = state["low"][start : start + n]
        rows = state["rows"][start : start + n].astype(np.int64)
        high, at_low, at_high = low, rows, rows
        if shift:
            high = state["high"][extra : extra + n]
            at_low, at_high = (
                state[name][extra : extra + n].astype(np.int64) for name in ("at_low", "at_high")
            )
            extra += n
        parts.append(_Cells(shift, low, rows, high, at_low, at_high))
        start += n
    return parts
