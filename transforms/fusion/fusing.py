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
from transforms.fusion.joining import Joined, feature_names, join_bucket
from transforms.fusion.moments import Moments, merge_all
from transforms.fusion.network import Network, network_from
from transforms.fusion.nodes import Node, arrays_of, json_of, nodes_of
from transforms.fusion.splitting import Splits
from transforms.fusion.strategies import (
    Fusion,
    Need,
    assemble,
    fit_level,
    fusion_of,
    incoming_rows,
    incoming_width,
    needs,
    node_of,
    parts_at,
)
from transforms.fusion.trees import Part, Tree, tree_of

GROUP = 4  # buckets whose sums are merged by one process: fewer files of second moments

Upstream = dict[str, str]
"""Fingerprint of each modality's features (and the target's records) in one bucket."""


def tree_of_plan(plan: Plan) -> Tree:
    """The strategy of a run, whose shape is known."""
    fuse = plan.recipe.fuse
    assert not isinstance(fuse, Compare)
    return tree_of(fuse, [modality.name for modality in plan.modalities])


def needs_statistics(plan: Plan) -> bool:
    """Whether the recipe's fusion has anything to learn."""
    return any(_wanted(plan, level) for level in range(tree_of_plan(plan).levels))


def _wanted(plan: Plan, level: int) -> dict[str, tuple[Part, Need]]:
    """The parts that learn from statistics in one pass over the training rows, and from which."""
    missing = plan.recipe.join.missing
    parts = {part.name: part for part in parts_at(tree_of_plan(plan), level)}
    found = {name: (part, needs(part, missing)) for name, part in parts.items()}
    return {name: (part, need) for name, (part, need) in found.items() if need != "nothing"}


def group_statistics(
    plan: Plan, upstream: dict[int, Upstream], splits: Splits, level: int, before: str
) -> Receipt:
    """Moments of what comes into each part, over the training rows of a group of buckets.

    Args:
        plan: of the run.
        upstream: bucket -> fingerprints of what is joined; consecutive buckets.
        splits: who is in training.
        level: of the parts in the strategy's tree.
        before: fingerprint of what the levels before have learnt; empty at the first.
    """
    layout = Layout(plan.output, plan.buckets)
    buckets = sorted(upstream)
    own = fingerprint(
        plan.fingerprints["join"], splits.fingerprint, [[b, upstream[b]] for b in buckets], before
    )

    def work() -> tuple[dict[str, int], dict[str, int]]:
        wanted, nodes = _wanted(plan, level), _load_nodes(plan, level)
        sums: dict[str, Moments] = {}
        rows = 0
        for bucket in buckets:
            joined = join_bucket(plan, bucket, splits)
            training = joined.fold >= 0
            rows += int(training.sum())
            for name, (part, need) in wanted.items():
                values = _incoming(plan, joined, training, part, nodes)
                own = Moments.of(values, need == "full")
                sums[name] = merge_all([sums[name], own]) if name in sums else own
        arrays: dict[str, np.ndarray] = {}
        for name, total in sums.items():
            arrays |= total.to_arrays(name)
        path = layout.statistics(_level(level), buckets[0])
        return {"training_rows": rows}, {path: save_arrays(path, arrays)}

    return once(layout, "join", _level(level), buckets[0], own, work)


def _incoming(
    plan: Plan, joined: Joined, training: np.ndarray, part: Part, nodes: dict[str, Node]
) -> np.ndarray:
    """float[k, d] of what comes into a part, in the training rows that have it."""
    if not part.parts:
        return joined.present_features(part.name, training)
    names = [modality.name for modality in plan.modalities]
    blocks = {name: joined.features(name)[training] for name in part.modalities}
    here = {name: joined.present[training, names.index(name)] for name in part.modalities}
    below = tuple(node_of(p, nodes) for p in part.parts)
    rows = incoming_rows(part, below, incoming_width(part, below, {}), blocks, here)
    assert rows is not None, "every modality has features, perhaps of no rows"
    return rows


def finish_fusion(plan: Plan, parts: list[Receipt], level: int) -> Receipt:
    """Merge the groups' moments in bucket order, fit the parts of one level and save them.

    With no parts (a fusion that learns nothing) it is made from the recipe alone. With the
    last level the fusion is whole.
    """
    layout = Layout(plan.output, plan.buckets)
    parts = sorted(parts, key=lambda part: part.bucket)
    names = {m.name: feature_names(plan, m.name) for m in plan.modalities}
    fuse = plan.recipe.fuse
    if isinstance(fuse, Deep):
        return _finish_network(plan, fuse)
    own = fingerprint(plan.fingerprints["fuse"], [part.fingerprint for part in parts], names)

    def work() -> tuple[dict[str, int], dict[str, int]]:
        totals: dict[str, Moments] = {}
        for part in parts:
            arrays = load_arrays(layout.statistics(_level(level), part.bucket))
            for name in _wanted(plan, level):
                one = Moments.from_arrays(name, arrays)
                totals[name] = merge_all([totals[name], one]) if name in totals else one
        tree = tree_of_plan(plan)
        dims = {name: len(own_names) for name, own_names in names.items()}
        missing = plan.recipe.join.missing
        nodes = fit_level(tree, level, missing, totals, dims, _load_nodes(plan, level))
        if level + 1 < tree.levels:
            learnt = tuple(nodes.values())
            return {}, _save(_nodes_path(plan, level), arrays_of(learnt), json_of(learnt))
        fusion = assemble(tree, nodes, names)
        return {}, _save(layout.fitted("fusion"), fusion.to_arrays(), fusion.to_json())

    return once(layout, "fitted", _level(level), 0, own, work)


def _level(level: int) -> str:
    return f"{FUSED}/level-{level}"


def _nodes_path(plan: Plan, level: int) -> str:
    return Layout(plan.output, plan.buckets).at("statistics", FUSED, f"level-{level}")


def _save(path: str, arrays: dict[str, np.ndarray], meta: Any) -> dict[str, int]:
    data = json.dumps(meta, indent=1, sort_keys=True).encode()
    storage.write_bytes(f"{path}.json", data)
    return {f"{path}.npz": save_arrays(f"{path}.npz", arrays), f"{path}.json": len(data)}


def _load_nodes(plan: Plan, level: int) -> dict[str, Node]:
    """What the levels before one have learnt."""
    if level == 0:
        return {}
    path = _nodes_path(plan, level - 1)
    meta = json.loads(storage.read_bytes(f"{path}.json"))
    return {node.name: node for node in nodes_of(load_arrays(f"{path}.npz"), meta)}


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
