"""Series: from a column of lists to arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.extractors.base import BadRecord


def decode_lists(table: pa.Table, max_length: int) -> tuple[list[np.ndarray], dict[int, BadRecord]]:
    """Each row's values, with missing ones filled in.

    A missing value lies on the line between its neighbours; before the first and after the last
    known value, it is that.

    Args:
        table: a column of list<float64>; nulls in the lists are missing values.
        max_length: the most values a list may have.

    Returns:
        float64[values] of each row, in order; and what is wrong, by row, with rows that cannot be
        used: `missing_value` (no list, or no known value in it), `empty` or `too_long`. What
        the list holds for such a row has no meaning.
    """
    (name,) = table.column_names
    array = table.column(0).combine_chunks()
    null = array.is_null().to_numpy(zero_copy_only=False)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    stops = np.cumsum(lengths, dtype=np.int64)
    values = pc.list_flatten(array).to_numpy(zero_copy_only=False)
    series: list[np.ndarray] = []
    wrong: dict[int, BadRecord] = {}
    for row, (length, stop) in enumerate(zip(lengths.tolist(), stops.tolist(), strict=True)):
        one = values[stop - length : stop]
        known = ~np.isnan(one)
        if null[row]:
            wrong[row] = BadRecord("missing_value", f"column {name!r} has no series")
        elif not length:
            wrong[row] = BadRecord("empty", f"column {name!r} has a series without values")
        elif length > max_length:
            message = f"column {name!r} has {length} values, more than max_length, {max_length}"
            wrong[row] = BadRecord("too_long", message)
        elif not known.any():
            message = f"column {name!r} has no known value among {length}"
            wrong[row] = BadRecord("missing_value", message)
        elif not known.all():
            one = _filled(one, known)
        series.append(one)
    return series, wrong


def _filled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    at = np.arange(len(values))
    return np.where(known, values, np.interp(at, at[known], values[known]))
