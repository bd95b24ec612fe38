"""Extractors beside the usual libraries, on one core: how many records a second?

    python -m infra.benchmarks.extractors                 all of them
    python -m infra.benchmarks.extractors hog pitch       ... or some
    python -m infra.benchmarks.extractors --rounds 30

Each extractor and its library do the same work on the same decoded records (PNG 96x96, WAV of
1 s at 16 kHz, texts of 60 words), which is checked first. Then they take turns, and the ratio is
that of the medians: on a shared machine single times mean little. Decoding is timed too, since
no extractor can make a record cheaper than that.
"""

from __future__ import annotations

import os

os.environ.update(
    OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", NUMBA_NUM_THREADS="1"
)

import argparse
import csv
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import librosa
import numpy as np
from pydantic import TypeAdapter
from skimage.feature import hog as skimage_hog
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from infra.benchmarks.synthetic import make
from schemas.recipe import Modality
from transforms.extractors import build
from transforms.extractors.audio import decoding as audio_decoding
from transforms.extractors.base import Batch, Context
from transforms.extractors.batches import BATCH
from transforms.extractors.image import decoding as image_decoding
from transforms.extractors.image.resizing import grey
from transforms.extractors.text import decoding as text_decoding

RATE = 16_000
KEYS = 256
WANTED = {"hog": 5.0, "log_mel": 5.0, "mfcc": 5.0, "tfidf": 1.0, "pitch": 2.0}


@dataclass
class Case:
    """One extractor and what it is compared with.

    Attributes:
        kind: of the records.
        options: of the extractor, as a recipe has them.
        library: decoded records -> the same numbers, [n, d].
    """

    kind: str
    options: dict[str, Any]
    library: Callable[[list], np.ndarray]


def skimage(images: list[np.ndarray]) -> np.ndarray:
    """`skimage.feature.hog` on grey images that OpenCV has resized, as for our own."""
    how: dict[str, Any] = {"cells_per_block": (2, 2), "block_norm": "L2-Hys"}
    return np.stack([skimage_hog(grey(one, 64) / 255, 9, (8, 8), **how) for one in images])


def pooled(values: np.ndarray) -> np.ndarray:
    """Mean and deviation over time."""
    return np.concatenate([values.mean(axis=1), values.std(axis=1)])


FRAMES: dict[str, Any] = {"sr": RATE, "n_fft": 512, "hop_length": 160, "n_mels": 40}


def librosa_mel(signals: list[np.ndarray]) -> np.ndarray:
    """`librosa.feature.melspectrogram` in decibels."""
    mel = (librosa.feature.melspectrogram(y=one, **FRAMES) for one in signals)
    return np.stack([pooled(librosa.power_to_db(one)) for one in mel])


def librosa_mfcc(signals: list[np.ndarray]) -> np.ndarray:
    """`librosa.feature.mfcc`, 20 coefficients."""
    return np.stack([pooled(librosa.feature.mfcc(y=one, **FRAMES)) for one in signals])


def librosa_yin(signals: list[np.ndarray]) -> np.ndarray:
    """The median of `librosa.yin`."""
    how: dict[str, Any] = {"frame_length": 1024, "hop_length": 160, "fmin": 65, "fmax": 1000}
    return np.array([[np.median(librosa.yin(one, sr=RATE, **how))] for one in signals])


def sklearn_tfidf(texts: list[str]) -> np.ndarray:
    """`HashingVectorizer` and `TfidfTransformer`, fitted on the texts."""
    counts = HashingVectorizer(n_features=1024, norm=None).transform(texts)
    return TfidfTransformer().fit_transform(counts).toarray()


WHOLE = {"segments": 1, "trim": None}
CASES = {
    "hog": Case("image", {"size": 64}, skimage),
    "log_mel": Case("audio", WHOLE, librosa_mel),
    "mfcc": Case("audio", WHOLE, librosa_mfcc),
    # Of white noise only some windows are voiced, which librosa does not ask: so all are.
    "pitch": Case("audio", {**WHOLE, "quantiles": [0.5], "voiced": 1.0}, librosa_yin),
    "tfidf": Case("text", {"dimension": 1024}, sklearn_tfidf),
}
SOURCES: dict[str, dict[str, Any]] = {
    "image": {"path": "a.csv"},
    "audio": {"path": "a.csv"},
    "text": {"path": "a.csv", "columns": ["text"]},
}
DECODE: dict[str, Callable[[Any, Any], Any]] = {
    "image": image_decoding.decode,
    "audio": audio_decoding.decode,
    "text": text_decoding.check,
}


def modality(kind: str, extract: dict[str, Any]) -> Modality:
    """A recipe's part for one extractor."""
    fields = {"kind": kind, "source": SOURCES[kind], "extract": extract}
    return TypeAdapter(Modality).validate_python(fields)


def run(recipe: Modality, records: list) -> np.ndarray:
    """Fit a new extractor, where it learns, and transform, in batches as a worker does."""
    (extractor,) = build(recipe, Context(rate=RATE))
    size = BATCH[extractor.kind]
    batches = [Batch(records[i : i + size]) for i in range(0, len(records), size)]
    fitted: dict[str, np.ndarray] = {}
    for _ in range(extractor.rounds):
        fitted |= extractor.finish(extractor.merge([extractor.partial(b) for b in batches]))
        extractor.load(fitted)
    return np.concatenate([extractor.transform(batch) for batch in batches])


def payloads(folder: Path) -> dict[str, list]:
    """The records of a synthetic set as they come: files' bytes, and texts."""
    make(folder, KEYS)
    out: dict[str, list] = {}
    for kind, name, column in (
        ("image", "images.csv", "path"),
        ("audio", "audio.csv", "path"),
        ("text", "text.csv", "text"),
    ):
        with (folder / name).open(newline="") as file:
            found = [row[column] for row in csv.DictReader(file)]
        out[kind] = found if kind == "text" else [(folder / one).read_bytes() for one in found]
    out["text"] *= 4
    return out


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(name: str, raw: list, rounds: int) -> None:
    """Print one line of the table."""
    case = CASES[name]
    recipe = modality(case.kind, {name: case.options})
    decode = DECODE[case.kind]
    records = [decode(one, recipe) for one in raw]
    ours, theirs = run(recipe, records), case.library(records)
    if name == "pitch":
        (extractor,) = build(recipe, Context(rate=RATE))
        ours = ours[:, [extractor.names().index("t0_q50_hertz")]]
    # A pitch may be another trough's where two are as deep: most must agree.
    agree = np.isclose(ours, theirs, rtol=1e-2 if name == "pitch" else 1e-4, atol=1e-3)
    if agree.mean() < 0.99:
        raise SystemExit(f"{name}: only {agree.mean():.1%} of the numbers are the library's")
    times = np.array(
        [
            [
                seconds(lambda: run(recipe, records)),
                seconds(lambda: case.library(records)),
                seconds(lambda: [decode(one, recipe) for one in raw]),
            ]
            for _ in range(rounds)
        ]
    )
    own, other, decoding = (statistics.median(column) for column in times.T)
    low, high = np.quantile(times[:, 1] / times[:, 0], [0.1, 0.9])
    n = len(records)
    print(
        f"{name:8} {n / own:10,.0f}/s {n / other:10,.0f}/s {other / own:7.2f}x "
        f"({low:.1f} to {high:.1f}; wanted {WANTED[name]:g}) "
        f"{decoding / n * 1e6:8.0f} us {decoding / (decoding + own):7.0%}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("extractors", nargs="*", help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="for the records; a temporary one if none")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        raw = payloads(asked.folder or Path(temporary))
    print(f"{'':8} {'sensorium':>12} {'library':>12} {'ratio':>8} {'':28} {'decoding':>10} share")
    for name in asked.extractors or CASES:
        measure(name, raw[CASES[name].kind], asked.rounds)


if __name__ == "__main__":
    main()
