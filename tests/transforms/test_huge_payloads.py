"""Payloads that are large beside a batch: few of them are in memory at a time."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.tables import open_parquet, write_table
from transforms.extractors import batches as of_batches
from transforms.extractors.base import BadRecord
from transforms.records import ingesting, payloads

SCHEMA = pa.schema([("key", pa.string()), ("payload", pa.binary())])


def files(folder: Path, sizes: list[int]) -> list[str]:
    """Files of some sizes, each of bytes of its own; a negative size makes none."""
    for i, size in enumerate(sizes):
        if size >= 0:
            (folder / f"{i}").write_bytes(bytes([i % 256]) * size)
    return [str(folder / f"{i}") for i in range(len(sizes))]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files in /proc")
def test_local_files_are_read_one_by_one_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(tmp_path, [10] * 12)
    read: list[str] = []
    real = payloads._read

    def counted(path: str, opened: int | OSError, max_bytes: int) -> payloads.Payload:
        read.append(path)
        return real(path, opened, max_bytes)

    monkeypatch.setattr(payloads, "_read", counted)
    before = open_files()
    fetched = payloads.fetch_ahead([paths[:6], paths[6:]], max_bytes=100)
    first = next(fetched)
    assert read == []
    assert next(first) == b"\0" * 10
    assert read == paths[:1]
    assert open_files() > before
    fetched.close()
    assert open_files() == before


@given(
    sizes=st.lists(st.integers(-1, 40), max_size=40),
    rows=st.integers(1, 7),
    full=st.integers(1, 60),
)
def test_row_groups_of_embedded_payloads_are_full_at_rows_or_bytes(
    sizes: list[int], rows: int, full: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("payloads")
    paths = files(folder, sizes)
    keys = pa.table({"key": [str(i) for i in range(len(sizes))]})
    dead: list[pa.Table] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingesting, "EMBED_BATCH", rows)
        patch.setattr(ingesting, "EMBED_BYTES", full)
        patch.setattr(ingesting, "dead_letters", lambda rows, step, wrong: rows)
        path = str(folder / "records.parquet")
        write_table(path, ingesting._embed(keys, paths, SCHEMA, 30, dead), SCHEMA)
    good = [str(i) for i, size in enumerate(sizes) if 0 <= size <= 30]
    lost = [key for part in dead for key in part["key"].to_pylist()]
    assert sorted([*good, *lost], key=int) == keys["key"].to_pylist()
    with pq.ParquetFile(path) as file:
        assert file.read(["key"])["key"].to_pylist() == good
        found = list(of_batches._embedded(file))
        groups = [file.read_row_group(i)["payload"].to_pylist() for i in range(file.num_row_groups)]
    assert found == [bytes([int(key) % 256]) * sizes[int(key)] for key in good]
    for group in groups:
        assert len(group) <= rows
        assert sum(map(len, group[:-1])) < full  # what came last made it full


def test_no_copy_of_embedded_payloads_stays_with_the_reader(tmp_path: Path) -> None:
    size, path = 1 << 20, str(tmp_path / "records.parquet")
    groups = [pa.table([[str(i)], [bytes([i]) * size]], schema=SCHEMA) for i in range(3)]
    write_table(path, groups, SCHEMA)
    del groups
    with open_parquet(path) as file:
        before = pa.total_allocated_bytes()
        for i, one in enumerate(of_batches._embedded(file)):
            assert one == bytes([i]) * size
            assert pa.total_allocated_bytes() - before < size


def test_what_was_decoded_is_gone_when_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_batches, "DECODED", 1)
    made: list[weakref.ref] = []
    there: list[int] = []

    class Modality:
        recipe = None

    def found() -> Iterator[bytes]:
        for _ in range(4):
            there.append(sum(ref() is not None for ref in made))
            yield b"payload"

    def decode(_: bytes, __: None) -> np.ndarray:
        signal = np.zeros(10)
        made.append(weakref.ref(signal))
        return signal

    for decoded in of_batches._each(Modality, pa.table({"key": list("abcd")}), found(), decode):
        assert len(decoded.batch) == 1
        del decoded
    assert there == [0, 0, 0, 0]


def test_long_texts_make_batches_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_batches, "DECODED", 20)

    class Modality:
        recipe = None

    rows = pa.table({"key": list("abcde")})
    texts = ["x" * 15, "x" * 5, "x" * 30, BadRecord("not_utf8", "not UTF-8"), "x"]
    batches = list(of_batches._each(Modality, rows, iter(texts), lambda text, _: text))
    assert [b.rows["key"].to_pylist() for b in batches] == [["a", "b"], ["c"], ["e"]]
