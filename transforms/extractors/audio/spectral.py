"""The shape of spectra, zero crossings and loudness."""

from __future__ import annotations

from typing import Any

import numpy as np

from schemas.options.audio import SpectralOptions
from transforms.extractors.audio.over_time import FLOOR, OverTime, mean_square, windows
from transforms.extractors.audio.spectra import power_spectra, shapes


class Spectral(OverTime):
    """Centroid, roll-off and flatness of the spectrum, zero crossings, root mean square.

    As librosa's `feature.spectral_centroid`, `spectral_rolloff`, `spectral_flatness`,
    `zero_crossing_rate` and `rms` have them: of Hann windows, zeros beyond both ends; for zero
    crossings the first and the last sample stand there.
    """

    def __init__(self, **options: Any) -> None:
        self.options: SpectralOptions = SpectralOptions(**options)

    def measures(self) -> list[str]:
        """Hz, Hz, 0 (a tone) to 1 (noise), share of the samples, full scale 1."""
        return ["centroid", "rolloff", "flatness", "zero_crossings", "rms"]

    def measure(self, signal: np.ndarray) -> np.ndarray:
        """float32[5, windows].

        Raises:
            ValueError: the rate is not known.
        """
        o, rate = self.options, self.context.rate
        if rate <= 0:
            raise ValueError("spectral: the recordings' rate is not known")
        hertz = np.fft.rfftfreq(o.window, 1 / rate)
        out = np.empty((5, 1 + len(signal) // o.hop), np.float32)
        # The flatness is as much the weakest frequencies', which are the rounding of the loudest
        # in 32 bits.
        for some, power in power_spectra(signal, o.window, o.hop, np.float64):
            out[:3, some] = shapes(power.T, hertz, o.rolloff)
        out[3] = crossing_rate(signal, o.window, o.hop)
        out[4] = np.sqrt(mean_square(windows(signal, o.window, o.hop)))
        return out


def crossing_rate(signal: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Share of a window's samples that have another sign than the one before: float64[windows].

    Up to 1e-10 is zero, and zero is positive.
    """
    negative = signal < -FLOOR
    before = np.zeros(len(signal) + 1, np.int64)  # crossings up to each sample
    np.cumsum(negative[1:] != negative[:-1], out=before[2:])
    start = np.arange(1 + len(signal) // hop) * hop - window // 2
    first = np.clip(start + 1, 1, len(signal))
    return (before[np.clip(start + window, 0, len(signal))] - before[first]) / window
