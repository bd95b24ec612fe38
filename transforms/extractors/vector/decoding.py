"""Vectors: from columns to a matrix."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.plan import ColumnType
from schemas.problems import counted
from transforms.extractors.base import BadRecord


def dimension_names(columns: Mapping[str, ColumnType], widths: Mapping[str, int]) -> list[str]:
    """Names of the dimensions: `a` of a number, `a[0]`, `a[1]` and so on of a list.

    Args:
        columns: in order, and what they hold: number or list.
        widths: length of the lists in each column of lists.
    """
    names: list[str] = []
    for name, kind in columns.items():
        names += [f"{name}[{i}]" for i in range(widths[name])] if kind == "list" else [name]
    return names


def decode_columns(
    table: pa.Table, widths: Mapping[str, int]
) -> tuple[np.ndarray, dict[int, BadRecord]]:
    """Columns side by side.

    Args:
        table: columns of float64, or of lists of float64 of any list type.
        widths: length that the lists in each column of lists must have.

    Returns:
        float64[n, d], and what is wrong, by row, with rows that cannot be used: `missing_value`
        (a null, also within a list) or `wrong_length` (of a list, or none); the first of them,
        in the order of columns. What the matrix holds for such a row has no meaning.
    """
    n = len(table)
    kinds: dict[str, ColumnType] = {
        name: "list" if name in widths else "number" for name in table.column_names
    }
    names = dimension_names(kinds, widths)
    values = np.full((n, len(names)), np.nan)
    wrong: dict[int, BadRecord] = {}
    start = 0
    for name, column in zip(table.column_names, table.columns, strict=True):
        width = widths.get(name, 1)
        rows: np.ndarray = np.arange(n)
        if name in widths:
            length = pc.list_value_length(column)
            right = pc.fill_null(pc.equal(length, width), False).to_numpy()
            rows = np.flatnonzero(right)
            for row in np.flatnonzero(~right).tolist():
                got = length[row].as_py()
                what = "no list" if got is None else f"a list of {counted(got, 'number')}"
                message = f"column {name!r} has {what}; the others have {width}"
                wrong.setdefault(row, BadRecord("wrong_length", message))
            column = pc.list_flatten(column.filter(right))
        null = column.is_null().to_numpy().reshape(len(rows), width)
        for i in np.flatnonzero(null.any(axis=1)).tolist():
            which = names[start + int(null[i].argmax())]
            message = f"{which} has no value; a vector needs all of them"
            wrong.setdefault(int(rows[i]), BadRecord("missing_value", message))
        values[rows, start : start + width] = column.to_numpy().reshape(len(rows), width)
        start += width
    return values, wrong
