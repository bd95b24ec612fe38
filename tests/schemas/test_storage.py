"""The door to storage, on fsspec's store in memory: files by ranges, whole files, removals."""

from __future__ import annotations

import functools
import http.server
import io
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ranges, storage
from schemas.tables import read_table, read_tables


@pytest.fixture
def root() -> Iterator[str]:
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    storage.remove_tree(url)


Steps = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(-20, 60)), st.integers(0, 40)), max_size=20
)


@given(size=st.integers(0, 60), steps=Steps)
def test_a_ranged_file_reads_as_any_file(size: int, steps: list[tuple[int | None, int]]) -> None:
    data = bytes(range(size))
    url = f"memory://{uuid.uuid4().hex}"
    storage.write_bytes(url, data)
    with pytest.MonkeyPatch.context() as patch:
        # Small windows, so that a small file has many.
        sizes = {"HEAD": 7, "_TAIL": 5, "_JUMP": 3, "_AHEAD": 5, "_MOST": 12, "_PART": 4}
        for name, value in sizes.items():
            patch.setattr(ranges, name, value)
        ours, plain = ranges.RangedFile(url), io.BytesIO(data)
        for place, n in steps:
            if place is not None:
                whence = io.SEEK_SET if place >= 0 else io.SEEK_END
                assert ours.seek(place, whence) == plain.seek(max(place, -size), whence)
            assert ours.read(n) == plain.read(n)
            assert ours.tell() == plain.tell()
        ours.seek(0)
        assert io.BufferedReader(ours, 4).read() == data
    storage.remove(url)


def test_a_ranged_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        ranges.RangedFile("memory://nowhere/at-all")


def test_parquet_is_read_by_ranges(root: str) -> None:
    # Larger than what is read at first, so that its end and middle are read apart.
    numbers = pa.array(range(1_000_000), pa.int64())
    table = pa.table({"key": numbers.slice(0, 500_000), "value": numbers.slice(500_000)})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none", use_dictionary=False)
    paths = [f"{root}/{name}" for name in "ab"]
    for path in paths:
        storage.write_bytes(path, sink.getvalue())
    assert storage.size(paths[0]) > 4 * ranges.HEAD
    assert read_table(paths[0]) == table
    assert read_table(paths[0], ["value"]) == table.select(["value"])
    assert read_tables(paths, ["key"]) == [table.select(["key"])] * 2


def test_a_web_server_without_ranges(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    for name, size in {"small": 10, "head": ranges.HEAD, "large": 3 * ranges.HEAD + 1}.items():
        (tmp_path / name).write_bytes(bytes(i % 251 for i in range(size)))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("small", "head", "large"):
            url = f"http://127.0.0.1:{server.server_port}/{name}"
            with storage.open_file(url) as file:
                assert io.BufferedReader(file).read() == (tmp_path / name).read_bytes()
        server.shutdown()
    storage.disconnect()


def test_what_there_is(root: str) -> None:
    storage.write_bytes(f"{root}/folder/file", b"abc")
    assert storage.kind(f"{root}/folder") == "folder"
    assert storage.kind(f"{root}/folder/file") == "file"
    assert storage.kind(f"{root}/nothing") is None
    assert storage.size(f"{root}/folder/file") == 3
    assert storage.size(f"{root}/folder") is None
    assert storage.listed(root) == ["folder"]
    assert storage.files_below(root) == ["folder/file"]


def test_removing_what_is_there_and_what_is_not(root: str) -> None:
    paths = [f"{root}/{name}" for name in "abc"]
    storage.write_bytes(paths[1], b"")
    storage.remove_all(paths)
    storage.remove(paths[1])
    storage.remove_tree(f"{root}/nothing")
    assert [storage.kind(path) for path in paths] == [None] * 3


def test_many_files_up_to_a_bound(root: str, tmp_path: object) -> None:
    storage.write_bytes(f"{root}/a", b"12345")
    storage.write_bytes(f"{tmp_path}/b", b"67890")
    a, b, missing = storage.read_many([f"{root}/a", f"{tmp_path}/b", f"{root}/no"], 3)
    assert (a, b) == (b"123", b"678")
    assert isinstance(missing, FileNotFoundError)
