"""Recordings: decoding, and features of the decoded signal."""

from __future__ import annotations

import functools
import io
import struct
from typing import Any, ClassVar

import numpy as np
import scipy.fft
import scipy.sparse
import soundfile
import soxr

from schemas.options import LogMelOptions
from schemas.recipe import AudioModality
from transforms.extractors.base import BadRecord, Batch, Extractor

_READ_AT_ONCE = 1 << 16  # frames: memory is bound by what is there, not by what a header claims
_TRANSFORM_AT_ONCE = 256  # windows: they and their spectra stay in the processor's cache
_FLOOR = 1e-10  # power that stands for silence, as in librosa
# Sizes that stand for "not known" in the header of a stream (ffmpeg, SoX).
_UNKNOWN_SIZES = (0xFFFFFFFF, 0x7FFFF000)


def decode(payload: bytes, modality: AudioModality) -> np.ndarray:
    """Turn the bytes of a recording into a signal.

    Reads what libsndfile reads: WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and others. Channels
    are averaged; another rate is resampled (soxr, high quality). The length in the header is
    compared with `max_seconds` before anything is decoded. A file that was cut short is found
    where its format tells: WAV, AIFF, AU, FLAC, Ogg, and MP3 with a Xing header.

    Args:
        payload: the file.
        modality: gives `rate`, Hz, and `max_seconds`.

    Returns:
        float32[samples], at least one, all finite, full scale from -1 to 1.

    Raises:
        BadRecord: `empty` (no bytes or no samples), `unreadable`, `truncated`, `too_long` or
            `not_finite`.
    """
    if not payload:
        raise BadRecord("empty", "the file has no bytes")
    missing = _missing_bytes(payload)
    if missing > 0:
        raise BadRecord(
            "truncated", f"the file is cut short or damaged: at least {missing} bytes are missing"
        )
    signal, rate = _read_plain_wav(payload, modality) or _read(payload, modality)
    if signal.size and rate != modality.rate:
        signal = soxr.resample(signal, rate, modality.rate)
    if not signal.size:
        raise BadRecord("empty", "the recording has no samples")
    if not np.isfinite(signal).all():
        raise BadRecord("not_finite", "the recording has samples that are infinite or no numbers")
    return signal


def _check_length(frames: int, rate: int, modality: AudioModality) -> None:
    if frames > modality.max_seconds * rate:
        raise BadRecord(
            "too_long", f"{frames / rate:.1f} s are more than max_seconds, {modality.max_seconds:g}"
        )


def _mono(frames: np.ndarray) -> np.ndarray:
    return frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float32)


def _read_plain_wav(payload: bytes, modality: AudioModality) -> tuple[np.ndarray, int] | None:
    """Signal and rate of a WAV file of 16-bit samples, None of any other file.

    It is what most recordings are, and half the time goes without a way through libsndfile.
    """
    chunks = _chunks(payload)
    if not payload.startswith(b"RIFF") or not {b"fmt ", b"data"} <= chunks.keys():
        return None
    (head, head_size), (start, size) = chunks[b"fmt "], chunks[b"data"]
    if head_size < 16 or size == 0 or size in _UNKNOWN_SIZES:
        return None
    form, channels, rate, _, width, bits = struct.unpack_from("<HHIIHH", payload, head)
    if form != 1 or bits != 16 or channels == 0 or width != 2 * channels or rate == 0:
        return None
    frames = size // width
    _check_length(frames, rate, modality)
    levels = np.frombuffer(payload, "<i2", frames * channels, start).reshape(-1, channels)
    return _mono(levels.astype(np.float32) / 32768), rate


def _read(payload: bytes, modality: AudioModality) -> tuple[np.ndarray, int]:
    """Signal and rate of any file that libsndfile knows."""
    blocks: list[np.ndarray] = []
    read, claimed, reason = 0, None, "it ends"
    try:
        with soundfile.SoundFile(_Payload(payload)) as file:
            rate, claimed = file.samplerate, file.frames
            # 2 ** 63 - 1 is libsndfile's word for "not known".
            claimed = None if claimed == 2**63 - 1 else claimed
            if rate <= 0:
                raise BadRecord("unreadable", f"a rate of {rate} Hz")
            _check_length(claimed or 0, rate, modality)
            while True:
                block = file.read(_READ_AT_ONCE, dtype="float32", always_2d=True)
                read += len(block)
                _check_length(read, rate, modality)
                blocks.append(_mono(block))
                if len(block) < _READ_AT_ONCE:
                    break
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", str(error))
        if claimed is None:
            raise BadRecord("unreadable", f"no recording that can be read: {reason}") from error
    if claimed is not None and read < claimed:
        raise BadRecord(
            "truncated", f"cut short or damaged after {read} of {claimed} frames: {reason}"
        )
    return np.concatenate(blocks), rate


class _Payload(io.BytesIO):
    """A file in memory; libsndfile seeks before the start of a damaged one, and shrugs."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _missing_bytes(payload: bytes) -> int:
    """How many bytes the file lacks by its own account; 0 or less if none, or if it cannot tell."""
    if payload.startswith((b"RIFF", b"FORM")):
        chunks = _chunks(payload)
        start, size = chunks.get(b"data", chunks.get(b"SSND", (len(payload), 1)))
        return 0 if size in _UNKNOWN_SIZES else start + size - len(payload)
    if payload.startswith(b".snd") and len(payload) >= 12:
        start, size = struct.unpack_from(">II", payload, 4)
        return 0 if size in _UNKNOWN_SIZES else start + size - len(payload)
    if payload.startswith(b"OggS"):
        page = payload[payload.rfind(b"OggS") :]  # RFC 3533, section 6
        if len(page) < 27:
            return 27 - len(page)
        missing = 27 + page[26] + sum(page[27 : 27 + page[26]]) - len(page)
        last = page[5] & 4
        return missing if last else max(missing, 1)
    return _missing_of_mp3(payload)


def _chunks(payload: bytes) -> dict[bytes, tuple[int, int]]:
    """Where each chunk of a RIFF or AIFF file starts, and its size, up to the samples."""
    order = "<" if payload.startswith(b"RIFF") else ">"
    chunks: dict[bytes, tuple[int, int]] = {}
    at = 12
    while at + 8 <= len(payload) and not chunks.keys() & {b"data", b"SSND"}:
        name, size = struct.unpack_from(order + "4sI", payload, at)
        chunks[name] = (at + 8, size)
        at += 8 + size + size % 2
    return chunks


def _missing_of_mp3(payload: bytes) -> int:
    """From the size in the Xing header, which follows the first frame's side information."""
    at = 0
    if payload.startswith(b"ID3") and len(payload) >= 10:
        a, b, c, d = payload[6:10]  # ID3v2: 7 bits a byte
        at = 10 + (a << 21 | b << 14 | c << 7 | d)
    if payload[at : at + 1] != b"\xff":
        return at - len(payload) + 1 if at > len(payload) else 0
    for name in (b"Xing", b"Info"):
        tag = payload.find(name, at, at + 48)
        if tag >= 0 and len(payload) >= tag + 16:
            flags, first, second = struct.unpack_from(">III", payload, tag + 4)
            if flags & 2:
                # Encoders differ in whether they count the header's own frame.
                return int(0.99 * (second if flags & 1 else first)) - (len(payload) - at)
    return 0


@functools.lru_cache(maxsize=8)
def _mel_filters(
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
def _hann(window: int) -> np.ndarray:
    """Periodic Hann window as a column, float32[window, 1]."""
    phase = 2 * np.pi * np.arange(window) / window
    return (0.5 - 0.5 * np.cos(phase)).astype(np.float32)[:, None]


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
                out[row] = _pool(self._spectrum(signal, filters), o.segments)
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
        return _mel_filters(rate, o.window, o.bands, o.low, high)

    def _spectrum(self, signal: np.ndarray, filters: scipy.sparse.csr_array) -> np.ndarray:
        """Decibels or coefficients of each window, float32[bands or cepstra, windows]."""
        o = self.options
        windows = self._windows(signal)
        if o.trim is not None:
            # The mean square, not the sum: librosa's floor is one of the mean.
            power = np.maximum(np.einsum("ij,ij->i", windows, windows) / o.window, _FLOOR)
            loud = np.flatnonzero(power > power.max() * 10 ** (-o.trim / 10))
            if loud.size and (loud[0] > 0 or loud[-1] + 1 < len(windows)):
                windows = self._windows(signal[loud[0] * o.hop : (loud[-1] + 1) * o.hop])
        mel = np.empty((o.bands, len(windows)), np.float32)
        # Windows are columns: transforms along them fill the lanes of SIMD registers, and the
        # sparse product then runs along memory.
        for start in range(0, len(windows), _TRANSFORM_AT_ONCE):
            columns = windows[start : start + _TRANSFORM_AT_ONCE].T * _hann(o.window)
            spectrum = scipy.fft.rfft(columns, axis=0)
            power = spectrum.real**2
            power += spectrum.imag**2
            mel[:, start : start + columns.shape[1]] = filters @ power
        decibels = np.log(np.maximum(mel, _FLOOR)) * np.float32(10 / np.log(10))
        if o.cepstra is None:
            return decibels
        return scipy.fft.dct(decibels, type=2, norm="ortho", axis=0)[: o.cepstra]

    def _windows(self, signal: np.ndarray) -> np.ndarray:
        """The signal's windows, each centred on a multiple of `hop`: a view, float32[n, window]."""
        window, hop = self.options.window, self.options.hop
        padded = np.zeros(len(signal) + window, np.float32)
        padded[window // 2 : window // 2 + len(signal)] = signal
        n = 1 + len(signal) // hop
        return np.ndarray((n, window), np.float32, padded, strides=(4 * hop, 4))


def _pool(values: np.ndarray, segments: int) -> np.ndarray:
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
