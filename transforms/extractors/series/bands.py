"""Power in bands of frequency."""

from __future__ import annotations

from typing import Any

import numpy as np

from schemas.options.series import BandsOptions
from transforms.extractors.series.by_length import ByLength, area
from transforms.extractors.series.spectra import power_spectra

_BELOW_ALL = 1e-10  # of the whole power, the least that counts in a band
_FLOOR = -200.0  # dB


class Bands(ByLength):
    """Power in each band of frequency, in dB of the values' squared unit.

    Of the values less their mean, under a Hann window; a frequency's power is spread over the
    space to its neighbours, so that bands may be narrower than that. It is taken as at
    least 100 dB below the whole power, and at least -200 dB, which is what a constant series has.

    Raises:
        ValueError: an edge is above half the rate.
    """

    def __init__(self, **options: Any) -> None:
        self.options = BandsOptions(**options)

    def names(self) -> list[str]:
        """band0, band1 and so on."""
        bands = self.options.bands
        return [f"band{i}" for i in range(bands if isinstance(bands, int) else len(bands) - 1)]

    def measure(self, values: np.ndarray) -> np.ndarray:
        """float64[k, bands], dB below the largest magnitude squared."""
        n, rate, bands = values.shape[1], self.context.rate, self.options.bands
        edges = np.linspace(0, rate / 2, bands + 1) if isinstance(bands, int) else np.array(bands)
        if edges[-1] > rate / 2:
            raise ValueError(f"bands: {edges[-1]:g} Hz is above half the rate, {rate / 2:g} Hz")
        power = power_spectra(values)
        # Step i of the power is that of frequency i * rate / n, half a step to either side.
        found = area(power, np.minimum(edges * (n / rate) + 0.5, power.shape[1]))
        least = np.maximum(_BELOW_ALL * power.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        return 10 * np.log10(np.maximum(found, least))

    def scaled(self, numbers: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Decibels add."""
        return np.maximum(numbers + 20 * np.log10(scale), _FLOOR)
