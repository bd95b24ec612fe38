"""Records of a bucket, decoded a batch at a time.

Every payload is decoded once, however many extractors read it, and only one batch of payloads is
in memory besides those being read ahead.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.layout import Layout
from schemas.plan import ModalityPlan, Plan
from schemas.recipe import PayloadModality
from schemas.tables import has_payload, open_parquet
from transforms.extractors.base import BadRecord, Batch
from transforms.records import payloads

# Rows decoded at once; of videos, frames. They bound memory, and are part of nothing's result.
BATCH = {"image": 64, "audio": 64, "video": 64, "text": 256, "series": 64}
BATCH |= {"table": 4096, "vector": 4096}
DECODED = 64 << 20  # bytes of decoded images, recordings or texts that are enough for a batch


@dataclass
class Decoded:
    """A batch with where its rows come from; rows that could not be decoded are left out."""

    batch: Batch
    rows: pa.Table  # key, source, row of the decoded
    lost: list[tuple[pa.Table, list[BadRecord]]]


def decoded_batches(plan: Plan, modality: ModalityPlan, bucket: int) -> Iterator[Decoded]:
    """Decoded records of a bucket, in order, a batch at a time."""
    path = Layout(plan.output, plan.buckets).records(modality.name, bucket)
    size = max(1, BATCH[modality.recipe.kind] // getattr(modality.recipe, "frames", 1))
    with open_parquet(path) as file:
        if has_payload(modality.source):
            # Rows hold only paths here, so a whole bucket of them is small; bytes come apart.
            small = ["key", "source", "row", "uri"]
            batches = list(file.iter_batches(size, columns=small, use_threads=False))
            tables = [pa.Table.from_batches([batch]) for batch in batches]
            yield from _decode_payloads(modality, tables, file)
        else:
            for batch in file.iter_batches(size, use_threads=False):
                yield from _decode_values(modality, pa.Table.from_batches([batch]))


def _decode_values(modality: ModalityPlan, rows: pa.Table) -> Iterable[Decoded]:
    where = rows.select(["key", "source", "row"])
    values = rows.select(list(modality.source.columns))
    if modality.recipe.kind == "table":
        return [Decoded(Batch(values), where, [])]
    if modality.recipe.kind == "vector":
        from transforms.extractors.vector.decoding import decode_columns

        return [_without(where, *decode_columns(values, modality.widths))]
    if modality.recipe.kind == "series":
        from transforms.extractors.series.decoding import decode_lists

        return [_without(where, *decode_lists(values, modality.recipe.max_length))]
    from transforms.extractors.text.decoding import check

    columns = [pc.fill_null(values.column(name), "") for name in values.column_names]
    texts = pc.binary_join_element_wise(*columns, "\n") if len(columns) > 1 else columns[0]
    return _each(modality, where, iter(texts.to_pylist()), check)


def _decode_payloads(
    modality: ModalityPlan, tables: list[pa.Table], file: pq.ParquetFile
) -> Iterator[Decoded]:
    recipe = modality.recipe
    assert isinstance(recipe, PayloadModality)
    # Imported by name, so that a recipe without images needs no image library.
    module = importlib.import_module(f"transforms.extractors.{recipe.kind}.decoding")
    if recipe.payload == "embed":
        embedded = _embedded(file)
        for table in tables:
            yield from _each(modality, table, islice(embedded, len(table)), module.decode)
        return
    position = {name: i for i, name in enumerate(modality.source.names)}
    paths = [
        payloads.locate(
            modality.source,
            np.array([position[name] for name in table.column("source").to_pylist()], int),
            table.column("uri").to_pylist(),
        )
        for table in tables
    ]
    fetched = payloads.fetch_ahead(paths, recipe.max_bytes)
    for table, found in zip(tables, fetched, strict=True):
        yield from _each(modality, table, found, module.decode)


def _embedded(file: pq.ParquetFile) -> Iterator[bytes]:
    """Payloads in a file of records, one row group of them, not yet used, in memory at a time."""
    for group in range(file.num_row_groups):
        values = file.read_row_group(group, ["payload"], use_threads=False)["payload"].to_pylist()
        if sum(map(len, values)) >= DECODED:
            pa.default_memory_pool().release_unused()  # else Arrow keeps as much for the next
        values.reverse()
        while values:  # what is used up is not kept: one may be as large as max_bytes
            yield values.pop()


def _each(
    modality: ModalityPlan, where: pa.Table, found: Iterator, decode: Callable
) -> Iterator[Decoded]:
    """Decode one by one: libraries for files take one at a time.

    What is decoded goes on once it is large: a few photographs and not a whole batch.
    """
    items, wrong, start, size = [], {}, 0, 0
    last = len(where) - 1
    for i, one in enumerate(found):
        try:
            if isinstance(one, BadRecord):
                raise one
            items.append(decode(one, modality.recipe))
        except BadRecord as bad:
            items.append(None)
            wrong[i - start] = bad
        # By no name of its own, which would keep the last one beside the next.
        size += len(items[-1]) if isinstance(items[-1], str) else getattr(items[-1], "nbytes", 0)
        if size >= DECODED or i == last:
            yield _without(where.slice(start, len(items)), items, wrong)
            items, wrong, start, size = [], {}, i + 1, 0


def _without(where: pa.Table, items: list | np.ndarray, wrong: dict[int, BadRecord]) -> Decoded:
    """The rows that can be used; the others, by position, with what is wrong."""
    if not wrong:
        return Decoded(Batch(items), where, [])
    keep = ~np.isin(np.arange(len(where)), list(wrong))
    lost = [(where.filter(pa.array(~keep)), [wrong[i] for i in sorted(wrong)])]
    return Decoded(masked(Batch(items), keep), where.filter(pa.array(keep)), lost)


def masked(batch: Batch, mask: np.ndarray) -> Batch:
    """Some rows of a batch, by bool[n]."""
    if mask.all():
        return batch
    if isinstance(batch.items, list):
        return Batch([item for item, wanted in zip(batch.items, mask, strict=True) if wanted])
    if isinstance(batch.items, pa.Table):
        return Batch(batch.items.filter(pa.array(mask)))
    return Batch(batch.items[mask])
