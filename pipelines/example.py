"""An example to try everything on: handwritten digits, dialled, described and measured.

`write_digits` makes a small data set of four modalities and the recipe that goes with it.
Nothing is downloaded, and the same call writes the same bytes. The images are those of
scikit-learn's `load_digits` (Alpaydin & Kaynak 1998); all else is made up.
"""

from __future__ import annotations

import csv
import json
import wave
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

ALL = 1797  # digits in load_digits
LACKING = 0.05  # share of keys that a modality lacks
RATE = 8000  # samples a second of the recordings

LOW, HIGH = (697, 770, 852, 941), (1209, 1336, 1477)  # Hz, ITU-T Q.23; row, column of the keypad
KEYPAD = {0: (3, 1), **{digit: divmod(digit - 1, 3) for digit in range(1, 10)}}

NAMES = {
    "en": "zero one two three four five six seven eight nine",
    "de": "null eins zwei drei vier fünf sechs sieben acht neun",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve",
    "it": "zero uno due tre quattro cinque sei sette otto nove",
    "pt": "zero um dois três quatro cinco seis sete oito nove",
    "nl": "nul een twee drie vier vijf zes zeven acht negen",
    "sv": "noll ett två tre fyra fem sex sju åtta nio",
}
SENTENCES = {
    "en": ("I think it says {}", "looks like a {} to me", "{}, written in a hurry"),
    "de": ("das ist wohl eine {}", "sieht aus wie {}", "{}, in Eile geschrieben"),
    "fr": ("je crois que c'est {}", "on dirait un {}", "{}, écrit à la hâte"),
    "es": ("creo que es {}", "parece un {}", "{}, escrito con prisa"),
    "it": ("credo che sia {}", "sembra un {}", "{}, scritto in fretta"),
    "pt": ("acho que é {}", "parece um {}", "{}, escrito com pressa"),
    "nl": ("ik denk dat het {} is", "lijkt op een {}", "{}, haastig geschreven"),
    "sv": ("jag tror att det är {}", "ser ut som en {}", "{}, skriven i all hast"),
}
STROKES = np.array([1, 1, 1, 1, 2, 2, 1, 2, 1, 1])
HOLES = np.array([1, 0, 0, 0, 1, 0, 1, 0, 2, 1])

RECIPE = """\
# Which digit is it? Four modalities of the same {keys} digits, joined by a key.
#
#     sensorium validate recipe.yaml # finds the files and columns, runs nothing
#     sensorium run recipe.yaml      # makes the fused data set, a model and a report
#
# Try a change without editing:  sensorium run recipe.yaml --set fuse.method=average
# Paths are relative to this file.
name: digits

modalities:
  # A modality has a name of your own, a kind (image, audio, text, table, vector or series), a
  # source of rows, and the extractors that turn each row into numbers.
  image:
    kind: image
    source:
      path: images.csv # csv, tsv, jsonl or parquet: told from the ending
      key: id # the column that joins the modalities; its name may differ in each
      uri: file # the column that says where the image is, relative to images.csv
    duplicates: mean # some digits were photographed twice: average their features
    extract: # one extractor or more; no options means the defaults
      hog: {{size: 32, cell: 8}}
      pixels: {{size: 8}}

  # The digit as it sounds when dialled on a telephone, in a noisy room.
  sound:
    kind: audio
    source: {{path: audio.jsonl, key: id, uri: wav}}
    rate: 8000
    extract:
      log_mel: {{bands: 64, window: 512, segments: 1, low: 600, high: 1600}}

  # Its name in a sentence, in one of eight languages, typed by somebody in a hurry.
  note:
    kind: text
    source: {{path: text.parquet, columns: [sentence]}} # `key` is the default name of the key
    extract:
      tfidf: {{analyzer: char_wb, ngrams: [2, 4], dimension: 2048}}

  # What one might measure: numbers, categories, times or booleans. Numbers are scaled, each
  # category becomes a column of its own, and so does the fact that a value is missing.
  facts:
    kind: table
    source:
      path: table.csv
      columns:
        strokes: number
        holes: number
        ink: number # not always known
        top_share: number
        width: number
        parity: category
        hand: category
    duplicates: first # a few rows came twice: keep the first

# What is learnt: a column of a modality's source, or of a source of its own. A key without a
# label is fused like the others, but not trained on.
target:
  source: {{path: labels.csv}}
  column: digit
  task: classification

# A fifth of the keys is set aside for the test; the others are cross-validated.
split: {{test_share: 0.2, folds: 5, seed: 0}}

# Every key of any modality is kept; where one lacks a modality, the training mean stands in.
join: {{how: outer, missing: mean}}

# Side by side, each modality with the same weight however many numbers it has.
fuse: {{method: concatenate, scale: block}}

# Models that are compared; the best in cross-validation is kept.
train:
  models:
    logistic: {{C: [0.01, 0.1, 1]}}
    lda: # no options: the defaults

# Some files are broken or missing. Such rows become dead letters, and the run goes on, as long
# as they are not more than this share of a modality's rows.
max_dead_letters: 0.02
"""


def write_digits(folder: str | Path, keys: int = 600) -> Path:
    """Write the example: manifests, files and recipe.

    The manifests differ in format and order of rows, as they do in life: `images.csv`,
    `audio.jsonl`, `text.parquet`, `table.csv`, `labels.csv`. Of each modality about 5 % of the
    keys are missing, some are there twice (images, table), and up to 1 % of the rows cannot be
    used (cut short, empty, missing or mislabelled files, null texts, a row without a key).

    Args:
        folder: a folder that does not exist, or is empty.
        keys: number of digits, 10 to 1797.

    Returns:
        The path of recipe.yaml.

    Raises:
        FileExistsError: if the folder is not empty, or is a file.
        ValueError: if there are not so many digits.
    """
    if not 10 <= keys <= ALL:
        raise ValueError(f"keys must be from 10 to {ALL}, the digits there are, not {keys}")
    root = Path(folder)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        what = "is not empty" if root.is_dir() else "is a file"
        raise FileExistsError(f"{root} {what}: name a folder that is new or empty")
    root.mkdir(parents=True, exist_ok=True)

    digits = load_digits()
    chosen = np.sort(np.random.default_rng(0).permutation(ALL)[:keys])
    names = [f"d{index:04d}" for index in chosen]
    images, labels = digits.images[chosen], digits.target[chosen]
    _write_images(root, names, images)
    _write_sounds(root, names, labels)
    _write_notes(root, names, labels)
    _write_facts(root, names, labels, images)
    _write_labels(root, names, labels)
    recipe = root / "recipe.yaml"
    recipe.write_text(RECIPE.format(keys=keys), encoding="utf-8")
    return recipe


def _rows(rng: np.random.Generator, keys: int, twice: int = 0) -> np.ndarray:
    """Positions of the keys that a manifest has, in its order, some of them twice."""
    there = rng.permutation(keys)[: keys - round(LACKING * keys)]
    return rng.permutation(np.concatenate([there, there[:twice]]))


def _faults(rows: int, kinds: Sequence[str]) -> dict[int, str]:
    """Which rows cannot be used, and why: at most 1 % of them, spread evenly."""
    return {(i + 1) * rows // (len(kinds) + 1): kind for i, kind in enumerate(kinds[: rows // 100])}


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


# --- images ----------------------------------------------------------------------------------


def _write_images(root: Path, names: list[str], images: np.ndarray) -> None:
    """PNG files, 32 x 32, grey; `images` are float64[n, 8, 8], 0 to 16."""
    rng = np.random.default_rng(1)
    rows = _rows(rng, len(names), twice=len(names) // 50)
    faults = _faults(len(rows), ("cut short", "missing", "empty"))
    (root / "images").mkdir()
    listed = []
    for i, at in enumerate(rows):
        name = f"images/{names[at]}-{i:04d}.png"
        listed.append((names[at], name))
        found, encoded = cv2.imencode(".png", _photograph(rng, images[at]))
        assert found, "OpenCV encodes any uint8 image"
        data = encoded.tobytes()
        fault = faults.get(i)
        if fault == "missing":
            continue
        kept = {"cut short": len(data) // 2, "empty": 0}.get(fault or "", len(data))
        (root / name).write_bytes(data[:kept])
    _write_csv(root / "images.csv", ("id", "file"), listed)


def _photograph(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """uint8[32, 32] of float64[8, 8]: enlarged, turned, moved, under a smear, with noise."""
    large = cv2.resize(image * (255 / 16), (32, 32), interpolation=cv2.INTER_CUBIC)
    turn = cv2.getRotationMatrix2D((15.5, 15.5), rng.uniform(-15, 15), rng.uniform(0.8, 1.0))
    turn[:, 2] += rng.uniform(-2, 2, size=2)
    moved = cv2.warpAffine(large, turn, (32, 32), flags=cv2.INTER_LINEAR)
    smear = cv2.GaussianBlur(rng.normal(size=(32, 32)), (0, 0), 3)
    noisy = moved * rng.uniform(0.5, 1.0) + 250 * smear + rng.normal(scale=30, size=(32, 32))
    return np.clip(noisy + 40, 0, 255).astype(np.uint8)


# --- sounds ----------------------------------------------------------------------------------


def _write_sounds(root: Path, names: list[str], labels: np.ndarray) -> None:
    """WAV files, 8 kHz, 16 bits; `labels` are int[n], 0 to 9."""
    rng = np.random.default_rng(2)
    rows = _rows(rng, len(names))
    faults = _faults(len(rows), ("text", "empty"))
    (root / "audio").mkdir()
    lines = []
    for i, at in enumerate(rows):
        name = f"audio/{names[at]}.wav"
        lines.append(json.dumps({"id": names[at], "wav": name}) + "\n")
        samples = _dial(rng, int(labels[at]))
        fault = faults.get(i)
        if fault == "empty":
            (root / name).write_bytes(b"")
        elif fault == "text":
            (root / name).write_text("The recording was lost.\n", encoding="utf-8")
        else:
            with wave.open(str(root / name), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(RATE)
                file.writeframes(samples.astype("<i2").tobytes())
    (root / "audio.jsonl").write_text("".join(lines), encoding="utf-8")


def _dial(rng: np.random.Generator, digit: int) -> np.ndarray:
    """int16[samples]: the digit's two tones in noise, with quiet ends."""
    seconds = np.arange(int(RATE * rng.uniform(0.3, 0.5))) / RATE
    row, column = KEYPAD[digit]
    tones = sum(
        np.sin(2 * np.pi * (hertz * rng.uniform(0.98, 1.02) * seconds + rng.uniform()))
        for hertz in (LOW[row], HIGH[column])
    )
    loud = tones + rng.normal(scale=rng.uniform(2, 12), size=len(seconds))
    ends = [rng.normal(scale=0.02, size=int(RATE * rng.uniform(0, 0.15))) for _ in range(2)]
    whole = np.concatenate([ends[0], loud, ends[1]])
    return (whole / np.abs(whole).max() * rng.uniform(2_000, 30_000)).astype(np.int16)


# --- notes -----------------------------------------------------------------------------------


def _write_notes(root: Path, names: list[str], labels: np.ndarray) -> None:
    """Sentences; `labels` are int[n], 0 to 9."""
    rng = np.random.default_rng(3)
    rows = _rows(rng, len(names))
    sentences: list[str | None] = [_note(rng, int(labels[at])) for at in rows]
    for i in _faults(len(rows), ("null", "null")):
        sentences[i] = None
    table = pa.table({"key": [names[at] for at in rows], "sentence": pa.array(sentences, "string")})
    pq.write_table(table, root / "text.parquet")


def _note(rng: np.random.Generator, digit: int) -> str:
    language = sorted(NAMES)[rng.integers(len(NAMES))]
    name = NAMES[language].split()[digit]
    for _ in range(rng.integers(3)):
        name = _slip(rng, name)
    sentence = SENTENCES[language][rng.integers(3)].format(name)
    return sentence.upper() if rng.random() < 0.1 else sentence


def _slip(rng: np.random.Generator, word: str) -> str:
    """A letter too few, too many, wrong, or in the wrong place."""
    at = int(rng.integers(len(word)))
    letter = "abcdefghijklmnopqrstuvwxyz"[rng.integers(26)]
    before, here, after = word[:at], word[at], word[at + 1 :]
    return (
        before + after or letter,
        before + here + here + after,
        before + letter + after,
        before + after[:1] + here + after[1:],
    )[rng.integers(4)]


# --- facts and labels ------------------------------------------------------------------------


def _write_facts(root: Path, names: list[str], labels: np.ndarray, images: np.ndarray) -> None:
    """A table; `labels` are int[n], `images` float64[n, 8, 8], 0 to 16."""
    rng = np.random.default_rng(4)
    n = len(names)
    strokes = STROKES[labels] + rng.choice([0, 1], size=n, p=[0.9, 0.1])
    holes = np.maximum(HOLES[labels] + rng.choice([-1, 0, 1], size=n, p=[0.05, 0.9, 0.05]), 0)
    ink = images.sum(axis=(1, 2)) / 16 + rng.normal(scale=1, size=n)
    top = images[:, :4].sum(axis=(1, 2)) / images.sum(axis=(1, 2)) + rng.normal(scale=0.02, size=n)
    columns = np.arange(8)
    weight = images.sum(axis=1) / images.sum(axis=(1, 2))[:, None]
    spread = np.sqrt((weight * (columns - (weight @ columns)[:, None]) ** 2).sum(axis=1))
    width = spread + rng.normal(scale=0.1, size=n)
    odd = (labels % 2 == 1) ^ (rng.random(n) < 0.1)
    left = rng.random(n) < np.where(labels >= 7, 0.3, 0.1)
    unknown = rng.random(n) < 0.1

    rows = _rows(rng, n, twice=n // 100)
    faults = _faults(len(rows), ("no key", "no key"))
    listed = [
        (
            "" if i in faults else names[at],
            strokes[at],
            holes[at],
            "" if unknown[at] else f"{ink[at]:.1f}",
            f"{top[at]:.3f}",
            f"{width[at]:.2f}",
            "odd" if odd[at] else "even",
            "left" if left[at] else "right",
        )
        for i, at in enumerate(rows)
    ]
    header = ("key", "strokes", "holes", "ink", "top_share", "width", "parity", "hand")
    _write_csv(root / "table.csv", header, listed)


def _write_labels(root: Path, names: list[str], labels: np.ndarray) -> None:
    """The digits; one in a hundred is not known."""
    rng = np.random.default_rng(5)
    order = rng.permutation(len(names))
    unknown = rng.random(len(names)) < 0.01
    rows = [(names[at], "" if unknown[at] else labels[at]) for at in order]
    _write_csv(root / "labels.csv", ("key", "digit"), rows)
