"""Statistics of the values, their changes and their spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np

from schemas.options.series import StatisticsOptions
from transforms.extractors.audio.spectra import shapes
from transforms.extractors.series.by_length import ByLength
from transforms.extractors.series.spectra import power_spectra

_IN_UNITS = ("mean", "std", "min", "max", "slope", "change")


class Statistics(ByLength):
    """Statistics of the values, their changes and their spectrum.

    mean, std, min, max, q50 and so on: of the values; length: their number;
    skewness, kurtosis: third and fourth standardised moment, the latter less 3;
    slope: of the line of least squares, units a second; change: mean step, either way;
    autocorrelation: at lag 1; mean_crossings: share of the steps that cross the mean;
    centroid, rolloff, flatness: of the power spectrum, as for recordings (see `spectral`).

    A constant series has zeros but for mean, min, max, quantiles and length, and flatness 1.
    """

    def __init__(self, **options: Any) -> None:
        self.options = StatisticsOptions(**options)

    def names(self) -> list[str]:
        """As above, quantiles last."""
        return [
            *_IN_UNITS,
            *("length", "skewness", "kurtosis", "autocorrelation", "mean_crossings"),
            *("centroid", "rolloff", "flatness"),
            *(f"q{100 * q:g}" for q in self.options.quantiles),
        ]

    def measure(self, values: np.ndarray) -> np.ndarray:
        """The statistics, in the order of `names`."""
        n, rate = values.shape[1], self.context.rate
        mean = values.mean(axis=1, keepdims=True)
        centred = values - mean
        squares = centred * centred
        variance = squares.mean(axis=1)
        some = variance > 0
        safe = np.where(some, variance, 1)
        steps = np.diff(values, axis=1)
        below = centred < 0
        time = (np.arange(n) - (n - 1) / 2) / rate
        spread = (time**2).sum() or 1.0
        pairs = max(n - 1, 1)
        hertz = np.arange(n // 2 + 1) * (rate / n)
        columns = [
            mean[:, 0],
            np.sqrt(variance),
            values.min(axis=1),
            values.max(axis=1),
            (centred * time).sum(axis=1) / spread,
            np.abs(steps).sum(axis=1) / pairs,
            np.full(len(values), float(n)),
            (squares * centred).mean(axis=1) / safe**1.5,
            np.where(some, (squares * squares).mean(axis=1) / safe**2 - 3, 0),
            (centred[:, 1:] * centred[:, :-1]).sum(axis=1) / (n * safe),
            (below[:, 1:] != below[:, :-1]).sum(axis=1) / pairs,
            *shapes(power_spectra(values), hertz, self.options.rolloff),
        ]
        if self.options.quantiles:
            columns += list(np.quantile(values, self.options.quantiles, axis=1))
        return np.stack(columns, axis=1)

    def scaled(self, numbers: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Only what is in the values' unit changes."""
        in_units = [name in _IN_UNITS or name.startswith("q") for name in self.names()]
        return np.where(in_units, numbers * scale, numbers)
