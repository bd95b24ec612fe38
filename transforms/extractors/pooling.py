"""Several rows of features a key become one, as they come."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class Pooled:
    """Rows of features, one a key: several rows of a key are pooled as they come.

    Only the last key is open, since rows come sorted by key; so memory is bounded by the number
    of keys, not of rows. Means are summed in float64, in the order of rows.

    Args:
        policy: `mean` or `max`; with any other there is one row a key already.
        width: number of features, d.
        rows: number of rows at most.
    """

    def __init__(self, policy: str, width: int, rows: int) -> None:
        self.policy, self.width = policy, width
        self.keys: list[pa.Array] = []
        self.parts: list[np.ndarray] = []
        self.merged = 0
        self.open_key: str | None = None
        self.open_value = np.zeros(width)
        self.open_rows = 0
        # Without pooling, rows are written where they stay: vectors are long, and copies cost.
        self.whole = None if policy in ("mean", "max") else np.empty((rows, width), np.float32)
        self.filled = 0

    def room(self, rows: int) -> np.ndarray:
        """float32[rows, width] to write the values of the next rows to, before `add`."""
        if self.whole is None:
            return np.empty((rows, self.width), np.float32)
        return self.whole[self.filled : self.filled + rows]

    def add(self, keys: pa.ChunkedArray, values: np.ndarray) -> None:
        """Take the next rows, sorted by key: what `room` gave, or some rows of it.

        Args:
            keys: text, n of them.
            values: float32[n, width].
        """
        keys = keys.combine_chunks()
        if self.whole is not None:
            self.keys.append(keys)
            place = self.whole[self.filled : self.filled + len(values)]
            if values.base is not self.whole:
                place[...] = values
            self.filled += len(values)
            return
        if not len(keys):
            return
        new = np.ones(len(keys), bool)
        new[1:] = pc.not_equal(keys.slice(1), keys.slice(0, len(keys) - 1)).to_numpy(
            zero_copy_only=False
        )
        starts = np.flatnonzero(new)
        rows = np.diff(np.append(starts, len(keys)))
        wide = values.astype(np.float64)
        sums = (np.add if self.policy == "mean" else np.maximum).reduceat(wide, starts, axis=0)
        self.merged += len(keys) - len(starts)
        if keys[0].as_py() == self.open_key:
            merge = np.add if self.policy == "mean" else np.maximum
            sums[0] = merge(self.open_value, sums[0])
            rows[0] += self.open_rows
            self.merged += 1
        else:
            self._close()
        self.keys.append(keys.take(pa.array(starts[:-1])))
        self.parts.append(self._finish(sums[:-1], rows[:-1]))
        self.open_key = keys[int(starts[-1])].as_py()
        self.open_value, self.open_rows = sums[-1], int(rows[-1])

    def _finish(self, sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
        if self.policy == "mean":
            sums = sums / rows[:, None]
        return sums.astype(np.float32)

    def _close(self) -> None:
        if self.open_key is not None:
            self.keys.append(pa.array([self.open_key], pa.string()))
            self.parts.append(self._finish(self.open_value[None], np.array([self.open_rows])))

    def result(self) -> tuple[pa.Array, np.ndarray, int]:
        """Keys, float32[n, width] and the number of rows that went into another row."""
        self._close()
        keys = pa.chunked_array(self.keys, pa.string()).combine_chunks()
        if self.whole is not None:
            return keys, self.whole[: self.filled], 0
        matrix = np.concatenate([np.empty((0, self.width), np.float32), *self.parts])
        return keys, matrix, self.merged
