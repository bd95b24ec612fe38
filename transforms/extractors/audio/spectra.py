"""Power spectra of a recording's windows, and mel bands of them in decibels."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np

from schemas.options.audio import MelOptions
from transforms.extractors.audio.over_time import FLOOR, windows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

RANGE = 80.0  # dB under a recording's loudest band at which its spectrum ends, as in librosa
ROWS = cv2.DFT_ROWS  # each row by itself: real 0, real 1, imaginary 1, real 2, and so on
_BYTES_AT_ONCE = 1 << 18  # windows and their spectra stay in the processor's cache


@functools.lru_cache(maxsize=8)
def mel_filters(rate: float, window: int, bands: int, low: float, high: float) -> csr_array:
    """Triangles on Slaney's mel scale, each of area 1: float32[bands, window // 2 + 1], sparse.

    Kept sparse for speed, and so that sums do not depend on the threads and kernels of a BLAS.

    References:
        Slaney: Auditory toolbox, version 2. Interval Research, Technical Report 1998-010.
    """
    from scipy.sparse import csr_array  # takes a while, and only workers need it

    step = np.log(6.4) / 27  # linear below 1000 Hz = 15 mel, logarithmic above

    def mel(hz: float) -> float:
        return hz * 3 / 200 if hz < 1000 else 15 + np.log(hz / 1000) / step

    mels = np.linspace(mel(low), mel(high), bands + 2)
    corners = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))
    hertz = np.fft.rfftfreq(window, 1 / rate)
    left, middle, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (hertz - left) / (middle - left), (right - hertz) / (right - middle)
    triangles = np.maximum(0, np.minimum(rising, falling)) * 2 / (right - left)
    return csr_array(triangles.astype(np.float32))


@functools.lru_cache(maxsize=8)
def hann(window: int) -> np.ndarray:
    """Periodic Hann window, float64[window]."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)


def power_spectra(
    signal: np.ndarray, window: int, hop: int, precision: type[np.floating] = np.float32
) -> Iterator[tuple[slice, np.ndarray]]:
    """Power of the Hann-windowed signal at each frequency, some windows at a time.

    Yields:
        Which windows, and [window // 2 + 1, windows] of that precision.
    """
    rows = windows(signal, window, hop)
    weights = hann(window).astype(precision)
    some = max(1, _BYTES_AT_ONCE // weights.nbytes)
    for start in range(0, len(rows), some):
        # OpenCV's transform of rows is three times as fast as SciPy's and ten times as NumPy's.
        # Windows are columns from then on: what is summed over frequencies runs along memory.
        squares = cv2.transpose(cv2.dft(rows[start : start + some] * weights, None, ROWS))
        np.square(squares, out=squares)
        power = np.empty((window // 2 + 1, squares.shape[1]), precision)
        power[0], power[-1] = squares[0], squares[-1]
        np.add(squares[1:-1:2], squares[2:-1:2], out=power[1:-1])
        yield slice(start, start + power.shape[1]), power


def shapes(power: np.ndarray, hertz: np.ndarray, rolloff: float) -> np.ndarray:
    """Centroid, roll-off and flatness of spectra.

    Args:
        power: float64[n, frequencies].
        hertz: [frequencies].
        rolloff: share of the magnitude that is at or below the roll-off.

    Returns:
        [3, n]: Hz, Hz, and 0 (a tone) to 1 (noise); zero, zero and one of a spectrum of zeros.
    """
    magnitude = np.sqrt(power)
    # In 32 bits, as in librosa: where the share is only just reached, rounding decides.
    below = np.cumsum(magnitude, axis=1, dtype=np.float32)
    total = below[:, -1]
    centroid = (hertz * magnitude).sum(axis=1)
    np.divide(centroid, total, out=centroid, where=total > 0)
    # What is below the share comes in ascending order.
    at = (below < rolloff * total[:, None]).sum(axis=1)
    floored = np.maximum(power, FLOOR)
    flatness = np.exp(np.log(floored).mean(axis=1)) / floored.mean(axis=1)
    return np.stack([centroid, hertz[np.minimum(at, len(hertz) - 1)], flatness])


def check_frequencies(name: str, low: float, high: float, rate: float) -> None:
    """Say so if a range of frequencies does not fit a rate.

    Raises:
        ValueError: with the extractor's name.
    """
    if not low < high <= rate / 2:
        raise ValueError(
            f"{name}: frequencies from {low:g} to {high:g} Hz do not fit a rate of {rate:g} Hz; "
            f"choose low < high <= {rate / 2:g}"
        )


def mel_decibels(name: str, signal: np.ndarray, options: MelOptions, rate: float) -> np.ndarray:
    """Mel bands of each window, in dB of power 1: float32[bands, windows].

    Power is at least 1e-10, and at most RANGE dB below the recording's loudest. The numbers are
    those of librosa's `feature.melspectrogram` and `power_to_db`.

    Raises:
        ValueError: the bands do not fit the rate.
    """
    o = options
    high = rate / 2 if o.high is None else o.high
    check_frequencies(name, o.low, high, rate)
    filters = mel_filters(rate, o.window, o.bands, o.low, high)
    mel = np.empty((o.bands, 1 + len(signal) // o.hop), np.float32)
    for some, power in power_spectra(signal, o.window, o.hop):
        mel[:, some] = filters @ power
    np.maximum(mel, FLOOR, out=mel)
    decibels = np.log(mel, out=mel)
    decibels *= np.float32(10 / np.log(10))
    return np.maximum(decibels, decibels.max() - np.float32(RANGE), out=decibels)
