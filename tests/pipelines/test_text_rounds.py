"""Texts through the command line: two rounds of learning, and an extractor of another package."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from flows import hashes, must, table, times

from schemas.arrays import load_arrays
from schemas.tables import matrix

RECIPE = """\
name: notes
modalities:
  note:
    kind: text
    source: {path: notes.csv, columns: [text]}
    extract:
      tfidf: {dimension: 128, components: 6}
      tfidf_characters: {dimension: 256, components: 4}
      statistics: {}
      vowels: {unit: 10}
target: {source: note, column: topic}
split: {folds: 3}
train: {models: {lda: {}}}
"""
VOWELS = """
import numpy as np
from transforms.extractors.base import Extractor

class Vowels(Extractor):
    kind = "text"
    def __init__(self, unit=1):
        self.unit = unit
    def names(self):
        return ["vowels"]
    def transform(self, batch):
        counts = [sum(map(text.count, "aeiou")) for text in batch.items]
        return np.array([[count / self.unit] for count in counts], np.float32)
"""


def write(folder: Path) -> Path:
    """90 notes on two topics, and an installed package; returns the recipe's path."""
    random = np.random.default_rng(0)
    topics = {"sea": "wave tide salt harbour gull net", "wood": "oak moss fern owl trail bark"}
    with (folder / "notes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "topic", "text"])
        for i in range(90):
            topic = ("sea", "wood")[i % 2]
            words = random.choice([*topics[topic].split(), "and", "the", "a"], 12)
            writer.writerow([f"n{i:02d}", topic, " ".join(words)])
    info = folder / "package" / "vowels-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "package" / "vowels_of_texts.py").write_text(VOWELS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vowels\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[sensorium.extractors]\nvowels = vowels_of_texts:Vowels"
    )
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder / "recipe.yaml"


def features(output: Path) -> dict[str, bytes]:
    rows = table(output, "features/note")
    values = matrix(rows["features"])
    return dict(zip(rows["key"].to_pylist(), map(np.ndarray.tobytes, values), strict=True))


@pytest.mark.slow
def test_two_rounds_and_an_announced_extractor(tmp_path: Path) -> None:
    recipe, one, two = write(tmp_path), tmp_path / "one", tmp_path / "two"
    path = [tmp_path / "package"]
    must("run", recipe, "--to", one, "--direct_num_workers=1", path=path)
    must("fuse", recipe, "--to", two, "--direct_num_workers=2", path=path)
    assert hashes(one, "features", "fitted") == hashes(two, "features", "fitted")

    names = table(one, "features/note").schema.field("features").type.list_size
    assert names == 6 + 4 + 23 + 1
    fitted = load_arrays(str(one / "fitted/note.npz"))
    assert {name: array.shape for name, array in fitted.items()} == {
        "tfidf/idf": (128,),
        "tfidf/axes": (128, 6),
        "tfidf_characters/idf": (256,),
        "tfidf_characters/axes": (256, 4),
    }
    values = np.frombuffer(b"".join(features(one).values()), np.float32).reshape(90, names)
    assert (np.abs(values[:, :10]).max(axis=0) > 0).all()

    before = times(one, ".")
    done = must("run", recipe, "--to", one, "--direct_num_workers=1", path=path)
    assert "Nothing to do" in done.stderr
    assert times(one, ".") == before

    must("predict", one, "--recipe", recipe, "--to", tmp_path / "new", path=path)
    assert features(tmp_path / "new") == features(one)
