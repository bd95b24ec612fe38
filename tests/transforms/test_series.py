"""Series: from a column of lists to numbers, and what is wrong with those that cannot be used."""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from transforms.extractors.base import BadRecord, Batch, Context
from transforms.extractors.series.bands import Bands
from transforms.extractors.series.by_length import ByLength, area
from transforms.extractors.series.decoding import decode_lists
from transforms.extractors.series.resampled import Resampled
from transforms.extractors.series.spectra import power_spectra
from transforms.extractors.series.statistics import Statistics

RATE = 50.0
CHOICES: list[tuple[type[ByLength], dict[str, Any]]] = [
    (Statistics, {}),
    (Statistics, {"quantiles": [], "rolloff": 0.5}),
    (Resampled, {"length": 7}),
    (Resampled, {"length": 100, "standardize": True}),
    (Bands, {}),
    (Bands, {"bands": [0.5, 4, 8, 13, 25]}),
]
each = pytest.mark.parametrize(("cls", "options"), CHOICES)


def make(cls: type[ByLength], rate: float = RATE, **options: Any) -> ByLength:
    extractor = cls(**options)
    extractor.context = Context(rate=rate)
    return extractor


def numbers(extractor: ByLength, values: Any) -> dict[str, float]:
    """One series' numbers by name."""
    batch = Batch([np.asarray(values, float)])
    row = extractor.transform(batch)[0]
    assert not batch.failures
    return dict(zip(extractor.names(), row.tolist(), strict=True))


def some_series() -> list[np.ndarray]:
    """All lengths, some of them several times, and what is easily divided by zero."""
    rng = np.random.default_rng(0)
    lengths = [1, 1, 2, 3, 5, 7, 7, 7, 64, 64, 99, 100, 101, 1000, 1000, 4099]
    walks = [np.cumsum(rng.normal(size=n)) for n in lengths]
    return [*walks, np.zeros(7), np.ones(64), np.full(5, -1e30), np.full(5, 1e-300), np.arange(7.0)]


# --- decoding --------------------------------------------------------------------------------


def decoded(*chunks: pa.Array, longest: int = 10) -> tuple[list[list[float]], dict[int, BadRecord]]:
    """The rows that can be used, and what is wrong with the others."""
    column = pa.chunked_array(chunks, pa.list_(pa.float64()))
    series, wrong = decode_lists(pa.table({"x": column}), longest)
    assert len(series) == len(column)
    return [one.tolist() for row, one in enumerate(series) if row not in wrong], wrong


def test_lists_of_any_length_become_arrays() -> None:
    rows = [[1.0, 2.0], [3.0], None, [], [5.0, 6.0, 7.0]]
    series, wrong = decoded(pa.array([[0.0], *rows[:2]]).slice(1), pa.array(rows[2:]))
    assert series == [[1, 2], [3], [5, 6, 7]]
    assert {row: bad.kind for row, bad in wrong.items()} == {2: "missing_value", 3: "empty"}
    assert decoded() == ([], {})


def test_missing_values_lie_between_their_neighbours() -> None:
    rows = [[None, 1.0, None, None, 4.0, None], [None, None], [2.0, float("nan"), 3.0]]
    series, wrong = decoded(pa.array(rows))
    assert series == [[1, 1, 2, 3, 4, 4], [2, 2.5, 3]]
    assert {row: bad.kind for row, bad in wrong.items()} == {1: "missing_value"}
    assert wrong[1].message == "column 'x' has no known value among 2"


def test_a_series_that_is_too_long() -> None:
    series, wrong = decoded(pa.array([[1.0] * 4, [1.0] * 5]), longest=4)
    assert series == [[1.0] * 4]
    assert wrong[1].kind == "too_long"
    assert "5 values, more than max_length, 4" in wrong[1].message


# --- what all extractors promise ---------------------------------------------------------------


@each
def test_rows_are_finite_named_and_single_precision(
    cls: type[ByLength], options: dict[str, Any]
) -> None:
    extractor = make(cls, **options)
    batch = Batch(some_series())
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
@settings(max_examples=30)
def test_a_row_does_not_depend_on_its_batch(
    cls: type[ByLength], options: dict[str, Any], data: st.DataObject
) -> None:
    extractor = make(cls, **options)
    items = data.draw(st.permutations(some_series()))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(items)))) | {0, len(items)})
    parts = [extractor.transform(Batch(items[a:b])) for a, b in itertools.pairwise(cuts)]
    assert np.concatenate(parts).tobytes() == extractor.transform(Batch(items)).tobytes()


@each
@given(values=arrays(float, st.integers(1, 80), elements=st.floats(-1e30, 1e30)))
@settings(max_examples=50)
def test_any_series_gives_finite_numbers(
    cls: type[ByLength], options: dict[str, Any], values: np.ndarray
) -> None:
    batch = Batch([values])
    assert np.isfinite(make(cls, **options).transform(batch)).all()
    assert not batch.failures


@pytest.mark.parametrize("cls", [Statistics, Resampled])
def test_numbers_too_large_for_single_precision_fail_their_row_alone(cls: type[ByLength]) -> None:
    batch = Batch([np.arange(5.0), np.full(5, 1e300)])
    rows = make(cls).transform(batch)
    assert np.isfinite(rows[0]).all()
    assert {row: bad.kind for row, bad in batch.failures.items()} == {1: "not_finite"}
    assert "is too large for a 32-bit number" in batch.failures[1].message


# --- what each measures ------------------------------------------------------------------------


def test_statistics_of_a_line() -> None:
    found = numbers(make(Statistics), [2, 4, 6, 8, 10])
    expected = {
        **{"mean": 6, "min": 2, "max": 10, "length": 5, "change": 2, "skewness": 0},
        **{"std": np.sqrt(8), "slope": 2 * RATE, "q25": 4, "q50": 6, "q75": 8},
        **{"autocorrelation": 0.4, "mean_crossings": 0.25, "kurtosis": -1.3},
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)


@given(values=arrays(float, st.integers(2, 50), elements=st.floats(-1e6, 1e6)))
def test_statistics_are_those_of_numpy(values: np.ndarray) -> None:
    found = numbers(make(Statistics, quantiles=[0.3]), values)
    time = np.arange(len(values)) / RATE
    scale = max(np.abs(values).max(), 1e-9)
    near = {"rel": 1e-5, "abs": 1e-6 * scale}
    assert found["mean"] == pytest.approx(values.mean(), **near)
    assert found["std"] == pytest.approx(values.std(), **near)
    assert found["change"] == pytest.approx(np.abs(np.diff(values)).mean(), **near)
    assert found["q30"] == pytest.approx(np.quantile(values, 0.3), **near)
    slope = np.polyfit(time - time.mean(), values, 1)[0]
    assert found["slope"] == pytest.approx(slope, rel=1e-4, abs=1e-5 * scale * RATE)


def test_statistics_of_a_constant_are_zeros() -> None:
    found = numbers(make(Statistics), np.full(30, -7.1))
    level = ("mean", "min", "max", "q25", "q50", "q75")
    assert {found.pop(name) for name in level} == {np.float32(-7.1)}
    assert (found.pop("length"), found.pop("flatness")) == (30, 1)
    assert set(found.values()) == {0.0}


def test_the_spectrum_of_a_tone_and_of_noise() -> None:
    time = np.arange(400) / RATE
    tone = numbers(make(Statistics), 100 + np.sin(2 * np.pi * 5 * time))
    assert tone["centroid"] == pytest.approx(5, rel=0.02)
    assert tone["rolloff"] == pytest.approx(5, abs=0.3)
    assert tone["flatness"] < 0.01
    assert tone["mean_crossings"] == pytest.approx(2 * 5 / RATE, rel=0.05)
    noise = numbers(make(Statistics), np.random.default_rng(0).normal(size=400))
    assert noise["centroid"] == pytest.approx(RATE / 4, rel=0.1)
    assert noise["flatness"] > 0.4


def test_bands_tell_frequencies_apart_in_decibels() -> None:
    time = np.arange(500) / RATE
    extractor = make(Bands, bands=[0, 4, 8, 16, 25])
    low = 3.0 * np.sin(2 * np.pi * 6 * time)
    found = numbers(extractor, 50 + low + 0.3 * np.sin(2 * np.pi * 20 * time))
    # A sine's power is half its squared amplitude; the other one is 20 dB below.
    assert found["band1"] == pytest.approx(10 * np.log10(4.5), abs=0.1)
    assert found["band3"] == pytest.approx(10 * np.log10(4.5) - 20, abs=0.1)
    assert found["band0"] < found["band1"] - 50
    assert found["band2"] < found["band1"] - 50
    tiny = numbers(extractor, 1e-6 * (50 + low))
    assert tiny["band1"] == pytest.approx(10 * np.log10(4.5) - 120, abs=0.1)
    assert set(numbers(extractor, np.full(9, 3.0)).values()) == {-200.0}


@given(values=arrays(float, st.integers(1, 90), elements=st.floats(-1e3, 1e3)))
def test_bands_hold_the_whole_power(values: np.ndarray) -> None:
    n = len(values)
    power = power_spectra(values[None])[0]
    window = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
    whole = np.sum(((values - values.mean()) * window) ** 2) / np.sum(window**2)
    assert power.sum() == pytest.approx(whole, rel=1e-9, abs=1e-12)  # Parseval
    # Of the lowest frequency, and of the highest if it is half the rate, half is outside.
    outside = power[0] / 2 + (power[-1] / 2 if n % 2 == 0 else 0)
    bands = numbers(make(Bands, bands=5), values).values()
    summed = sum(10 ** (decibels / 10) for decibels in bands)
    assert summed == pytest.approx(whole - outside, rel=1e-4, abs=1e-9 * whole + 1e-12)


@pytest.mark.parametrize("length", [1, 3, 5, 11, 16, 40])
def test_resampled_is_what_opencv_makes_of_it(length: int) -> None:
    values = np.random.default_rng(0).normal(size=16)
    found = make(Resampled, length=length).transform(Batch([values]))[0]
    how = cv2.INTER_AREA if length < 16 else cv2.INTER_LINEAR
    want = cv2.resize(values.astype(np.float32)[None], (length, 1), interpolation=how)[0]
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_standardised_series_have_neither_level_nor_scale() -> None:
    extractor = make(Resampled, length=16, standardize=True)
    values = np.random.default_rng(0).normal(size=16)
    one, other, flat = extractor.transform(Batch([values, 1e6 * values - 3, np.ones(9)]))
    np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose([one.mean(), one.std()], [0, 1], atol=1e-6)
    assert not flat.any()


@given(
    values=arrays(float, (2, 9), elements=st.floats(-10, 10)),
    edges=st.lists(st.floats(0, 9), min_size=2, max_size=6).map(sorted),
)
def test_areas_are_integrals_of_steps(values: np.ndarray, edges: list[float]) -> None:
    found = area(values, np.array(edges))
    for i, (start, stop) in enumerate(itertools.pairwise(edges)):
        shares = np.clip(np.minimum(stop, np.arange(1, 10)) - np.maximum(start, np.arange(9)), 0, 1)
        np.testing.assert_allclose(found[:, i], values @ shares, atol=1e-9)


def test_a_band_above_half_the_rate() -> None:
    with pytest.raises(ValueError, match="is above half the rate"):
        make(Bands, rate=10, bands=[0, 6]).transform(Batch([np.ones(5)]))
