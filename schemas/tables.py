"""Arrow schemas of the files in an output, and how they are written.

Writer options are pinned, so that a file's bytes depend on its rows alone. Floating-point
vectors are written plain: a dictionary or statistics of them cost time and gain nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import storage
from schemas.plan import ColumnType, SourcePlan

ARROW: dict[ColumnType, pa.DataType] = {
    "text": pa.string(),
    "number": pa.float64(),
    "category": pa.string(),
    "time": pa.timestamp("us", "UTC"),
    "boolean": pa.bool_(),
    "list": pa.list_(pa.float64()),
}

DEAD_LETTERS = pa.schema(
    [
        pa.field("key", pa.string(), metadata={"description": "null where there is none"}),
        pa.field("source", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("uri", pa.string(), metadata={"description": "as the manifest has it, if any"}),
        pa.field("step", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("message", pa.string()),
    ]
)


def records_schema(source: SourcePlan, embedded: bool) -> pa.Schema:
    """Records: key, source file and row, then the URI, the payload or the values."""
    fields = [("key", pa.string()), ("source", pa.string()), ("row", pa.int64())]
    if has_payload(source):
        fields.append(("uri", pa.string()))
        if embedded:
            fields.append(("payload", pa.binary()))
    fields += [(name, ARROW[kind]) for name, kind in source.columns.items()]
    return pa.schema(fields)


def has_payload(source: SourcePlan) -> bool:
    """Whether rows point at files, rather than hold their values."""
    return source.uri is not None or source.format == "files"


def vector_type(dimension: int) -> pa.DataType:
    """float32 vectors of one length, without nulls in them."""
    return pa.list_(pa.field("item", pa.float32(), nullable=False), dimension)


def features_schema(names: list[str], slices: dict[str, tuple[int, int]]) -> pa.Schema:
    """Features: key and vector; names of dimensions and each extractor's slice in the metadata.

    A vector is its float32 numbers' bytes, the lowest first. Lists would have two levels for each
    number in Parquet, and take twice as long to write and four times as long to read; features
    are read once for each pass of the fusion, and the fused data set is what people read.
    """
    fields = [
        pa.field("key", pa.string(), nullable=False),
        pa.field("features", pa.binary(4 * len(names)), nullable=False),
    ]
    return pa.schema(fields, {"names": json.dumps(names), "slices": json.dumps(slices)})


def fused_schema(
    modalities: dict[str, int],
    regression: bool,
    names: list[str],
    slices: dict[str, tuple[int, int]],
    kept: bool,
) -> pa.Schema:
    """The fused data set, one row a key.

    Args:
        modalities: name -> number of feature dimensions.
        regression: whether the label is a number (else text).
        names: of the fused vector's dimensions.
        slices: of the fused vector, by modality.
        kept: whether each modality's own features are columns too.
    """
    # Fields that cannot be null have no definition levels to write and read: a quarter of the time.
    fields = [
        pa.field("key", pa.string(), nullable=False),
        ("label", pa.float64() if regression else pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("fold", pa.int32()),
        ("present", pa.struct([(name, pa.bool_()) for name in modalities])),
        pa.field("fused", vector_type(len(names)), nullable=False),
    ]
    if kept:
        fields += [pa.field(name, vector_type(d), nullable=False) for name, d in modalities.items()]
    return pa.schema(fields).with_metadata(
        {"names": json.dumps(names), "slices": json.dumps(slices)}
    )


def vectors(values: np.ndarray) -> pa.Array:
    """A fixed-size list array over float32[n, d], without a copy where it is contiguous."""
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=vector_type(values.shape[1]))


def packed_vectors(values: np.ndarray) -> pa.Array:
    """The bytes of each row of float32[n, d], d > 0, without a copy where it is contiguous."""
    rows = np.ascontiguousarray(values, dtype="<f4")
    kind = pa.binary(4 * values.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(rows), [None, pa.py_buffer(rows)])


def unpacked_vectors(column: pa.ChunkedArray) -> np.ndarray:
    """float32[n, d] of what `packed_vectors` made, read-only, without a copy where it can be."""
    rows = _in_one(column)
    size, width = len(rows), rows.type.byte_width // 4
    start = rows.offset * rows.type.byte_width
    return np.frombuffer(rows.buffers()[1], "<f4", size * width, start).reshape(size, width)


def matrix(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """float32[n, d] of a fixed-size list column without nulls, without a copy where it can be."""
    rows = _in_one(column) if isinstance(column, pa.ChunkedArray) else column
    return rows.flatten().to_numpy(zero_copy_only=True).reshape(-1, rows.type.list_size)


def _in_one(column: pa.ChunkedArray) -> pa.Array:
    # `combine_chunks` alone would copy one chunk, too.
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def write_table(path: str, tables: Iterable[pa.Table], schema: pa.Schema) -> int:
    """Write one Parquet file atomically, a row group a table.

    Returns:
        Its size in bytes.
    """
    text = [f.name for f in schema if pa.types.is_string(f.type) and f.name in _REPEATING]
    with storage.making(path) as name:
        with pq.ParquetWriter(
            name,
            schema,
            compression="none",
            use_dictionary=text or False,
            write_statistics=["key"],
            store_schema=True,
            data_page_size=1 << 20,
            version="2.6",
            data_page_version="1.0",
        ) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=max(len(table), 1))
        return os.stat(name).st_size


_REPEATING = {"source", "split", "group", "label", "step", "kind"}


def read_table(path: str, columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file, single-threaded, as it was written."""
    with open_whole(path) if columns is None else open_parquet(path) as file:
        return file.read(columns=columns, use_threads=False)


def read_features(path: str) -> np.ndarray:
    """float32[n, d] of a file of features, read-only."""
    with open_whole(path) as file:
        return unpacked_vectors(file.read(["features"], use_threads=False).column(0))


def read_tables(paths: list[str], columns: list[str] | None = None) -> list[pa.Table]:
    """Read some Parquet files, as `read_table` does; remote ones at once."""
    return list(storage.side_by_side(lambda path: read_table(path, columns), paths))


def open_parquet(path: str) -> pq.ParquetFile:
    """Open a Parquet file on any storage, remote ones by ranges; to be used in a `with`."""
    # Read before it is asked for, columns of several row groups take fewer requests; but what was
    # read last stays in memory.
    if storage.is_local(path):
        return pq.ParquetFile(storage.local(path), memory_map=False, pre_buffer=False)
    return pq.ParquetFile(storage.open_file(path), pre_buffer=True)


def open_whole(path: str) -> pq.ParquetFile:
    """Open a Parquet file of which nearly all is wanted: a remote one is read by one request."""
    if storage.is_local(path):
        return open_parquet(path)
    return pq.ParquetFile(pa.BufferReader(storage.read_bytes(path)))


def metadata(schema: pa.Schema, name: str) -> Any:
    """One JSON value of a file's schema metadata."""
    return json.loads((schema.metadata or {})[name.encode()])
