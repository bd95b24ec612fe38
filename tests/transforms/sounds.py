"""Signals and files of recordings for the tests of audio."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from schemas.recipe import AudioModality

RATE = 16_000
DATA = Path(__file__).parents[3] / "shared" / "data"  # real recordings, where they are there


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


def tone(samples: int, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)).astype(np.float32)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades, so that there is something to trim."""
    envelope = np.hanning(samples) ** 3 if samples > 2 else 1
    values = np.random.default_rng(seed).normal(size=samples) * envelope
    return (0.2 * values).astype(np.float32)


def voice(samples: int, seed: int = 0) -> np.ndarray:
    """Pulses whose pitch glides between 90 and 250 Hz, through a resonance, with some breath."""
    rng = np.random.default_rng(seed)
    knots = rng.uniform(90, 250, 4)
    pitch = np.interp(np.linspace(0, 3, samples), np.arange(4), knots)
    phase = np.cumsum(pitch) / RATE
    pulses = np.diff(np.floor(phase), prepend=0.0)
    at = np.arange(400)
    formant = np.sin(2 * np.pi * rng.uniform(400, 900) * at / RATE) * np.exp(-at / 60)
    sound = np.convolve(pulses, formant)[:samples] * np.hanning(samples)
    return (0.5 * sound + rng.normal(0, 0.002, samples)).astype(np.float32)


def signals() -> list[np.ndarray]:
    """All lengths, and what is easily divided by zero."""
    swelling = [noise(n, seed=n) for n in (1, 2, 100, 159, 5000, 16_000, 90_000)]
    return [
        *swelling,
        voice(20_000),
        tone(3000),
        np.zeros(4000, np.float32),
        np.ones(700, np.float32),
        np.full(900, 1e-30, np.float32),
    ]


@functools.lru_cache(maxsize=1)
def recordings() -> list[np.ndarray]:
    """Real ones, if they are there, and voices and noise, at 16 kHz."""
    found = sorted(DATA.glob("digits_av/audio/*.wav"))[::400]
    found += sorted(DATA.glob("wesnoth/audio/*"))[::12]
    out = [voice(30_000, seed) for seed in range(3)] + [noise(30_000)]
    for path in found:
        frames, rate = soundfile.read(path, dtype="float32", always_2d=True)
        out.append(soxr.resample(frames.mean(axis=1), rate, RATE))
    return out


def encode(signal: np.ndarray, form: str, subtype: str | None = None, rate: int = RATE) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, signal, rate, format=form, subtype=subtype)
    return out.getvalue()
