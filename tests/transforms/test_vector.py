"""Vectors: columns side by side, and what is wrong with those that cannot be used."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from transforms.extractors.base import Batch, Context
from transforms.extractors.vector.decoding import decode_columns, dimension_names
from transforms.extractors.vector.vector import Vector

LISTS = {
    "list": pa.list_(pa.float64()),
    "large list": pa.large_list(pa.float64()),
    "fixed": pa.list_(pa.float64(), 2),
}


@pytest.mark.parametrize("kind", LISTS)
def test_columns_stand_side_by_side(kind: str) -> None:
    table = pa.table(
        {
            "a": pa.array([1.0, 2.0, 3.0]),
            "e": pa.array([[10.0, 11.0], [20.0, 21.0], [30.0, 31.0]], LISTS[kind]),
            "b": pa.array([7.0, 8.0, 9.0]),
        }
    )
    # Several chunks, one of which starts within a buffer.
    table = pa.concat_tables([table.slice(1, 2), table.slice(0, 1)])
    values, wrong = decode_columns(table, {"e": 2})
    assert wrong == {}
    assert values.dtype == np.float64
    assert values.tolist() == [[2, 20, 21, 8], [3, 30, 31, 9], [1, 10, 11, 7]]


@pytest.mark.parametrize("kind", LISTS)
def test_rows_that_cannot_be_used(kind: str) -> None:
    shorter = [5.0, 6.0] if kind == "fixed" else [5.0]
    table = pa.table(
        {
            "a": pa.array([1.0, None, 3.0, None, 5.0]),
            "e": pa.array([[1.0, 2.0], [3.0, 4.0], None, None, shorter], LISTS[kind]),
        }
    )
    values, wrong = decode_columns(table, {"e": 2})
    assert values.shape == (5, 3)
    assert values[0].tolist() == [1, 1, 2]
    expected = {
        1: ("missing_value", "a has no value; a vector needs all of them"),
        2: ("wrong_length", "column 'e' has no list; the others have 2"),
        3: ("missing_value", "a has no value; a vector needs all of them"),
    }
    if kind == "fixed":
        assert values[4].tolist() == [5, 5, 6]
    else:
        expected[4] = ("wrong_length", "column 'e' has a list of 1 number; the others have 2")
    assert {row: (bad.kind, bad.message) for row, bad in wrong.items()} == expected


@pytest.mark.parametrize("kind", LISTS)
def test_a_null_within_a_list_is_a_missing_value(kind: str) -> None:
    column = pa.array([None, [1.0, 2.0], [3.0, None], [np.nan, 4.0]], LISTS[kind])
    values, wrong = decode_columns(pa.table({"e": column}), {"e": 2})
    assert {row: bad.kind for row, bad in wrong.items()} == {0: "wrong_length", 2: "missing_value"}
    assert "e[1] has no value" in wrong[2].message
    assert np.isnan(values[3, 0])
    assert values[3, 1] == 4


def test_no_rows() -> None:
    schema = pa.schema([("a", pa.float64()), ("e", pa.list_(pa.float64()))])
    values, wrong = decode_columns(schema.empty_table(), {"e": 3})
    assert values.shape == (0, 4)
    assert wrong == {}


def test_dimensions_are_named_after_columns() -> None:
    names = dimension_names({"a": "number", "e": "list", "b": "number"}, {"e": 2})
    assert names == ["a", "e[0]", "e[1]", "b"]


def test_numbers_that_are_not_finite_fail_their_row() -> None:
    extractor = Vector()
    extractor.context = Context(columns={"a": "number", "b": "number"})
    assert extractor.names() == ["a", "b"]
    batch = Batch(np.array([[1, 0.1], [np.nan, 2], [3, -np.inf], [1e300, 4]]))
    out = extractor.transform(batch)
    assert out.dtype == np.float32
    assert out[0].tolist() == [1, np.float32(0.1)]
    assert {row: (bad.kind, bad.message) for row, bad in batch.failures.items()} == {
        1: ("not_finite", "a is nan, not a finite number"),
        2: ("not_finite", "b is -inf, not a finite number"),
        3: ("not_finite", "a is 1e+300, too large for a 32-bit number"),
    }
