"""Recordings: from the bytes of a file to a signal."""

from __future__ import annotations

import io
import struct

import numpy as np
import soundfile
import soxr

from schemas.recipe import AudioModality
from transforms.extractors.base import BadRecord

_READ_AT_ONCE = 1 << 16  # samples: memory is bound by what is there, not by what a header claims
_LARGE = 1 << 22  # bytes of a file that is better read in blocks
# Sizes that stand for "not known" in the header of a stream (ffmpeg, SoX).
_UNKNOWN_SIZES = (0xFFFFFFFF, 0x7FFFF000)


def decode(payload: bytes, modality: AudioModality) -> np.ndarray:
    """Turn the bytes of a recording into a signal.

    Reads what libsndfile reads: WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF and others. Channels
    are averaged; another rate is resampled (soxr, high quality). The length in the header is
    compared with `max_seconds` before anything is decoded. A file that was cut short is found
    where its format tells: WAV, AIFF, AU, FLAC, Ogg, and MP3 with a Xing header.

    Files are read and resampled in blocks: besides the file, memory is bounded by twice the
    signal, 8 bytes * `max_seconds` * `rate`, and 64 MB, whatever a header claims.

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
    signal = _read_plain_wav(payload, modality)
    if signal is None:
        signal = _read(payload, modality)
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


def _read_plain_wav(payload: bytes, modality: AudioModality) -> np.ndarray | None:
    """Signal of a WAV file of 16-bit samples, None of any other file and of large ones.

    It is what most recordings are, and half the time goes without a way through libsndfile.
    """
    if len(payload) > _LARGE:
        return None
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
    signal = _mono(levels.astype(np.float32) / 32768)
    return signal if rate == modality.rate else soxr.resample(signal, rate, modality.rate)


def _read(payload: bytes, modality: AudioModality) -> np.ndarray:
    """Signal of any file that libsndfile knows."""
    blocks: list[np.ndarray] = []
    stream: soxr.ResampleStream | None = None
    read, claimed, reason = 0, None, "it ends"
    try:
        with _Sound(_Payload(payload)) as file:
            rate, claimed = file.samplerate, file.frames
            # 2 ** 63 - 1 is libsndfile's word for "not known".
            claimed = None if claimed == 2**63 - 1 else claimed
            if rate <= 0:
                raise BadRecord("unreadable", f"a rate of {rate} Hz")
            _check_length(claimed or 0, rate, modality)
            if rate != modality.rate:
                stream = soxr.ResampleStream(rate, modality.rate, 1, dtype="float32")
            some = max(1, _READ_AT_ONCE // file.channels)
            while True:
                block = file.read(some, dtype="float32", always_2d=True)
                read += len(block)
                _check_length(read, rate, modality)
                mono = _mono(block)
                blocks.append(mono if stream is None else stream.resample_chunk(mono))
                if len(block) < some:
                    break
    except soundfile.SoundFileError as error:
        reason = getattr(error, "error_string", str(error))
        if claimed is None:
            raise BadRecord("unreadable", f"no recording that can be read: {reason}") from error
    if claimed is not None and read < claimed:
        raise BadRecord(
            "truncated", f"cut short or damaged after {read} of {claimed} frames: {reason}"
        )
    if stream is not None and read:
        blocks.append(stream.resample_chunk(np.empty(0, np.float32), last=True))
    return np.concatenate(blocks)


class _Sound(soundfile.SoundFile):
    """A recording that is read from its start to its end.

    The library seeks to where it is after each block, and an MP3 decoder that has been told to
    seek gives wrong samples for a while.
    """

    def seekable(self) -> bool:
        return False


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
