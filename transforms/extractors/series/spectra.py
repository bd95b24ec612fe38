"""Power spectra of series."""

from __future__ import annotations

import numpy as np


def power_spectra(values: np.ndarray) -> np.ndarray:
    """Power at each frequency, of the values less their mean, under a Hann window.

    The window is that between two samples, so that it is zero nowhere, however short the
    series. Summed over all frequencies, the power is about the variance.

    Args:
        values: float64[k, n].

    Returns:
        float64[k, n // 2 + 1].
    """
    n = values.shape[1]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)
    centred = values - values.mean(axis=1, keepdims=True)
    # NumPy's transform takes the rows one by one: SciPy's takes several at once, and those that
    # are left over in another way.
    spectrum = np.fft.rfft(centred * window, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2) / (n * (window**2).sum())
    power[:, 1 : (n + 1) // 2] *= 2  # frequencies that have a negative twin
    return power
