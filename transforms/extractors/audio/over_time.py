"""Windows over a recording, and pooling over time of what is measured in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from schemas.options.audio import OverTimeOptions
from transforms.extractors.base import Batch, Extractor

FLOOR = 1e-10  # power that stands for silence, as in librosa


class OverTime(Extractor):
    """Base of extractors that measure each window of a recording and pool that over time.

    Silence is cut at both ends: windows whose power is more than `trim` dB below that of the
    loudest, as `librosa.effects.trim` does. Windows are centred on multiples of `hop`. Of T
    windows, segment i of n has those from floor(i T / n) on; a signal with fewer windows than
    segments repeats windows. What is pooled of a segment is mean, deviation and quantiles.

    A sub-class defines `measures` and `measure`.
    """

    kind: ClassVar[str] = "audio"
    options: OverTimeOptions

    def measures(self) -> list[str]:
        """Names of what is measured in each window, m of them."""
        raise NotImplementedError

    def measure(self, signal: np.ndarray) -> np.ndarray:
        """What is measured in each of T windows: [m, T].

        Args:
            signal: float32[samples], silence cut.
        """
        raise NotImplementedError

    def names(self) -> list[str]:
        """Segment of time, statistic, measure: all means, deviations, then each quantile's."""
        o = self.options
        statistics = ["mean", "std", *(f"q{100 * q:g}" for q in o.quantiles)]
        return [
            f"t{t}_{statistic}_{measure}"
            for t in range(o.segments)
            for statistic in statistics
            for measure in self.measures()
        ]

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, segments * (2 + quantiles) * m]; power that overflows fails its row.

        Raises:
            ValueError: the options do not go with the recordings' rate.
        """
        o = self.options
        out = np.empty((len(batch), len(self.names())), np.float32)
        # One by one: a recording's windows fill a transform, and lengths differ.
        with np.errstate(over="ignore", invalid="ignore"):
            for row, signal in enumerate(batch.items):
                out[row] = self.pooled(trimmed(signal, o.window, o.hop, o.trim))
        for bad in np.flatnonzero(~np.isfinite(out).all(axis=1)):
            batch.fail(int(bad), "not_finite", "the samples are too large: their power overflows")
        return out

    def pooled(self, signal: np.ndarray) -> np.ndarray:
        """The numbers of one recording, in the order of `names`."""
        return pool(self.measure(signal), self.options.segments, self.options.quantiles)


def windows(signal: np.ndarray, window: int, hop: int) -> np.ndarray:
    """The signal's windows, each centred on a multiple of `hop`: a view, float32[n, window].

    Zeros stand beyond both ends.
    """
    padded = np.zeros(len(signal) + window, np.float32)
    padded[window // 2 : window // 2 + len(signal)] = signal
    n = 1 + len(signal) // hop
    return np.ndarray((n, window), np.float32, padded, strides=(4 * hop, 4))


def mean_square(windows: np.ndarray) -> np.ndarray:
    """Power of each window, float32[n]."""
    return np.einsum("ij,ij->i", windows, windows) / np.float32(windows.shape[1])


def trimmed(signal: np.ndarray, window: int, hop: int, decibels: float | None) -> np.ndarray:
    """The signal from its first to its last window that is not `decibels` below the loudest."""
    if decibels is None:
        return signal
    power = np.maximum(mean_square(windows(signal, window, hop)), FLOOR)
    loud = np.flatnonzero(power > power.max() * 10 ** (-decibels / 10))
    return signal[loud[0] * hop : (loud[-1] + 1) * hop] if loud.size else signal


def edges(n: int, segments: int) -> np.ndarray:
    """Where each of some equal segments of n windows starts, and n: int64[segments + 1]."""
    return np.arange(segments + 1) * n // segments


def pool(values: np.ndarray, segments: int, quantiles: Sequence[float]) -> np.ndarray:
    """Mean, deviation and quantiles of each of m rows in equal segments of its columns.

    Args:
        values: [m, T].
        segments: number of segments; columns are repeated if there are fewer.
        quantiles: from 0 to 1; between two columns they are interpolated.

    Returns:
        float64[segments * (2 + quantiles) * m], segment by segment.
    """
    if values.shape[1] < segments:
        values = values[:, np.arange(segments) * values.shape[1] // segments]
    values = values.astype(np.float64)
    at = edges(values.shape[1], segments)
    counts = at[1:] - at[:-1]
    out = np.empty((segments, 2 + len(quantiles), len(values)))
    if quantiles:
        for one, start, stop in zip(out, at[:-1], at[1:], strict=True):
            one[2:] = np.quantile(values[:, start:stop], quantiles, axis=1)
    means = np.add.reduceat(values, at[:-1], axis=1) / counts
    values -= means.repeat(counts, axis=1)
    values *= values
    out[:, 0], out[:, 1] = means.T, np.sqrt(np.add.reduceat(values, at[:-1], axis=1) / counts).T
    return out.ravel()
