"""Dead letters: records that a step cannot use, with what it takes to find and mend them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from schemas import storage
from schemas.tables import DEAD_LETTERS, write_table
from transforms.extractors.base import BadRecord


def dead_letters(rows: pa.Table, step: str, wrong: Sequence[BadRecord]) -> pa.Table:
    """Dead letters of n rows, one for each of n errors.

    Args:
        rows: key, source (name of the file), row and, where rows point at files, uri.
        step: that could not use them.
        wrong: what is wrong with each.
    """
    none = pa.nulls(len(rows), pa.string())
    return pa.table(
        {
            "key": rows.column("key"),
            "source": rows.column("source"),
            "row": rows.column("row"),
            "uri": rows.column("uri") if "uri" in rows.column_names else none,
            "step": pa.array([step] * len(rows), pa.string()),
            "kind": [bad.kind for bad in wrong],
            "message": [bad.message for bad in wrong],
        },
        schema=DEAD_LETTERS,
    )


def write_dead_letters(path: str, parts: Sequence[pa.Table]) -> tuple[int, dict[str, int]]:
    """Write dead letters if there are any, and remove old ones if there are none.

    Returns:
        How many there are; and the file and its size, nothing without dead letters.
    """
    if not any(map(len, parts)):
        storage.remove(path)
        return 0, {}
    letters = pa.concat_tables(parts)
    order = pc.sort_indices(letters, [("source", "ascending"), ("row", "ascending")])
    return len(letters), {path: write_table(path, [letters.take(order)], DEAD_LETTERS)}
