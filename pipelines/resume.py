"""What an earlier run left: is there anything to do, and what is stale and must go first.

`receipts/state.json` keeps two hashes of every step: of the recipe's part (with those of the
steps before it), and of that together with the identity of the inputs. Where the recipe's part
changed, the step's files are removed before anything new is written, so that files of two
recipes never stand side by side. Where only inputs changed, each bucket decides for itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import storage
from schemas.errors import DataError
from schemas.layout import FUSED, Layout
from schemas.options.fuse import Deep, needs_choice, networks_of
from schemas.plan import ModalityPlan, Plan
from schemas.receipts import Receipt, fingerprint
from schemas.recipe import TARGET, PayloadModality
from schemas.tables import has_payload, read_table
from transforms.extractors.base import BadRecord
from transforms.extractors.extracting import extract_identity, rounds
from transforms.fusion.fusing import networks_folder
from transforms.records.payloads import FILE_PROBLEMS, examine, locate


@dataclass
class State:
    """Content of receipts/state.json.

    Attributes:
        buckets: N of the files that are there.
        recipe: step -> hash of the recipe's part.
        inputs: step -> hash of the recipe's part and the inputs' identity, of steps done.
        extract: modality -> what its features depend on, for predictions to come.
    """

    buckets: int = 0
    recipe: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    extract: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_state(output: str) -> State | None:
    """The state of an output, or None if there is none."""
    try:
        return State(**json.loads(storage.read_bytes(Layout(output, 1).state)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{Layout(output, 1).state} is not readable ({error}); remove the output folder"
        ) from None


def write_state(output: str, state: State) -> None:
    """Write the state of an output."""
    storage.write_bytes(Layout(output, 1).state, json.dumps(asdict(state), indent=1).encode())


def steps_of(plan: Plan, upto: str) -> list[str]:
    """Names of the steps, `step/modality`, that lead to and include `upto`."""
    names = [m.name for m in plan.modalities]
    steps = [f"ingest/{name}" for name in plan.branches]
    if upto != "ingest":
        steps += [f"extract/{name}" for name in names]
        if upto != "extract":
            steps.append("fuse")
            if upto == "train":
                steps.append("train")
    return steps


def hashes(plan: Plan, identities: dict[str, str]) -> State:
    """What the state will be when everything is done.

    Args:
        plan: of the run.
        identities: of the inputs of each branch.
    """
    parts = plan.fingerprints
    state = State(plan.buckets)
    for modality in plan.modalities:
        state.extract[modality.name] = {
            "identity": fingerprint(extract_identity(modality)),
            "payload": has_payload(modality.source),
            "columns": modality.source.columns,
            "widths": modality.widths,
        }
    for kind, inputs in ((state.recipe, False), (state.inputs, True)):
        for name in plan.branches:
            kind[f"ingest/{name}"] = fingerprint(
                parts[f"ingest/{name}"], identities[name] if inputs else ""
            )
        labels = kind.get(f"ingest/{TARGET}", "")
        for modality in plan.modalities:
            kind[f"extract/{modality.name}"] = fingerprint(
                parts[f"extract/{modality.name}"],
                kind[f"ingest/{modality.name}"],
                labels if parts.get(f"fits/{modality.name}") else "",
            )
        kind["fuse"] = fingerprint(
            parts["fuse"], [kind[f"extract/{m.name}"] for m in plan.modalities], labels
        )
        kind["train"] = fingerprint(parts["train"], kind["fuse"])
    return state


def is_done(plan: Plan, upto: str, old: State | None, new: State) -> bool:
    """Whether all steps up to one are done from the same recipe and inputs, files in place."""
    if old is None or old.buckets != new.buckets:
        return False
    if any(old.inputs.get(step) != new.inputs[step] for step in steps_of(plan, upto)):
        return False
    layout = Layout(plan.output, plan.buckets)
    # Of a file a bucket, the first; and those there is one of.
    first, single = [], [layout.audit]
    for step in steps_of(plan, upto):
        kind, _, name = step.partition("/")
        if kind == "ingest":
            first += [layout.records(name, 0), layout.receipt("ingest", name, 0)]
        elif kind == "extract":
            first += [layout.features(name, 0), layout.receipt("extract", name, 0)]
        elif kind == "fuse":
            first += [layout.fused(0), layout.receipt("fuse", FUSED, 0)]
            if plan.fitted is not None:
                first.append(layout.predictions(0))
            elif needs_choice(plan.recipe.fuse):
                single.append(layout.strategy)
        else:
            single += [layout.metrics, layout.at("predictions", "predictions.parquet")]
    if plan.fitted is None:
        try:
            single += learnt_files(layout, plan.modalities, upto)
        except FileNotFoundError:
            return False
    if not all(storage.side_by_side(storage.exists, single)):
        return False
    if not all_there(layout, map(storage.parent, first)):
        return False
    return all(_payloads_unchanged(plan, m) for m in plan.modalities)


def learnt_files(layout: Layout, modalities: Iterable[ModalityPlan], upto: str) -> Iterator[str]:
    """Files of an output that hold what the steps up to one have learnt.

    Some are named in others.

    Raises:
        FileNotFoundError: if one that names others is missing.
    """
    if upto == "ingest":
        return
    for modality in modalities:
        if rounds(modality):
            yield layout.fitted(f"{modality.name}.npz")
    if upto == "extract":
        return
    yield layout.fitted("fusion.json")
    meta = json.loads(storage.read_bytes(layout.fitted("fusion.json")))
    yield layout.at(meta["network"]) if "network" in meta else layout.fitted("fusion.npz")
    if upto == "train":
        yield layout.model
        for head in json.loads(storage.read_bytes(layout.model))["heads"]:
            yield layout.at("model", head["file"])


def all_there(layout: Layout, folders: Iterable[str]) -> bool:
    """Whether each folder has the file of every bucket.

    Names are counted as they are listed and not kept: a few requests a thousand files, which on
    an object store are made side by side.
    """
    if storage.is_local(layout.root):
        counts = [sum(map(_is_of(layout), storage.names_in(folder))) for folder in folders]
        return all(count == layout.buckets for count in counts)

    def there(page: str) -> int:
        folder, _, prefix = page.rpartition("/")
        return sum(map(_is_of(layout), storage.names_in(folder, [prefix])))

    folders = list(folders)
    pages = [f"{folder}/{prefix}" for folder in folders for prefix in layout.prefixes]
    # A folder has each name once, so none can have more than all buckets.
    return sum(storage.side_by_side(there, pages)) == layout.buckets * len(folders)


def _is_of(layout: Layout) -> Callable[[str], bool]:
    return lambda name: layout.bucket_of(name) is not None


def _payloads_unchanged(plan: Plan, modality: ModalityPlan) -> bool:
    """Whether the local files that records point at are as they were when they were read."""
    recipe = modality.recipe
    if not isinstance(recipe, PayloadModality):
        return True
    if not has_payload(modality.source) or not all(map(storage.is_local, modality.source.files)):
        return True
    layout = Layout(plan.output, plan.buckets)
    for bucket in range(plan.buckets):
        receipt = Receipt(
            **json.loads(storage.read_bytes(layout.receipt("ingest", modality.name, bucket)))
        )
        records = read_table(layout.records(modality.name, bucket), ["source", "uri"])
        if fingerprint(_examine(modality, records)[1].tobytes()) != receipt.payloads:
            return False
        if receipt.counts["dead_letters"]:
            path = layout.dead_letters("ingest", modality.name, bucket)
            dead = read_table(path, ["source", "uri", "kind"])
            dead = dead.filter(pc.is_in(dead.column("kind"), pa.array(sorted(FILE_PROBLEMS))))
            if not all(_examine(modality, dead)[0]):
                return False  # a file that was missing is there now
    return True


def _examine(modality: ModalityPlan, rows: pa.Table) -> tuple[list[BadRecord | None], np.ndarray]:
    recipe = modality.recipe
    assert isinstance(recipe, PayloadModality)
    position = {name: i for i, name in enumerate(modality.source.names)}
    positions = np.array([position[s] for s in rows.column("source").to_pylist()], int)
    paths = locate(modality.source, positions, rows.column("uri").to_pylist())
    return examine(paths, recipe.max_bytes)


def clear_temporary(output: str) -> None:
    """Remove what killed processes left half written."""
    for path in storage.temporary_below(output):
        storage.remove(path)


def clear_stale(plan: Plan, old: State | None, new: State) -> list[str]:
    """Remove what another recipe wrote, and what a killed process left half written.

    Returns:
        The steps whose files were removed.
    """
    output = plan.output
    clear_temporary(output)
    if old is None:
        return []
    was = Layout(output, old.buckets)
    layout = Layout(output, plan.buckets)
    steps = set(old.recipe) | set(new.recipe)
    stale = sorted(
        step
        for step in steps
        if old.buckets != new.buckets or old.recipe.get(step) != new.recipe.get(step)
    )
    changed = any(old.inputs.get(step) != new.inputs[step] for step in new.inputs)
    if changed:
        # The reports are about the whole: they go when anything is done again.
        for path in (layout.audit, layout.metrics, layout.report):
            storage.remove(path)
    for step in stale:
        kind, _, name = step.partition("/")
        if kind == "ingest":
            folders = [f"receipts/ingest/{name}", f"records/{name}", f"dead_letters/ingest/{name}"]
        elif kind == "extract":
            folders = [
                *(f"receipts/{part}/{name}" for part in ("fit", "fitted", "extract")),
                *(f"{part}/{name}" for part in ("statistics", "features", "dead_letters/extract")),
            ]
            storage.remove(layout.fitted(f"{name}.npz"))
        elif kind == "fuse":
            clear_fusion(was)
            clear_networks(layout, networks_of(plan.recipe.fuse))
            continue
        else:
            folders = ["model", "predictions", "receipts/train"]
        # Receipts first: without them, whatever a crash leaves here counts for nothing.
        for folder in folders:
            _remove_folder(was, folder)
    return stale


def _remove_folder(was: Layout, folder: str) -> None:
    """Remove a folder; what people read of it goes by name, as stores may list less than there is.

    Args:
        was: the layout that its files were written by.
        folder: below the output.
    """
    if not storage.is_local(was.root) and folder.partition("/")[0] in _READ:
        storage.remove_all(was.tables(folder))
    storage.remove_tree(was.at(folder))


_READ = {"records", "features", "dead_letters", "fused", "predictions"}


def clear_networks(layout: Layout, wanted: list[Deep]) -> None:
    """Remove trained networks of other strategies than those wanted."""
    root = layout.at("fitted", "networks")
    kept = {networks_folder(layout.root, deep) for deep in wanted}
    names = {path.partition("/")[0] for path in storage.files_below(root)}
    for folder in {storage.join(root, name) for name in names} - kept:
        storage.remove_tree(folder)


def clear_fusion(layout: Layout) -> None:
    """Remove what was fused, what was learnt for it, and the strategy if one was chosen."""
    storage.remove(layout.strategy)
    for part in ("join", "fitted", "fuse"):
        storage.remove_tree(layout.at("receipts", part, FUSED))
    storage.remove_tree(layout.at("statistics", FUSED))
    _remove_folder(layout, "fused")
    for name in ("fusion.npz", "fusion.json"):
        storage.remove(layout.fitted(name))
