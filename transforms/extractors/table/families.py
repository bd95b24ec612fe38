"""What a family is: columns of a table that are treated alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from transforms.extractors.base import Batch, State


class Family:
    """Columns of one type and one treatment, k of them: an extractor's methods on their part.

    A state is the same, bit for bit, in whatever parts and order rows were seen, where a family
    does not say otherwise.

    Args:
        columns: their names.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)

    def partial(self, table: pa.Table) -> State:
        """What is to be remembered of some training rows."""
        raise NotImplementedError

    def merge(self, states: Sequence[State]) -> State:
        """One state for all rows of one or more states."""
        raise NotImplementedError

    def finish(self, state: State) -> State:
        """What `load` needs."""
        raise NotImplementedError

    def load(self, fitted: State) -> None:
        """Take what was fitted."""
        raise NotImplementedError

    def names(self) -> list[list[str]]:
        """Names of the dimensions of each column."""
        raise NotImplementedError

    def transform(self, batch: Batch, out: Sequence[np.ndarray]) -> None:
        """Write each column's dimensions to its part of `out`, float32[n, d] of zeros."""
        raise NotImplementedError


def sums(states: Sequence[State]) -> State:
    """Sums of arrays that all states have, of whole numbers and equal shapes."""
    return {name: np.sum([state[name] for state in states], axis=0) for name in states[0]}


def missing_name(column: str) -> str:
    """Name of the dimension that is 1 where a column has no value."""
    return f"{column} is missing"
