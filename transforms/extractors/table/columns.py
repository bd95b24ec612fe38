"""Tables: columns of several types side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
import pyarrow as pa

from schemas.arrays import below, prefixed
from schemas.options.table import ColumnsOptions
from schemas.plan import ColumnType
from schemas.tables import ARROW
from transforms.extractors.base import Batch, Extractor, State
from transforms.extractors.table.booleans import Booleans
from transforms.extractors.table.categories import Hashed, OneHot
from transforms.extractors.table.families import Family
from transforms.extractors.table.numbers import Numbers, scales
from transforms.extractors.table.times import Times


class Columns(Extractor):
    """Numbers scaled, categories one-hot or hashed, times in parts, booleans; all fitted.

    Dimensions follow the order of columns. What each type of column becomes is said by its
    family: `Numbers`, `OneHot`, `Hashed`, `Times`, `Booleans`. All learn in one pass over the
    training rows, and what is merged is bounded, whatever the number of rows.
    """

    kind: ClassVar[str] = "table"
    version: ClassVar[int] = 3
    rounds = 1

    def __init__(self, **options: Any) -> None:
        self.options = ColumnsOptions(**options)

    @cached_property
    def _families(self) -> dict[str, Family]:
        """By name: that of what they learn in the fitted arrays."""
        options, types = self.options, self.context.columns
        of = {kind: [c for c, own in types.items() if own == kind] for kind in types.values()}
        numbers, times, categories = (of.get(k, []) for k in ("number", "time", "category"))
        slots: dict[str, int] = {}
        if isinstance(options.hash, int):
            slots = dict.fromkeys(categories, options.hash)
        elif options.hash is not None:
            slots = {name: options.hash[name] for name in categories if name in options.hash}
        counted = [name for name in categories if name not in slots]
        families: dict[str, Family] = {
            "numbers": Numbers(numbers, scales(numbers, options.scale)),
            "categories": OneHot(counted, options.max_categories, options.min_count),
            "hashed": Hashed(list(slots), list(slots.values())),
            "times": Times(times, scales(times, options.scale)),
            "booleans": Booleans(of.get("boolean", [])),
        }
        return {name: family for name, family in families.items() if family.columns}

    def names(self) -> list[str]:
        """`age`, `age is missing`, `usage=fighter`, `when: hour sin` and so on."""
        own = self._own_names()
        return [name for column in self.context.columns for name in own[column]]

    def partial(self, batch: Batch) -> State:
        """What each family remembers of these rows."""
        state: State = {}
        for name, family in self._families.items():
            state |= prefixed(name, family.partial(batch.items))
        return state

    def merge(self, states: Sequence[State]) -> State:
        """What each family remembers of all rows.

        Raises:
            DataError: a column has too many categories to be counted.
        """
        if not states:
            fields = [
                (c, ARROW[cast(ColumnType, kind)]) for c, kind in self.context.columns.items()
            ]
            return self.partial(Batch(pa.schema(fields).empty_table()))
        merged: State = {}
        for name, family in self._families.items():
            merged |= prefixed(name, family.merge([below(name, state) for state in states]))
        return merged

    def finish(self, state: State) -> State:
        """What is needed to transform.

        Raises:
            DataError: numbers are too large for float64 to hold their moments.
        """
        fitted: State = {}
        for name, family in self._families.items():
            fitted |= prefixed(name, family.finish(below(name, state)))
        return fitted

    def load(self, fitted: State) -> None:
        """Take what was fitted."""
        for name, family in self._families.items():
            family.load(below(name, fitted))

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, d]; a row with a number too large for float32 fails."""
        places: dict[str, slice] = {}
        stop = 0
        own = self._own_names()
        for column in self.context.columns:
            places[column] = slice(stop, stop + len(own[column]))
            stop += len(own[column])
        out = np.zeros((len(batch), stop), np.float32)
        for family in self._families.values():
            family.transform(batch, [out[:, places[column]] for column in family.columns])
        return out

    def _own_names(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for family in self._families.values():
            names |= zip(family.columns, family.names(), strict=True)
        return names
