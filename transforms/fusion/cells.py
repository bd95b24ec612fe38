"""Moments of rows in cells (fold, domain, class), their products pooled over the classes.

What `moments` is for one set of rows this is for many at once: each cell has its own count, mean
and squares, and a group of cells shares one matrix of products, each row centred at the mean of
its own cell. Nothing is lost by that: the matrix about any coarser mean is this one and the
scatter of the cells' means about it, a sum in which nothing cancels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from transforms.fusion.moments import add_products, no_products, pack, unpack

Second = Literal["diagonal", "pooled", "class"]
"""Second moments: a diagonal a cell; also a matrix a fold and domain; or also one a cell."""

FOLD, DOMAIN, CLASS = 0, 1, 2
"""Columns of a cell's key. The class is -1 where rows have no label."""

Group = tuple[int, ...]
"""Fold, domain, and -1 for rows without a label, else 0 or, with `class`, the class."""


@dataclass(frozen=True, eq=False)
class Cells:
    """What is remembered of rows of d values.

    Attributes:
        second: which second moments there are.
        keys: int64[c, 3], fold, domain and class of each cell; sorted, distinct.
        count: int64[c], rows of each cell, 1 or more.
        mean: float64[c, d].
        square: float64[c, d], sums over a cell's rows of squares of values less the cell's mean.
        products: packed matrices (see `moments`) of each group, in the order of `groups`: sums
            over rows of products of values less the mean of the row's cell. None if `diagonal`.
    """

    second: Second
    keys: np.ndarray
    count: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    products: tuple[np.ndarray, ...]

    @classmethod
    def empty(cls, d: int, second: Second) -> Cells:
        """Those of no rows."""
        keys, count = np.zeros((0, 3), np.int64), np.zeros(0, np.int64)
        return cls(second, keys, count, np.zeros((0, d)), np.zeros((0, d)), ())

    @property
    def dimensions(self) -> int:
        """D."""
        return self.mean.shape[1]

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        own = self.keys.nbytes + self.count.nbytes + self.mean.nbytes + self.square.nbytes
        return own + sum(p.nbytes for p in self.products)

    def groups(self) -> dict[Group, slice]:
        """The cells that each group consists of, in order."""
        return _groups(self.keys, self.second)

    def add(self, rows: np.ndarray, keys: np.ndarray) -> Cells:
        """These cells with some more rows.

        The rows are centred in one go and give one product of matrices a group. It is added to
        the arrays of `self`, which must not be used again.

        Args:
            rows: float64[n, d], C-contiguous, in the order of their keys; overwritten.
            keys: int64[n, 3].
        """
        if not len(rows):
            return self
        from scipy.sparse import csr_array  # for sums of runs: 5 times as fast as reduceat

        ends = np.array([stop for _, stop in _runs(keys)])
        starts = np.concatenate([[0], ends[:-1]])
        count = ends - starts
        every = np.arange(len(rows))
        sums = csr_array(
            (np.ones(len(rows)), every, np.append(starts, len(rows))), (len(ends), len(rows))
        )
        mean = (sums @ rows) / count[:, None]
        rows -= np.repeat(mean, count, axis=0)
        own = Cells("diagonal", keys[starts], count, mean, sums @ np.square(rows), ())
        centred: dict[Group, np.ndarray] = {}
        if self.second != "diagonal":
            for name, cells in _groups(own.keys, self.second).items():
                centred[name] = rows[starts[cells.start] : ends[cells.stop - 1]]
        return _merged(self.second, [self, own], self._named(), centred, len(self.products))

    def relabel(self, keys: np.ndarray) -> Cells:
        """The same rows in other cells: those of equal keys become one.

        Args:
            keys: int64[c, 3], the new key of each cell. Rows that were in one group must not
                come into several.
        """
        new = _strata(keys, self.second)
        named = [(tuple(new[g.start].tolist()), p) for g, p in self._matrices()]
        return _merged(self.second, [replace(self, keys=keys)], named)

    def where(self, chosen: np.ndarray) -> Cells:
        """Some of the cells, bool[c]; whole groups only."""
        products = tuple(p for g, p in self._matrices() if chosen[g.start])
        return Cells(
            self.second,
            self.keys[chosen],
            self.count[chosen],
            self.mean[chosen],
            self.square[chosen],
            products,
        )

    def take(self, columns: np.ndarray) -> Cells:
        """Some of the dimensions, by their positions."""
        if len(columns) == self.dimensions and (columns == np.arange(len(columns))).all():
            return self
        at = np.ix_(columns, columns)
        return replace(
            self,
            mean=self.mean[:, columns],
            square=self.square[:, columns],
            products=tuple(pack(unpack(p, self.dimensions)[at]) for p in self.products),
        )

    def spread(self, columns: np.ndarray, fill: np.ndarray) -> Cells:
        """In the space of `fill`, float64[D], the other dimensions of all rows being `fill`.

        Args:
            columns: int[d], positions of the dimensions that are known.
            fill: values of the others.
        """
        mean = np.tile(fill, (len(self.count), 1))
        square = np.zeros_like(mean)
        mean[:, columns], square[:, columns] = self.mean, self.square
        products = []
        for p in self.products:
            whole = np.zeros((len(fill), len(fill)))
            whole[np.ix_(columns, columns)] = unpack(p, self.dimensions)
            products.append(pack(whole))
        return replace(self, mean=mean, square=square, products=tuple(products))

    def scaled(self, shift: np.ndarray, factor: np.ndarray) -> Cells:
        """Of (x - shift) * factor, both float64[d]."""
        products = []
        for p in self.products:
            whole = unpack(p, self.dimensions)
            whole *= factor
            whole *= factor[:, None]
            products.append(pack(whole))
        return replace(
            self,
            mean=(self.mean - shift) * factor,
            square=self.square * np.square(factor),
            products=tuple(products),
        )

    def products_of(self, chosen: np.ndarray | None = None) -> np.ndarray:
        """Sum of the groups' matrices, float64[d, d]; of the groups of bool[c] cells, if given.

        Raises:
            ValueError: only diagonals were collected.
        """
        if self.second == "diagonal":
            raise ValueError("only the diagonal of the second moments was collected")
        total = no_products(self.dimensions)
        for g, p in self._matrices():
            if chosen is None or chosen[g.start]:
                total += p
        return unpack(total, self.dimensions)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays of numbers and text, named `<prefix>/keys` and so on."""
        found = {
            "second": np.array(self.second),
            "keys": self.keys,
            "count": self.count,
            "mean": self.mean,
            "square": self.square,
        }
        if self.products:
            found["products"] = np.stack(self.products)
        return {f"{prefix}/{name}": array for name, array in found.items()}

    @classmethod
    def from_arrays(cls, prefix: str, arrays: Mapping[str, np.ndarray]) -> Cells:
        """What `to_arrays` was called on, bit for bit."""
        keys, count, mean, square = (
            arrays[f"{prefix}/{name}"] for name in ("keys", "count", "mean", "square")
        )
        second: Second = str(arrays[f"{prefix}/second"])  # type: ignore[assignment]
        products = tuple(arrays.get(f"{prefix}/products", ()))
        return cls(second, keys, count, mean, square, products)

    def _matrices(self) -> list[tuple[slice, np.ndarray]]:
        """Cells and matrix of each group that has one."""
        if self.second == "diagonal":
            return []
        return list(zip(self.groups().values(), self.products, strict=True))

    def _named(self) -> list[tuple[Group, np.ndarray]]:
        """Name and matrix of each group that has one."""
        return (
            []
            if self.second == "diagonal"
            else list(zip(self.groups(), self.products, strict=True))
        )


def merge_cells(parts: Sequence[Cells], owned: bool = False) -> Cells:
    """All rows together, cells of one key merged in the order of the parts.

    The matrices of the result are its own, unless there is only one part.

    Args:
        parts: one or more, alike in dimensions and second moments.
        owned: the matrices of the first part may be overwritten; it must not be used again.
    """
    first = parts[0]
    if any(p.second != first.second or p.dimensions != first.dimensions for p in parts):
        raise ValueError("statistics of different dimensions or second moments cannot be merged")
    if len(parts) == 1:
        return first
    named = [pair for part in parts for pair in part._named()]
    ours = len(first.products) if owned else 0
    return _merged(first.second, parts, named, owned=ours, share=False)


def _merged(
    second: Second,
    parts: Sequence[Cells],
    named: Iterable[tuple[Group, np.ndarray]],
    centred: Mapping[Group, np.ndarray] | None = None,
    owned: int = 0,
    share: bool = True,
) -> Cells:
    """Cells with equal keys merged, and the matrices of their groups.

    Args:
        second: of the result.
        parts: the cells, in any order of keys.
        named: matrices, and the group of the result that each is added to.
        centred: rows that have no matrix yet, less the mean of their cell among `parts`.
        owned: number of matrices, the first ones, that may be overwritten.
        share: whether a matrix to which nothing is added may be that of the result.
    """
    merged, steps, cell_of_step = _merged_means(parts)
    if second == "diagonal":
        return merged
    sums: dict[Group, np.ndarray] = {}
    ours = set()
    for i, (name, matrix) in enumerate(named):
        if name not in sums:
            sums[name] = matrix
            if i < owned:
                ours.add(name)
        elif name in ours:
            sums[name] += matrix
        else:
            sums[name] = sums[name] + matrix
            ours.add(name)
    products = []
    for name, cells in _groups(merged.keys, second).items():
        a, b = np.searchsorted(cell_of_step, [cells.start, cells.stop])
        rows = [steps[a:b]] if b > a else []
        if centred is not None and name in centred:
            rows.append(centred[name])
        if name not in sums:
            matrix = no_products(merged.dimensions)
        else:
            keep = name in ours or (share and not rows)
            matrix = sums[name] if keep else sums[name].copy()
        if rows:
            add_products(matrix, rows[0] if len(rows) == 1 else np.concatenate(rows))
        products.append(matrix)
    return replace(merged, second=second, products=tuple(products))


def _merged_means(parts: Sequence[Cells]) -> tuple[Cells, np.ndarray, np.ndarray]:
    """Cells with equal keys merged, without matrices, and what is to be added to these.

    Chan, Golub & LeVeque: one cell after the other is merged into the first of its key, for all
    keys side by side. The products about the new mean are the old ones and those of a step.

    Returns:
        The cells; the steps, float64[s, d]; and the cell that each belongs to, int64[s], sorted.
    """
    keys = np.concatenate([p.keys for p in parts])
    order = np.lexsort(keys.T[::-1])
    keys = keys[order]
    runs = np.array(_runs(keys), np.int64).reshape(-1, 2)
    starts, lengths = runs[:, 0], runs[:, 1] - runs[:, 0]
    counts = np.concatenate([p.count for p in parts])[order]
    means = np.concatenate([p.mean for p in parts])[order]
    squares = np.concatenate([p.square for p in parts])[order]
    count, mean, square = counts[starts], means[starts], squares[starts]
    steps, cell_of_step = [np.zeros((0, mean.shape[1]))], [np.zeros(0, np.int64)]
    for place in range(1, int(lengths.max(initial=0))):
        cell = np.flatnonzero(lengths > place)
        other = starts[cell] + place
        n, m = count[cell].astype(np.float64), counts[other].astype(np.float64)
        step = means[other] - mean[cell]
        mean[cell] += step * (m / (n + m))[:, None]
        step *= np.sqrt(n * m / (n + m))[:, None]
        square[cell] += squares[other]
        square[cell] += np.square(step)
        count[cell] += counts[other]
        steps.append(step)
        cell_of_step.append(cell)
    merged = Cells("diagonal", keys[starts], count, mean, square, ())
    at = np.concatenate(cell_of_step)
    order = np.argsort(at, kind="stable")
    return merged, np.concatenate(steps)[order], at[order]


def _groups(keys: np.ndarray, second: Second) -> dict[Group, slice]:
    """The cells of each group, of sorted keys; also where there are only diagonals."""
    strata = _strata(keys, second)
    return {tuple(strata[a].tolist()): slice(a, b) for a, b in _runs(strata)}


def _strata(keys: np.ndarray, second: Second) -> np.ndarray:
    """The group of each key, int64[c, 3]."""
    strata = keys.copy()
    if second != "class":
        np.minimum(strata[:, CLASS], 0, out=strata[:, CLASS])
    return strata


def _runs(keys: np.ndarray) -> list[tuple[int, int]]:
    """First and past-the-last row of each run of equal rows."""
    if not len(keys):
        return []
    changes = np.flatnonzero((keys[1:] != keys[:-1]).any(axis=1)) + 1
    return list(pairwise([0, *changes.tolist(), len(keys)]))
