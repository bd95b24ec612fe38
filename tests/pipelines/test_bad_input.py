"""Bad input: each kind has a stated fate, nothing is lost, and no traceback reaches a person."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import yaml
from flows import must, sensorium, table

GOOD = 30
ABSURD = {
    "february": "2024-02-30",
    "local": "1.2.2024",
    "year_0": "0000-01-01",
    "milliseconds": "1706702400000",
    "year_only": "2024",
    "endless": "inf",
}


def png(width: int, height: int) -> bytes:
    """A PNG whose header claims any size, with hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set in which each kind of bad input stands once."""
    rng = np.random.default_rng(3)
    images, sounds = ["key,path"], ["key,path"]
    numbers, texts = ["key,size,weight,sort,when,sold"], []
    for i in range(GOOD):
        cv2.imwrite(str(tmp_path / f"{i}.png"), rng.integers(0, 255, (20, 20), np.uint8))
        soundfile.write(tmp_path / f"{i}.wav", rng.normal(0, 0.1, 4000), 8000)
        images.append(f"k{i},{i}.png")
        sounds.append(f"k{i},{i}.wav")
        numbers.append(f"k{i},{i},{i / 7},{'ab'[i % 2]},2024-01-{i + 1:02},{['yes', 'no'][i % 2]}")
        texts.append({"key": f"k{i}", "text": f"word{i % 3} and more"})
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "huge.png").write_bytes(png(30_000, 30_000))
    (tmp_path / "text.wav").write_text("This is no recording.")
    (tmp_path / "empty.png").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.png")
    images += [
        "missing,nowhere.png",
        "truncated,truncated.png",
        "huge,huge.png",
        "empty_file,empty.png",
        ",0.png",
        "no_path,",
        "pipe,pipe.png",
        "null,a\0b.png",
    ]
    sounds += ["not_audio,text.wav"]
    numbers += [
        "nan,NaN,1.5,a,2024-02-01,no",
        "infinite,inf,1,a,,",
        "word,seven,1,b,,",
        "hole,,,,,",
    ]
    numbers += [f"{name},1,1,a,{when},yes" for name, when in ABSURD.items()]
    numbers += ["perhaps,1,1,a,2024-02-01,perhaps"]
    texts += [{"key": "empty_text", "text": ""}, {"key": None, "text": "no key"}]
    texts += [{"key": 1.5, "text": "a floating-point key"}]
    (tmp_path / "images.csv").write_text("\n".join(images) + "\n")
    (tmp_path / "audio.csv").write_text("\n".join(sounds) + "\n")
    (tmp_path / "table.csv").write_text("\n".join(numbers) + "\n")
    lines = [json.dumps(text) for text in texts] + ["{not json"]
    (tmp_path / "text.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "recipe.yaml").write_text(
        """\
name: bad
modalities:
  image:
    kind: image
    source: {path: images.csv, uri: path}
    extract: {pixels: {size: 4}}
  audio:
    kind: audio
    source: {path: audio.csv, uri: path}
    rate: 8000
    extract: {log_mel: {bands: 8, segments: 2, window: 256}}
  text:
    kind: text
    source: {path: text.jsonl, columns: [text]}
    extract: {tfidf: {dimension: 16}}
  table:
    kind: table
    source: {path: table.csv, columns: {
      size: number, weight: number, sort: category, when: time, sold: boolean}}
max_dead_letters: 0.5
"""
    )
    return tmp_path


def letters(output: Path) -> dict[tuple[str, str, str | None], dict]:
    """Dead letters by modality, step and key."""
    return {
        (file.parent.name, letter["step"], letter["key"]): letter
        for file in sorted((output / "dead_letters").rglob("*.parquet"))
        for letter in pq.read_table(file).to_pylist()
    }


@pytest.mark.parametrize("payload", ["reference", "embed"])
def test_each_bad_record_has_its_fate(folder: Path, payload: str) -> None:
    output = folder / "output"
    sets = [f"--set=modalities.{name}.payload={payload}" for name in ("image", "audio")]
    done = sensorium("run", folder / "recipe.yaml", "--to", output, *sets)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    found = letters(output)
    expected = {
        ("image", "ingest", "missing"): "missing_file",
        ("image", "extract", "truncated"): "truncated",
        ("image", "extract", "huge"): "too_large",
        ("image", "extract", "empty_file"): "empty",
        ("image", "ingest", None): "bad_key",
        ("image", "ingest", "no_path"): "missing_uri",
        ("image", "ingest", "pipe"): "unreadable_file",
        ("image", "ingest", "null"): "missing_file",
        ("audio", "extract", "not_audio"): "unreadable",
        ("table", "ingest", "infinite"): "infinite",
        ("table", "ingest", "word"): "not_a_number",
        ("table", "ingest", "perhaps"): "not_a_boolean",
        **{("table", "ingest", name): "not_a_time" for name in ABSURD},
    }
    for place, kind in expected.items():
        assert found[place]["kind"] == kind
        assert found[place]["message"]
        assert found[place]["source"]
        assert found[place]["row"] is not None
    audit = json.loads((output / "report/audit.json").read_text())
    assert audit["balanced"]
    dead = {name: counts["dead_letters"] for name, counts in audit["modalities"].items()}
    files = sorted((output / "dead_letters/ingest/text").glob("*.parquet"))
    kinds = [kind for file in files for kind in pq.read_table(file)["kind"].to_pylist()]
    # A null key, a floating-point key, and a line that is no JSON.
    assert sorted(kinds) == ["bad_key", "bad_key", "malformed_row"]
    assert dead == {"image": 8, "audio": 1, "text": 3, "table": 3 + len(ABSURD)}


def test_what_is_missing_or_empty_is_kept(folder: Path) -> None:
    output = folder / "output"
    done = sensorium("run", folder / "recipe.yaml", "--to", output)
    assert done.returncode == 0, done.stderr
    text = table(output, "features/text").to_pylist()
    empty = next(row for row in text if row["key"] == "empty_text")
    assert not any(empty["features"])
    rows = {r["key"]: r["features"] for r in table(output, "features/table").to_pylist()}
    assert np.isfinite(np.array(list(rows.values()))).all()
    file = next((output / "features/table").glob("*.parquet"))
    names = json.loads(pq.read_schema(file).metadata[b"names"])
    hole = dict(zip(names, rows["hole"], strict=True))
    # NaN and empty cells are missing values, each with a flag: the training rows' median, no
    # category, no point of a circle.
    sizes = [
        int(row["key"][1:])
        for row in table(output, "fused").to_pylist()
        if row["split"] == "train" and row["key"][0] == "k"
    ]
    median = (np.median(sizes) - np.mean(sizes)) / np.std(sizes)
    assert hole["columns.size"] == pytest.approx(median, abs=1e-6)
    assert rows["nan"][names.index("columns.size")] == hole["columns.size"]
    flags = [name for name in names if name.endswith(" is missing")]
    assert [flag.removeprefix("columns.") for flag in flags] == [
        f"{name} is missing" for name in ("size", "weight", "sort", "when", "sold")
    ]
    assert {hole[flag] for flag in flags} == {1}
    others = [n for n in names if n.startswith(("columns.sort=", "columns.when: day"))]
    assert len(others) == 4
    assert {hole[name] for name in others} == {0}


def test_too_many_dead_letters_fail_the_run_and_keep_what_was_done(folder: Path) -> None:
    run = ["run", folder / "recipe.yaml", "--to", folder / "output"]
    done = sensorium(*run, "--set", "max_dead_letters=0.05")
    assert done.returncode == 1
    assert "image: 8 of 38 rows (21.1%) became dead letters" in done.stderr
    assert "Traceback" not in done.stderr
    again = sensorium(*run)
    assert again.returncode == 0
    assert "Nothing to do" in again.stderr


def test_duplicate_keys_stop_the_run_and_say_how_to_choose(folder: Path) -> None:
    with (folder / "images.csv").open("a") as file:
        file.write("k3,4.png\n")
    run = ["extract", folder / "recipe.yaml", "--to", folder / "output"]
    done = sensorium(*run)
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert "image: key 'k3' has several rows (images.csv row 3; images.csv row 38)" in line
    assert "modalities.image.duplicates" in line
    assert "Traceback" not in done.stderr
    third, fourth = (cv2.imread(str(folder / f"{i}.png"), 0) for i in (3, 4))
    policies = {
        "first": [third],
        "last": [fourth],
        "mean": [third, fourth],
        "max": [third, fourth],
    }
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    image = recipe["modalities"]["image"]
    recipe["modalities"] = {policy: {**image, "duplicates": policy} for policy in policies}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    must(*run)
    for policy, rows in policies.items():
        features = {
            r["key"]: r["features"]
            for r in table(folder / "output", f"features/{policy}").to_pylist()
        }
        small = [cv2.resize(r, (4, 4), interpolation=cv2.INTER_AREA) / 255 for r in rows]
        pooled = np.max(small, axis=0) if policy == "max" else np.mean(small, axis=0)
        assert np.abs(np.array(features["k3"]) - pooled.ravel()).max() < 0.01


def test_an_extractor_that_raises_makes_dead_letters_of_its_rows(folder: Path) -> None:
    (folder / "mine.py").write_text(
        '''
import numpy as np
from transforms.extractors.base import Batch, Extractor

class Lengths(Extractor):
    """Number of characters; does not like threes."""
    kind = "text"

    def names(self):
        return ["length"]

    def transform(self, batch):
        if any("word2" in text for text in batch.items):
            raise RuntimeError("I do not like this one")
        return np.array([[len(text)] for text in batch.items], np.float32)
'''
    )
    text = (folder / "recipe.yaml").read_text()
    (folder / "own.yaml").write_text(text.replace("{tfidf: {dimension: 16}}", "{mine.Lengths: {}}"))
    run = ["run", "own.yaml", "--to", "output"]
    done = sensorium(*run, cwd=folder)
    assert done.returncode == 0, done.stderr
    found = letters(folder / "output")
    bad = [
        letter for (name, step, _), letter in found.items() if (name, step) == ("text", "extract")
    ]
    assert len(bad) == GOOD // 3
    assert {letter["kind"] for letter in bad} == {"extractor_error"}
    assert "I do not like this one" in bad[0]["message"]
    # One that gives nothing: Arrow divides by the number of dimensions.
    (folder / "mine.py").write_text(
        (folder / "mine.py").read_text().replace('return ["length"]', "return []")
    )
    done = sensorium(*run, cwd=folder)
    assert done.returncode == 1
    assert "text: its extractors give no numbers" in done.stderr.splitlines()[-1]


def test_conflicting_labels_stop_the_run(folder: Path) -> None:
    rows = [f"k{i},{'xyz'[i % 3]}" for i in range(GOOD)] + ["k3,q"]
    (folder / "labels.csv").write_text("\n".join(["key,label", *rows]) + "\n")
    with (folder / "recipe.yaml").open("a") as file:
        file.write("target: {source: {path: labels.csv}, column: label}\n")
    done = sensorium("run", folder / "recipe.yaml", "--to", folder / "output")
    assert done.returncode == 1
    assert "target: key 'k3' has different values in column 'label'" in done.stderr


def test_a_manifest_that_is_no_parquet_is_told_by_name(folder: Path) -> None:
    (folder / "text.parquet").write_bytes(b"PAR1 not really")
    done = sensorium(
        "validate", folder / "recipe.yaml", "--set", "modalities.text.source.path=text.parquet"
    )
    assert done.returncode == 2
    assert "text.parquet" in done.stderr
    assert "Traceback" not in done.stderr


def test_parquet_with_floating_point_keys_is_refused(folder: Path) -> None:
    pq.write_table(pa.table({"key": [1.0, 2.0], "text": ["a", "b"]}), folder / "text.parquet")
    done = sensorium(
        "validate", folder / "recipe.yaml", "--set", "modalities.text.source.path=text.parquet"
    )
    assert done.returncode == 2
    assert "floating-point" in done.stderr
