"""Statistics of all modalities together, from one pass over the rows.

They are kept by pattern, that is by which modalities a row has: rows of one pattern are complete
in the dimensions they have, and how to treat what is missing can be chosen afterwards. Only rows
that have two modalities tell of the scatter between them (`moments`); to fill by a mean or by
zero is exact (`filled`); and the moments by pattern are all that the EM algorithm of Little &
Rubin needs (`transforms.fusion.em`). With m modalities there are at most 2^m patterns, in
practice a few.

Memory in bytes, for each pattern, of whose modalities the dimensions are d together:
    16 d + 32           a cell (fold, domain, class) that occurs
    4 d (d + 1)         a fold and domain with `pooled` (twice, if some of its rows have no label);
                        a cell with `class`, which is for few dimensions
More than `LARGEST_BYTES` is refused.

Not all that a run fits is taken from these. To scale takes 16 d bytes, and components of modalities
one by one 4 d^2 each (`moments`); here it would be 4 (sum of d)^2 a pattern, of which only diagonal
blocks would be looked at. So passes of a run give moments where these will do, and statistics where
patterns count: for what modalities share (`parts`) and conditional means (`filling`).

A number to predict is one more column, a modality called `TARGET` that a row has or lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from schemas.errors import DataError
from schemas.recipe import TARGET
from transforms.fusion.cells import CLASS, DOMAIN, FOLD, Cells, Second, merge_cells
from transforms.fusion.moments import Moments

LARGEST_BYTES = 1 << 29
"""Most memory that statistics may take. Merging and leaving out folds take a few times as much."""


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """Moments of complete rows by class, folds and domains together.

    Attributes:
        count: int64[k]; a class may have no rows.
        mean: float64[k, D].
        square: float64[k, D], sums of squares about the class's mean.
        within: float64[D, D], sum over all rows of products about the mean of their class.
        each: float64[k, D, D], the same of each class, if it was collected.
    """

    count: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    within: np.ndarray
    each: np.ndarray | None

    def centre(self) -> np.ndarray:
        """float64[D], the mean of all rows."""
        return self.count @ self.mean / max(int(self.count.sum()), 1)

    def projected(self, axes: np.ndarray) -> ClassMoments:
        """Moments of x @ axes.T, for float64[r, D] axes.

        Raises:
            ValueError: the matrix of each class was not collected.
        """
        if self.each is None:
            raise ValueError("only pooled second moments were collected")
        each = axes @ self.each @ axes.T
        square = np.diagonal(each, axis1=1, axis2=2).copy()
        return ClassMoments(
            self.count, self.mean @ axes.T, square, axes @ self.within @ axes.T, each
        )


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is remembered of rows.

    Attributes:
        dims: modality -> number of dimensions, in the order of the columns; `TARGET` is the last.
        second: which second moments there are.
        classes: names of the classes, sorted.
        domains: names of the domains, sorted.
        cells: pattern -> moments of the rows that have its modalities and no others, over the
            columns of these; bit i of a pattern is modality i of `dims`.
    """

    dims: dict[str, int]
    second: Second
    classes: tuple[str, ...]
    domains: tuple[str, ...]
    cells: dict[int, Cells]

    # --- what there is ---------------------------------------------------------------------

    @property
    def features(self) -> tuple[str, ...]:
        """The modalities, without `TARGET`."""
        return tuple(name for name in self.dims if name != TARGET)

    @property
    def dimension(self) -> int:
        """D, the number of columns without that of `TARGET`."""
        return sum(self.dims[name] for name in self.features)

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(int(c.count.sum()) for c in self.cells.values())

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return sum(c.nbytes for c in self.cells.values())

    def columns(self, name: str) -> slice:
        """Where a modality's dimensions are among all."""
        start = sum(d for other, d in self.dims.items() if self._bit(other) < self._bit(name))
        return slice(start, start + self.dims[name])

    def values(self, column: int) -> list[int]:
        """All folds (`FOLD`), domains (`DOMAIN`) or classes (`CLASS`) that occur."""
        return sorted({int(v) for c in self.cells.values() for v in c.keys[:, column]})

    # --- some of the rows or columns ---------------------------------------------------------

    def where(self, column: int, value: int) -> Statistics:
        """The rows of one fold (`FOLD`) or one domain (`DOMAIN`)."""
        return self._cells(lambda c: c.where(c.keys[:, column] == value))

    def labelled(self) -> Statistics:
        """The rows that have a label."""
        if TARGET in self.dims:
            bit = self._bit(TARGET)
            return replace(self, cells={p: c for p, c in self.cells.items() if p & bit})
        return self._cells(lambda c: c.where(c.keys[:, CLASS] >= 0))

    def pooled(self, column: int) -> Statistics:
        """All rows, as if they were of one fold or one domain."""

        def one(cells: Cells) -> Cells:
            keys = cells.keys.copy()
            keys[:, column] = 0
            return cells.relabel(keys)

        return self._cells(one)

    def leave_out(self, column: int = FOLD) -> Iterator[tuple[int, Statistics, Statistics]]:
        """For each fold (or domain, `DOMAIN`): its number, all other rows, and its own rows.

        The others are the folds before and those after it, merged: no difference of large sums is
        taken. That is 3 K - 6 merges for K folds, which are pooled, and twice the memory.

        Raises:
            ValueError: there is only one fold.
        """
        values = self.values(column)
        if len(values) < 2:
            raise ValueError(f"{len(values)} folds: nothing is left when one is left out")
        own = [self.where(column, v).pooled(column) for v in values]
        after = list(accumulate(own[:0:-1], lambda later, one: merge_all([one, later])))
        before: list[Statistics] = []
        for value, one in zip(values, own, strict=True):
            yield value, merge_all([*before, *after[-1:]]), one
            if after:  # not the last
                after.pop()
                before = [merge_all([*before, one])]

    def subset(self, names: Sequence[str]) -> Statistics:
        """Some modalities, in the order they have here: a sub-block of every matrix.

        Rows that have none of them are still counted. `TARGET` is kept if it is named.
        """
        kept = {name: d for name, d in self.dims.items() if name in names}
        lacking = [name for name in names if name not in kept]
        if lacking:
            raise ValueError(f"no statistics of {lacking[0]!r}; there are {', '.join(self.dims)}")
        found: dict[int, list[Cells]] = {}
        for pattern, cells in self.cells.items():
            own = [name for name in self.dims if pattern & self._bit(name)]
            ends = list(accumulate((self.dims[name] for name in own), initial=0))
            spans = [range(a, b) for a, b in pairwise(ends)]
            at = [i for n, span in zip(own, spans, strict=True) if n in kept for i in span]
            new = sum(1 << i for i, name in enumerate(kept) if name in own)
            found.setdefault(new, []).append(cells.take(np.array(at, np.int64)))
        merged = {p: merge_cells(parts) for p, parts in sorted(found.items())}
        return replace(self, dims=kept, cells=merged)

    def renamed(self, classes: tuple[str, ...], domains: tuple[str, ...]) -> Statistics:
        """The same with other lists of names, which have all the old ones.

        Raises:
            ValueError: there were no names of domains, and now there are.
        """
        if (self.classes, self.domains) == (classes, domains):
            return self
        if domains and not self.domains and self.count:
            raise ValueError("rows with a domain and rows without one cannot be merged")
        of_class = np.array([*(classes.index(name) for name in self.classes), -1], np.int64)
        of_domain = np.array([*(domains.index(name) for name in self.domains), -1], np.int64)
        if not self.domains:
            of_domain = np.zeros(1, np.int64)

        def renamed(cells: Cells) -> Cells:
            keys = cells.keys.copy()
            keys[:, CLASS] = of_class[keys[:, CLASS]]
            keys[:, DOMAIN] = of_domain[keys[:, DOMAIN]]
            return cells.relabel(keys)

        return replace(self._cells(renamed), classes=classes, domains=domains)

    # --- treatment of what is missing, and scale ----------------------------------------------

    def mean(self) -> np.ndarray:
        """float64[D], of each modality over the rows that have it; zeros where none has."""
        means = [self.moments([name], full=False).mean for name in self.features]
        return np.concatenate([*means, np.zeros(0)])

    def filled(self, fill: np.ndarray) -> Statistics:
        """Statistics of the rows with every missing dimension set to that of float64[D] `fill`.

        `TARGET` is never filled.
        """
        found: dict[int, list[Cells]] = {}
        whole = sum(self._bit(name) for name in self.features)
        for pattern, cells in self.cells.items():
            rest = pattern & ~whole
            space = np.append(fill, np.zeros(1 if rest else 0))
            at = self._positions(pattern)
            parts = found.setdefault(whole | rest, [])
            parts.append(cells if pattern == whole | rest else cells.spread(at, space))
        return replace(self, cells={p: merge_cells(c) for p, c in sorted(found.items())})

    def scaled(self, shift: np.ndarray, factor: np.ndarray) -> Statistics:
        """Statistics of (x - shift) * factor, both float64[D]; `TARGET` is left as it is."""
        shift, factor = np.append(shift, 0.0), np.append(factor, 1.0)
        cells = {
            p: c.scaled(shift[at], factor[at])
            for p, c in self.cells.items()
            for at in [self._positions(p)]
        }
        return replace(self, cells=cells)

    # --- what methods ask for ------------------------------------------------------------------

    def moments(self, names: Sequence[str] | None = None, full: bool = True) -> Moments:
        """Moments of the rows that have all of some modalities, by default all of them.

        Args:
            names: the modalities; the columns are in their order in `dims`.
            full: the matrix, rather than its diagonal.
        """
        names = list(self.dims) if names is None else names
        wanted = sum(self._bit(name) for name in self.dims if name in names)
        having = {p: c for p, c in self.cells.items() if p & wanted == wanted}
        if not full:
            having = {p: _diagonal(c) for p, c in having.items()}
        some = replace(self, cells=having).subset(names)
        cells = some.cells.get((1 << len(some.dims)) - 1)
        if cells is None or not len(cells.keys):
            return Moments.empty(sum(some.dims.values()), full)
        one = cells.relabel(np.zeros_like(cells.keys))
        scatter = one.products_of() if full else one.square[0]
        return Moments(int(one.count[0]), one.mean[0], scatter)

    def by_class(self) -> ClassMoments:
        """Moments of the classes; rows without a label are left out.

        Raises:
            ValueError: rows lack a modality: fill them, or take a subset.
        """
        cells = self.labelled().complete()
        keys = np.zeros_like(cells.keys)
        keys[:, CLASS] = cells.keys[:, CLASS]
        cells = cells.relabel(keys)
        k, d = len(self.classes), cells.dimensions
        codes = cells.keys[:, CLASS]
        count = np.zeros(k, np.int64)
        mean, square = np.zeros((k, d)), np.zeros((k, d))
        count[codes], mean[codes], square[codes] = cells.count, cells.mean, cells.square
        each = None
        if self.second == "class":
            each = np.zeros((k, d, d))
            for i, code in enumerate(codes):
                each[code] = cells.products_of(np.arange(len(codes)) == i)
        return ClassMoments(count, mean, square, cells.products_of(), each)

    def complete(self) -> Cells:
        """The cells, where every row has every modality.

        Raises:
            ValueError: rows lack a modality.
        """
        every = (1 << len(self.dims)) - 1
        for pattern, cells in self.cells.items():
            if pattern != every and len(cells.keys):
                lacking = [name for name in self.dims if not pattern & self._bit(name)]
                raise ValueError(f"{int(cells.count.sum())} rows lack {' and '.join(lacking)}")
        none = Cells.empty(sum(self.dims.values()), self.second)
        return self.cells.get(every, none)

    # --- files -----------------------------------------------------------------------------

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays of numbers and text, named `<prefix>/...`."""
        found = {
            f"{prefix}/modalities": np.array(list(self.dims), dtype=str),
            f"{prefix}/dims": np.array(list(self.dims.values()), dtype=np.int64),
            f"{prefix}/second": np.array(self.second),
            f"{prefix}/classes": np.array(self.classes, dtype=str),
            f"{prefix}/domains": np.array(self.domains, dtype=str),
            f"{prefix}/patterns": np.array(list(self.cells), dtype=np.int64),
        }
        for pattern, cells in self.cells.items():
            found |= cells.to_arrays(f"{prefix}/{pattern}")
        return found

    @classmethod
    def from_arrays(cls, prefix: str, arrays: Mapping[str, np.ndarray]) -> Statistics:
        """What `to_arrays` was called on, bit for bit."""
        names, dims, classes, domains, patterns = (
            arrays[f"{prefix}/{name}"].tolist()
            for name in ("modalities", "dims", "classes", "domains", "patterns")
        )
        second: Second = arrays[f"{prefix}/second"].item()
        cells = {p: Cells.from_arrays(f"{prefix}/{p}", arrays) for p in patterns}
        dims = dict(zip(names, dims, strict=True))
        return cls(dims, second, tuple(classes), tuple(domains), cells)

    # --- within ----------------------------------------------------------------------------

    def _bit(self, name: str) -> int:
        return 1 << list(self.dims).index(name)

    def _positions(self, pattern: int) -> np.ndarray:
        """The columns that a pattern has, int64[d]."""
        has = [bool(pattern >> i & 1) for i in range(len(self.dims))]
        return np.flatnonzero(np.repeat(has, list(self.dims.values())))

    def _cells(self, change: Callable[[Cells], Cells]) -> Statistics:
        """The same with the cells of each pattern changed; those without rows are dropped."""
        changed = {p: change(c) for p, c in self.cells.items()}
        return replace(self, cells={p: c for p, c in changed.items() if len(c.keys)})


def merge_all(parts: Iterable[Statistics]) -> Statistics:
    """All parts merged in their order, one at a time, so they may be loaded as they are asked for.

    The sum is kept in place: it and one part are in memory.

    Raises:
        ValueError: there are no parts, or they differ in modalities or second moments.
        DataError: the sum takes more than `LARGEST_BYTES`.
    """
    total: Statistics | None = None
    ours: set[int] = set()  # patterns whose matrices belong to `total` alone
    for part in parts:
        if total is None:
            total = part
            continue
        if (part.dims, part.second) != (total.dims, total.second):
            raise ValueError(
                f"statistics of {total.dims} ({total.second}) and of {part.dims} "
                f"({part.second}) cannot be merged"
            )
        classes = tuple(sorted({*total.classes, *part.classes}))
        domains = tuple(sorted({*total.domains, *part.domains}))
        total, part = total.renamed(classes, domains), part.renamed(classes, domains)
        merged = dict(total.cells)
        for pattern, cells in part.cells.items():
            if pattern in merged:
                cells = merge_cells([merged[pattern], cells], owned=pattern in ours)
                ours.add(pattern)
            merged[pattern] = cells
        total = replace(total, cells=dict(sorted(merged.items())))
        check_size(total.cells)
    if total is None:
        raise ValueError("there are no statistics to merge")
    return total


def check_size(cells: Mapping[int, Cells]) -> None:
    """Raise a DataError if the cells of all patterns take more than `LARGEST_BYTES`."""
    taken = sum(c.nbytes for c in cells.values())
    if taken > LARGEST_BYTES:
        groups = sum(len(c.groups()) for c in cells.values())
        d = max(c.dimensions for c in cells.values())
        raise DataError(
            f"the statistics of up to {d:,} dimensions in {len(cells)} combinations of modalities "
            f"and {groups} folds and domains of these take more than {LARGEST_BYTES >> 20:,} MiB: "
            "give the extractors a smaller dimension, have fewer folds, or join by `inner`"
        )


def _diagonal(cells: Cells) -> Cells:
    """The same without matrices."""
    return replace(cells, second="diagonal", products=())
