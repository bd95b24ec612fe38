"""Recordings: from the bytes of a file to a signal, or to what is wrong with it."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
import soxr
from sounds import RATE, encode, modality, noise, tone

from schemas.recipe import AudioModality
from transforms.extractors.audio.decoding import decode
from transforms.extractors.base import BadRecord

MODALITY = modality()


def kind_of(payload: bytes, within: AudioModality = MODALITY) -> str:
    with pytest.raises(BadRecord) as caught:
        decode(payload, within)
    assert caught.value.message
    return caught.value.kind


@pytest.mark.parametrize(
    ("form", "subtype", "error"),
    [
        ("WAV", "FLOAT", 0),
        ("WAV", "PCM_16", 2**-15),
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "PCM_U8", 2**-7),
        ("AIFF", "PCM_16", 2**-15),
        ("FLAC", "PCM_16", 2**-15),
        ("AU", "PCM_16", 2**-15),
        ("W64", "PCM_16", 2**-15),
        ("CAF", "ALAC_16", 2**-14),
        ("OGG", "VORBIS", 0.05),
        ("OGG", "OPUS", 0.1),
        ("MP3", None, 0.05),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_formats_give_back_the_signal(
    form: str, subtype: str | None, error: float, channels: int
) -> None:
    signal = tone(70_000)  # more than is read at once
    both = np.repeat(signal[:, None], channels, axis=1)
    got = decode(encode(both, form, subtype), MODALITY)
    assert got.dtype == np.float32
    assert got.shape == signal.shape
    assert np.abs(got - signal).max() <= error


def test_channels_are_averaged() -> None:
    both = np.stack([np.full(100, 0.5), np.full(100, -0.25)], axis=1)
    for subtype in ("PCM_16", "FLOAT"):
        np.testing.assert_array_equal(decode(encode(both, "WAV", subtype), MODALITY), 0.125)


def test_a_plain_wav_file_is_read_as_libsndfile_reads_it() -> None:
    both = np.random.default_rng(0).uniform(-1, 1, (1000, 3))
    payload = encode(both, "WAV", "PCM_16")
    frames, _ = soundfile.read(io.BytesIO(payload), dtype="float32")
    np.testing.assert_array_equal(decode(payload, MODALITY), frames.mean(axis=1, dtype=np.float32))


@pytest.mark.parametrize(
    ("form", "subtype", "error"),
    [
        ("WAV", "PCM_16", 1e-3),
        ("FLAC", "PCM_16", 1e-3),
        ("AIFF", "FLOAT", 1e-3),
        ("OGG", "VORBIS", 0.05),
        ("OGG", "OPUS", 0.1),
        ("MP3", None, 0.1),
    ],
)
@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_000])
def test_another_rate_is_resampled(form: str, subtype: str | None, error: float, rate: int) -> None:
    if rate in {"OPUS": (11_025, 22_050, 44_100, 96_000), None: (96_000,)}.get(subtype, ()):
        pytest.skip("the format has no such rate")
    got = decode(encode(tone(rate, rate), form, subtype, rate), MODALITY)
    assert got.dtype == np.float32
    assert abs(len(got) - RATE) <= 1
    middle = slice(2000, -2000)  # the filter rings at both ends
    np.testing.assert_allclose(got[middle], tone(len(got))[middle], atol=error)


def test_blocks_are_resampled_as_one() -> None:
    signal = noise(200_001)
    whole = soxr.resample(signal, 44_100, RATE)
    np.testing.assert_array_equal(decode(encode(signal, "WAV", "FLOAT", 44_100), MODALITY), whole)


def cut(payload: bytes, share: float) -> bytes:
    return payload[: int(share * len(payload))]


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize(
    ("form", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("AIFF", "PCM_16"),
        ("AU", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", None),
    ],
)
def test_a_cut_file_is_truncated(form: str, subtype: str, share: float) -> None:
    payload = encode(noise(40_000), form, subtype)
    assert decode(payload, MODALITY).size > 30_000
    assert kind_of(cut(payload, min(share, 0.95) if form == "MP3" else share)) == "truncated"


def test_an_ogg_file_cut_between_two_pages_is_truncated() -> None:
    payload = encode(noise(80_000), "OGG", "VORBIS")
    pages = [i for i in range(1, len(payload)) if payload.startswith(b"OggS", i)]
    assert len(pages) > 3
    assert {kind_of(payload[:page]) for page in pages} == {"truncated"}


def test_a_cut_file_of_any_format_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for form, subtype in (("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("MP3", None)):
        payload = encode(noise(20_000), form, subtype)
        for end in (60, 1000, len(payload) // 2):
            assert kind_of(payload[:end]) == "truncated"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_a_stream_of_unknown_length_is_read_to_its_end(size: int) -> None:
    payload = bytearray(encode(tone(500), "WAV", "PCM_16"))
    at = payload.index(b"data") + 4
    payload[4:8] = payload[at : at + 4] = struct.pack("<I", size)
    np.testing.assert_allclose(decode(bytes(payload), MODALITY), tone(500), atol=2**-15)


def test_a_header_that_promises_absurdly_much() -> None:
    payload = bytearray(encode(tone(500), "WAV", "PCM_16"))
    at = payload.index(b"data") + 4
    payload[at : at + 4] = struct.pack("<I", 0xFFFFFFF0)
    assert kind_of(bytes(payload)) == "truncated"

    flac = bytearray(encode(tone(500), "FLAC", "PCM_16"))
    flac[22:26] = b"\xff" * 4  # the lower 32 of 36 bits of its number of samples
    assert kind_of(bytes(flac)) == "too_long"


@pytest.mark.parametrize("form", ["WAV", "FLAC"])
def test_max_seconds_is_the_longest_that_is_taken(form: str) -> None:
    payload = encode(tone(RATE // 2), form, "PCM_16")
    assert decode(payload, modality(max_seconds=0.5)).size == RATE // 2
    assert kind_of(payload, modality(max_seconds=0.499)) == "too_long"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [RATE, 8_000])
def test_a_single_sample_that_is_no_number(value: float, rate: int) -> None:
    signal = tone(1000)
    signal[700] = value
    assert kind_of(encode(signal, "WAV", "FLOAT", rate)) == "not_finite"


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_no_samples(subtype: str) -> None:
    assert kind_of(encode(tone(0), "WAV", subtype)) == "empty"
    assert kind_of(b"") == "empty"


@pytest.mark.parametrize("payload", [b"no recording", b"{}", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_other_files_are_unreadable(payload: bytes) -> None:
    assert kind_of(payload) == "unreadable"
