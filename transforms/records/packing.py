"""Rows as they are shuffled: in a few bytes each, or as a reference to where they were put.

A local runner keeps what it shuffles in its own memory, several times over while it is sent on.
Its workers share a disk, so there rows go to a folder for the time of the run, and what is
shuffled is where they are. Workers of a cluster share no disk, and its runner's shuffle is made
for just that: there the rows themselves are sent.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa

Pack = Callable[[pa.Table], bytes]
"""Rows -> what `unpack` makes the same rows of."""

ROWS_FOR_ZSTD = 512


@contextmanager
def packing(scratch: str | None) -> Iterator[Pack]:
    """How rows are packed; what was put away can be unpacked once the block has ended.

    Args:
        scratch: a folder that all workers share, or None.
    """
    if scratch is None:
        yield to_blob
        return
    with tempfile.NamedTemporaryFile(dir=scratch, suffix=".rows", delete=False) as file:

        def put(rows: pa.Table) -> bytes:
            # What is gone soon may never reach the disk: to compress it takes longer than to write.
            blob, start = to_blob(rows, compress=False), file.tell()
            file.write(blob)
            return json.dumps([file.name, start, len(blob)]).encode()

        yield put


def unpack(packed: bytes) -> pa.Table:
    """The rows that were packed."""
    if not packed.startswith(b"["):  # which no Arrow stream does
        return from_blob(packed)
    path, start, size = json.loads(packed)
    with open(path, "rb") as file:
        file.seek(start)
        return from_blob(file.read(size))


def to_blob(rows: pa.Table, compress: bool = True) -> bytes:
    """Rows as an Arrow stream."""
    sink = pa.BufferOutputStream()
    # Of few rows, setting zstd up takes ten times as long as all else; threads are no help either.
    codec = "zstd" if len(rows) >= ROWS_FOR_ZSTD else "lz4"
    options = pa.ipc.IpcWriteOptions(compression=codec if compress else None, use_threads=False)
    with pa.ipc.new_stream(sink, rows.schema, options=options) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()


def from_blob(blob: bytes) -> pa.Table:
    """What `to_blob` was given."""
    options = pa.ipc.IpcReadOptions(use_threads=False)
    with pa.ipc.open_stream(blob, options=options) as stream:
        return stream.read_all()
