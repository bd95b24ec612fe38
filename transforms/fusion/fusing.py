"""Fuse: statistics of joined buckets, the fit from their sum, and the fused files."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from schemas import storage
from schemas.arrays import load_arrays, save_arrays
from schemas.layout import FUSED, Layout
from schemas.options.fuse import Compare, Deep
from schemas.plan import Plan
from schemas.receipts import Receipt, fingerprint, once
from schemas.tables import fused_schema, vectors, write_table
from transforms.fusion.collecting import Rows
from transforms.fusion.fitted import Fusion, fusion_of
from transforms.fusion.grouping import group_size
from transforms.fusion.joining import Joined, feature_names, join_bucket
from transforms.fusion.network import Network, network_from
from transforms.fusion.splitting import Splits
from transforms.fusion.strategies import (
    Known,
    Learnt,
    Wanted,
    assemble,
    fit_pass,
    head_of,
    known_of,
    load_known,
    merged,
    passes,
    rows_for,
    wanted,
)
from transforms.fusion.trees import Tree, tree_of

GROUP = 4  # at least so many buckets' sums are in one file: they may be matrices

Upstream = dict[str, str]
"""Fingerprint of each modality's features (and the target's records) in one bucket."""


def tree_of_plan(plan: Plan) -> Tree:
    """The strategy of a run, whose shape is known."""
    fuse = plan.recipe.fuse
    assert not isinstance(fuse, Compare)
    return tree_of(fuse, [modality.name for modality in plan.modalities])


def passes_of(plan: Plan) -> int:
    """Number of passes over the training rows that the recipe's fusion takes."""
    return passes(tree_of_plan(plan), plan.recipe.join.missing)


def statistics_size(plan: Plan) -> int:
    """Buckets of which moments are kept in one file."""
    return group_size(plan.buckets, GROUP)


def needs_statistics(plan: Plan) -> bool:
    """Whether the recipe's fusion has anything to learn."""
    return any(_wanted(plan, level) for level in range(passes_of(plan)))


def _wanted(plan: Plan, level: int) -> list[Wanted]:
    return wanted(tree_of_plan(plan), plan.recipe.join.missing, level)


def group_statistics(
    plan: Plan, upstream: dict[int, Upstream], splits: Splits, level: int, before: str
) -> Receipt:
    """What one pass tells of the training rows of a group of buckets.

    Args:
        plan: of the run.
        upstream: bucket -> fingerprints of what is joined; consecutive buckets.
        splits: who is in training.
        level: number of the pass.
        before: fingerprint of what the passes before have taught; empty at the first.
    """
    layout = Layout(plan.output, plan.buckets)
    buckets = sorted(upstream)
    own = fingerprint(
        plan.fingerprints["join"], splits.fingerprint, [[b, upstream[b]] for b in buckets], before
    )

    def work() -> tuple[dict[str, int], dict[str, int]]:
        wants, learnt = _wanted(plan, level), _load_learnt(plan, level)
        sums: dict[str, Known] = {}
        rows = 0
        for bucket in buckets:
            joined = join_bucket(plan, bucket, splits)
            training = joined.fold >= 0
            rows += int(training.sum())
            for want in wants:
                own = known_of(_rows_for(plan, joined, training, want, learnt), want.need)
                name = want.name
                sums[name] = merged(sums[name], own) if name in sums else own
        arrays: dict[str, np.ndarray] = {}
        for name, total in sums.items():
            arrays |= total.to_arrays(name)
        path = layout.statistics(_level(level), buckets[0])
        return {"training_rows": rows}, {path: save_arrays(path, arrays)}

    return once(layout, "join", _level(level), buckets[0], own, work)


def _rows_for(
    plan: Plan, joined: Joined, training: np.ndarray, want: Wanted, learnt: Learnt
) -> np.ndarray | Rows:
    """What the training rows of a bucket have of what is wanted."""
    if not want.part.parts:
        return joined.present_features(want.part.name, training)
    tree, names = tree_of_plan(plan), [modality.name for modality in plan.modalities]
    head = head_of(tree, want.part)
    blocks = {name: joined.features(name)[training] for name in head.modalities}
    here = {name: joined.present[training, names.index(name)] for name in head.modalities}
    rows = rows_for(tree, want, learnt, blocks, here)
    assert rows is not None, "every modality has features, perhaps of no rows"
    return rows


def merge_statistics(plan: Plan, level: int, name: str, parts: list[Receipt], size: int) -> Receipt:
    """The moments of consecutive groups of buckets merged into one file, in their order.

    Args:
        plan: of the run.
        level: of the parts in the strategy's tree.
        name: nothing that counts; there is one set of moments a level.
        parts: receipts of the groups' moments, in order.
        size: buckets of all these.
    """
    layout, first = Layout(plan.output, plan.buckets), parts[0].bucket
    own = fingerprint([part.fingerprint for part in parts])
    step = f"{_level(level)}/of-{size}"

    def work() -> tuple[dict[str, int], dict[str, int]]:
        arrays: dict[str, np.ndarray] = {}
        for part_name, total in _merged(plan, level, parts).items():
            arrays |= total.to_arrays(part_name)
        path = layout.statistics(step, first)
        return {}, {path: save_arrays(path, arrays)}

    return once(layout, "join", step, first, own, work)


def _merged(plan: Plan, level: int, parts: list[Receipt]) -> dict[str, Known]:
    """What is known from all parts together; one file is in memory at a time."""
    layout = Layout(plan.output, plan.buckets)
    totals: dict[str, Known] = {}
    for part in parts:
        arrays = load_arrays(layout.at(*part.files))
        for want in _wanted(plan, level):
            name, one = want.name, load_known(want, arrays)
            totals[name] = merged(totals[name], one) if name in totals else one
    return totals


def finish_fusion(plan: Plan, parts: list[Receipt], level: int) -> Receipt:
    """Merge what a pass told of the groups, in bucket order, fit what it is for and save that.

    With no parts (a fusion that learns nothing) it is made from the recipe alone. With the
    last pass the fusion is whole.
    """
    layout = Layout(plan.output, plan.buckets)
    names = {m.name: feature_names(plan, m.name) for m in plan.modalities}
    fuse = plan.recipe.fuse
    if isinstance(fuse, Deep):
        return _finish_network(plan, fuse)
    own = fingerprint(plan.fingerprints["fuse"], [part.fingerprint for part in parts], names)

    def work() -> tuple[dict[str, int], dict[str, int]]:
        totals = _merged(plan, level, parts)
        tree = tree_of_plan(plan)
        dims = {name: len(own_names) for name, own_names in names.items()}
        missing = plan.recipe.join.missing
        learnt = fit_pass(tree, missing, level, totals, dims, _load_learnt(plan, level))
        if level + 1 < passes_of(plan):
            return {}, _save(_learnt_path(plan, level), learnt.to_arrays(), learnt.to_json())
        fusion = assemble(tree, learnt, names)
        return {}, _save(layout.fitted("fusion"), fusion.to_arrays(), fusion.to_json())

    return once(layout, "fitted", _level(level), 0, own, work)


def _level(level: int) -> str:
    return f"{FUSED}/level-{level}"


def _learnt_path(plan: Plan, level: int) -> str:
    return Layout(plan.output, plan.buckets).at("statistics", FUSED, f"level-{level}")


def _save(path: str, arrays: dict[str, np.ndarray], meta: Any) -> dict[str, int]:
    data = json.dumps(meta, indent=1, sort_keys=True).encode()
    storage.write_bytes(f"{path}.json", data)
    return {f"{path}.npz": save_arrays(f"{path}.npz", arrays), f"{path}.json": len(data)}


def _load_learnt(plan: Plan, level: int) -> Learnt:
    """What the passes before one have taught."""
    if level == 0:
        return Learnt()
    path = _learnt_path(plan, level - 1)
    meta = json.loads(storage.read_bytes(f"{path}.json"))
    return Learnt.load(load_arrays(f"{path}.npz"), meta)


def _finish_network(plan: Plan, deep: Deep) -> Receipt:
    """Take a network that was trained beforehand for the fusion."""
    layout = Layout(plan.output, plan.buckets)
    path = network_path(plan.output, deep)
    data = storage.read_bytes(path)

    def work() -> tuple[dict[str, int], dict[str, int]]:
        fusion = fusion_of(network_from(data))
        meta = {
            "names": fusion.names,
            "slices": {name: list(ends) for name, ends in fusion.slices.items()},
            "network": layout.relative(path),
        }
        text = json.dumps(meta, indent=1, sort_keys=True).encode()
        storage.write_bytes(layout.fitted("fusion.json"), text)
        return {}, {layout.fitted("fusion.json"): len(text), path: len(data)}

    own = fingerprint(plan.fingerprints["fuse"], data)
    return once(layout, "fitted", _level(0), 0, own, work)


def networks_folder(output: str, deep: Deep) -> str:
    """Where the trained networks of a strategy are."""
    options = deep.model_dump(mode="json", exclude={"keep_modalities"})
    return Layout(output, 1).at("fitted", "networks", fingerprint(options)[:12])


def network_path(output: str, deep: Deep, name: str = "whole") -> str:
    """The file of one of them; `whole` has seen all training rows."""
    return storage.join(networks_folder(output, deep), f"{name}.safetensors")


def load_network(output: str, deep: Deep, name: str = "whole") -> Network:
    """One of the trained networks of a strategy."""
    return network_from(storage.read_bytes(network_path(output, deep, name)))


def load_fusion(output: str) -> Fusion:
    """The fusion that `finish_fusion` saved in an output."""
    layout = Layout(output, 1)
    meta = json.loads(storage.read_bytes(layout.fitted("fusion.json")))
    if "network" in meta:
        return fusion_of(network_from(storage.read_bytes(layout.at(meta["network"]))))
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
    blocks = joined.all_features()
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
