"""Columns of numbers as they are."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from schemas.options.vector import VectorOptions
from transforms.extractors.base import Batch, Extractor


class Vector(Extractor):
    """The columns as they are, as 32-bit numbers."""

    kind: ClassVar[str] = "vector"

    def __init__(self, **options: Any) -> None:
        self.options = VectorOptions(**options)

    def names(self) -> list[str]:
        """The columns' names."""
        return list(self.context.columns)

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, d]; numbers that are not finite, or too large for float32, fail their row."""
        with np.errstate(over="ignore"):
            out = batch.items.astype(np.float32)
        finite = np.isfinite(out)
        for row in np.flatnonzero(~finite.all(axis=1)).tolist():
            at = int(finite[row].argmin())
            value = batch.items[row, at]
            what = "too large for a 32-bit number" if np.isfinite(value) else "not a finite number"
            batch.fail(row, "not_finite", f"{self.names()[at]} is {value:g}, {what}")
        return out
