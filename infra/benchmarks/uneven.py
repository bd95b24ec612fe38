"""Uneven work: what the largest process needs where a few things are much larger than the others.

    python -m infra.benchmarks.uneven                  all of these, on two local workers
    python -m infra.benchmarks.uneven one-key          100,000 recordings of one key, pooled
    python -m infra.benchmarks.uneven huge-referenced  24 recordings of 128 MB in one bucket
    python -m infra.benchmarks.uneven huge-embedded    the same, their bytes in the records
    python -m infra.benchmarks.uneven one-modality     2,000 images of 1.5 MB beside short texts

The whole of `sensorium fuse` is timed; the peak is the resident memory of its largest process.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import soundfile

from infra.benchmarks.whole_job import timed
from transforms.records.keys import buckets

AUDIO = """\
    kind: audio
    source: {path: audio.csv, uri: path}
    rate: 8000
    max_seconds: 100000
    extract: {log_mel: {segments: 1}}
"""
TEXT = """\
  text:
    kind: text
    source: {path: text.csv, columns: [text]}
    extract: {tfidf: {dimension: 256}}
"""
HUGE, HUGE_SECONDS = 24, 8_000  # 16-bit samples at 8 kHz: 128 MB each
ROWS, FILES = 100_000, 200
KEYS = 2_000


def one_key(folder: Path) -> str:
    """One key has 100,000 recordings of a tenth of a second, 1,000 others have one each."""
    for i in range(FILES):
        _tone(folder / f"{i}.wav", 0.1, i)
    rows = [("all", f"{i % FILES}.wav") for i in range(ROWS)]
    rows += [(f"k{i:04d}", f"{i % FILES}.wav") for i in range(1000)]
    _manifest(folder / "audio.csv", ["path"], rows)
    _texts(folder, ["all", *(f"k{i:04d}" for i in range(1000))])
    return f"  audio:\n{AUDIO}    duplicates: mean\n{TEXT}"


def huge(folder: Path) -> str:
    """All in one bucket: names of one file, since what is read is what counts."""
    _tone(folder / "huge.wav", HUGE_SECONDS, 0)
    for i in range(HUGE):
        os.link(folder / "huge.wav", folder / f"{i}.wav")
    keys = list(_keys_of_bucket(HUGE))
    _manifest(folder / "audio.csv", ["path"], [(k, f"{i}.wav") for i, k in enumerate(keys)])
    _texts(folder, keys)
    return f"  audio:\n{AUDIO}{TEXT}"


def one_modality(folder: Path) -> str:
    """Images of 720 x 720 pixels that hardly compress."""
    rng = np.random.default_rng(0)
    for i in range(FILES):
        cv2.imwrite(str(folder / f"{i}.png"), rng.integers(0, 256, (720, 720, 3), np.uint8))
    keys = [f"k{i:04d}" for i in range(KEYS)]
    rows = [(key, f"{i % FILES}.png") for i, key in enumerate(keys)]
    _manifest(folder / "images.csv", ["path"], rows)
    _texts(folder, keys)
    source = "    source: {path: images.csv, uri: path}\n"
    return f"  image:\n    kind: image\n{source}    extract: {{hog: {{size: 64}}}}\n{TEXT}"


SETS = {
    "one-key": (one_key, []),
    "huge-referenced": (huge, []),
    "huge-embedded": (huge, ["--set", "modalities.audio.payload=embed"]),
    "one-modality": (one_modality, []),
}


def _tone(path: Path, seconds: float, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 0.1, int(seconds * 8000))
    soundfile.write(path, noise.astype(np.float32), 8000, "PCM_16")


def _manifest(path: Path, header: list[str], rows: Sequence[tuple[str, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("key", *header), *rows])


def _texts(folder: Path, keys: list[str]) -> None:
    _manifest(folder / "text.csv", ["text"], [(key, f"words about {key}") for key in keys])


def _keys_of_bucket(count: int) -> Iterator[str]:
    """Keys that all belong to the first of 16 buckets."""
    names = pa.array([f"k{i:06d}" for i in range(count * 64)])
    for i in np.flatnonzero(buckets(names, 16) == 0)[:count].tolist():
        yield names[i].as_py()


def recipe(folder: Path, name: str) -> Path:
    """Write a set unless it is there; returns its recipe."""
    make = SETS[name][0]
    path = folder / f"uneven-{make.__name__}" / "recipe.yaml"
    if not path.exists():
        path.parent.mkdir(parents=True)
        tail = "split: {test_share: 0}\njoin: {missing: zero}\nfuse: {method: concatenate}\n"
        path.write_text(f"name: uneven\nmodalities:\n{make(path.parent)}{tail}")
    return path


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(SETS)}")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path(".benchmarks"))
    args = parser.parse_args()
    for name in args.sets or SETS:
        if name not in SETS:
            parser.error(f"there is no set {name}")
        output = args.folder / "output"
        command = [sys.executable, "-m", "pipelines.cli", "fuse", str(recipe(args.folder, name))]
        command += ["--to", str(output), f"--direct_num_workers={args.workers}", *SETS[name][1]]
        run = timed(command, output)
        print(f"{name:16} {run.seconds:7.1f} s {run.peak:7,.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
