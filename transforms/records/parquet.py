"""Reading Parquet: only the columns needed, a batch of rows at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import storage
from schemas.plan import SourcePlan
from transforms.records.opening import opening, readable, require
from transforms.records.values import Found, wanted

_ROWS = 65_536  # rows of a batch
_BYTES = 32 << 20  # about as many decoded bytes of a batch, where rows are wide
_PART = 100_000  # rows of a part, made of whole row groups
_PART_BYTES = 256 << 20  # decoded bytes after which a part ends before that


@contextlib.contextmanager
def _open(file: str) -> Iterator[pq.ParquetFile]:
    with opening(file) as stream, readable(file, "Parquet"):
        if stream.seek(0, os.SEEK_END) == 0:
            raise ValueError(f"{file}: the file is empty")
        # Ahead of time, all that is wanted of a part is read into memory: worth it where each
        # column would be a request of its own.
        with pq.ParquetFile(stream, pre_buffer=not storage.is_local(file)) as parquet:
            names = parquet.schema_arrow.names
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"{file}: two columns are called {twice!r}")
            try:
                yield parquet
            except pa.ArrowInvalid as error:
                if "lists to be of size" not in str(error):
                    raise
                # https://github.com/apache/arrow/issues/35692, mended in Arrow 26
                raise ValueError(
                    f"{file}: Arrow {pa.__version__} cannot read nulls in a fixed-size list "
                    "column: write it as a list of variable size, or install a newer pyarrow"
                ) from None


def columns(file: str) -> dict[str, str]:
    """Columns in order, and their Arrow types."""
    with _open(file) as parquet:
        return {field.name: str(field.type) for field in parquet.schema_arrow}


def sample(file: str, n: int) -> pa.Table:
    """The first n rows."""
    with _open(file) as parquet:
        batches: list[pa.RecordBatch] = []
        for batch in parquet.iter_batches(batch_size=max(n, 1), use_threads=False):
            batches.append(batch)
            if sum(map(len, batches)) >= n:
                break
        return pa.Table.from_batches(batches, parquet.schema_arrow).slice(0, n)


def count(file: str) -> int:
    """Number of rows, from the footer."""
    with _open(file) as parquet:
        return parquet.metadata.num_rows


def parts(file: str) -> list[tuple[int, int]]:
    """Ranges of row groups, (first, one past the last), of about 100,000 rows or 256 MB each."""
    with _open(file) as parquet:
        out: list[tuple[int, int]] = []
        first = rows = size = 0
        for at in range(parquet.num_row_groups):
            group = parquet.metadata.row_group(at)
            rows += group.num_rows
            size += group.total_byte_size
            if rows >= _PART or size >= _PART_BYTES or at + 1 == parquet.num_row_groups:
                out.append((first, at + 1))
                first, rows, size = at + 1, 0, 0
        return out


def read(file: str, source: SourcePlan, first: int, stop: int) -> Iterator[Found]:
    """Rows of the row groups from first to stop - 1, in order.

    Raises:
        ValueError: if a column is missing, or the file is corrupt.
    """
    with _open(file) as parquet:
        needed = wanted(source)
        require(file, needed, parquet.schema_arrow.names)
        groups = [parquet.metadata.row_group(group) for group in range(stop)]
        start = sum(group.num_rows for group in groups[:first])
        for batch in parquet.iter_batches(
            batch_size=_rows_at_once(groups[first:], needed),
            row_groups=list(range(first, stop)),
            columns=needed,
            use_threads=False,
        ):
            by_name = {name: batch.column(name) for name in needed}
            yield Found(
                np.arange(start, start + len(batch)),
                by_name,
                None if source.key is None else by_name[source.key],
                None if source.uri is None else by_name[source.uri],
            )
            start += len(batch)


def _rows_at_once(groups: list[pq.RowGroupMetaData], needed: list[str]) -> int:
    """Rows of a batch, fewer where they are wide: large texts must fit into memory."""
    names = set(needed)
    rows = size = 0
    for group in groups:
        rows += group.num_rows
        for chunk in map(group.column, range(group.num_columns)):
            path = chunk.path_in_schema  # of a list: name.list.element
            if path in names or path.split(".")[0] in names:
                size += chunk.total_uncompressed_size
    return max(1, min(_ROWS, _BYTES * rows // max(size, 1)))
