"""Mel-frequency cepstral coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft

from schemas.options.audio import MfccOptions
from transforms.extractors.audio.over_time import OverTime
from transforms.extractors.audio.spectra import mel_decibels

_WIDTH = 9  # windows that a derivative is fitted to, as in librosa


class Mfcc(OverTime):
    """Mel-frequency cepstral coefficients over time, and their derivatives if asked for.

    The first coefficients of the orthonormal DCT-II of the log-mel spectrum (see `log_mel`):
    librosa's `feature.mfcc`. Derivatives are those of its `feature.delta`; where a recording
    has fewer than 9 windows, which that refuses, of a polynomial through fewer windows.

    References:
        Davis, Mermelstein: Comparison of parametric representations for monosyllabic word
        recognition in continuously spoken sentences. IEEE Trans. ASSP 28(4), 1980.
    """

    def __init__(self, **options: Any) -> None:
        self.options: MfccOptions = MfccOptions(**options)

    def measures(self) -> list[str]:
        """The coefficients, then their first and second derivatives."""
        kinds = ("c", "delta", "delta2")[: 1 + self.options.deltas]
        return [f"{kind}{i}" for kind in kinds for i in range(self.options.coefficients)]

    def measure(self, signal: np.ndarray) -> np.ndarray:
        """float32[coefficients * (1 + deltas), windows]."""
        o = self.options
        decibels = mel_decibels("mfcc", signal, o, self.context.rate)
        cepstra = scipy.fft.dct(decibels, type=2, norm="ortho", axis=0)[: o.coefficients]
        if not o.deltas:
            return cepstra
        return np.concatenate([cepstra, *(delta(cepstra, i + 1) for i in range(o.deltas))])


def delta(values: np.ndarray, order: int) -> np.ndarray:
    """Derivative in time, a window being the unit: float32[m, n], of as many values.

    That of a polynomial of degree `order`, fitted to 9 windows around each (Savitzky & Golay
    1964), or to as many as there are. At both ends it is that of the 9 windows there.
    `librosa.feature.delta` with its defaults.
    """
    n = values.shape[1]
    half = min(_WIDTH // 2, (n - 1) // 2)
    if 2 * half < order:  # too few windows for a polynomial of that degree
        return np.zeros_like(values)
    at = np.arange(-half, half + 1)
    # The weights that give the polynomial's highest coefficient, times order! for the derivative.
    weights = np.linalg.pinv(np.vander(at, order + 1, increasing=True).astype(float))[order] * order
    inner = np.zeros((len(values), n - 2 * half), np.float32)
    for shift, weight in enumerate(weights.astype(np.float32)):
        inner += weight * values[:, shift : shift + inner.shape[1]]
    # A derivative of that order is the same all over its polynomial.
    return np.pad(inner, ((0, 0), (half, half)), mode="edge")
