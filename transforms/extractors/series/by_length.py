"""Series of one length, worked on together."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from transforms.extractors.base import Batch, Extractor

_VALUES_AT_ONCE = 1 << 18  # bounds memory


class ByLength(Extractor):
    """Base of extractors of series: those of a batch that are equally long are one matrix.

    All that is summed is summed along a row, which lies in one piece in memory; so a row's
    numbers do not depend on how many others it is with.

    A sub-class defines `names` and `measure`.
    """

    kind: ClassVar[str] = "series"

    def measure(self, values: np.ndarray) -> np.ndarray:
        """Numbers of series of one length: float64[k, d].

        Args:
            values: float64[k, length], at most 1 in magnitude.
        """
        raise NotImplementedError

    def scaled(self, numbers: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """What `measure` gave, for the values before they were divided.

        Args:
            numbers: float64[k, d].
            scale: float64[k, 1], the largest magnitude of each series, above zero.
        """
        raise NotImplementedError

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, d]; numbers too large for float32 fail their row."""
        out = np.zeros((len(batch), len(self.names())), np.float32)
        lengths = np.array([len(one) for one in batch.items], int)
        for length in np.unique(lengths).tolist():
            found = np.flatnonzero(lengths == length)
            some = max(1, _VALUES_AT_ONCE // length)
            for start in range(0, len(found), some):
                rows = found[start : start + some]
                values = np.stack([batch.items[row] for row in rows.tolist()])
                # Divided by the largest, squares and cubes cannot overflow.
                scale = np.abs(values).max(axis=1, keepdims=True)
                scale[scale == 0] = 1
                with np.errstate(over="ignore"):
                    out[rows] = self.scaled(self.measure(values / scale), scale)
        for bad in np.flatnonzero(~np.isfinite(out).all(axis=1)).tolist():
            name = self.names()[int(np.isfinite(out[bad]).argmin())]
            batch.fail(bad, "not_finite", f"{name} is too large for a 32-bit number")
        return out


def area(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Areas under steps: value i holds from i to i + 1.

    Args:
        values: float64[k, n].
        edges: float64[m + 1], ascending, from 0 to n.

    Returns:
        float64[k, m].
    """
    total = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=total[:, 1:])
    at = np.minimum(edges.astype(int), values.shape[1] - 1)
    upto = total[:, at] + (edges - at) * values[:, at]
    return np.diff(upto, axis=1)
