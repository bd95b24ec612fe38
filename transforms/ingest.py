"""Ingest: manifest rows -> key buckets -> records, one branch a modality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import apache_beam as beam
import numpy as np
import pyarrow as pa

from schemas.plan import Plan
from schemas.receipts import Receipt
from transforms.records.ingesting import ingest_bucket, source_of
from transforms.records.keys import buckets
from transforms.records.sources import Part, parts, read_part, rows_schema

Bucketed = tuple[tuple[str, int], bytes]
"""((modality, bucket), rows as one Arrow record batch, or nothing)."""


Work = tuple[int, tuple[str, Part | None]]
"""(number, (modality, part of its source or None))."""


class ReadRows(beam.PTransform):
    """Rows of all manifests, cut by the bucket of their key.

    Every (modality, bucket) also gets an empty element, so that each bucket has its files even
    where it has no rows, and so that keys reach the grouping a modality at a time, which makes
    equal shares for runners that deal them out in turn.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        return (
            begin
            | beam.Impulse()
            | "Parts" >> beam.FlatMap(parts_of, self.plan).with_output_types(Work)
            | "Spread" >> beam.GroupByKey()  # so that workers share the parts
            | "Read" >> beam.FlatMap(read_bucketed, self.plan).with_output_types(Bucketed)
        )


def parts_of(_: bytes, plan: Plan) -> Iterator[Work]:
    """The parts of all sources; first an empty one of each."""
    work: list[tuple[str, Part | None]] = [(name, None) for name in plan.branches]
    for name in plan.branches:
        work += [(name, part) for part in parts(source_of(plan, name))]
    yield from enumerate(work)


def read_bucketed(
    numbered: tuple[int, Iterable[tuple[str, Part | None]]], plan: Plan
) -> Iterator[Bucketed]:
    """Rows of one part of a source, cut by bucket; of an empty one, nothing for each bucket."""
    ((name, part),) = numbered[1]
    if part is None:
        for bucket in range(plan.buckets):
            yield (name, bucket), b""
        return
    for table in read_part(source_of(plan, name), part):
        number = buckets(table.column("key"), plan.buckets)
        order = np.argsort(number, kind="stable")
        rows = table.take(pa.array(order)).combine_chunks()
        ends = np.searchsorted(number[order], np.arange(plan.buckets + 1))
        for bucket, (start, stop) in enumerate(pairwise(ends.tolist())):
            if start < stop:
                batch = rows.slice(start, stop - start).to_batches()[0]
                yield (name, bucket), batch.serialize().to_pybytes()


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
    schema = rows_schema(source_of(plan, name))
    tables = [
        pa.Table.from_batches([pa.ipc.read_record_batch(pa.py_buffer(blob), schema)])
        for blob in blobs
        if blob
    ]
    return ingest_bucket(plan, name, bucket, tables)
