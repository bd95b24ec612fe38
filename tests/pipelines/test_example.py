"""The example data set: the same bytes each time, joined by keys, with the faults it promises."""

import csv
import hashlib
import json
import wave
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.example import HIGH, KEYPAD, LOW, write_digits
from schemas.loading import load_recipe

KEYS = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), KEYS).parent


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def keys_of(folder: Path) -> dict[str, list[str]]:
    """Keys of each manifest, in its order."""
    lines = (folder / "audio.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "image": [row["id"] for row in rows(folder / "images.csv")],
        "sound": [json.loads(line)["id"] for line in lines],
        "note": pq.read_table(folder / "text.parquet").column("key").to_pylist(),
        "facts": [row["key"] for row in rows(folder / "table.csv")],
        "labels": [row["key"] for row in rows(folder / "labels.csv")],
    }


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_bytes_each_time(folder: Path, tmp_path: Path) -> None:
    again = write_digits(str(tmp_path / "new" / "folder"), KEYS).parent
    assert hashes(again) == hashes(folder)


def test_the_recipe_loads_and_its_files_and_columns_are_there(folder: Path) -> None:
    recipe = load_recipe(str(folder / "recipe.yaml"))
    assert [one.kind for one in recipe.modalities.values()] == ["image", "audio", "text", "table"]
    sources = [one.source for one in recipe.modalities.values()]
    target = recipe.target_source()
    assert target is not None
    assert {source.kind_of_file for source in sources} == {"csv", "jsonl", "parquet"}
    for source in [*sources, target]:
        assert (folder / source.paths[0]).is_file()
    table = recipe.modalities["facts"].source.model_dump()
    assert set(table["columns"]) | {table["key"]} == set(rows(folder / "table.csv")[0])
    assert recipe.target is not None
    assert recipe.target.column in rows(folder / "labels.csv")[0]


def test_keys_are_missing_doubled_and_in_another_order(folder: Path) -> None:
    keys = keys_of(folder)
    everyone = set(keys["labels"])
    assert len(keys["labels"]) == len(everyone) == KEYS
    for name in ("image", "sound", "note", "facts"):
        known = [key for key in keys[name] if key]
        assert set(known) < everyone
        assert 0.9 * KEYS < len(set(known)) < KEYS
        assert (len(known) > len(set(known))) == (name in ("image", "facts"))
    orders = [[key for key in one if key in everyone] for one in keys.values()]
    assert len({tuple(order[:20]) for order in orders}) == len(orders)
    assert all(order != sorted(order) for order in orders)


def test_few_rows_cannot_be_used_and_each_modality_has_some(folder: Path) -> None:
    recipe = load_recipe(str(folder / "recipe.yaml"))
    wrong: dict[str, int] = {}
    listed = rows(folder / "images.csv")
    read = [folder / row["file"] for row in listed]
    data = [path.read_bytes() if path.exists() else b"" for path in read]
    wrong["image"] = sum(not one.endswith(b"IEND\xaeB`\x82") for one in data)
    sounds = [folder / f"audio/{key}.wav" for key in keys_of(folder)["sound"]]
    wrong["sound"] = sum(path.read_bytes()[:4] != b"RIFF" for path in sounds)
    wrong["note"] = pq.read_table(folder / "text.parquet").column("sentence").null_count
    wrong["facts"] = keys_of(folder)["facts"].count("")
    for name, keys in keys_of(folder).items():
        if name != "labels":
            assert 0 < wrong[name] < recipe.max_dead_letters * len(keys), name


def test_images_are_small_and_grey(folder: Path) -> None:
    for row in rows(folder / "images.csv")[:5]:
        image = cv2.imread(str(folder / row["file"]), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert (image.shape, image.dtype) == ((32, 32), np.uint8)
        assert image.std() > 10


def test_most_recordings_hold_the_tones_of_their_digit(folder: Path) -> None:
    digits = {row["key"]: row["digit"] for row in rows(folder / "labels.csv")}
    right = []
    for key in keys_of(folder)["sound"]:
        path = folder / f"audio/{key}.wav"
        if not digits[key] or path.read_bytes()[:4] != b"RIFF":
            continue
        with wave.open(str(path)) as file:
            assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (8000, 2, 1)
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
        assert 0.3 <= len(samples) / 8000 <= 0.8
        power = np.abs(np.fft.rfft(samples, 8000)) ** 2  # a bin a hertz
        heard = [int(np.argmax([power[f - 15 : f + 16].max() for f in row])) for row in (LOW, HIGH)]
        right.append(tuple(heard) == KEYPAD[int(digits[key])])
    assert 0.5 < np.mean(right) < 0.95  # by chance: about 0.1


def test_small_ones_have_no_faults(tmp_path: Path) -> None:
    small = write_digits(tmp_path, 40).parent
    assert len(rows(small / "labels.csv")) == 40
    assert all((small / row["file"]).stat().st_size for row in rows(small / "images.csv"))
    assert all(row["key"] for row in rows(small / "table.csv"))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="is not empty: name a folder that is new or empty"):
        write_digits(tmp_path)
    with pytest.raises(FileExistsError, match="is a file"):
        write_digits(tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("keys", [9, 1798])
def test_there_are_only_so_many_digits(tmp_path: Path, keys: int) -> None:
    with pytest.raises(ValueError, match="from 10 to 1797"):
        write_digits(tmp_path, keys)
    assert not list(tmp_path.iterdir())
