"""Reading sources: every record gives one row, whatever the format."""

import json
import math
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import plan, rows_of, write, write_all

from transforms.records import parquet
from transforms.records.sources import (
    Part,
    columns_of,
    count_rows,
    expand,
    identity,
    parts,
    read_part,
    rows_schema,
    sample,
)

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(TEXT, TEXT, TEXT, st.floats(allow_infinity=False)), min_size=1, max_size=12),
    st.integers(1, 5),
)
def test_all_formats_give_the_same_rows(tmp_path, rows, max_rows):
    keys, texts, categories, numbers = map(list, zip(*rows, strict=True))
    columns = {"key": keys, "a text": texts, "n": numbers, "c": categories}
    paths = write_all(tmp_path, columns)
    kinds = {"a text": "text", "n": "number", "c": "category"}
    expected = [
        {
            "key": key or None,
            "source": 0,
            "row": i,
            "a text": text,
            "n": None if math.isnan(number) else number,
            "c": category or None,
            "problem": None if key else "bad_key",
            "message": None if key else "the key is empty",
        }
        for i, (key, text, category, number) in enumerate(rows)
    ]
    for format, path in paths.items():
        got = rows_of(plan(path, format=format, columns=kinds), max_rows)
        assert got == expected, format
        assert list(columns_of(str(path), format)) == list(columns)


def test_bytes_that_are_not_utf8(tmp_path):
    file = write(
        tmp_path / "a.csv",
        b"key,t,u\na,\xe9t\xe9,x\nb,fine,\xff\n\xff\xff,x,y\nd\xff,e\ng,h,\xef\xbf\xbd\n",
    )
    rows = rows_of(plan(file, columns={"t": "text"}))
    assert [(r["key"], r["t"], r["problem"]) for r in rows] == [
        ("a", None, "not_utf8"),
        ("b", "fine", None),  # the broken column is not wanted
        (None, "x", "not_utf8"),
        (None, None, "malformed_row"),
        ("g", "h", None),
    ]
    assert rows[0]["message"] == "column 't' is not UTF-8 text"
    file = write(tmp_path / "a.jsonl", b'{"key": "a"}\n{"key": "\xe9"}\n{"key": "b"}\n')
    rows = rows_of(plan(file, format="jsonl"))
    assert [(r["key"], r["problem"]) for r in rows] == [
        ("a", None),
        (None, "not_utf8"),
        ("b", None),
    ]
    claimed = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"\xff"]).buffers())
    pq.write_table(pa.table({"key": ["x", "y"], "t": claimed}), tmp_path / "a.parquet")
    rows = rows_of(plan(tmp_path / "a.parquet", format="parquet", columns={"t": "text"}))
    assert [(r["t"], r["problem"]) for r in rows] == [("a", None), (None, "not_utf8")]


def test_malformed_json_lines(tmp_path):
    lines = [
        '{"key": 1}',
        "{",
        "[1]",
        '{"key": "\\ud800"}',
        "1" * 5000,
        "[" * 100_000,
        '{"key": "z"}',
    ]
    rows = rows_of(plan(write(tmp_path / "a.jsonl", "\n".join(lines)), format="jsonl"), max_rows=2)
    assert [r["row"] for r in rows] == list(range(7))
    assert [r["key"] for r in rows] == ["1", *[None] * 5, "z"]
    assert [r["problem"] for r in rows] == [None, *["malformed_row"] * 5, None]
    assert rows[1]["message"].startswith("not JSON (Expecting property name")
    assert rows[2]["message"] == "not a JSON object: '[1]'"
    assert "surrogate" in rows[3]["message"]
    assert all(len(r["message"] or "") < 250 for r in rows)


def test_a_column_may_not_bear_a_name_of_the_rows_own():
    with pytest.raises(ValueError, match="'row' cannot be carried"):
        rows_schema(plan("a.csv", columns={"row": "text"}))


def test_row_numbers_as_keys(tmp_path):
    for format, path in write_all(tmp_path, {"v": list(range(10))}).items():
        rows = rows_of(plan(path, format=format, key=None, columns={"v": "number"}), max_rows=3)
        assert [r["key"] for r in rows] == [str(i) for i in range(10)]
        assert [r["v"] for r in rows] == list(range(10))


def test_parts_of_parquet_are_its_rows_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_PART", 25)
    table = pa.table({"key": [str(i) for i in range(107)]})
    for name in "ab":
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=10)
    source = plan(tmp_path / "a.parquet", tmp_path / "b.parquet", format="parquet")
    expected = [(0, 0, 3), (0, 3, 6), (0, 6, 9), (0, 9, 11)]
    assert parts(source) == expected + [(1, a, b) for _, a, b in expected]
    assert [(r["source"], r["row"], r["key"]) for r in rows_of(source, 8)] == [
        (s, i, str(i)) for s in (0, 1) for i in range(107)
    ]
    second = list(read_part(source, Part(1, 3, 6)))
    assert second[0]["row"][0].as_py() == 30
    assert sum(map(len, second)) == 30


def test_wide_rows_are_read_a_few_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_BYTES", 10_000)
    noise = np.random.default_rng(0).integers(0, 2**32, (50, 100)).astype(str)
    texts = [" ".join(row) for row in noise]
    pq.write_table(pa.table({"key": list(map(str, range(50))), "t": texts}), tmp_path / "a.parquet")
    source = plan(tmp_path / "a.parquet", format="parquet", columns={"t": "text"})
    tables = list(read_part(source, parts(source)[0]))
    assert max(map(len, tables)) < 15
    assert pa.concat_tables(tables)["t"].to_pylist() == texts


def test_bare_files(tmp_path):
    files = [tmp_path / name for name in ("a1.png", "a2.png", "other.png", "a.png")]
    for file in files:
        write(file, b"x")
    source = plan(*files, format="files", key=None, key_pattern=r"/a(\d*)\.png$")
    rows = rows_of(source)
    assert [(r["key"], r["source"], r["row"], r["uri"]) for r in rows] == [
        ("1", 0, 0, str(files[0])),
        ("2", 1, 0, str(files[1])),
        (None, 2, 0, str(files[2])),
        (None, 3, 0, str(files[3])),  # the group is empty
    ]
    assert [r["problem"] for r in rows] == [None, None, "bad_key", "bad_key"]
    assert "finds no key in" in rows[2]["message"]
    assert count_rows(str(files[0]), "files") == 1
    assert columns_of(str(files[0]), "files") == {}
    many = plan(
        *[f"/x/{i:05d}.png" for i in range(25_000)], format="files", key=None, key_pattern=r"(\d+)"
    )
    assert parts(many) == [(0, 0, 10_000), (10_000, 10_000, 20_000), (20_000, 20_000, 25_000)]
    assert [(r["key"], r["source"]) for r in rows_of(many)] == [
        (f"{i:05d}", i) for i in range(25_000)
    ]


@pytest.fixture
def memory():
    """A folder of a remote store."""
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    fsspec.filesystem("memory").rm(url, recursive=True)


def test_remote_files(memory, tmp_path):
    fs = fsspec.filesystem("memory")
    columns = {"key": ["a", "b"], "v": [1.0, 2.0]}
    for format, path in write_all(tmp_path, columns).items():
        url = f"{memory}/sub/rows.{format}"
        fs.pipe_file(url, path.read_bytes())
        assert expand([f"../sub/*.{format}"], f"{memory}/sub") == [url]
        assert expand([f"sub/rows.{format}"], memory) == [url]
        assert count_rows(url, format) == 2
        rows = rows_of(plan(url, format=format, columns={"v": "number"}))
        assert [(r["key"], r["v"]) for r in rows] == [("a", 1), ("b", 2)]
        with pytest.raises(FileNotFoundError, match=f"nope.{format}: there is no such file"):
            columns_of(f"{memory}/nope.{format}", format)
    before = identity(f"{memory}/sub/rows.csv")
    assert before == identity(f"{memory}/sub/rows.csv")
    fs.pipe_file(f"{memory}/sub/rows.csv", b"key\nother!\n")
    assert identity(f"{memory}/sub/rows.csv") != before
    json.dumps(before)


def test_columns_samples_and_counts(tmp_path):
    columns = {"key": ["a", "b,\n", "c"], "n": [1, 2, 3], "l": [[1.0], [2.0], None]}
    paths = write_all(tmp_path, columns)
    assert columns_of(str(paths["csv"]), "csv") == {"key": "string", "n": "string", "l": "string"}
    assert columns_of(str(paths["jsonl"]), "jsonl") == {
        "key": "string",
        "n": "int64",
        "l": "list<item: double>",
    }
    assert list(columns_of(str(paths["parquet"]), "parquet").items())[:2] == [
        ("key", "string"),
        ("n", "int64"),
    ]
    for format, path in paths.items():
        table = sample(str(path), format, 2)
        assert table["key"].to_pylist() == ["a", "b,\n"]
        assert table.column_names == ["key", "n", "l"]
    assert sample(str(paths["csv"]), "csv")["n"].to_pylist() == ["1", "2", "3"]
    assert [count_rows(str(paths[f]), f) for f in paths] == [4, 4, 3, 3]  # the line end in "b,\n"
    mixed = write(tmp_path / "m.jsonl", '{"x": 1}\n?\n{"x": "a", "y": [1]}\n{"x": {"z": 1}}')
    assert columns_of(str(mixed), "jsonl") == {"x": "string", "y": "list<item: int64>"}
    assert sample(str(mixed), "jsonl")["x"].to_pylist() == ["1", "a", '{"z": 1}']
    assert count_rows(str(mixed), "jsonl") == 4


def test_missing_columns(tmp_path):
    for format, path in write_all(tmp_path, {"Key": ["a"], "width": [1]}).items():
        with pytest.raises(ValueError, match=rf"{path.name}: there is no column 'key'; .*'Key'"):
            rows_of(plan(path, format=format))
        with pytest.raises(ValueError, match="no column 'witdh'; the nearest: 'width'"):
            rows_of(plan(path, format=format, key="Key", columns={"witdh": "number"}))
        with pytest.raises(ValueError, match="no column 'zzz'; there are: 'Key', 'width'"):
            rows_of(plan(path, format=format, key="Key", uri="zzz"))


@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "parquet"])
def test_files_that_are_not_what_they_should_be(tmp_path, format):
    empty = write(tmp_path / "empty", b"")
    with pytest.raises(ValueError, match="empty: the file is empty"):
        columns_of(str(empty), format)
    other = tmp_path / "other"
    if format == "parquet":
        write(other, "key,a\n1,2\n")
    else:
        pq.write_table(pa.table({"key": ["a"], "f": [0.1]}), other, compression="none")
        data = other.read_bytes()
        other.write_bytes(b"\xff\xfe\x00" + data)
    what = {"jsonl": "JSON lines", "parquet": "Parquet"}.get(format, format.upper())
    for read in (columns_of, sample):
        with pytest.raises(ValueError, match=rf"other: cannot be read as {what}: [^\n]*$"):
            read(str(other), format)
    with pytest.raises(ValueError, match=rf"other: cannot be read as {what}"):
        rows_of(plan(other, format=format))
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such file"):
        columns_of(str(tmp_path / "nowhere"), format)


def test_parquet_with_a_corrupt_page(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"key": [str(i) for i in range(1000)]}), path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[20:600] = bytes(580)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.parquet: cannot be read as Parquet: [^\n]+$"):
        rows_of(plan(path, format="parquet"))


def test_expand(tmp_path):
    for name in ("a1.csv", "a2.csv", "b/c.csv", "x[1].csv", ".hidden.csv", "b/d/e.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, "key\n")
    base = str(tmp_path)

    def names(*paths: str) -> list[str]:
        return [str(Path(p).relative_to(tmp_path)) for p in expand(list(paths), base)]

    assert names("a?.csv", "a1.csv", f"{base}/a2.csv", f"file://{base}/a1.csv") == [
        "a1.csv",
        "a2.csv",
    ]
    assert names("*.csv") == ["a1.csv", "a2.csv", "x[1].csv"]
    assert names("x[1].csv") == ["x[1].csv"]
    assert names("b/../a[12].csv") == ["a1.csv", "a2.csv"]
    assert names("**/*.csv") == ["a1.csv", "a2.csv", "b/c.csv", "b/d/e.csv", "x[1].csv"]
    assert names(".h*") == [".hidden.csv"]
    assert names("*") == ["a1.csv", "a2.csv", "x[1].csv"]  # no folders
    assert expand(["../a1.csv"], f"{base}/b") == [f"{base}/a1.csv"]
    with pytest.raises(FileNotFoundError, match=r"a3\.csv: there is no such file; .*'a[12]\.csv'"):
        names("a1.csv", "a3.csv")
    with pytest.raises(FileNotFoundError, match=r"z\*\.csv: no file matches"):
        names("z*.csv")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        names("nowhere/a.csv")
    with pytest.raises(FileNotFoundError, match="b: is a folder"):
        names("b")


def test_expand_relative_to_a_relative_folder(tmp_path, monkeypatch):
    write(tmp_path / "a.csv", "key\n")
    monkeypatch.chdir(tmp_path)
    assert expand(["a.csv"], ".") == [str(tmp_path / "a.csv")]


def test_identity_of_a_local_file(tmp_path):
    file = write(tmp_path / "a.csv", "key\n")
    status = file.stat()
    assert identity(str(file)) == [4, status.st_mtime_ns]
    with pytest.raises(FileNotFoundError):
        identity(str(tmp_path / "b.csv"))
