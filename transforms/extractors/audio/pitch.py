"""Fundamental frequency."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np

from schemas.options.audio import PitchOptions
from transforms.extractors.audio.over_time import (
    FLOOR,
    OverTime,
    edges,
    mean_square,
    pool,
    windows,
)
from transforms.extractors.audio.spectra import ROWS, check_frequencies

TROUGH = 0.1  # of the normalised difference, below which the first is the period, as in librosa
_INVERSE = ROWS | cv2.DFT_INVERSE | cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT
_SAMPLES_AT_ONCE = 1 << 16  # windows and their spectra stay in the processor's cache


class _Room(NamedTuple):
    """Memory for some windows at a time, used again and again.

    To get as much from the system each time would take as long as the work.

    Attributes:
        padded, spectrum: float32[some, window + longest or more].
        difference: float32[some, longest], where longest is the longest period looked for.
        normal: float32[some, longest + 1 - shortest].
        sums: float64[some + 1, longest + 1].
    """

    padded: np.ndarray
    spectrum: np.ndarray
    difference: np.ndarray
    normal: np.ndarray
    sums: np.ndarray

    @classmethod
    def make(cls, window: int, shortest: int, longest: int) -> _Room:
        some = max(1, _SAMPLES_AT_ONCE // window)
        size = 2 * cv2.getOptimalDFTSize((window + longest + 1) // 2)
        widths = (size, size, longest, longest + 1 - shortest)
        padded, spectrum, difference, normal = (np.empty((some, w), np.float32) for w in widths)
        return cls(padded, spectrum, difference, normal, np.empty((some + 1, longest + 1)))


class Pitch(OverTime):
    """Fundamental frequency of voiced windows over time, and the share of such windows.

    YIN: the period is the first trough of the cumulative mean normalised difference function
    that is deeper than 0.1, else its minimum, refined by a parabola. The frequencies are those
    of `librosa.yin`. A window is voiced if its aperiodicity is below `voiced` and its power
    less than `trim` dB below that of the loudest. A segment of time without voiced windows has
    the frequencies of the whole recording, and a recording without any has zeros.

    References:
        de Cheveigné, Kawahara: YIN, a fundamental frequency estimator for speech and music.
        JASA 111(4), 2002.
    """

    def __init__(self, **options: Any) -> None:
        self.options: PitchOptions = PitchOptions(**options)
        self._room: _Room | None = None

    def measures(self) -> list[str]:
        """Hz, of voiced windows."""
        return ["hertz"]

    def names(self) -> list[str]:
        """Each segment's frequencies, and then its share of voiced windows."""
        hertz, segments = super().names(), self.options.segments
        parts = np.array(hertz).reshape(segments, -1).tolist()
        return [name for t, part in enumerate(parts) for name in (*part, f"t{t}_voiced")]

    def pooled(self, signal: np.ndarray) -> np.ndarray:
        """The numbers of one recording, in the order of `names`."""
        o = self.options
        hertz, aperiodicity, power = self.track(signal)
        quietest = FLOOR if o.trim is None else max(FLOOR, power.max() * 10 ** (-o.trim / 10))
        voiced = (aperiodicity < o.voiced) & (power > quietest)
        rows: list[np.ndarray] = []
        at = edges(len(hertz), o.segments)
        for start, stop in zip(at[:-1], np.maximum(at[1:], at[:-1] + 1), strict=True):
            here = voiced[start:stop]
            found = hertz[start:stop][here] if here.any() else hertz[voiced]
            row = pool((found if len(found) else np.zeros(1))[None], 1, o.quantiles)
            # Not a number if power overflows, so that it is noticed.
            rows += [row, here.mean(keepdims=True) + 0 * (power.sum() + aperiodicity.sum())]
        return np.concatenate(rows)

    def track(self, signal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frequency in Hz, aperiodicity and power of each window, [windows].

        Aperiodicity is the power of the difference between the window and itself one period
        later, as a share of both their powers: 0 if it repeats itself, 1 if they do not go
        together.

        Raises:
            ValueError: `low` and `high` do not fit the rate, or `low` the window.
        """
        o, rate = self.options, self.context.rate
        check_frequencies("pitch", o.low, o.high, rate)
        shortest, longest = int(rate / o.high), int(np.ceil(rate / o.low))
        if longest > o.window // 2:
            raise ValueError(
                f"pitch: a window of {o.window} samples does not hold two periods of {o.low:g} Hz"
            )
        rows = windows(signal, o.window, o.hop)
        energies = running_energy(signal, o.window, o.hop)
        if self._room is None:
            self._room = _Room.make(o.window, shortest, longest)
        some = len(self._room.padded)
        found = [
            _track(rows[start : start + some], energies[start : start + some], self._room)
            for start in range(0, len(rows), some)
        ]
        period, aperiodicity = np.concatenate(found, axis=1)
        return rate / period, aperiodicity, mean_square(rows)


def running_energy(signal: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Sum of squares of all samples before each sample of a window, and after its last.

    Returns:
        float64[n, window + 1], a view; its differences are energies within the window.
    """
    total = np.zeros(len(signal) + window + 1)
    start, stop = window // 2, window // 2 + len(signal) + 1
    total[start:stop] = cv2.integral(np.square(signal)[None], sdepth=cv2.CV_64F)[1]
    total[stop:] = total[stop - 1]
    n = 1 + len(signal) // hop
    return np.ndarray((n, window + 1), np.float64, total, strides=(8 * hop, 8))


def _track(rows: np.ndarray, energies: np.ndarray, room: _Room) -> np.ndarray:
    """Period in samples and aperiodicity of each of n windows: float64[2, n].

    Args:
        rows: float32[n, window].
        energies: of the windows, as `running_energy` has them.
        room: for n windows at least; says which periods are looked for.
    """
    n, window = rows.shape
    padded, spectrum, difference, normal = (one[:n] for one in room[:4])
    sums = room.sums[: n + 1]
    longest = difference.shape[1]
    shortest = longest + 1 - normal.shape[1]
    padded[:, :window] = rows
    padded[:, window:] = 0
    cv2.dft(padded, spectrum, ROWS)
    power = cv2.mulSpectrums(spectrum, spectrum, ROWS, padded, True)
    correlation = cv2.dft(power, spectrum, _INVERSE)[:, : longest + 1]
    energy = correlation[:, :1]
    # Beyond the window the signal counts as zero, as in librosa: so the window's last samples,
    # which have no partner, stay in the difference.
    np.subtract(energies[:, 1 : longest + 1], energies[:, :1], out=difference, casting="same_kind")
    difference += 2 * correlation[:, 1:]
    np.subtract(2 * energy, difference, out=difference)
    # Sums over all windows and lags so far, from which those of one window follow: in this form
    # OpenCV is three times as fast as a sum along each row.
    cv2.integral(difference, sums, cv2.CV_64F)
    until = sums[:, shortest:]
    np.subtract(until[1:], until[:-1], out=normal, casting="same_kind")
    normal /= np.arange(shortest, longest + 1, dtype=np.float32)
    normal += np.finfo(np.float32).tiny
    np.divide(difference[:, shortest - 1 :], normal, out=normal)

    trough = np.empty(normal.shape, bool)
    trough[:, 0] = normal[:, 0] < normal[:, 1]
    np.less(normal[:, 1:], normal[:, :-1], out=trough[:, 1:])
    trough[:, 1:-1] &= normal[:, 1:-1] <= normal[:, 2:]
    trough &= normal < np.float32(TROUGH)
    each = np.arange(n)
    at = trough.argmax(axis=1)
    at = np.where(trough[each, at], at, normal.argmin(axis=1))
    inner = np.clip(at, 1, normal.shape[1] - 2)
    left, middle, right = (normal[each, inner + i] for i in (-1, 0, 1))
    slope, bend = (right - left) / 2, left + right - 2 * middle
    use = (at == inner) & (np.abs(slope) < np.abs(bend))
    shift = np.where(use, -slope / np.where(use, bend, 1), 0)

    lag = shortest + at
    first, last = energies[:, 0], energies[:, window]
    pairs = energies[each, window - lag] - first + last - energies[each, lag]
    double = 2.0 * correlation[each, lag]
    # More than the energies it can only be by rounding.
    pairs = np.maximum(np.maximum(pairs, np.abs(double)), np.finfo(np.float64).tiny)
    return np.stack([lag + shift, 1 - double / pairs])
