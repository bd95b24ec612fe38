"""Recordings' features are those of librosa, on real recordings where they are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sounds import RATE, recordings, signals

from transforms.extractors.audio.log_mel import LogMel
from transforms.extractors.audio.mfcc import Mfcc
from transforms.extractors.audio.over_time import OverTime, trimmed
from transforms.extractors.audio.pitch import Pitch
from transforms.extractors.audio.spectral import Spectral
from transforms.extractors.base import Batch, Context

librosa = pytest.importorskip("librosa")
pytestmark = pytest.mark.filterwarnings("ignore:n_fft=.* is too large:UserWarning")


def make(cls: type[OverTime], **options: Any) -> Any:
    extractor = cls(**options)
    extractor.context = Context(rate=RATE)
    return extractor


def frames(options: Any) -> dict[str, int]:
    return {"n_fft": options.window, "hop_length": options.hop}


def log_mel(y: np.ndarray, o: Any) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=y, sr=RATE, n_mels=o.bands, fmin=o.low, fmax=o.high, **frames(o)
    )
    return librosa.power_to_db(mel)


def mfcc(y: np.ndarray, o: Any) -> np.ndarray:
    bands = {"n_mels": o.bands, "fmin": o.low, "fmax": o.high, "n_mfcc": o.coefficients}
    cepstra = librosa.feature.mfcc(y=y, sr=RATE, **bands, **frames(o))
    orders = range(1, o.deltas + 1)
    return np.concatenate([cepstra, *(librosa.feature.delta(cepstra, order=i) for i in orders)])


def spectral(y: np.ndarray, o: Any) -> np.ndarray:
    feature, lengths = librosa.feature, {"frame_length": o.window, "hop_length": o.hop}
    return np.concatenate(
        [
            feature.spectral_centroid(y=y, sr=RATE, **frames(o)),
            feature.spectral_rolloff(y=y, sr=RATE, roll_percent=o.rolloff, **frames(o)),
            feature.spectral_flatness(y=y, **frames(o)),
            feature.zero_crossing_rate(y, **lengths),
            feature.rms(y=y, **lengths),
        ]
    )


Reference = Callable[[np.ndarray, Any], np.ndarray]
CHOICES: list[tuple[type[OverTime], Reference, dict[str, Any]]] = [
    (LogMel, log_mel, {}),
    (LogMel, log_mel, {"window": 1024, "hop": 200, "bands": 64, "trim": None, "low": 50}),
    (LogMel, log_mel, {"window": 256, "hop": 1000, "bands": 13, "trim": 12.5, "high": 7000}),
    (Mfcc, mfcc, {"quantiles": [0.1, 0.5]}),
    (Mfcc, mfcc, {"coefficients": 13, "deltas": 2, "segments": 1}),
    (Spectral, spectral, {"quantiles": [0.5]}),
    (Spectral, spectral, {"window": 2048, "hop": 512, "rolloff": 0.6, "segments": 1}),
]
each = pytest.mark.parametrize(("cls", "reference", "options"), CHOICES)


def pooled(values: np.ndarray, o: Any) -> np.ndarray:
    """Mean, deviation and quantiles of segments, step by step."""
    n, s = values.shape[1], o.segments
    out: list[np.ndarray] = []
    for i in range(s):
        part = values[:, i * n // s : max((i + 1) * n // s, i * n // s + 1)].astype(float)
        out += [part.mean(axis=1), part.std(axis=1), *np.quantile(part, o.quantiles, axis=1)]
    return np.concatenate(out)


@each
def test_pooled_features_are_those_of_librosa(
    cls: type[OverTime], reference: Reference, options: dict[str, Any]
) -> None:
    extractor = make(cls, **options)
    o = extractor.options
    for signal, row in zip(recordings(), extractor.transform(Batch(recordings())), strict=True):
        if o.trim is not None:
            lengths = {"frame_length": o.window, "hop_length": o.hop}
            signal, _ = librosa.effects.trim(signal, top_db=o.trim, **lengths)
        want = pooled(reference(signal, o), o)
        # Deviations and coefficients near zero are differences of larger numbers.
        near = 1e-6 if cls is Spectral else 1e-4  # decibels
        np.testing.assert_allclose(row, want, rtol=1e-4, atol=near)


@each
def test_windows_are_those_of_librosa_whatever_the_signal(
    cls: type[OverTime], reference: Reference, options: dict[str, Any]
) -> None:
    extractor = make(cls, **options)
    for signal in signals():
        if len(signal) > 8 * extractor.options.hop:  # librosa.feature.delta wants 9 windows
            got, want = extractor.measure(signal), reference(signal, extractor.options)
            assert got.shape == want.shape
            # Of a pure tone, bands 70 dB below it are rounding errors, here and there.
            pure = len(signal) in (700, 3000)
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=2 if pure else 2e-3)


@pytest.mark.parametrize("options", [{}, {"window": 2048, "hop": 512, "low": 40, "high": 2000}])
def test_pitch_is_that_of_librosa(options: dict[str, Any]) -> None:
    extractor = make(Pitch, quantiles=[0.5], trim=None, **options)
    o = extractor.options
    seen = 0
    for signal in recordings():
        want = librosa.yin(
            signal, fmin=o.low, fmax=o.high, sr=RATE, frame_length=o.window, hop_length=o.hop
        )
        hertz, aperiodicity, power = extractor.track(signal)
        voiced = (aperiodicity < o.voiced) & (power > 1e-10)
        assert hertz.shape == want.shape
        if voiced.any():
            np.testing.assert_allclose(np.median(hertz[voiced]), np.median(want[voiced]), rtol=1e-2)
            # And so are nearly all windows': a choice between two troughs may fall either way.
            close = np.isclose(hertz[voiced], want[voiced], rtol=1e-4)
            assert close.mean() > 0.98
            seen += 1
            found = dict(
                zip(extractor.names(), extractor.transform(Batch([signal]))[0], strict=True)
            )
            assert found["t0_q50_hertz"] == pytest.approx(np.median(want[voiced]), rel=1e-2)
    assert seen >= 3


@pytest.mark.parametrize("decibels", [10.0, 30.0, 60.0])
def test_silence_is_cut_as_librosa_cuts_it(decibels: float) -> None:
    for signal in recordings():
        want, _ = librosa.effects.trim(signal, top_db=decibels, frame_length=512, hop_length=160)
        np.testing.assert_array_equal(trimmed(signal, 512, 160, decibels), want)
