"""Extract one bucket of one modality: read records, decode, fit or transform, pool, write.

Every payload is decoded once, however many extractors read it, and only one batch of payloads is
in memory besides those being read ahead.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.arrays import below, load_arrays, prefixed, save_arrays
from schemas.layout import Layout
from schemas.plan import ModalityPlan, Plan
from schemas.receipts import Receipt, fingerprint, once
from schemas.recipe import PayloadModality
from schemas.tables import (
    features_schema,
    has_payload,
    open_parquet,
    vectors,
    write_table,
)
from transforms.extractors import build, feature_names, identity
from transforms.extractors.base import BadRecord, Batch, Context, Extractor, State
from transforms.extractors.pooling import Pooled
from transforms.records import payloads
from transforms.records.letters import dead_letters, write_dead_letters

# Rows decoded at once; of videos, frames. They bound memory, and are part of nothing's result.
BATCH = {"image": 64, "audio": 64, "video": 64, "text": 256, "series": 64}
BATCH |= {"table": 4096, "vector": 4096}
DECODED = 64 << 20  # bytes of decoded images or recordings that are enough for a batch

MERGE = 16  # states of batches merged at once: bounds memory, and fixes the order of sums

Training = Callable[[pa.Array], np.ndarray]
"""Keys of a bucket, sorted and with repetitions -> bool[n], whether they are training rows."""


def context_of(modality: ModalityPlan) -> Context:
    """What extractors may know of a modality."""
    if modality.recipe.kind in ("audio", "series"):
        return Context(rate=modality.recipe.rate)
    if modality.recipe.kind == "table":
        return Context(columns=dict(modality.source.columns))
    if modality.recipe.kind == "vector":
        from transforms.extractors.vector.decoding import dimension_names

        names = dimension_names(modality.source.columns, modality.widths)
        return Context(columns=dict.fromkeys(names, "number"))
    return Context()


def extractors_of(modality: ModalityPlan) -> list[tuple[str, Extractor]]:
    """The modality's extractors with the names that the recipe gives them."""
    names = [name for name, _ in modality.recipe.extract.named()]
    return list(zip(names, build(modality.recipe, context_of(modality)), strict=True))


def rounds(modality: ModalityPlan) -> int:
    """Passes over the training rows that the modality's extractors need; 0 if none learns."""
    return max(extractor.rounds for _, extractor in extractors_of(modality))


def extract_identity(modality: ModalityPlan) -> dict:
    """What the features depend on besides the records, JSON-ready, for fingerprints."""
    found = extractors_of(modality)
    recipe = modality.recipe.model_dump(mode="json", exclude={"source", "payload"})
    # A model is what is in its file, wherever that lies.
    recipe["extract"].get("onnx", {}).pop("path", None)
    return {
        "recipe": recipe,
        "columns": modality.source.columns,
        "widths": modality.widths,
        "extractors": [identity(extractor) for _, extractor in found],
    }


# --- batches of decoded records --------------------------------------------------------------


@dataclass
class _Decoded:
    """A batch with where its rows come from; rows that could not be decoded are left out."""

    batch: Batch
    rows: pa.Table  # key, source, row of the decoded
    lost: list[tuple[pa.Table, list[BadRecord]]]


def decoded_batches(plan: Plan, modality: ModalityPlan, bucket: int) -> Iterator[_Decoded]:
    """Decoded records of a bucket, in order, a batch at a time."""
    path = Layout(plan.output, plan.buckets).records(modality.name, bucket)
    size = max(1, BATCH[modality.recipe.kind] // getattr(modality.recipe, "frames", 1))
    with open_parquet(path) as file:
        batches = file.iter_batches(size, use_threads=False)
        tables = (pa.Table.from_batches([batch]) for batch in batches)
        if has_payload(modality.source):
            yield from _decode_payloads(modality, tables)
        else:
            for table in tables:
                yield from _decode_values(modality, table)


def _decode_values(modality: ModalityPlan, rows: pa.Table) -> Iterable[_Decoded]:
    where = rows.select(["key", "source", "row"])
    values = rows.select(list(modality.source.columns))
    if modality.recipe.kind == "table":
        return [_Decoded(Batch(values), where, [])]
    if modality.recipe.kind == "vector":
        from transforms.extractors.vector.decoding import decode_columns

        return [_without(where, *decode_columns(values, modality.widths))]
    if modality.recipe.kind == "series":
        from transforms.extractors.series.decoding import decode_lists

        return [_without(where, *decode_lists(values, modality.recipe.max_length))]
    from transforms.extractors.text.decoding import check

    columns = [pc.fill_null(values.column(name), "") for name in values.column_names]
    texts = pc.binary_join_element_wise(*columns, "\n") if len(columns) > 1 else columns[0]
    return _each(modality, where, texts.to_pylist(), check)


def _decode_payloads(modality: ModalityPlan, tables: Iterator[pa.Table]) -> Iterator[_Decoded]:
    recipe = modality.recipe
    assert isinstance(recipe, PayloadModality)
    # Imported by name, so that a recipe without images needs no image library.
    module = importlib.import_module(f"transforms.extractors.{recipe.kind}.decoding")
    if recipe.payload == "embed":
        for table in tables:
            found = table.column("payload").to_pylist()
            yield from _each(
                modality, table.select(["key", "source", "row", "uri"]), found, module.decode
            )
        return
    # Rows hold only paths here, so a whole bucket of them is small.
    batches = list(tables)
    position = {name: i for i, name in enumerate(modality.source.names)}
    paths = [
        payloads.locate(
            modality.source,
            np.array([position[name] for name in table.column("source").to_pylist()], int),
            table.column("uri").to_pylist(),
        )
        for table in batches
    ]
    fetched = payloads.fetch_ahead(paths, recipe.max_bytes)
    for table, found in zip(batches, fetched, strict=True):
        yield from _each(
            modality, table.select(["key", "source", "row", "uri"]), found, module.decode
        )


def _each(
    modality: ModalityPlan, where: pa.Table, found: list, decode: Callable
) -> Iterator[_Decoded]:
    """Decode one by one: libraries for files take one at a time.

    What is decoded goes on once it is large: a few photographs and not a whole batch.
    """
    items, wrong, start, size = [], {}, 0, 0
    for i, one in enumerate(found):
        try:
            if isinstance(one, BadRecord):
                raise one
            items.append(decode(one, modality.recipe))
        except BadRecord as bad:
            items.append(None)
            wrong[i - start] = bad
        size += getattr(items[-1], "nbytes", 0)
        if size >= DECODED or i == len(found) - 1:
            yield _without(where.slice(start, len(items)), items, wrong)
            items, wrong, start, size = [], {}, i + 1, 0


def _without(where: pa.Table, items: list | np.ndarray, wrong: dict[int, BadRecord]) -> _Decoded:
    """The rows that can be used; the others, by position, with what is wrong."""
    if not wrong:
        return _Decoded(Batch(items), where, [])
    keep = ~np.isin(np.arange(len(where)), list(wrong))
    lost = [(where.filter(pa.array(~keep)), [wrong[i] for i in sorted(wrong)])]
    return _Decoded(_masked(Batch(items), keep), where.filter(pa.array(keep)), lost)


# --- fit ---------------------------------------------------------------------------------------


def fit_bucket(
    plan: Plan, records: Receipt, number: int, before: str, training: Training, splits: str
) -> Receipt:
    """Sums of one bucket's training rows for every extractor that learns.

    Args:
        plan: of the run.
        records: the receipt of the bucket's records.
        number: of the round, from 1.
        before: fingerprint of what the rounds before have learnt; empty in the first.
        training: which keys are training rows.
        splits: fingerprint of the split into training and test.
    """
    modality = plan.modality(records.modality)
    layout = Layout(plan.output, plan.buckets)
    own = fingerprint(
        plan.fingerprints[f"extract/{modality.name}"], records.fingerprint, splits, before
    )
    learners = _learners(plan, modality, number)

    def work() -> tuple[dict[str, int], dict[str, int]]:
        states: dict[str, list[State]] = {name: [] for name, _ in learners}
        rows = 0
        for decoded in decoded_batches(plan, modality, records.bucket):
            mask = training(decoded.rows.column("key").combine_chunks())
            if not mask.any():
                continue
            batch = _masked(decoded.batch, mask)
            rows += len(batch)
            for name, extractor in learners:
                states[name].append(extractor.partial(batch))
                if len(states[name]) == MERGE:
                    states[name] = [extractor.merge(states[name])]
        arrays: dict[str, np.ndarray] = {}
        for name, extractor in learners:
            if states[name]:
                arrays |= prefixed(name, extractor.merge(states[name]))
        path = layout.statistics(_round(modality.name, number), records.bucket)
        return {"training_rows": rows}, {path: save_arrays(path, arrays)}

    return once(layout, "fit", _round(modality.name, number), records.bucket, own, work)


def finish_fit(plan: Plan, name: str, number: int, parts: list[Receipt]) -> Receipt:
    """Merge the buckets' sums in bucket order, finish a round of the fit and save it.

    Returns:
        A receipt whose fingerprint stands for what was fitted.
    """
    modality = plan.modality(name)
    layout = Layout(plan.output, plan.buckets)
    parts = sorted(parts, key=lambda part: part.bucket)
    own = fingerprint([part.fingerprint for part in parts])
    learners = _learners(plan, modality, number)

    def work() -> tuple[dict[str, int], dict[str, int]]:
        merged: dict[str, State] = {}
        for part in parts:
            arrays = load_arrays(layout.statistics(_round(name, number), part.bucket))
            for label, extractor in learners:
                state = below(label, arrays)
                if state:
                    before = [merged[label]] if label in merged else []
                    merged[label] = extractor.merge([*before, state])
        fitted = load_arrays(_fitted_path(plan, name, number - 1)) if number > 1 else {}
        for label, extractor in learners:
            # An empty merge: no training row at all has this modality.
            state = merged[label] if label in merged else extractor.merge([])
            fitted |= prefixed(label, extractor.finish(state))
        path = _fitted_path(plan, name, number)
        return {}, {path: save_arrays(path, fitted)}

    return once(layout, "fitted", _round(name, number), 0, own, work)


def _round(name: str, number: int) -> str:
    return f"{name}/round-{number}"


def _learners(plan: Plan, modality: ModalityPlan, number: int) -> list[tuple[str, Extractor]]:
    """The extractors that take part in a round, with what the rounds before have learnt."""
    learners = [(name, e) for name, e in extractors_of(modality) if e.rounds >= number]
    if number > 1:
        learnt = load_arrays(_fitted_path(plan, modality.name, number - 1))
        for name, extractor in learners:
            extractor.load(below(name, learnt))
    return learners


def _masked(batch: Batch, mask: np.ndarray) -> Batch:
    if mask.all():
        return batch
    if isinstance(batch.items, list):
        return Batch([item for item, wanted in zip(batch.items, mask, strict=True) if wanted])
    if isinstance(batch.items, pa.Table):
        return Batch(batch.items.filter(pa.array(mask)))
    return Batch(batch.items[mask])


# --- transform ---------------------------------------------------------------------------------


def extract_bucket(plan: Plan, records: Receipt, fitted: str | None) -> Receipt:
    """Write the features of one bucket, one row a key, and its dead letters.

    Args:
        plan: of the run.
        records: the receipt of the bucket's records.
        fitted: fingerprint of what the extractors learnt, or None if they learn nothing.

    Returns:
        The receipt, with counts records, features, pooled, dead_letters: pooled is how many
        rows went into another row of the same key.
    """
    modality = plan.modality(records.modality)
    layout = Layout(plan.output, plan.buckets)
    own = fingerprint(
        plan.fingerprints[f"extract/{modality.name}"], records.fingerprint, fitted or ""
    )

    def work() -> tuple[dict[str, int], dict[str, int]]:
        extractors = extractors_of(modality)
        last = rounds(modality)
        arrays = load_arrays(_fitted_path(plan, modality.name, last)) if fitted else {}
        for name, extractor in extractors:
            if extractor.rounds:
                extractor.load(below(name, arrays))
        names, slices = feature_names(extractors)
        pooled = Pooled(modality.recipe.duplicates, len(names), records.counts["records"])
        letters: list[pa.Table] = []
        seen = 0
        for decoded in decoded_batches(plan, modality, records.bucket):
            letters += [dead_letters(rows, "extract", wrong) for rows, wrong in decoded.lost]
            seen += len(decoded.rows) + sum(len(rows) for rows, _ in decoded.lost)
            if not len(decoded.batch):
                continue
            values = pooled.room(len(decoded.batch))
            failures = transform_batch(extractors, slices, decoded.batch, values)
            rows = decoded.rows
            if failures:
                keep = np.ones(len(values), bool)
                keep[list(failures)] = False
                wrong = [failures[i] for i in sorted(failures)]
                letters.append(dead_letters(rows.filter(pa.array(~keep)), "extract", wrong))
                rows, values = rows.filter(pa.array(keep)), values[keep]
            pooled.add(rows.column("key"), values)
        keys, matrix, merged = pooled.result()

        path = layout.features(modality.name, records.bucket)
        schema = features_schema(names, slices)
        table = pa.table([keys, vectors(matrix)], schema=schema)
        files = {path: write_table(path, [table], schema)}
        dead_path = layout.dead_letters("extract", modality.name, records.bucket)
        dead, dead_files = write_dead_letters(dead_path, letters)
        counts = {
            "records": seen,
            "features": len(keys),
            "pooled": merged,
            "dead_letters": dead,
        }
        return counts, files | dead_files

    return once(layout, "extract", modality.name, records.bucket, own, work)


def _fitted_path(plan: Plan, name: str, number: int) -> str:
    """What a round has learnt: of the last it is what `transform` needs, and stays."""
    layout = Layout(plan.fitted or plan.output, plan.buckets)
    if number < rounds(plan.modality(name)):
        return layout.at("statistics", name, f"round-{number}.npz")
    return layout.fitted(f"{name}.npz")


def transform_batch(
    extractors: list[tuple[str, Extractor]],
    slices: dict[str, tuple[int, int]],
    batch: Batch,
    out: np.ndarray,
) -> dict[int, BadRecord]:
    """Write all extractors' numbers of one batch side by side to `out`, float32[n, d].

    Returns:
        What is wrong with the rows that have no usable numbers.
    """
    for name, extractor in extractors:
        start, stop = slices[name]
        try:
            out[:, start:stop] = extractor.transform(batch)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  a user's code may raise anything
            out[:, start:stop] = _row_by_row(name, extractor, batch, stop - start, error)
    with np.errstate(over="ignore", invalid="ignore"):
        # A sum that is finite has finite terms; only of the others each term is looked at.
        suspects = np.flatnonzero(~np.isfinite(out.sum(axis=1)))
    for row in suspects.tolist():
        if not np.isfinite(out[row]).all():
            batch.fail(row, "not_finite", "the features are not finite numbers")
    return batch.failures


def _row_by_row(
    name: str, extractor: Extractor, batch: Batch, width: int, error: Exception
) -> np.ndarray:
    """Find the rows that make an extractor raise; the others keep their numbers."""
    values = np.zeros((len(batch), width), np.float32)
    for row in range(len(batch)):
        mask = np.zeros(len(batch), bool)
        mask[row] = True
        alone = Batch(_masked(batch, mask).items)
        try:
            values[row : row + 1] = extractor.transform(alone)
        except MemoryError:
            raise
        except Exception as own:  # noqa: BLE001  see above
            message = f"{name} raised {type(own).__name__}: {own}"
            batch.fail(row, "extractor_error", message)
        for bad in alone.failures.values():
            batch.fail(row, bad.kind, bad.message)
    if not batch.failures:
        # No row raises alone: the extractor's results depend on the batch, which is its fault.
        raise error
    return values
