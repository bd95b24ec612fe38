"""What all extractors of recordings promise, and what each measures."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sounds import RATE, noise, signals, tone, voice

from transforms.extractors.audio.log_mel import LogMel
from transforms.extractors.audio.mfcc import Mfcc, delta
from transforms.extractors.audio.over_time import OverTime, pool, trimmed
from transforms.extractors.audio.pitch import Pitch
from transforms.extractors.audio.spectral import Spectral
from transforms.extractors.base import Batch, Context

CHOICES: list[tuple[type[OverTime], dict[str, Any]]] = [
    (LogMel, {}),
    (LogMel, {"window": 64, "hop": 1000, "bands": 13, "trim": 12.5, "segments": 1}),
    (Mfcc, {"coefficients": 13, "deltas": 2, "segments": 6, "quantiles": [0.1, 0.975]}),
    (Mfcc, {"window": 1024, "hop": 200, "bands": 64, "trim": None, "low": 50, "high": 7000}),
    (Spectral, {}),
    (Spectral, {"window": 256, "rolloff": 0.5, "quantiles": [0, 0.5, 1], "trim": None}),
    (Pitch, {}),
    (Pitch, {"segments": 5, "quantiles": [0.5], "window": 512, "low": 90, "high": 500}),
]
each = pytest.mark.parametrize(("cls", "options"), CHOICES)


def make(cls: type[OverTime], rate: int = RATE, **options: Any) -> OverTime:
    extractor = cls(**options)
    extractor.context = Context(rate=rate)
    return extractor


def row(extractor: OverTime, signal: np.ndarray) -> dict[str, float]:
    """One recording's numbers by name."""
    batch = Batch([signal])
    values = extractor.transform(batch)[0]
    assert not batch.failures
    return dict(zip(extractor.names(), values.tolist(), strict=True))


@each
def test_rows_are_finite_named_and_single_precision(
    cls: type[OverTime], options: dict[str, Any]
) -> None:
    extractor = make(cls, **options)
    batch = Batch(signals())
    rows = extractor.transform(batch)
    names = extractor.names()
    assert rows.dtype == np.float32
    assert rows.shape == (len(batch), len(names))
    assert len(set(names)) == len(names)
    assert np.isfinite(rows).all()
    assert not batch.failures
    assert extractor.transform(Batch([])).shape == (0, len(names))


@each
@given(data=st.data())
@settings(max_examples=8)
def test_a_row_does_not_depend_on_its_batch(
    cls: type[OverTime], options: dict[str, Any], data: st.DataObject
) -> None:
    extractor = make(cls, **options)
    items = data.draw(st.permutations(signals()))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(items)))) | {0, len(items)})
    parts = [extractor.transform(Batch(items[a:b])) for a, b in itertools.pairwise(cuts)]
    assert np.concatenate(parts).tobytes() == make(cls, **options).transform(Batch(items)).tobytes()


@each
@given(
    signal=arrays(
        np.float32, st.integers(1, 700), elements=st.floats(-(2.0**40), 2.0**40, width=32)
    )
)
@settings(max_examples=30)
def test_any_signal_gives_finite_numbers(
    cls: type[OverTime], options: dict[str, Any], signal: np.ndarray
) -> None:
    batch = Batch([signal])
    rows = make(cls, **options).transform(batch)
    assert np.isfinite(rows).all()
    assert not batch.failures


@each
def test_power_that_overflows_fails_its_row_alone(
    cls: type[OverTime], options: dict[str, Any]
) -> None:
    batch = Batch([tone(2000), np.full(2000, 3e38, np.float32), 1e18 * noise(2000)])
    rows = make(cls, **options).transform(batch)
    failed = {row: error.kind for row, error in batch.failures.items()}
    assert failed.pop(1) == "not_finite"
    assert failed in ({}, {2: "not_finite"})  # with short windows it does not overflow
    assert 2 in failed or np.isfinite(rows[2]).all()
    assert np.isfinite(rows[0]).all()


@pytest.mark.parametrize(
    ("cls", "rate", "options", "message"),
    [
        (LogMel, RATE, {"high": 9000}, "choose low < high <= 8000"),
        (Mfcc, RATE, {"low": 8000}, "choose low < high <= 8000"),
        (Mfcc, 0, {}, "choose low < high <= 0"),
        (Spectral, 0, {}, "rate is not known"),
        (Pitch, 1500, {}, "choose low < high <= 750"),
        (Pitch, RATE, {"low": 20}, "does not hold two periods of 20 Hz"),
    ],
)
def test_frequencies_that_do_not_fit_the_rate(
    cls: type[OverTime], rate: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(cls, rate, **options).transform(Batch([tone(100)]))


# --- pooling -----------------------------------------------------------------------------------


@given(
    values=arrays(np.float32, (3, 17), elements=st.floats(-1e3, 1e3, width=32)),
    segments=st.integers(1, 17),
    quantiles=st.lists(st.floats(0, 1), max_size=3),
)
def test_segments_are_pooled_as_numpy_pools_them(
    values: np.ndarray, segments: int, quantiles: list[float]
) -> None:
    got = pool(values, segments, quantiles).reshape(segments, 2 + len(quantiles), 3)
    for i, one in enumerate(got):
        part = values[:, i * 17 // segments : (i + 1) * 17 // segments].astype(float)
        np.testing.assert_allclose(one[0], part.mean(axis=1), atol=1e-9)
        np.testing.assert_allclose(one[1], part.std(axis=1), atol=1e-9)
        for q, found in zip(quantiles, one[2:], strict=True):
            np.testing.assert_allclose(found, np.quantile(part, q, axis=1), atol=1e-9)


def test_names_and_order() -> None:
    extractor = make(LogMel, bands=4, segments=2, quantiles=[0.5, 0.975], trim=None)
    names = extractor.names()
    assert names[:5] == [*(f"t0_mean_band{i}" for i in range(4)), "t0_std_band0"]
    assert names[8] == "t0_q50_band0"
    assert names[-1] == "t1_q97.5_band3"
    rising = np.concatenate([0.01 * noise(8000), noise(8000)])
    found = row(extractor, rising)
    assert found["t0_mean_band2"] < found["t1_mean_band2"] - 10
    mfcc = make(Mfcc, coefficients=2, deltas=2, segments=1).names()
    assert mfcc[:6] == [f"t0_mean_{kind}{i}" for kind in ("c", "delta", "delta2") for i in (0, 1)]
    pitch = make(Pitch, segments=2, quantiles=[0.5]).names()
    assert pitch[:4] == ["t0_mean_hertz", "t0_std_hertz", "t0_q50_hertz", "t0_voiced"]
    assert pitch[4:] == [name.replace("t0", "t1") for name in pitch[:4]]


def test_few_windows_are_repeated() -> None:
    found = make(LogMel, trim=None).transform(Batch([np.zeros(170, np.float32)]))
    found = found.reshape(4, 2, 40)
    np.testing.assert_allclose(found[:, 0], -100, rtol=1e-6)  # two windows of the floor, 1e-10
    np.testing.assert_array_equal(found[:, 1], 0)


@pytest.mark.parametrize("cls", [LogMel, Spectral])
def test_a_long_recording_is_that_of_its_blocks(cls: type[OverTime]) -> None:
    """Windows are transformed in blocks; a steady tone shows a seam between two of them."""
    found = make(cls, trim=None, segments=64).transform(Batch([tone(160 * 1300, hertz=1000)]))
    means = found.reshape(64, 2, -1)[1:-1, 0]
    np.testing.assert_allclose(means, np.broadcast_to(means[0], means.shape), rtol=1e-3, atol=0.1)


def test_silence_at_both_ends_is_cut() -> None:
    sound = np.random.default_rng(0).normal(size=32_000).astype(np.float32)
    silence = np.zeros(160 * 50, np.float32)
    padded = np.concatenate([silence, sound, silence])
    assert 0 <= len(trimmed(padded, 512, 160, 30.0)) - len(sound) <= 2 * 512
    kept = row(make(LogMel, segments=1, trim=None), padded)
    assert kept["t0_mean_band0"] < row(make(LogMel, segments=1), sound)["t0_mean_band0"] - 20


# --- log-mel and MFCC --------------------------------------------------------------------------


def test_a_tone_is_loudest_in_its_band() -> None:
    extractor = make(LogMel, segments=1, bands=20)
    loudest = [
        extractor.names()[np.argmax(extractor.transform(Batch([tone(RATE, hertz=h)]))[0, :20])]
        for h in (300, 1000, 3000)
    ]
    assert loudest == ["t0_mean_band1", "t0_mean_band6", "t0_mean_band13"]


def test_ten_times_the_amplitude_is_twenty_decibels() -> None:
    extractor = make(LogMel)
    means = np.array(["mean" in name for name in extractor.names()])
    quiet, loud = extractor.transform(Batch([0.1 * noise(RATE), noise(RATE)]))
    np.testing.assert_allclose(loud - quiet, np.where(means, 20, 0), atol=1e-3)


@pytest.mark.parametrize("n", range(1, 9))
def test_derivatives_of_few_windows_are_those_of_a_polynomial(n: int) -> None:
    line, parabola = 3.0 * np.arange(n), 0.5 * np.arange(n) ** 2
    values = np.array([line, parabola], np.float32)
    np.testing.assert_allclose(delta(values, 1)[0], 3 if n > 2 else 0, rtol=1e-5)
    np.testing.assert_allclose(delta(values, 2)[1], 1 if n > 2 else 0, rtol=1e-5)


# --- spectral and pitch ------------------------------------------------------------------------


def test_the_shape_of_a_tone_and_of_noise() -> None:
    extractor = make(Spectral, segments=1, quantiles=[0.5])
    pure = row(extractor, tone(RATE, hertz=2000))
    assert pure["t0_mean_centroid"] == pytest.approx(2000, rel=0.03)
    assert pure["t0_q50_rolloff"] == pytest.approx(2000, abs=RATE / 512)
    assert pure["t0_mean_flatness"] < 1e-3
    assert pure["t0_mean_zero_crossings"] == pytest.approx(2 * 2000 / RATE, rel=0.03)
    assert pure["t0_mean_rms"] == pytest.approx(0.5 / np.sqrt(2), rel=0.03)
    white = row(extractor, np.random.default_rng(0).normal(size=RATE).astype(np.float32))
    assert white["t0_mean_centroid"] == pytest.approx(RATE / 4, rel=0.05)
    assert white["t0_mean_flatness"] > 0.4
    assert white["t0_mean_zero_crossings"] == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("hertz", [80.0, 123.4, 440.0, 950.0])
def test_the_pitch_of_a_tone(hertz: float) -> None:
    found = row(make(Pitch, quantiles=[0.5]), tone(RATE, hertz=hertz))
    assert found["t0_q50_hertz"] == pytest.approx(hertz, rel=0.01)
    assert found["t0_voiced"] > 0.95


def test_noise_and_silence_have_no_pitch() -> None:
    white = np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    for signal in (white, np.zeros(RATE, np.float32)):
        found = row(make(Pitch), signal)
        assert found["t0_voiced"] < 0.02
    assert set(row(make(Pitch, segments=3), np.zeros(RATE, np.float32)).values()) == {0.0}


def test_a_segment_without_a_voice_has_the_pitch_of_the_whole() -> None:
    both = np.concatenate([tone(RATE, hertz=200), 0.3 * noise(RATE)])
    found = row(make(Pitch, segments=2), both)
    assert found["t0_voiced"] > 0.9
    assert found["t1_voiced"] < 0.2
    assert found["t1_mean_hertz"] == pytest.approx(200, rel=0.1)
    assert row(make(Pitch), voice(RATE))["t0_voiced"] > 0.5
