"""What values become in columns of each kind, and what is wrong with the others."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import plan, rows_of, write, write_all

from transforms.records.sources import (
    sample,
)
from transforms.records.values import Found, lists

NUMBERS = {
    "1": 1.0, " -2.5e3 ": -2500.0, "+3": 3.0, ".5": 0.5, "5.": 5.0, "\u00a07": 7.0,
    "": None, "NaN": None, "nan": None, "NA": None, "N/A": None, "null": None, "None": None,
    "-NAN": None,
    "inf": "infinite", "-Infinity": "infinite", "1e999": "infinite",
    "1_0": "not_a_number", "٣": "not_a_number", "3,5": "not_a_number", "abc": "not_a_number",
    "0x10": "not_a_number", "nan(1)": "not_a_number", "true": "not_a_number", "1 2": "not_a_number",
}  # fmt: skip


@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "parquet"])
def test_numbers_written_as_text(tmp_path, format):
    # Alone and among others: what a text means must not depend on its batch.
    names = list(NUMBERS)
    path = write_all(tmp_path, {"key": list(map(str, range(len(names)))), "v": names})[format]
    source = plan(path, format=format, columns={"v": "number"})
    together = rows_of(source)
    alone = []
    for i, name in enumerate(names):
        path = write_all(tmp_path, {"key": [str(i)], "v": [name]})[format]
        alone += [row | {"row": i} for row in rows_of(source)]
    assert together == alone
    for row, (text, wanted) in zip(together, NUMBERS.items(), strict=True):
        if isinstance(wanted, str):
            assert (row["v"], row["problem"]) == (None, wanted), text
            assert row["message"].startswith("column 'v'")
        else:
            assert (row["v"], row["problem"]) == (wanted, None), text
    assert together[names.index("abc")]["message"] == "column 'v': 'abc' is not a number"


def test_typed_values_are_the_same_from_json_lines_and_parquet(tmp_path):
    columns = {
        "key": [1, -2, 3, 4],
        "n": [1.5, None, float("inf"), float("nan")],
        "i": [1, 2, None, 4],
        "b": [True, False, None, True],
        "f": [3.0, 0.1, 1e-7, float("nan")],
        "l": [[1, 2.5], None, [], [None, float("nan")]],
        "m": [[1.0], [2.0], [float("-inf")], [4.0]],
    }
    kinds = {"n": "number", "i": "category", "b": "text", "f": "category", "l": "list", "m": "list"}
    paths = write_all(tmp_path, columns)
    got = rows_of(plan(paths["jsonl"], format="jsonl", columns=kinds))
    assert got == rows_of(plan(paths["parquet"], format="parquet", columns=kinds))
    assert [r["key"] for r in got] == ["1", "-2", "3", "4"]
    assert [r["n"] for r in got] == [1.5, None, None, None]
    assert [r["i"] for r in got] == ["1", "2", None, "4"]
    assert [r["b"] for r in got] == ["true", "false", None, "true"]
    assert [r["f"] for r in got] == ["3", "0.1", "1e-7", None]
    assert [r["l"] for r in got] == [[1, 2.5], None, [], [None, None]]
    assert [r["m"] for r in got] == [[1], [2], None, [4]]
    assert [r["problem"] for r in got] == [None, None, "infinite", None]
    assert "column 'n' is infinite" in got[2]["message"]
    # Booleans and whole numbers are numbers.
    kinds = {"b": "number", "i": "number"}
    for format in ("jsonl", "parquet"):
        got = rows_of(plan(paths[format], format=format, columns=kinds))
        assert [(r["b"], r["i"]) for r in got] == [(1, 1), (0, 2), (None, None), (1, 4)]


def test_values_of_the_wrong_kind(tmp_path):
    columns = {"key": ["a", "b"], "x": [{"y": 1}, None], "t": ["q", "r"], "l": [[1], [2]]}
    paths = write_all(tmp_path, columns)
    for format in ("jsonl", "parquet"):
        for kinds, problems in [
            ({"x": "number"}, ["not_a_number", None]),
            ({"x": "text"}, ["not_text", None]),
            ({"l": "category"}, ["not_text", "not_text"]),
            ({"l": "number"}, ["not_a_number", "not_a_number"]),
            ({"t": "list"}, ["not_a_list", "not_a_list"]),
            ({"x": "list"}, ["not_a_list", None]),
        ]:
            rows = rows_of(plan(paths[format], format=format, columns=kinds))
            assert [r["problem"] for r in rows] == problems, (format, kinds)
            assert all(next(iter(kinds)) in r["message"] for r in rows if r["problem"])
    lines = '{"key": "a", "v": 1}\n{"key": "b", "v": "x"}\n{"key": "c", "v": 1' + "0" * 400 + "}\n"
    rows = rows_of(
        plan(write(tmp_path / "v.jsonl", lines), format="jsonl", columns={"v": "number"})
    )
    assert [r["problem"] for r in rows] == [None, "not_a_number", "infinite"]


def test_lists_that_are_written_as_text(tmp_path):
    """Such as CSV has them; each with what it means, or with the problem."""
    texts = {
        "[1, 2.5, -3e2]": [1, 2.5, -300],
        "1 2  3": [1, 2, 3],
        " [ 1.\n 2. ] ": [1, 2],
        "7": [7],
        "[]": [],
        "": None,
        "[1,,nan,+2]": [1, None, None, 2],
        "[1, x]": "not_a_list",
        "[[1], 2]": "not_a_list",
        "[1_0]": "not_a_list",
        "[1, inf]": "infinite",
    }
    columns = {"key": [f"k{i}" for i in range(len(texts))], "v": list(texts)}
    for format, path in write_all(tmp_path, columns).items():
        rows = rows_of(plan(path, format=format, columns={"v": "list"}))
        got = [r["problem"] or r["v"] for r in rows]
        assert got == list(texts.values()), format
        assert all("'v'" in r["message"] for r in rows if r["problem"])


def test_keys_that_cannot_be_used(tmp_path):
    lines = [{"key": v} for v in ("a", None, "", 1.0, [1], True, 7)] + [{"other": 1}]
    file = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    rows = rows_of(plan(file, format="jsonl"))
    assert [r["key"] for r in rows] == ["a", *[None] * 4, "true", "7", None]
    assert [r["problem"] == "bad_key" for r in rows] == [False, *[True] * 4, False, False, True]
    assert rows[1]["message"] == rows[7]["message"] == "the key is null"
    pq.write_table(pa.table({"key": [1.0, None]}), tmp_path / "a.parquet")
    rows = rows_of(plan(tmp_path / "a.parquet", format="parquet"))
    assert [r["problem"] for r in rows] == ["bad_key"] * 2
    assert "floating-point" in rows[0]["message"]


def test_uris_and_which_problem_of_a_row_is_kept(tmp_path):
    columns = {"key": ["a", "", "c"], "path": ["x.png", "", ""], "v": ["1", "?", "?"]}
    for format, path in write_all(tmp_path, columns).items():
        rows = rows_of(plan(path, format=format, uri="path", columns={"v": "number"}))
        assert [r["uri"] for r in rows] == ["x.png", None, None]
        assert [r["problem"] for r in rows] == [None, "bad_key", "missing_uri"]
    pq.write_table(
        pa.table({"key": ["a"], "path": pa.nulls(1, pa.string())}), tmp_path / "n.parquet"
    )
    (row,) = rows_of(plan(tmp_path / "n.parquet", format="parquet", uri="path"))
    assert row["problem"] == "missing_uri"


def test_the_key_may_be_carried_too(tmp_path):
    for format, path in write_all(tmp_path, {"k": ["1", "x"]}).items():
        rows = rows_of(plan(path, format=format, key="k", uri="k", columns={"k": "number"}))
        assert [(r["key"], r["uri"], r["k"]) for r in rows] == [("1", "1", 1.0), ("x", "x", None)]
        assert rows[1]["problem"] == "not_a_number"


def test_kinds_of_lists_and_dictionaries_in_parquet(tmp_path):
    values = [[1, 2], None, [3, 4]]
    table = pa.table(
        {
            "key": pa.array(["a", "b", "a"]).dictionary_encode(),
            "fixed": pa.array([[1, 2], [0, 0], [3, 4]], pa.list_(pa.float32(), 2)),
            "large": pa.array(values, pa.large_list(pa.int64())),
            "bools": pa.array([[True], None, [False]]),
            "time": pa.array([0, None, 1], pa.timestamp("s")),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    kinds = {"fixed": "list", "large": "list", "bools": "list", "time": "text"}
    rows = rows_of(plan(tmp_path / "a.parquet", format="parquet", columns=kinds))
    assert [r["key"] for r in rows] == ["a", "b", "a"]
    assert [r["fixed"] for r in rows] == [[1, 2], [0, 0], [3, 4]]
    assert [r["large"] for r in rows] == values
    assert [r["bools"] for r in rows] == [[1], None, [0]]
    assert rows[0]["time"] == "1970-01-01 00:00:00.000"
    assert not any(r["problem"] for r in rows)
    assert sample(str(tmp_path / "a.parquet"), "parquet", 2)["fixed"].type.list_size == 2


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32(), 2),
        pa.list_view(pa.int8()),
        pa.large_list_view(pa.float64()),
        pa.list_(pa.decimal128(5, 1)),
        pa.fixed_shape_tensor(pa.float32(), [2]),
    ],
)
def test_lists_of_any_layout(kind):
    storage = getattr(kind, "storage_type", kind)
    column = pa.array([[9, 9], [1, 2], None, [3, 4]], storage)
    if storage is not kind:
        column = pa.ExtensionArray.from_storage(kind, column)
    found = Found(np.arange(3), {})
    assert lists(found, "x", column[1:]).to_pylist() == [[1, 2], None, [3, 4]]
    assert found.problems == {}


def test_nulls_in_fixed_size_lists_are_read_or_explained(tmp_path):
    values = [[1, 2], None, [3, 4]]
    table = pa.table({"key": ["a", "b", "c"], "x": pa.array(values, pa.list_(pa.float32(), 2))})
    pq.write_table(table, tmp_path / "a.parquet")
    source = plan(tmp_path / "a.parquet", format="parquet", columns={"x": "list"})
    if int(pa.__version__.split(".")[0]) >= 26:
        assert [r["x"] for r in rows_of(source)] == values
    else:
        with pytest.raises(ValueError, match=r"a\.parquet: Arrow .* nulls in a fixed-size list"):
            rows_of(source)
