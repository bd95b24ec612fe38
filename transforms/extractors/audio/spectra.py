"""Windows, mel bands, and pooling over time: what extractors of recordings share."""

from __future__ import annotations

import functools

import numpy as np
import scipy.sparse

FLOOR = 1e-10  # power that stands for silence, as in librosa


@functools.lru_cache(maxsize=8)
def mel_filters(
    rate: int, window: int, bands: int, low: float, high: float
) -> scipy.sparse.csr_array:
    """Triangles on Slaney's mel scale, each of area 1: float32[bands, window // 2 + 1], sparse.

    Kept sparse for speed, and so that sums do not depend on the threads and kernels of a BLAS.

    References:
        Slaney: Auditory toolbox, version 2. Interval Research, Technical Report 1998-010.
    """
    step = np.log(6.4) / 27  # linear below 1000 Hz = 15 mel, logarithmic above

    def mel(hz: float) -> float:
        return hz * 3 / 200 if hz < 1000 else 15 + np.log(hz / 1000) / step

    mels = np.linspace(mel(low), mel(high), bands + 2)
    corners = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))
    hertz = np.fft.rfftfreq(window, 1 / rate)
    left, middle, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (hertz - left) / (middle - left), (right - hertz) / (right - middle)
    triangles = np.maximum(0, np.minimum(rising, falling)) * 2 / (right - left)
    return scipy.sparse.csr_array(triangles.astype(np.float32))


@functools.lru_cache(maxsize=8)
def hann(window: int) -> np.ndarray:
    """Periodic Hann window as a column, float32[window, 1]."""
    phase = 2 * np.pi * np.arange(window) / window
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)[:, None]


def frames(signal: np.ndarray, window: int, hop: int) -> np.ndarray:
    """The signal's windows, each centred on a multiple of `hop`: a view, float32[n, window].

    Zeros stand beyond both ends.
    """
    padded = np.zeros(len(signal) + window, np.float32)
    padded[window // 2 : window // 2 + len(signal)] = signal
    n = 1 + len(signal) // hop
    return np.ndarray((n, window), np.float32, padded, strides=(4 * hop, 4))


def pool_segments(values: np.ndarray, segments: int) -> np.ndarray:
    """Mean and deviation of each of m rows in equal segments of its columns, in float64.

    Returns float64[segments * 2 * m], segment by segment, means before deviations.
    """
    if values.shape[1] < segments:
        values = values[:, np.arange(segments) * values.shape[1] // segments]
    values = values.astype(np.float64)
    edges = np.arange(segments + 1) * values.shape[1] // segments
    counts = edges[1:] - edges[:-1]
    out = np.empty((segments, 2, len(values)))
    out[:, 0] = (np.add.reduceat(values, edges[:-1], axis=1) / counts).T
    values -= np.repeat(out[:, 0].T, counts, axis=1)
    out[:, 1] = np.sqrt(np.add.reduceat(values * values, edges[:-1], axis=1) / counts).T
    return out.ravel()
