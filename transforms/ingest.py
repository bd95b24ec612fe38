"""Ingest: manifest rows -> key buckets -> records, one branch a modality."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise

import apache_beam as beam
import numpy as np
import pyarrow as pa

from schemas import storage
from schemas.errors import DataError
from schemas.layout import Layout
from schemas.plan import Plan
from schemas.receipts import Receipt
from transforms.records.ingesting import ingest_bucket, source_of
from transforms.records.keys import buckets
from transforms.records.sources import Part, parts, read_part

Bucketed = tuple[tuple[str, int], bytes]
"""((modality, bucket), rows as an Arrow stream, or nothing)."""

Work = tuple[int, tuple[str, Part | None, bool]]
"""(number, (modality, part of its source if it has any, whether it is the first))."""


class ReadRows(beam.PTransform):
    """Rows of all manifests, cut by the bucket of their key.

    The first part of a modality gives an element for each bucket, if need be an empty one: so
    each bucket has its files even where it has no rows, and a runner that deals keys out in the
    order of their arrival gives equal shares of each modality to all workers.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        return (
            begin
            | beam.Impulse()
            | "Parts" >> beam.FlatMap(parts_of, self.plan, versions()).with_output_types(Work)
            | "Spread" >> beam.GroupByKey()  # so that workers share the parts
            | "Read" >> beam.FlatMap(read_bucketed, self.plan).with_output_types(Bucketed)
        )


def versions() -> dict[str, str]:
    """Versions of what a file's bytes depend on, or what is sent to a worker, in this process."""
    return {
        "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "Apache Beam": beam.__version__,
        "NumPy": np.__version__,
        "PyArrow": pa.__version__,
    }


def parts_of(_: bytes, plan: Plan, launcher: dict[str, str]) -> Iterator[Work]:
    """The parts of all sources, numbered: the first thing that a worker does.

    It leaves a sign of itself, for the launcher that waits for workers.

    Args:
        _: what starts it all.
        plan: of the run.
        launcher: versions there.

    Raises:
        DataError: if the worker's versions are not the launcher's.
    """
    own = versions()
    differ = [f"{n} {own[n]}, not {launcher[n]}" for n in launcher if own[n] != launcher[n]]
    if differ:
        raise DataError(
            f"the workers have other versions than the launcher: {'; '.join(differ)}: install the "
            "same there, or run the launcher where they are the same"
        )
    sign = json.dumps({"host": socket.gethostname()}).encode()
    storage.write_bytes(Layout(plan.output, plan.buckets).begun, sign)
    yield from enumerate(
        (name, part, i == 0)
        for name in plan.branches
        for i, part in enumerate(parts(source_of(plan, name)) or [None])
    )


def read_bucketed(
    numbered: tuple[int, Iterable[tuple[str, Part | None, bool]]], plan: Plan
) -> Iterator[Bucketed]:
    """Rows of one part of a source, cut by bucket."""
    ((name, part, first),) = numbered[1]
    if first:
        for bucket in range(plan.buckets):
            yield (name, bucket), b""
    if part is None:
        return
    for table in read_part(source_of(plan, name), part):
        number = buckets(table.column("key"), plan.buckets)
        order = np.argsort(number, kind="stable")
        rows = table.take(pa.array(order)).combine_chunks()
        ends = np.searchsorted(number[order], np.arange(plan.buckets + 1))
        for bucket, (start, stop) in enumerate(pairwise(ends.tolist())):
            if start < stop:
                yield (name, bucket), to_blob(rows.slice(start, stop - start))


def to_blob(rows: pa.Table) -> bytes:
    """Rows as a compressed Arrow stream: a local runner keeps what it shuffles in memory."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, rows.schema, options=options) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()


class Ingest(beam.PTransform):
    """Records of one modality: grouped rows in, receipts out."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def expand(self, grouped: beam.PCollection) -> beam.PCollection:
        return grouped | "Bucket" >> beam.Map(ingest_grouped, self.plan).with_output_types(Receipt)


def ingest_grouped(grouped: tuple[tuple[str, int], Iterable[bytes]], plan: Plan) -> Receipt:
    """Records of one modality and bucket from its rows."""
    (name, bucket), blobs = grouped
    tables = [pa.ipc.open_stream(blob).read_all() for blob in blobs if blob]
    return ingest_bucket(plan, name, bucket, tables)
