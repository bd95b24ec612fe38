"""Planning: everything that can be checked before work starts is checked here.

`make_plan` finds the files of every source, compares the recipe with what is in them, and
collects all problems instead of stopping at the first.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.inspecting import (
    FLOATING,
    Problems,
    available_columns,
    choose_columns,
    count_rows,
    find_files,
    first_rows,
    no_column,
)
from pipelines.jobs import read_job
from pipelines.models import check_extractors, locate_model, with_models
from schemas import storage
from schemas.layout import LOGS, Layout
from schemas.options.fuse import Fuse, needs_choice, networks_of
from schemas.plan import ColumnType, ModalityPlan, Plan, SourcePlan
from schemas.problems import Loc, Place, RecipeError
from schemas.receipts import fingerprint
from schemas.recipe import (
    TARGET,
    PayloadModality,
    Recipe,
    Source,
)
from schemas.tables import has_payload
from transforms.extractors.extracting import extract_identity, rounds
from transforms.fusion.fusing import GROUP
from transforms.records import sources

ROWS_PER_BUCKET = 2000
FEWEST_BUCKETS = 16
FEWEST_LABELS = 20  # from which it can be told whether they repeat
MOST_DISTINCT = 0.9  # share of labels above which hardly any repeats
FORMAT_VERSION = 2  # of records, features and fused files: raised when what is in them changes


@dataclass
class Checked:
    """A plan and what was learnt on the way.

    Attributes:
        plan: of the run.
        identities: of the inputs of each branch.
        rows: number of rows of each branch.
        notes: things a person may want to know, which are no errors.
    """

    plan: Plan
    identities: dict[str, str]
    rows: dict[str, int]
    notes: list[str] = field(default_factory=list)


def default_output(recipe: Recipe, recipe_path: str) -> str:
    """The output folder where none is named: beside the recipe, after its name."""
    return storage.join(folder_of(recipe_path), f"{recipe.name}-output")


def folder_of(recipe_path: str) -> str:
    """The folder that the recipe's relative paths are relative to."""
    if storage.is_local(recipe_path):
        recipe_path = os.path.abspath(storage.local(recipe_path))
    return storage.parent(recipe_path)


def absolute_paths(plan: Plan, base: str) -> Recipe:
    """The recipe with absolute paths of its sources and models, so that it runs from anywhere.

    Args:
        plan: of the recipe.
        base: folder that its paths are relative to.
    """

    def absolute(source: Source) -> Source:
        return source.model_copy(update={"path": [storage.join(base, p) for p in source.paths]})

    recipe = plan.recipe
    modalities = {
        name: locate_model(modality, base).model_copy(update={"source": absolute(modality.source)})
        for name, modality in recipe.modalities.items()
    }
    target = recipe.target
    if target is not None and isinstance(target.source, Source):
        target = target.model_copy(update={"source": absolute(target.source)})
    return recipe.model_copy(update={"modalities": modalities, "target": target})


def make_plan(
    recipe: Recipe, recipe_path: str, output: str, place: Callable[[Loc], Place]
) -> Checked:
    """Check a recipe against the files it points at.

    Args:
        recipe: as loaded.
        recipe_path: where it was loaded from; its relative paths are relative to that folder.
        output: folder or URL for the output.
        place: tells where a field of the recipe was written.

    Raises:
        RecipeError: with every problem found.
    """
    base, problems = folder_of(recipe_path), Problems(place)
    notes: list[str] = []
    modalities = []
    for name, recipe_modality in recipe.modalities.items():
        where = ("modalities", name)
        source = find_files(recipe_modality.source, base, problems, *where, "source")
        if source is None:
            continue
        modality = choose_columns(name, recipe, source, problems)
        if modality is None:
            continue
        modality = with_models(modality, base, problems)
        if modality is not None and check_extractors(modality, problems):
            modalities.append(modality)
    target = None
    if recipe.target is not None:
        target = _target(recipe, base, problems, notes)
    if recipe.target is not None and networks_of(recipe.fuse):
        _check_networks(problems)
    inputs = [m.source for m in modalities] + ([target] if target else [])
    _check_output(output, inputs, recipe.name, problems, notes)
    if problems:
        raise RecipeError(problems)

    branches = {m.name: m.source for m in modalities} | ({TARGET: target} if target else {})
    rows = {name: count_rows(source) for name, source in branches.items()}
    identities = {
        name: fingerprint([*storage.side_by_side(sources.identity, source.files)], source.files)
        for name, source in branches.items()
        if source.format != "files"
    }
    for name, source in branches.items():
        # Bare files are their own rows: their names are the manifest.
        identities.setdefault(name, fingerprint(source.files))
    plan = Plan(
        recipe,
        output,
        buckets_for(max(rows.values())),
        tuple(modalities),
        target,
        _fingerprints(recipe, modalities, target),
    )
    for name, count in rows.items():
        if count == 0:
            notes.append(f"{name}: no rows")
    return Checked(plan, identities, rows, notes)


def buckets_for(rows: int) -> int:
    """Number of buckets: a power of two, at most 2,000 rows each on average, at least 16."""
    wanted = max(-(-rows // ROWS_PER_BUCKET), FEWEST_BUCKETS)
    return 1 << (wanted - 1).bit_length()


# --- target, fusion, output ----------------------------------------------------------------------


def _target(recipe: Recipe, base: str, problems: Problems, notes: list[str]) -> SourcePlan | None:
    target = recipe.target
    assert target is not None
    written = recipe.target_source()
    assert written is not None
    where: tuple[str | int, ...] = ("target", "source")
    if isinstance(target.source, str):
        where = ("modalities", target.source, "source")
    # What is wrong with a modality's source is reported there already.
    quiet = Problems(problems.place) if isinstance(target.source, str) else problems
    found = find_files(written, base, quiet, *where)
    if found is None:
        return None
    if found.format == "files":
        problems.add("bare files have no columns: name a manifest with labels", *where)
        return None
    found = replace(found, uri=None)
    known = available_columns(found, quiet, where)
    if known is None:
        return None
    columns: dict[str, ColumnType] = {
        target.column: "number" if target.task == "regression" else "category"
    }
    named: list[tuple[str, tuple[str, str]]] = [(target.column, ("target", "column"))]
    if recipe.split.group is not None:
        named.append((recipe.split.group, ("split", "group")))
    if recipe.train is not None and recipe.train.domain is not None:
        named.append((recipe.train.domain, ("train", "domain")))
    for column, _ in named:
        columns.setdefault(column, "category")
    for column, field_name in named:
        if column not in known:
            problems.add(no_column(column, known, found), *field_name)
    if problems:
        return None
    plan = replace(found, columns=columns)
    rows = first_rows(plan, problems, ("target", "column"))
    if rows is None:
        return None
    if target.task == "classification" and known[target.column].startswith(FLOATING):
        problems.add(
            f"column {target.column!r} holds floating-point numbers: for classes write text or "
            "integers, or set target.task: regression",
            "target",
            "column",
        )
    elif target.task == "classification":
        notes += _hardly_classes(target.column, rows.column(target.column).drop_null())
    return plan


def _hardly_classes(column: str, labels: pa.ChunkedArray) -> list[str]:
    """A note if labels hardly repeat, as when a number or an id is taken for a class."""
    distinct = pc.count_distinct(labels).as_py()
    if len(labels) < FEWEST_LABELS or distinct < MOST_DISTINCT * len(labels):
        return []
    try:
        pc.cast(labels, pa.float64())
        hint = "for numbers, set target.task: regression"
    except pa.ArrowInvalid:
        hint = "is it the column that you mean?"
    found = f"{distinct:,} distinct labels in the first {len(labels):,} rows that have one"
    return [f"target.column: {column!r} has {found}, too many for classes: {hint}"]


def _check_networks(problems: Problems) -> None:
    """Training a network needs packages that nothing else does."""
    lacking = [name for name in ("jax", "optax") if importlib.util.find_spec(name) is None]
    if lacking:
        problems.add(
            f'deep needs {" and ".join(lacking)}: pip install "sensorium[deep]"', "fuse", "method"
        )


def _check_output(
    output: str, inputs: list[SourcePlan], name: str, problems: Problems, notes: list[str]
) -> None:
    """The output must be no file, hold nothing but an output, and have no input below it."""
    for source in inputs:
        for file in source.files:
            if file.startswith(output + "/"):
                problems.add(
                    f"the output folder {output} would hold the input {file}: choose another "
                    "folder with --to"
                )
                return
    storage.reach(output)
    kind = storage.kind(output)
    if kind == "file":
        problems.add(f"the output {output} is a file: choose a folder with --to")
    elif kind is None and (above := _file_above(output)):
        problems.add(
            f"the output {output} would be below {above}, which is a file: choose "
            "a folder with --to"
        )
    elif kind is not None:
        if not storage.exists(Layout(output, 1).state) and _others(output):
            problems.add(
                f"the output folder {output} holds other files: choose another with --to, "
                "or empty it"
            )
        else:
            last = read_job(output)
            if last is not None and last.name not in ("", name):
                notes.append(
                    f"{output} holds the output of recipe {last.name!r}, whose place a run takes"
                )


def _file_above(output: str) -> str | None:
    """The file that a local path leads through, as if it were a folder."""
    path = storage.local(output) if storage.is_local(output) else ""
    while path and not os.path.exists(path):
        path = os.path.dirname(path)
    return path if os.path.isfile(path) else None


def _others(output: str) -> set[str]:
    """What is in a folder beside what a job leaves that did not come far."""
    layout = Layout(output, 1)
    found = {name for name in storage.listed(output) if not storage.is_temporary(name)}
    found -= {*LOGS, os.path.basename(layout.job)}
    folder = storage.parent(layout.state)
    below = storage.files_below(folder) if os.path.basename(folder) in found else []
    if all(storage.is_temporary(os.path.basename(file)) for file in below):
        found.discard(os.path.basename(folder))
    return found


def _fingerprints(
    recipe: Recipe, modalities: list[ModalityPlan], target: SourcePlan | None
) -> dict[str, str]:
    """Hash of each step's part of the recipe."""
    out = {}
    for modality in modalities:
        own = modality.recipe
        payload = None
        if has_payload(modality.source) and isinstance(own, PayloadModality):
            payload = [own.payload, own.max_bytes]
        out[f"ingest/{modality.name}"] = fingerprint(
            FORMAT_VERSION, _source_part(modality.source), own.duplicates, payload
        )
        out[f"extract/{modality.name}"] = fingerprint(FORMAT_VERSION, extract_identity(modality))
        if rounds(modality):
            # Which rows are training rows counts only for what learns from them.
            out[f"fits/{modality.name}"] = split = _split_part(recipe)
            out[f"extract/{modality.name}"] = fingerprint(out[f"extract/{modality.name}"], split)
    if target is not None:
        out[f"ingest/{TARGET}"] = fingerprint(FORMAT_VERSION, _source_part(target))
    out |= _fusion_fingerprints(recipe)
    out["train"] = fingerprint(FORMAT_VERSION, _train_part(recipe))
    return out


def _fusion_fingerprints(recipe: Recipe) -> dict[str, str]:
    label = None if recipe.target is None else [recipe.target.column, recipe.target.task]
    return {
        "join": fingerprint(
            GROUP,
            recipe.join.model_dump(mode="json"),
            recipe.fuse.model_dump(mode="json", exclude={"keep_modalities"}),
        ),
        "fuse": fingerprint(
            FORMAT_VERSION,
            list(recipe.modalities),
            recipe.join.model_dump(mode="json"),
            recipe.fuse.model_dump(mode="json"),
            label,
            _split_part(recipe),
            # How well models do decides what the strategy looks like.
            _train_part(recipe) if needs_choice(recipe.fuse) else None,
        ),
    }


def with_strategy(plan: Plan, fuse: Fuse) -> Plan:
    """The plan with the strategy that was chosen, in the place of what it was chosen from."""
    recipe = plan.recipe.model_copy(update={"fuse": fuse})
    fingerprints = {**plan.fingerprints, **_fusion_fingerprints(recipe)}
    return replace(plan, recipe=recipe, fingerprints=fingerprints)


def _train_part(recipe: Recipe) -> dict[str, Any] | None:
    return None if recipe.train is None else recipe.train.model_dump(mode="json")


def _split_part(recipe: Recipe) -> str:
    return fingerprint(recipe.split.model_dump(mode="json"))


def _source_part(source: SourcePlan) -> list:
    return [
        list(source.names),
        source.format,
        source.key,
        source.key_pattern,
        source.uri,
        list(source.columns.items()),
    ]
