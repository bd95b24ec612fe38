"""One pass over rows in memory, such as those of a bucket, for their statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from schemas.recipe import TARGET
from transforms.fusion.cells import CLASS, DOMAIN, FOLD, Cells, Second
from transforms.fusion.statistics import Statistics, check_size

BATCH_VALUES = 1 << 21
"""Values that are held as float64 at a time, three times over: 16 MiB each."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that statistics are made of, such as those of a bucket.

    Attributes:
        blocks: modality -> float32[n, d]; rows that lack it hold arbitrary numbers.
        present: bool[n, len(blocks)], in the order of `blocks`.
        fold: int[n]; rows of fold -1, the test, are left out.
        y: int[n] positions in `classes`, -1 without a label; or float64[n] numbers to predict, NaN
            without one; or None.
        classes: names of classes. Other rows may have others: they are merged by name.
        domain: int[n] positions in `domains`, -1 for none of them; or None, if there are no
            domains.
        domains: their names.
    """

    blocks: Mapping[str, np.ndarray]
    present: np.ndarray
    fold: np.ndarray
    y: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    domain: np.ndarray | None = None
    domains: tuple[str, ...] = ()


def collect(parts: Iterable[Rows], second: Second = "pooled") -> Statistics:
    """Statistics of all rows of the parts, which are asked for one at a time.

    Each batch of rows is centred and gives one product of matrices a fold and domain. Values are
    looked at in float64, and the result is the same bits for the same parts.

    Args:
        parts: one or more, alike in modalities, such as buckets in their order.
        second: which second moments to collect.

    Raises:
        ValueError: values are infinite or not a number, or parts differ.
        DataError: the statistics would take more than `LARGEST_BYTES`.
    """
    dims: dict[str, int] | None = None
    cells: dict[int, Cells] = {}
    classes: dict[str, int] = {}
    domains: dict[str, int] = {}
    for part in parts:
        rows = _with_target(part)
        own = {name: block.shape[1] for name, block in rows.blocks.items()}
        if dims is None:
            dims = own
            named = part.domain is not None
        if own != dims or named != (part.domain is not None):
            raise ValueError(
                f"rows of {own} (domains: {part.domain is not None}) cannot be counted with rows "
                f"of {dims} (domains: {named})"
            )
        seen = np.flatnonzero(part.fold >= 0)
        keys = np.zeros((len(seen), 3), np.int64)
        keys[:, FOLD] = part.fold[seen]
        keys[:, DOMAIN] = _codes(part.domain, part.domains, domains, len(part.fold), 0)[seen]
        codes = None if TARGET in dims else part.y
        keys[:, CLASS] = _codes(codes, part.classes, classes, len(part.fold), -1)[seen]
        patterns = rows.present[seen] @ (1 << np.arange(len(dims), dtype=np.int64))
        size = max(1, BATCH_VALUES // max(1, sum(dims.values())))
        for start in range(0, len(seen), size):
            batch = slice(start, start + size)
            _count(cells, rows.blocks, second, seen[batch], keys[batch], patterns[batch])
    if dims is None:
        raise ValueError("there are no rows to count, not even parts without any")
    found = Statistics(dims, second, tuple(classes), tuple(domains), dict(sorted(cells.items())))
    return found.renamed(tuple(sorted(classes)), tuple(sorted(domains)))


def _count(
    cells: dict[int, Cells],
    blocks: Mapping[str, np.ndarray],
    second: Second,
    rows: np.ndarray,
    keys: np.ndarray,
    patterns: np.ndarray,
) -> None:
    """Add some rows, by their positions, to the cells of their patterns, in place."""
    order = np.lexsort((*keys.T[::-1], patterns))
    rows, keys, patterns = rows[order], keys[order], patterns[order]
    for pattern in np.unique(patterns).tolist():
        a, b = np.searchsorted(patterns, [pattern, pattern + 1])
        own = [name for i, name in enumerate(blocks) if pattern >> i & 1]
        ends = list(accumulate((blocks[name].shape[1] for name in own), initial=0))
        values = np.empty((b - a, ends[-1]))
        for name, (start, stop) in zip(own, pairwise(ends), strict=True):
            values[:, start:stop] = blocks[name][rows[a:b]]
        known = cells.get(pattern)
        known = Cells.empty(ends[-1], second) if known is None else known
        with np.errstate(invalid="ignore"):
            cells[pattern] = known.add(values, keys[a:b])
        finite = np.isfinite(cells[pattern].mean).all(axis=0)
        if not finite.all():
            column = int(np.flatnonzero(~finite)[0])
            place = int(np.searchsorted(ends, column, side="right")) - 1
            raise ValueError(
                f"{own[place]}: dimension {column - ends[place]} has values that are infinite "
                "or not a number"
            )
    check_size(cells)


def _with_target(rows: Rows) -> Rows:
    """The rows with numbers to predict as a modality of their own."""
    if rows.y is None or rows.y.dtype.kind != "f":
        return rows
    return replace(
        rows,
        blocks={**rows.blocks, TARGET: rows.y[:, None]},
        present=np.column_stack([rows.present, ~np.isnan(rows.y)]),
    )


def _codes(
    codes: np.ndarray | None, names: tuple[str, ...], known: dict[str, int], n: int, default: int
) -> np.ndarray:
    """Codes for names that have been met in any part; new names are added to `known`."""
    if codes is None:
        return np.full(n, default, np.int64)
    new = np.array([known.setdefault(name, len(known)) for name in names] + [-1], np.int64)
    if len(codes) and not -1 <= codes.min() <= codes.max() < len(names):
        raise ValueError(f"codes from {codes.min()} to {codes.max()} for {len(names)} names")
    return new[codes]
