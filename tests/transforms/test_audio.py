from __future__ import annotations

import io
import itertools
import struct
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.recipe import AudioModality
from transforms.extractors.audio.decoding import decode
from transforms.extractors.audio.log_mel import LogMel
from transforms.extractors.base import BadRecord, Batch, Context

RATE = 16_000


def modality(**fields: Any) -> AudioModality:
    return AudioModality.model_validate(
        {
            "kind": "audio",
            "source": {"path": "audio.csv", "uri": "path"},
            "extract": {"log_mel": None},
            "rate": RATE,
            **fields,
        }
    )


MODALITY = modality()


def tone(samples: int, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)).astype(np.float32)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades, so that there is something to trim."""
    envelope = np.hanning(samples) ** 3 if samples > 2 else 1
    values = np.random.default_rng(seed).normal(size=samples) * envelope
    return (0.2 * values).astype(np.float32)


def encode(signal: np.ndarray, form: str, subtype: str | None = None, rate: int = RATE) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, signal, rate, format=form, subtype=subtype)
    return out.getvalue()


def kind_of(payload: bytes, within: AudioModality = MODALITY) -> str:
    with pytest.raises(BadRecord) as caught:
        decode(payload, within)
    assert caught.value.message
    return caught.value.kind


# --- decoding --------------------------------------------------------------------------------


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
        ("OGG", "VORBIS", 0.05),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_formats_give_back_the_signal(form: str, subtype: str, error: float, channels: int) -> None:
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


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_another_rate_is_resampled(rate: int) -> None:
    got = decode(encode(tone(rate, rate), "WAV", "FLOAT", rate), MODALITY)
    assert got.dtype == np.float32
    assert abs(len(got) - RATE) <= 1
    middle = slice(2000, -2000)  # the filter rings at both ends
    np.testing.assert_allclose(got[middle], tone(len(got))[middle], atol=1e-3)


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


@given(data=st.data(), form=st.sampled_from(["WAV", "AIFF", "FLAC", "OGG", "AU"]))
@settings(deadline=None, max_examples=100)
def test_damage_gives_a_signal_or_a_bad_record_and_nothing_else(
    data: st.DataObject, form: str
) -> None:
    payload = bytearray(encode(noise(3000), form))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        got = decode(bytes(payload), modality(max_seconds=60))
    except BadRecord as error:
        kind = error.kind
    else:
        kind = "finite" if got.size and np.isfinite(got).all() else "not as promised"
    assert kind in ("finite", "unreadable", "truncated", "too_long", "not_finite", "empty")


# --- features --------------------------------------------------------------------------------

OPTIONS: list[dict[str, Any]] = [
    {},
    {"cepstra": 20, "segments": 6},
    {"window": 1024, "hop": 200, "bands": 64, "trim": None, "low": 50, "high": 7000},
    {"window": 256, "hop": 1000, "bands": 13, "trim": 12.5, "segments": 1},
]


def log_mel(rate: int = RATE, **options: Any) -> LogMel:
    extractor = LogMel(**options)
    extractor.context = Context(rate=rate)
    return extractor


def signals() -> list[np.ndarray]:
    swelling = [noise(n, seed=n) for n in (1, 2, 100, 159, 5000, 16_000, 90_000)]
    return [*swelling, tone(3000), np.zeros(4000, np.float32), np.ones(700, np.float32)]


@pytest.mark.parametrize("options", OPTIONS)
def test_rows_are_finite_named_and_single_precision(options: dict[str, Any]) -> None:
    extractor = log_mel(**options)
    rows = extractor.transform(Batch(signals()))
    names = extractor.names()
    assert rows.dtype == np.float32
    assert rows.shape == (len(signals()), len(names))
    assert len(set(names)) == len(names)
    assert np.isfinite(rows).all()
    assert extractor.transform(Batch([])).shape == (0, len(names))


@pytest.mark.parametrize("options", OPTIONS)
@given(data=st.data())
@settings(deadline=None, max_examples=15)
def test_a_row_does_not_depend_on_its_batch(options: dict[str, Any], data: st.DataObject) -> None:
    extractor = log_mel(**options)
    items = data.draw(st.permutations(signals()))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(items)))) | {0, len(items)})
    parts = [extractor.transform(Batch(items[a:b])) for a, b in itertools.pairwise(cuts)]
    assert np.concatenate(parts).tobytes() == extractor.transform(Batch(items)).tobytes()


def reference(signal: np.ndarray, extractor: LogMel) -> np.ndarray:
    """What librosa makes of a signal, pooled step by step."""
    librosa = pytest.importorskip("librosa")
    fft = pytest.importorskip("scipy.fft")
    o = extractor.options
    if o.trim is not None:
        signal, _ = librosa.effects.trim(
            signal, top_db=o.trim, frame_length=o.window, hop_length=o.hop
        )
    spectrum = librosa.feature.melspectrogram(
        y=signal,
        sr=extractor.context.rate,
        n_fft=o.window,
        hop_length=o.hop,
        n_mels=o.bands,
        fmin=o.low,
        fmax=o.high,
        pad_mode="constant",
    )
    values = librosa.power_to_db(spectrum, top_db=None)
    if o.cepstra is not None:
        values = fft.dct(values, axis=0, norm="ortho")[: o.cepstra]
    n, s = values.shape[1], o.segments
    row: list[np.ndarray] = []
    for i in range(s):
        part = values[:, i * n // s : max((i + 1) * n // s, i * n // s + 1)]
        row += [part.mean(axis=1), part.std(axis=1)]
    return np.concatenate(row)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("rate", [RATE, 22_050])
@pytest.mark.filterwarnings("ignore:n_fft=.* is too large:UserWarning")
def test_the_numbers_are_those_of_librosa(options: dict[str, Any], rate: int) -> None:
    extractor = log_mel(rate, **options)
    rows = extractor.transform(Batch(signals()))
    for signal, row in zip(signals(), rows, strict=True):
        # Bands 70 dB below a tone are rounding errors, here and there.
        pure = len(signal) in (3000, 700)
        want = reference(signal, extractor)
        np.testing.assert_allclose(row, want, rtol=1e-4, atol=0.1 if pure else 1e-3)


def test_a_tone_is_loudest_in_its_band() -> None:
    extractor = log_mel(segments=1, bands=20)
    loudest = [
        extractor.names()[np.argmax(extractor.transform(Batch([tone(RATE, hertz=h)]))[0, :20])]
        for h in (300, 1000, 3000)
    ]
    assert loudest == ["t0_mean1", "t0_mean6", "t0_mean13"]


def test_ten_times_the_amplitude_is_twenty_decibels() -> None:
    extractor = log_mel()
    means = np.array(["mean" in name for name in extractor.names()])
    quiet, loud = extractor.transform(Batch([0.1 * noise(RATE), noise(RATE)]))
    np.testing.assert_allclose(loud - quiet, np.where(means, 20, 0), atol=1e-3)


def test_silence_at_both_ends_is_cut() -> None:
    sound = np.random.default_rng(0).normal(size=32_000).astype(np.float32)
    silence = np.zeros(160 * 50, np.float32)
    extractor = log_mel(segments=1)
    short, padded = extractor.transform(Batch([sound, np.concatenate([silence, sound, silence])]))
    np.testing.assert_allclose(padded[:40], short[:40], atol=1)
    kept = log_mel(segments=1, trim=None).transform(Batch([np.concatenate([silence, sound])]))
    assert (kept[0, :40] < short[:40] - 20).all()


def test_a_constant_row_has_no_deviation_and_few_windows_are_repeated() -> None:
    extractor = log_mel(trim=None, segments=4)
    row = extractor.transform(Batch([np.zeros(170, np.float32)]))[0].reshape(4, 2, 40)
    np.testing.assert_allclose(row[:, 0], -100, rtol=1e-6)  # two windows of the floor, 1e-10
    np.testing.assert_array_equal(row[:, 1], 0)


def test_a_long_recording_is_that_of_its_blocks() -> None:
    """Windows are transformed in blocks; a steady tone shows a seam between two of them."""
    extractor = log_mel(trim=None, segments=64)
    row = extractor.transform(Batch([tone(160 * 1300, hertz=1000)]))[0].reshape(64, 2, 40)
    inner = row[1:-1]
    np.testing.assert_allclose(inner[:, 0], np.broadcast_to(inner[0, 0], (62, 40)), atol=0.1)
    assert inner[:, 1].max() < 0.5


def test_power_that_overflows_fails_its_row_alone() -> None:
    batch = Batch([tone(2000), np.full(2000, 3e38, np.float32)])
    rows = log_mel().transform(batch)
    assert {row: error.kind for row, error in batch.failures.items()} == {1: "not_finite"}
    assert np.isfinite(rows[0]).all()


@pytest.mark.parametrize(
    ("rate", "options"), [(RATE, {"high": 9000}), (RATE, {"low": 8000}), (0, {})]
)
def test_bands_that_do_not_fit_the_rate(rate: int, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"choose low < high <= "):
        log_mel(rate, **options).transform(Batch([tone(100)]))


@pytest.mark.parametrize(
    ("options", "first", "last"),
    [
        ({}, "t0_mean0", "t3_std39"),
        ({"cepstra": 13, "segments": 2}, "t0_mean0", "t1_std12"),
    ],
)
def test_names(options: dict[str, Any], first: str, last: str) -> None:
    names = LogMel(**options).names()
    assert (names[0], names[-1]) == (first, last)
