"""Series brought to one length."""

from __future__ import annotations

from typing import Any

import numpy as np

from schemas.options.series import ResampledOptions
from transforms.extractors.series.by_length import ByLength, area


class Resampled(ByLength):
    """The values, brought to one length: interpolated from fewer, averaged from more.

    Each value stands for an equal stretch of time, as OpenCV's `resize` has it with
    INTER_LINEAR and INTER_AREA. A constant series is zeros where it is standardised.
    """

    def __init__(self, **options: Any) -> None:
        self.options = ResampledOptions(**options)

    def names(self) -> list[str]:
        """t0, t1 and so on."""
        return [f"t{i}" for i in range(self.options.length)]

    def measure(self, values: np.ndarray) -> np.ndarray:
        """float64[k, length]."""
        n, length = values.shape[1], self.options.length
        if self.options.standardize:
            values = values - values.mean(axis=1, keepdims=True)
            deviation = np.sqrt((values * values).mean(axis=1, keepdims=True))
            values = values / np.where(deviation > 0, deviation, 1)
        if n > length:
            return area(values, np.arange(length + 1) * n / length) * (length / n)
        at = np.clip((np.arange(length) + 0.5) * n / length - 0.5, 0, n - 1)
        left = at.astype(int)
        weight = at - left
        right = np.minimum(left + 1, n - 1)
        return values[:, left] * (1 - weight) + values[:, right] * weight

    def scaled(self, numbers: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """The values' unit, unless they were standardised."""
        return numbers if self.options.standardize else numbers * scale
