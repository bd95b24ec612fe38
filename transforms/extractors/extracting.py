"""Extract one bucket of one modality: read records, fit or transform, pool, write."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from schemas.arrays import below, load_arrays, prefixed, save_arrays
from schemas.errors import DataError
from schemas.layout import Layout
from schemas.plan import ModalityPlan, Plan
from schemas.receipts import Receipt, fingerprint, once
from schemas.tables import features_schema, packed_vectors, write_table
from transforms.extractors import build, feature_names, identity
from transforms.extractors.base import BadRecord, Batch, Context, Extractor, State
from transforms.extractors.batches import decoded_batches, masked
from transforms.extractors.pooling import Pooled
from transforms.records.letters import dead_letters, write_dead_letters

MERGE = 16  # states of batches merged at once: bounds memory, and fixes the order of sums
MERGED = 16 << 20  # bytes of buckets' states that are merged at once, for the same two reasons

Training = Callable[[int, pa.Array], np.ndarray]
"""A bucket and some keys of it -> bool[n], whether they are training rows."""


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
        "columns": list(modality.source.columns.items()),  # features lie in their order
        "widths": modality.widths,
        "extractors": [identity(extractor) for _, extractor in found],
    }


# --- fit ---------------------------------------------------------------------------------------


def fit_buckets(
    plan: Plan, records: list[Receipt], number: int, before: str, training: Training, splits: str
) -> Receipt:
    """Sums of some buckets' training rows for every extractor that learns.

    Args:
        plan: of the run.
        records: the receipts of a modality's records in consecutive buckets.
        number: of the round, from 1.
        before: fingerprint of what the rounds before have learnt; empty in the first.
        training: which keys are training rows.
        splits: fingerprint of the split into training and test.
    """
    modality, first = plan.modality(records[0].modality), records[0].bucket
    layout = Layout(plan.output, plan.buckets)
    own = fingerprint(
        plan.fingerprints[f"extract/{modality.name}"],
        [one.fingerprint for one in records],
        splits,
        before,
    )
    learners = _learners(plan, modality, number)

    def work() -> tuple[dict[str, int], dict[str, int]]:
        states: dict[str, list[State]] = {name: [] for name, _ in learners}
        rows = 0
        for bucket in range(first, first + len(records)):
            for decoded in decoded_batches(plan, modality, bucket):
                mask = training(bucket, decoded.rows.column("key").combine_chunks())
                if not mask.any():
                    continue
                batch = masked(decoded.batch, mask)
                rows += len(batch)
                for name, extractor in learners:
                    states[name].append(extractor.partial(batch))
                    if len(states[name]) == MERGE:
                        states[name] = [extractor.merge(states[name])]
                del decoded, batch  # they may be large, and the next comes now
        arrays: dict[str, np.ndarray] = {}
        for name, extractor in learners:
            if states[name]:
                arrays |= prefixed(name, extractor.merge(states[name]))
        path = layout.statistics(_round(modality.name, number), first)
        return {"training_rows": rows}, {path: save_arrays(path, arrays)}

    return once(layout, "fit", _round(modality.name, number), first, own, work)


def merge_fits(plan: Plan, number: int, name: str, parts: list[Receipt], size: int) -> Receipt:
    """The sums of consecutive groups of buckets merged into one file, in their order.

    Args:
        plan: of the run.
        number: of the round, from 1.
        name: of the modality.
        parts: receipts of the groups' sums, in order.
        size: buckets of all these.
    """
    layout, first = Layout(plan.output, plan.buckets), parts[0].bucket
    own = fingerprint([part.fingerprint for part in parts])
    step = f"{_round(name, number)}/of-{size}"

    def work() -> tuple[dict[str, int], dict[str, int]]:
        arrays: dict[str, np.ndarray] = {}
        for label, state in _merged(layout, _learners(plan, plan.modality(name), number), parts):
            arrays |= prefixed(label, state)
        path = layout.statistics(step, first)
        return {}, {path: save_arrays(path, arrays)}

    return once(layout, "fit", step, first, own, work)


def _merged(
    layout: Layout, learners: list[tuple[str, Extractor]], parts: list[Receipt]
) -> Iterator[tuple[str, State]]:
    """What each extractor has learnt in all parts, if it has; a few files are in memory."""
    found: dict[str, list[State]] = {}
    size = 0
    for part in parts:
        arrays = load_arrays(layout.at(*part.files))
        size += sum(array.nbytes for array in arrays.values())
        for label, _ in learners:
            if state := below(label, arrays):
                found.setdefault(label, []).append(state)
        if size >= MERGED:
            found = {name: [e.merge(found[name])] for name, e in learners if name in found}
            size = 0
    for label, extractor in learners:
        if label in found:
            yield label, extractor.merge(found[label])


def finish_fit(plan: Plan, name: str, number: int, parts: list[Receipt]) -> Receipt:
    """Merge the sums in the order of their buckets, finish a round of the fit and save it.

    Returns:
        A receipt whose fingerprint stands for what was fitted.
    """
    modality = plan.modality(name)
    layout = Layout(plan.output, plan.buckets)
    own = fingerprint([part.fingerprint for part in parts])
    learners = _learners(plan, modality, number)

    def work() -> tuple[dict[str, int], dict[str, int]]:
        merged = dict(_merged(layout, learners, parts))
        fitted = load_arrays(_learnt_path(plan, name, number - 1)) if number > 1 else {}
        for label, extractor in learners:
            # An empty merge: no training row at all has this modality.
            state = merged[label] if label in merged else extractor.merge([])
            fitted |= prefixed(label, extractor.finish(state))
        path = _learnt_path(plan, name, number)
        return {}, {path: save_arrays(path, fitted)}

    return once(layout, "fitted", _round(name, number), 0, own, work)


def _round(name: str, number: int) -> str:
    return f"{name}/round-{number}"


def _learners(plan: Plan, modality: ModalityPlan, number: int) -> list[tuple[str, Extractor]]:
    """The extractors that take part in a round, with what the rounds before have learnt."""
    learners = [(name, e) for name, e in extractors_of(modality) if e.rounds >= number]
    if number > 1:
        learnt = load_arrays(_learnt_path(plan, modality.name, number - 1))
        for name, extractor in learners:
            extractor.load(below(name, learnt))
    return learners


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

    Raises:
        DataError: if the extractors give no numbers at all.
    """
    modality = plan.modality(records.modality)
    layout = Layout(plan.output, plan.buckets)
    own = fingerprint(
        plan.fingerprints[f"extract/{modality.name}"], records.fingerprint, fitted or ""
    )

    def work() -> tuple[dict[str, int], dict[str, int]]:
        extractors = extractors_of(modality)
        arrays = load_arrays(_fitted_path(plan, modality.name)) if fitted else {}
        for name, extractor in extractors:
            if extractor.rounds:
                extractor.load(below(name, arrays))
        names, slices = feature_names(extractors)
        if not names:
            raise DataError(
                f"{modality.name}: its extractors give no numbers, so it has no features: choose "
                "others, or leave it out"
            )
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
            del decoded  # it may be large, and the next comes now
        keys, matrix, merged = pooled.result()

        path = layout.features(modality.name, records.bucket)
        schema = features_schema(names, slices)
        table = pa.table([keys, packed_vectors(matrix)], schema=schema)
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


def _learnt_path(plan: Plan, name: str, number: int) -> str:
    """What the rounds up to one have learnt; that of the last stays."""
    if number == rounds(plan.modality(name)):
        return _fitted_path(plan, name)
    return Layout(plan.output, plan.buckets).at("statistics", name, f"round-{number}.npz")


def _fitted_path(plan: Plan, name: str) -> str:
    """What `transform` needs: of new records, it is in the output that was trained."""
    return Layout(plan.fitted or plan.output, plan.buckets).fitted(f"{name}.npz")


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
        alone = Batch(masked(batch, mask).items)
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
