"""Columns of booleans: 1 and 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.extractors.base import Batch, State
from transforms.extractors.table.families import Family, missing_name, sums


class Booleans(Family):
    """Booleans: 1 if true, 0 if false, and a dimension for the missing, if any in training.

    What is missing is what most training rows are, false if there are as many of both.
    """

    def partial(self, table: pa.Table) -> State:
        """true, false, missing: int64[k], rows."""
        columns = [table.column(name) for name in self.columns]
        true = np.array([pc.sum(column).as_py() or 0 for column in columns], np.int64)
        missing = np.array([column.null_count for column in columns], np.int64)
        return {"true": true, "false": len(table) - missing - true, "missing": missing}

    def merge(self, states: Sequence[State]) -> State:
        """Sums."""
        return sums(states)

    def finish(self, state: State) -> State:
        """instead, flagged: bool[k], what a missing one is, and whether a dimension tells."""
        return {"instead": state["true"] > state["false"], "flagged": state["missing"] > 0}

    def load(self, fitted: State) -> None:
        """Take what was fitted."""
        self._instead = fitted["instead"].tolist()
        self._flagged = fitted["flagged"].tolist()

    def names(self) -> list[list[str]]:
        """`active`, `active is missing`."""
        return [
            [name, missing_name(name)] if flag else [name]
            for name, flag in zip(self.columns, self._flagged, strict=True)
        ]

    def transform(self, batch: Batch, out: Sequence[np.ndarray]) -> None:
        """1 and 0."""
        for i, place in enumerate(out):
            column = batch.items.column(self.columns[i])
            place[:, 0] = pc.fill_null(column, self._instead[i]).to_numpy()
            if self._flagged[i]:
                place[:, 1] = column.is_null().to_numpy()
