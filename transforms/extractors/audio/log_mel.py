"""Log-mel spectra and cepstra."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import scipy.fft
import scipy.sparse

from schemas.options.audio import LogMelOptions
from transforms.extractors.audio.spectra import FLOOR, frames, hann, mel_filters, pool_segments
from transforms.extractors.base import Batch, Extractor

_TRANSFORM_AT_ONCE = 256  # windows: they and their spectra stay in the processor's cache


class LogMel(Extractor):
    """Log-mel spectrum, or its cepstrum: mean and deviation over equal segments of time.

    Silence is cut at both ends: windows whose power is more than `trim` dB below that of the
    loudest. Power spectra of Hann windows, centred, zeros beyond both ends, are summed to mel
    bands S and taken as 10 log10(max(1e-10, S)) dB; with `cepstra`, the first coefficients of
    the bands' orthonormal DCT-II follow. The numbers are those of librosa's `effects.trim`,
    `feature.melspectrogram` and `power_to_db` (without `top_db`). Of T windows, segment i of n
    has those from floor(i T / n) on; a signal with fewer windows than segments repeats windows.

    References:
        Davis, Mermelstein: Comparison of parametric representations for monosyllabic word
        recognition in continuously spoken sentences. IEEE Trans. ASSP 28(4), 1980.
    """

    kind: ClassVar[str] = "audio"

    def __init__(self, **options: Any) -> None:
        self.options = LogMelOptions(**options)

    def names(self) -> list[str]:
        """Segment of time, then the means of all bands or coefficients, then the deviations."""
        o = self.options
        number = o.bands if o.cepstra is None else o.cepstra
        return [
            f"t{t}_{statistic}{i}"
            for t in range(o.segments)
            for statistic in ("mean", "std")
            for i in range(number)
        ]

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, segments * 2 * (bands or cepstra)].

        Raises:
            ValueError: the rate is not known, or `low` or `high` are above half of it.
        """
        o, filters = self.options, self._filters()
        out = np.empty((len(batch), o.segments * 2 * (o.cepstra or o.bands)), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for row, signal in enumerate(batch.items):
                out[row] = pool_segments(self._spectrum(signal, filters), o.segments)
        for bad in np.flatnonzero(~np.isfinite(out).all(axis=1)):
            batch.fail(int(bad), "not_finite", "the samples are too large: their power overflows")
        return out

    def _filters(self) -> scipy.sparse.csr_array:
        o, rate = self.options, self.context.rate
        high = rate / 2 if o.high is None else o.high
        if not o.low < high <= rate / 2:
            raise ValueError(
                f"log_mel: bands from {o.low:g} to {high:g} Hz do not fit a rate of {rate} Hz; "
                f"choose low < high <= {rate / 2:g}"
            )
        return mel_filters(rate, o.window, o.bands, o.low, high)

    def _spectrum(self, signal: np.ndarray, filters: scipy.sparse.csr_array) -> np.ndarray:
        """Decibels or coefficients of each window, float32[bands or cepstra, windows]."""
        o = self.options
        windows = frames(signal, o.window, o.hop)
        if o.trim is not None:
            # The mean square, not the sum: librosa's floor is one of the mean.
            power = np.maximum(np.einsum("ij,ij->i", windows, windows) / o.window, FLOOR)
            loud = np.flatnonzero(power > power.max() * 10 ** (-o.trim / 10))
            if loud.size and (loud[0] > 0 or loud[-1] + 1 < len(windows)):
                windows = frames(signal[loud[0] * o.hop : (loud[-1] + 1) * o.hop], o.window, o.hop)
        mel = np.empty((o.bands, len(windows)), np.float32)
        # Windows are columns: transforms along them fill the lanes of SIMD registers, and the
        # sparse product then runs along memory.
        for start in range(0, len(windows), _TRANSFORM_AT_ONCE):
            columns = windows[start : start + _TRANSFORM_AT_ONCE].T * hann(o.window)
            spectrum = scipy.fft.rfft(columns, axis=0)
            power = spectrum.real**2
            power += spectrum.imag**2
            mel[:, start : start + columns.shape[1]] = filters @ power
        decibels = np.log(np.maximum(mel, FLOOR)) * np.float32(10 / np.log(10))
        if o.cepstra is None:
            return decibels
        return scipy.fft.dct(decibels, type=2, norm="ortho", axis=0)[: o.cepstra]
