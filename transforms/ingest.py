"""Ingest: manifest rows -> key buckets -> records, one branch a modality."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise

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
from transforms.records.packing import Pack, packing, unpack
from transforms.records.sources import Part, parts, read_part

Bucketed = tuple[tuple[str, int], bytes]
"""((modality, bucket), packed rows, or nothing)."""

BLOCKS = 1024
"""Blocks of consecutive buckets that rows are cut into first, where there are very many buckets."""

MOST_BUCKETS = 4096
"""Most buckets that rows are cut into at once: a batch of 65,536 rows gives each at least 16."""

GATHERED = 131_072
"""Rows of a block that are cut into buckets at once."""

Work = tuple[int, tuple[str, Part | None, bool]]
"""(number, (modality, part of its source if it has any, whether it is the first))."""


class ReadRows(beam.PTransform):
    """Rows of all manifests, cut by the bucket of their key.

    The first part of a modality gives an element for each bucket, if need be an empty one: so
    each bucket has its files even where it has no rows, and a runner that deals keys out in the
    order of their arrival gives equal shares of each modality to all workers.

    With a million buckets a batch of rows would fall into as many elements as it has rows, each
    larger than its row. So where there are more than `MOST_BUCKETS`, rows go by blocks of buckets
    first, and each block is cut into its buckets once its rows are together.

    Args:
        plan: of the run.
        scratch: a folder that all workers share, to which rows go in place of a shuffle; or None.
    """

    def __init__(self, plan: Plan, scratch: str | None) -> None:
        super().__init__()
        self.plan, self.scratch = plan, scratch

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        return (
            begin
            | beam.Impulse()
            | "Parts" >> beam.FlatMap(parts_of, self.plan, versions()).with_output_types(Work)
            | "Spread" >> beam.GroupByKey()  # so that workers share the parts
            | "Read"
            >> beam.FlatMap(read_bucketed, self.plan, self.scratch).with_output_types(Bucketed)
            | CutBlocks(self.plan, self.scratch)
        )


class CutBlocks(beam.PTransform):
    """Rows by block of buckets in, by bucket out; of few buckets each is a block of its own."""

    def __init__(self, plan: Plan, scratch: str | None) -> None:
        super().__init__()
        self.plan, self.scratch = plan, scratch

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        if block_size(self.plan) == 1:
            return rows
        return (
            rows
            | "Blocks" >> beam.GroupByKey()
            | "Cut" >> beam.FlatMap(cut_block, self.plan, self.scratch).with_output_types(Bucketed)
        )


def block_size(plan: Plan) -> int:
    """Buckets of a block."""
    return plan.buckets // BLOCKS if plan.buckets > MOST_BUCKETS else 1


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
    numbered: tuple[int, Iterable[tuple[str, Part | None, bool]]], plan: Plan, scratch: str | None
) -> Iterator[Bucketed]:
    """Rows of one part of a source, cut by block of buckets."""
    ((name, part, first),) = numbered[1]
    size = block_size(plan)
    if first:
        for block in range(plan.buckets // size):
            yield (name, block), b""
    if part is None:
        return
    with packing(scratch) as pack:
        for table in read_part(source_of(plan, name), part):
            for block, rows in cut(table, buckets(table.column("key"), plan.buckets) // size):
                yield (name, block), pack(rows)


def cut(table: pa.Table, number: np.ndarray) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each number, in the order of the numbers, which are int[n].

    The work is that of the rows, however large the numbers are.
    """
    order = np.argsort(number, kind="stable")
    rows, number = table.take(pa.array(order)).combine_chunks(), number[order]
    starts = np.flatnonzero(np.diff(number, prepend=-1)).tolist()
    for start, stop in pairwise([*starts, len(number)]):
        yield int(number[start]), rows.slice(start, stop - start)


def cut_block(
    grouped: tuple[tuple[str, int], Iterable[bytes]], plan: Plan, scratch: str | None
) -> Iterator[Bucketed]:
    """Rows of one block, cut by bucket: an empty element for each bucket, then its rows."""
    (name, block), blobs = grouped
    size = block_size(plan)
    for bucket in range(block * size, (block + 1) * size):
        yield (name, bucket), b""
    with packing(scratch) as pack:
        yield from cut_gathered(name, blobs, plan, pack)


def cut_gathered(name: str, blobs: Iterable[bytes], plan: Plan, pack: Pack) -> Iterator[Bucketed]:
    """Rows cut by bucket, `GATHERED` at a time: so a bucket's share of them is worth an element."""
    tables: list[pa.Table] = []
    gathered = 0
    for blob in chain(blobs, [None]):
        if blob:
            tables.append(unpack(blob))
            gathered += len(tables[-1])
        if tables and (blob is None or gathered >= GATHERED):
            table = pa.concat_tables(tables)
            for bucket, rows in cut(table, buckets(table.column("key"), plan.buckets)):
                yield (name, bucket), pack(rows)
            tables, gathered = [], 0


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
    tables = [unpack(blob) for blob in blobs if blob]
    return ingest_bucket(plan, name, bucket, tables)
