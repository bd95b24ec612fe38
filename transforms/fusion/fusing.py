"""Fuse: statistics of joined buckets, the fit from their sum, and the fused files."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from schemas import storage
from schemas.arrays import load_arrays, save_arrays
from schemas.layout import FUSED, Layout
from schemas.plan import Plan
from schemas.receipts import Receipt, fingerprint, once
from schemas.tables import fused_schema, vectors, write_table
from transforms.fusion.joining import Joined, feature_names, join_bucket
from transforms.fusion.moments import Moments, merge_all
from transforms.fusion.splitting import Splits
from transforms.fusion.strategies import Fusion, fit, needs

GROUP = 4  # buckets whose sums are merged by one process: fewer files of second moments

Upstream = dict[str, str]
"""Fingerprint of each modality's features (and the target's records) in one bucket."""


def needs_statistics(plan: Plan) -> bool:
    """Whether the recipe's fusion has anything to learn."""
    return any(_needed(plan, m.name) != "nothing" for m in plan.modalities)


def _needed(plan: Plan, name: str) -> str:
    return needs(plan.recipe.fuse, plan.recipe.join.missing, name)


def group_statistics(plan: Plan, upstream: dict[int, Upstream], splits: Splits) -> Receipt:
    """Moments of each modality over the training rows of a group of consecutive buckets.

    Args:
        plan: of the run.
        upstream: bucket -> fingerprints of what is joined.
        splits: who is in training.
    """
    layout = Layout(plan.output, plan.buckets)
    buckets = sorted(upstream)
    own = fingerprint(
        plan.fingerprints["join"], splits.fingerprint, [[b, upstream[b]] for b in buckets]
    )

    def work() -> tuple[dict[str, int], dict[str, int]]:
        sums: dict[str, Moments] = {}
        rows = 0
        for bucket in buckets:
            joined = join_bucket(plan, bucket, splits)
            training = joined.fold >= 0
            rows += int(training.sum())
            for name in (modality.name for modality in plan.modalities):
                needed = _needed(plan, name)
                if needed != "nothing":
                    own = Moments.of(joined.present_features(name, training), needed == "full")
                    sums[name] = merge_all([sums[name], own]) if name in sums else own
        arrays: dict[str, np.ndarray] = {}
        for name, total in sums.items():
            arrays |= total.to_arrays(name)
        path = layout.statistics(FUSED, buckets[0])
        return {"training_rows": rows}, {path: save_arrays(path, arrays)}

    return once(layout, "join", FUSED, buckets[0], own, work)


def finish_fusion(plan: Plan, parts: list[Receipt]) -> Receipt:
    """Merge the groups' moments in bucket order, fit the fusion and save it.

    With no parts (a fusion that learns nothing) it is made from the recipe alone.
    """
    layout = Layout(plan.output, plan.buckets)
    parts = sorted(parts, key=lambda part: part.bucket)
    names = {m.name: feature_names(plan, m.name) for m in plan.modalities}
    own = fingerprint(plan.fingerprints["fuse"], [part.fingerprint for part in parts], names)

    def work() -> tuple[dict[str, int], dict[str, int]]:
        totals: dict[str, Moments] = {}
        for part in parts:
            arrays = load_arrays(layout.statistics(FUSED, part.bucket))
            for name in names:
                if any(key.startswith(f"{name}/") for key in arrays):
                    one = Moments.from_arrays(name, arrays)
                    totals[name] = merge_all([totals[name], one]) if name in totals else one
        dims = {name: len(own_names) for name, own_names in names.items()}
        fusion = fit(plan.recipe.fuse, plan.recipe.join.missing, totals, dims, names)
        arrays_path, meta_path = layout.fitted("fusion.npz"), layout.fitted("fusion.json")
        data = json.dumps(fusion.to_json(), indent=1, sort_keys=True).encode()
        storage.write_bytes(meta_path, data)
        return {}, {
            arrays_path: save_arrays(arrays_path, fusion.to_arrays()),
            meta_path: len(data),
        }

    return once(layout, "fitted", FUSED, 0, own, work)


def load_fusion(output: str) -> Fusion:
    """The fusion that `finish_fusion` saved in an output."""
    layout = Layout(output, 1)
    meta = json.loads(storage.read_bytes(layout.fitted("fusion.json")))
    return Fusion.load(load_arrays(layout.fitted("fusion.npz")), meta)


def fuse_bucket(
    plan: Plan, bucket: int, upstream: Upstream, splits: Splits, fusion: Fusion, fitted: str
) -> Receipt:
    """Write the fused rows of one bucket.

    Args:
        plan: of the run.
        bucket: number of the bucket.
        upstream: fingerprints of what is joined.
        splits: who is in training, test and which fold.
        fusion: how modalities become one vector.
        fitted: fingerprint of the fusion.

    Returns:
        The receipt, with counts keys, fused, dropped, labelled, labels_without_records and, for
        each modality, present/NAME.
    """
    layout = Layout(plan.output, plan.buckets)
    own = fingerprint(plan.fingerprints["fuse"], bucket, upstream, splits.fingerprint, fitted)

    def work() -> tuple[dict[str, int], dict[str, int]]:
        joined = join_bucket(plan, bucket, splits)
        path = layout.fused(bucket)
        size = _write_fused(plan, joined, fusion, path)
        counts = {
            "keys": len(joined.keys) + joined.dropped,
            "fused": len(joined.keys),
            "dropped": joined.dropped,
            "labelled": len(joined.keys) - joined.label.null_count,
            "labels_without_records": joined.labels_without_records,
        }
        for i, modality in enumerate(plan.modalities):
            counts[f"present/{modality.name}"] = int(joined.present[:, i].sum())
        return counts, {path: size}

    return once(layout, "fuse", FUSED, bucket, own, work)


def _write_fused(plan: Plan, joined: Joined, fusion: Fusion, target: str) -> int:
    recipe = plan.recipe
    blocks = {m.name: joined.features(m.name) for m in plan.modalities}
    if not len(joined.keys):
        fused = np.zeros((0, fusion.dimension), np.float32)
    else:
        fused = fusion.apply(blocks, joined.present)
    new = plan.fitted is not None  # new records are in no split
    columns = [
        joined.keys,
        joined.label,
        joined.group,
        pa.nulls(len(joined.keys), pa.string())
        if new
        else pa.DictionaryArray.from_arrays(
            pa.array((joined.fold >= 0).astype(np.int8)), pa.array(["test", "train"])
        ).cast(pa.string()),
        pa.array(joined.fold, pa.int32(), mask=(joined.fold < 0) | new),
        pa.StructArray.from_arrays(
            [pa.array(joined.present[:, i]) for i in range(len(plan.modalities))],
            [m.name for m in plan.modalities],
        ),
        vectors(fused),
    ]
    kept = recipe.fuse.keep_modalities
    if kept:
        for i, modality in enumerate(plan.modalities):
            columns.append(_own_features(blocks[modality.name], joined.present[:, i]))
    schema = fused_schema(
        {name: block.shape[1] for name, block in blocks.items()},
        recipe.target is not None and recipe.target.task == "regression",
        fusion.names,
        fusion.slices,
        kept,
    )
    label = schema.get_field_index("label")
    columns[label] = columns[label].cast(schema.field(label).type)
    return write_table(target, [pa.table(columns, schema=schema)], schema)


def _own_features(values: np.ndarray, present: np.ndarray) -> pa.Array:
    """A modality's own features; zeros where it is missing, as few readers take null vectors."""
    return vectors(np.where(present[:, None], values, np.float32(0)))
