"""Ingest one bucket of one modality: sort, settle duplicates, see to payloads, write records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import DataError
from schemas.layout import Layout
from schemas.plan import Plan, SourcePlan
from schemas.receipts import Receipt, fingerprint, once
from schemas.recipe import TARGET, PayloadModality
from schemas.tables import has_payload, records_schema, write_table
from transforms.extractors.base import BadRecord
from transforms.records import payloads
from transforms.records.letters import dead_letters, write_dead_letters
from transforms.records.sources import rows_schema

# A row group of embedded payloads is full at so many rows or bytes; it is in memory as a whole.
EMBED_BATCH = 64
EMBED_BYTES = 64 << 20


def source_of(plan: Plan, name: str) -> SourcePlan:
    """The source of a modality, or of the target."""
    if name == TARGET:
        assert plan.target is not None
        return plan.target
    return plan.modality(name).source


def ingest_bucket(plan: Plan, name: str, bucket: int, tables: Iterable[pa.Table]) -> Receipt:
    """Write the records of one bucket, and its dead letters.

    Args:
        plan: of the run.
        name: of the modality, or `target`.
        bucket: number of the bucket.
        tables: rows as `transforms.records.sources` reads them, in any order.

    Returns:
        The receipt, with counts rows, records, duplicates, dead_letters.

    Raises:
        DataError: if a key has several rows and the recipe does not say what to do.
    """
    layout = Layout(plan.output, plan.buckets)
    source = source_of(plan, name)
    rows = pa.concat_tables([rows_schema(source).empty_table(), *tables])
    rows = rows.take(
        pc.sort_indices(
            rows, sort_keys=[("key", "ascending"), ("source", "ascending"), ("row", "ascending")]
        )
    ).combine_chunks()

    usable = pc.is_null(rows.column("problem"))
    bad = rows.filter(pc.invert(usable))
    told = zip(bad.column("problem").to_pylist(), bad.column("message").to_pylist(), strict=True)
    dead = [dead_letters(_named(source, bad), "ingest", [BadRecord(*one) for one in told])]
    good = rows.filter(usable).drop_columns(["problem", "message"])
    good, duplicates = settle_duplicates(plan, name, good)

    state = kept = np.zeros((0, 2), "<i8")
    embedded, max_bytes = False, 0
    paths: list[str] = []
    if name != TARGET and has_payload(source):
        recipe = plan.modality(name).recipe
        assert isinstance(recipe, PayloadModality)
        embedded, max_bytes = recipe.payload == "embed", recipe.max_bytes
        positions = good.column("source").to_numpy()
        paths = payloads.locate(source, positions, good.column("uri").to_pylist())
        wrong, state = payloads.examine(paths, max_bytes)
        kept = state
        if any(wrong):
            keep = np.array([bad is None for bad in wrong])
            lost = _named(source, good.filter(pa.array(~keep)))
            dead.append(dead_letters(lost, "ingest", [one for one in wrong if one is not None]))
            good, kept = good.filter(pa.array(keep)), state[keep]
            paths = [path for path, bad in zip(paths, wrong, strict=True) if bad is None]

    def work() -> tuple[dict[str, int], dict[str, int]]:
        records, schema = _named(source, good), records_schema(source, embedded)
        parts = (
            [records.select(schema.names)]
            if not embedded
            else _embed(records, paths, schema, max_bytes, dead)
        )
        path = layout.records(name, bucket)
        files = {path: write_table(path, parts, schema)}
        letters = layout.dead_letters("ingest", name, bucket)
        count, letter_files = write_dead_letters(letters, dead)
        counts = {
            "rows": len(rows),
            "records": len(rows) - duplicates - count,
            "duplicates": duplicates,
            "dead_letters": count,
        }
        return counts, files | letter_files

    own = fingerprint(plan.fingerprints[f"ingest/{name}"], bucket, _content(rows), state.tobytes())
    return once(layout, "ingest", name, bucket, own, work, fingerprint(kept.tobytes()))


def settle_duplicates(plan: Plan, name: str, rows: pa.Table) -> tuple[pa.Table, int]:
    """Apply the policy for several rows a key to rows sorted by key.

    Returns:
        The rows kept, and how many were dropped.

    Raises:
        DataError: if the policy is `error` and a key has several rows, or a key several labels.
    """
    keys = rows.column("key").combine_chunks()
    if len(keys) < 2:
        return rows, 0
    same = pc.equal(keys.slice(1), keys.slice(0, len(keys) - 1)).to_numpy(zero_copy_only=False)
    if not same.any():
        return rows, 0
    policy = "agree" if name == TARGET else plan.modality(name).recipe.duplicates
    first = int(np.argmax(same))
    source = source_of(plan, name)
    if policy == "error":
        raise DataError(
            f"{name}: key {keys[first].as_py()!r} has several rows "
            f"({_where(source, rows, first)}; {_where(source, rows, first + 1)}). Choose one with "
            f"modalities.{name}.duplicates: first or last, or pool features: mean or max"
        )
    if policy in ("mean", "max"):
        return rows, 0
    if policy == "agree":
        for column in source.columns:
            values = rows.column(column).combine_chunks()
            differ = same & ~_equal(values.slice(1), values.slice(0, len(values) - 1))
            if differ.any():
                at = int(np.argmax(differ))
                raise DataError(
                    f"target: key {keys[at].as_py()!r} has different values in column {column!r} "
                    f"({_where(source, rows, at)}; {_where(source, rows, at + 1)}): "
                    "a key needs one label"
                )
    keep = np.concatenate([~same, [True]] if policy == "last" else [[True], ~same])
    return rows.filter(pa.array(keep)), int((~keep).sum())


def _named(source: SourcePlan, rows: pa.Table) -> pa.Table:
    """Rows with the names of their source files instead of their positions."""
    position = rows.column("source").combine_chunks()
    names = pa.array(source.names, pa.string()).take(position)
    return rows.set_column(rows.schema.get_field_index("source"), "source", names)


def _embed(
    records: pa.Table, paths: list[str], schema: pa.Schema, max_bytes: int, dead: list[pa.Table]
) -> Iterator[pa.Table]:
    """Records with their payloads, a batch at a time; those without go to `dead`."""
    starts = range(0, len(paths), EMBED_BATCH)
    fetched = payloads.fetch_ahead([paths[s : s + EMBED_BATCH] for s in starts], max_bytes)
    for start, batch in zip(starts, fetched, strict=True):
        got: list[payloads.Payload] = []
        size = 0
        for one in batch:
            got.append(one)
            size += 0 if isinstance(one, BadRecord) else len(one)
            if size >= EMBED_BYTES:
                yield _with_payloads(records.slice(start, len(got)), got, schema, dead)
                start, got, size = start + len(got), [], 0
        if got:
            yield _with_payloads(records.slice(start, len(got)), got, schema, dead)


def _with_payloads(
    rows: pa.Table, got: list[payloads.Payload], schema: pa.Schema, dead: list[pa.Table]
) -> pa.Table:
    wrong = [one for one in got if isinstance(one, BadRecord)]
    if wrong:
        keep = pa.array([not isinstance(one, BadRecord) for one in got])
        dead.append(dead_letters(rows.filter(pc.invert(keep)), "ingest", wrong))
        rows = rows.filter(keep)
    data = pa.array([one for one in got if not isinstance(one, BadRecord)], pa.binary())
    return rows.append_column("payload", data).select(schema.names)


def _content(rows: pa.Table) -> bytes:
    """Bytes that stand for the rows' values; equal rows may differ in them only by chance."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()


def _equal(a: pa.Array, b: pa.Array) -> np.ndarray:
    both = pc.and_(pc.is_null(a), pc.is_null(b))
    return pc.or_(pc.fill_null(pc.equal(a, b), False), both).to_numpy(zero_copy_only=False)


def _where(source: SourcePlan, rows: pa.Table, at: int) -> str:
    file = source.names[rows.column("source")[at].as_py()]
    return f"{file} row {rows.column('row')[at].as_py()}"
