"""A synthetic data set of any size: PNG 96x96, WAV 1 s at 16 kHz, 60 words, 4 numbers a key."""

from __future__ import annotations

import csv
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import soundfile

RECIPE = """\
name: synthetic
modalities:
  image:
    kind: image
    source: {path: images.csv, uri: path}
    extract: {hog: {size: 64}}
    payload: reference
  audio:
    kind: audio
    source: {path: audio.csv, uri: path}
    extract: {log_mel: {segments: 1}}
    payload: reference
  text:
    kind: text
    source: {path: text.csv, columns: [text]}
    extract: {tfidf: {dimension: 256}}
  table:
    kind: table
    source: {path: table.csv, columns: {a: number, b: number, c: number, d: number}}
    extract: {columns: {}}
split: {test_share: 0}
join: {missing: zero}
fuse: {method: concatenate, scale: none}
"""
_CHUNK = 1000


def make(folder: Path, keys: int) -> Path:
    """Write the set unless it is there; returns the recipe's path. The same bytes each time."""
    recipe = folder / "recipe.yaml"
    if recipe.exists():
        return recipe
    with ProcessPoolExecutor() as pool:
        starts = range(0, keys, _CHUNK)
        list(pool.map(_payloads, [folder] * len(starts), starts, [keys] * len(starts)))
    rng = np.random.default_rng(0)
    words = np.array([f"w{i:04d}" for i in (rng.zipf(1.3, 5000) % 3000)])
    names = [f"k{i:07d}" for i in range(keys)]

    def manifest(name: str, header: list[str], rows: dict[str, list]) -> None:
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["key", *header])
            writer.writerows([names[i], *rows[names[i]]] for i in rng.permutation(keys))

    manifest("images.csv", ["path"], {n: [_place(i, "png")] for i, n in enumerate(names)})
    manifest("audio.csv", ["path"], {n: [_place(i, "wav")] for i, n in enumerate(names)})
    text = {n: [" ".join(words[rng.integers(0, len(words), 60)])] for n in names}
    manifest("text.csv", ["text"], text)
    numbers = rng.normal(size=(keys, 4)).round(4)
    table = {n: numbers[i].tolist() for i, n in enumerate(names)}
    manifest("table.csv", ["a", "b", "c", "d"], table)
    recipe.write_text(RECIPE)
    return recipe


def _place(i: int, ending: str) -> str:
    return f"{ending}/{i // _CHUNK:04d}/{i:07d}.{ending}"


def _payloads(folder: Path, start: int, keys: int) -> None:
    """Images of a few smooth shapes with noise, tones with noise."""
    t = np.arange(16_000) / 16_000
    y, x = np.mgrid[0:96, 0:96] / 96
    for ending in ("png", "wav"):
        (folder / _place(start, ending)).parent.mkdir(parents=True, exist_ok=True)
    for i in range(start, min(start + _CHUNK, keys)):
        rng = np.random.default_rng([7, i])
        waves = [np.sin(rng.uniform(2, 20) * x + rng.uniform(2, 20) * y) for _ in range(3)]
        image = 128 + 50 * np.stack(waves, axis=2) + rng.integers(-8, 9, (96, 96, 3))
        cv2.imwrite(str(folder / _place(i, "png")), image.clip(0, 255).astype(np.uint8))
        tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 4000) * t) + rng.normal(0, 0.05, 16_000)
        soundfile.write(folder / _place(i, "wav"), tone.astype(np.float32), 16_000, "PCM_16")
