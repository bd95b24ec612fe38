"""Videos through the command line: real files, extractors of images on their frames."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from flows import hashes, must, sensorium, table

from schemas.recipe import ImageModality, VideoModality
from transforms.extractors import build, feature_names
from transforms.extractors.base import Batch, Context

KEYS = 24

RECIPE = """\
name: clips
modalities:
  clip:
    kind: video
    source: {path: clips.csv}
    frames: 4
    extract: {hog: {size: 16}, color: {bins: [4, 2, 2]}, mine.Contrast: {}}
target: {source: clip, column: label}
split: {folds: 3, test_share: 0.25}
max_dead_letters: 0.1
"""
MINE = """\
import numpy as np
from transforms.extractors.base import Extractor

class Contrast(Extractor):
    kind = "image"
    rounds = 1

    def names(self):
        return ["contrast"]

    def partial(self, batch):
        return {"sum": np.array([sum(i.std() for i in batch.items)]), "n": np.array([len(batch)])}

    def merge(self, states):
        return {name: sum(state[name] for state in states) for name in ("sum", "n")}

    def load(self, fitted):
        self.mean = fitted["sum"][0] / fitted["n"][0]

    def transform(self, batch):
        return np.array([[i.std() - self.mean] for i in batch.items], np.float32)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Clips of a light bar that moves up or to the right, two of them no videos."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mine", None)
    rng = np.random.default_rng(0)
    rows = ["key,uri,label"]
    for i in range(KEYS):
        ending, codec = (("avi", "MJPG"), ("mp4", "mp4v"), ("webm", "VP80"))[i % 3]
        name = f"{i}.{ending}"
        writer = cv2.VideoWriter(name, cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 10, (48, 48))
        noise = rng.integers(0, 60, (48, 48, 3), dtype=np.uint8)
        for at in range(12):
            frame = noise.copy()
            lines = slice(4 * at, 4 * at + 4)
            frame[(slice(None), lines) if i % 2 else (lines, slice(None))] = 230
            writer.write(frame)
        writer.release()
        rows.append(f"k{i},{name},{'right' if i % 2 else 'up'}")
    whole = Path("1.mp4").read_bytes()
    Path("cut.mp4").write_bytes(whole[: len(whole) // 2])
    Path("text.mp4").write_text("This is no video.")
    rows += ["cut,cut.mp4,up", "text,text.mp4,right"]
    Path("clips.csv").write_text("\n".join(rows) + "\n")
    Path("recipe.yaml").write_text(RECIPE)
    return tmp_path


def run(*args: str) -> dict[str, list[float]]:
    done = must("run", "recipe.yaml", *args)
    assert "Traceback" not in done.stderr
    output = Path(args[args.index("--to") + 1])
    return {row["key"]: row["features"] for row in table(output, "features/clip").to_pylist()}


@pytest.mark.slow
def test_frames_are_decoded_described_and_pooled(folder: Path) -> None:
    found = run("--to", "output")
    assert len(found) == KEYS
    letters = [
        letter
        for file in Path("output/dead_letters/extract/clip").glob("*.parquet")
        for letter in pq.read_table(file).to_pylist()
    ]
    assert {letter["key"]: letter["kind"] for letter in letters} == {
        "cut": "truncated",
        "text": "unreadable",
    }
    metrics = json.loads(Path("output/report/metrics.json").read_text())
    assert metrics["fused"]["cross_validation"]["accuracy"] > 0.9

    # The same by hand: frames read by OpenCV, extractors of images, their mean.
    extract = {"hog": {"size": 16}, "color": {"bins": [4, 2, 2]}}
    images = ImageModality.model_validate(
        {"kind": "image", "source": {"path": "clips.csv"}, "extract": extract}
    )
    extractors = build(images, Context())
    for i in (1, 6, 8):  # of each kind of file
        capture = cv2.VideoCapture(str(next(folder.glob(f"{i}.*"))))
        frames = [cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB) for _ in range(12)]
        chosen = Batch([frames[at] for at in (1, 4, 7, 10)])
        want = np.hstack([one.transform(chosen) for one in extractors]).mean(axis=0)
        np.testing.assert_allclose(found[f"k{i}"][: len(want)], want, rtol=1e-5, atol=1e-6)
    schema = table(Path("output"), "features/clip").schema
    names, _ = feature_names(list(zip(extract, extractors, strict=True)))
    assert json.loads(schema.metadata[b"names"]) == [*names, "mine.Contrast.contrast"]


@pytest.mark.slow
def test_workers_and_payloads_make_no_difference(folder: Path) -> None:
    sets = ["--set", "modalities.clip.pool=max", "--set", "split.folds=2"]
    run("--to", "one", "--direct_num_workers=1", *sets)
    run("--to", "two", "--direct_num_workers=2", *sets, "--set", "modalities.clip.payload=embed")
    one = hashes(folder / "one", "features", "fused", "fitted")
    assert one == hashes(folder / "two", "features", "fused", "fitted")


def test_an_extractor_of_texts_does_not_read_videos(folder: Path) -> None:
    text = RECIPE.replace("mine.Contrast", "transforms.extractors.text.tfidf.Tfidf")
    Path("recipe.yaml").write_text(text)
    done = sensorium("validate", "recipe.yaml")
    assert done.returncode == 2
    assert "reads 'text', but the modality's kind is 'video'" in done.stderr


def test_defaults_of_a_modality_of_videos() -> None:
    fields = {"kind": "video", "source": {"path": "a.csv"}, "extract": {"hog": None}}
    made = VideoModality.model_validate(fields)
    assert (made.frames, made.pool, made.max_side) == (8, "mean", 512)
    assert (made.max_pixels, made.max_frames) == (9_000_000, 36_000)
