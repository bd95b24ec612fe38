"""Planning: everything that can be checked before work starts is checked here.

`make_plan` finds the files of every source, compares the recipe with what is in them, and
collects all problems instead of stopping at the first.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import storage
from schemas.layout import Layout
from schemas.plan import ColumnType, ModalityPlan, Plan, SourcePlan
from schemas.problems import Loc, Place, RecipeError, nearest
from schemas.receipts import fingerprint
from schemas.recipe import (
    TARGET,
    PayloadModality,
    Recipe,
    Source,
    TableModality,
    TextModality,
    VectorModality,
)
from schemas.tables import has_payload
from transforms.extractors.base import BadRecord
from transforms.extractors.extracting import extract_identity, extractors_of
from transforms.fusion.fusing import GROUP
from transforms.fusion.strategies import needs
from transforms.records import sources
from transforms.records.payloads import examine, locate
from transforms.records.sources import rows_schema

ROWS_PER_BUCKET = 2000
FEWEST_BUCKETS = 16
SAMPLE = 1000  # rows that are read to see whether a source is what the recipe says
FLOATING = ("float", "double", "halffloat")  # Arrow's words for floating-point types
FORMAT_VERSION = 1  # of records and fused files: to be raised when their content changes


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


class _Problems(list[str]):
    """What is wrong, each with its place in the recipe."""

    def __init__(self, place: Callable[[Loc], Place]) -> None:
        super().__init__()
        self.place = place

    def add(self, message: str, *where: str | int) -> None:
        self.append(self.place(where).problem(where, message))


def default_output(recipe: Recipe, recipe_path: str) -> str:
    """The output folder where none is named: beside the recipe, after its name."""
    return storage.join(folder_of(recipe_path), f"{recipe.name}-output")


def folder_of(recipe_path: str) -> str:
    """The folder that the recipe's relative paths are relative to."""
    if storage.is_local(recipe_path):
        recipe_path = os.path.abspath(storage.local(recipe_path))
    return storage.parent(recipe_path)


def absolute_paths(plan: Plan, base: str) -> Recipe:
    """The recipe with the paths of its sources made absolute, so that it can be run from anywhere.

    Args:
        plan: of the recipe.
        base: folder that its paths are relative to.
    """

    def absolute(source: Source) -> Source:
        return source.model_copy(update={"path": [storage.join(base, p) for p in source.paths]})

    recipe = plan.recipe
    modalities = {
        name: modality.model_copy(update={"source": absolute(modality.source)})
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
    base, problems = folder_of(recipe_path), _Problems(place)
    notes: list[str] = []
    modalities = []
    for name, recipe_modality in recipe.modalities.items():
        where = ("modalities", name)
        source = _find(recipe_modality.source, base, problems, *where, "source")
        if source is None:
            continue
        modality = _columns(name, recipe, source, problems)
        if modality is None:
            continue
        try:
            extractors_of(modality)
        except ValueError as error:
            problems.add(str(error), *where, "extract")
            continue
        modalities.append(modality)
    target = None
    if recipe.target is not None:
        target = _target(recipe, base, problems)
    _check_output(output, [m.source for m in modalities] + ([target] if target else []), problems)
    _check_fusion(recipe, problems)
    if problems:
        raise RecipeError(problems)

    branches = {m.name: m.source for m in modalities} | ({TARGET: target} if target else {})
    rows = {name: _count(source) for name, source in branches.items()}
    identities = {
        name: fingerprint([sources.identity(file) for file in source.files], source.files)
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


# --- sources -----------------------------------------------------------------------------------


def _find(source: Source, base: str, problems: _Problems, *where: str | int) -> SourcePlan | None:
    """Files of a source and its key; columns follow."""
    try:
        files = sources.expand(source.paths, base)
    except (OSError, ValueError, ImportError) as error:
        problems.add(str(error), *where, "path")
        return None
    if source.key_from_row and len(files) > 1:
        problems.add(f"needs a single file, got {len(files)}", *where, "key_from_row")
        return None
    prefix = base.rstrip("/") + "/"
    names = [
        os.path.relpath(file, base)
        if storage.is_local(file) and storage.is_local(base)
        else file.removeprefix(prefix)
        for file in files
    ]
    bare = source.kind_of_file == "files"
    return SourcePlan(
        files=tuple(files),
        names=tuple(names),
        format=source.kind_of_file,
        key=None if source.key_from_row or bare else source.key,
        key_pattern=source.key_pattern,
        uri=None if bare else getattr(source, "uri", None),
    )


def _available(
    source: SourcePlan, problems: _Problems, where: tuple[str | int, ...]
) -> dict[str, str] | None:
    """Columns that every manifest of a source has; checks the key column."""
    if source.format == "files":
        return {}
    common: dict[str, str] | None = None
    for file, name in zip(source.files, source.names, strict=True):
        try:
            found = sources.columns_of(file, source.format)
        except (OSError, ValueError) as error:
            problems.add(f"{name}: {error}", *where, "path")
            return None
        common = found if common is None else {c: t for c, t in common.items() if c in found}
    assert common is not None
    ok = True
    for label, column in (("key", source.key), ("uri", source.uri)):
        if column is not None and column not in common:
            problems.add(_no_column(column, common, source), *where, label)
            ok = False
    if source.key in common and common[source.key].startswith(FLOATING):
        problems.add(
            f"column {source.key!r} holds floating-point numbers, which are no keys: "
            "write them as text or integers",
            *where,
            "key",
        )
        ok = False
    return common if ok else None


def _no_column(column: str, known: dict[str, str], source: SourcePlan) -> str:
    return f"{source.names[0]} has no column {column!r}{nearest(column, list(known))}"


def _columns(
    name: str, recipe: Recipe, source: SourcePlan, problems: _Problems
) -> ModalityPlan | None:
    """Decide which columns of a modality are carried, and check them on a sample of rows."""
    modality, where = recipe.modalities[name], ("modalities", name, "source")
    known = _available(source, problems, where)
    if known is None:
        return None
    before, columns = len(problems), dict[str, ColumnType]()
    widths: dict[str, int] = {}
    if isinstance(modality, TableModality):
        columns = dict(modality.source.columns)
    elif isinstance(modality, TextModality):
        columns = dict.fromkeys(modality.source.columns or [], "text")
    elif isinstance(modality, VectorModality):
        columns = _vector_columns(name, recipe, modality, known, source, problems)
    for column in columns:
        if column not in known:
            problems.add(_no_column(column, known, source), *where, "columns")
    if len(problems) > before:
        return None
    source = replace(source, columns=columns)
    if source.format != "files":
        rows = _first_rows(source, problems, where)
        if rows is None:
            return None
        widths = _widths(source, rows, problems, where)
        if source.uri is not None:
            _check_payloads(source, rows, problems, where)
    return ModalityPlan(name, modality, source, widths) if len(problems) == before else None


def _vector_columns(
    name: str,
    recipe: Recipe,
    modality: VectorModality,
    known: dict[str, str],
    source: SourcePlan,
    problems: _Problems,
) -> dict[str, ColumnType]:
    """Columns of numbers that the patterns name, the key and the labels left out."""
    used = {source.key}
    if recipe.target is not None and (
        recipe.target.source == name or _same_files(recipe.target.source, modality.source)
    ):
        used |= {recipe.target.column, recipe.split.group}
    chosen = [c for c in known if c not in used]
    where = ("modalities", name, "source")
    if modality.source.columns is not None:
        chosen = []
        for pattern in modality.source.columns:
            hits = [c for c in known if fnmatch.fnmatchcase(c, pattern)]
            if not hits:
                problems.add(_no_column(pattern, known, source), *where, "columns")
            chosen += [c for c in hits if c not in chosen]
    for pattern in modality.source.exclude:
        if not fnmatch.filter(known, pattern):
            problems.add(_no_column(pattern, known, source), *where, "exclude")
        chosen = [c for c in chosen if not fnmatch.fnmatchcase(c, pattern)]
    if not chosen:
        problems.add("no column is left", *where, "columns")
    return {c: "list" if "list" in known[c] or known[c] == "array" else "number" for c in chosen}


def _same_files(target: str | Source, source: Source) -> bool:
    return isinstance(target, Source) and target.paths == source.paths


def _first_rows(
    source: SourcePlan, problems: _Problems, where: tuple[str | int, ...]
) -> pa.Table | None:
    """Some rows as ingest will read them; a problem if most of them would be dead letters."""
    try:
        rows = next(sources.read_part(source, sources.parts(source)[0], SAMPLE), None)
    except (OSError, ValueError) as error:
        problems.add(str(error), *where)
        return None
    if rows is None:
        return rows_schema(source).empty_table()
    wrong = rows.column("message").drop_null()
    if len(wrong) > len(rows) / 2:
        problems.add(
            f"{source.names[0]}: {len(wrong)} of the first {len(rows)} rows cannot be used; "
            f"the first: {wrong[0].as_py()}",
            *where,
        )
        return None
    return rows


def _widths(
    source: SourcePlan, rows: pa.Table, problems: _Problems, where: tuple[str | int, ...]
) -> dict[str, int]:
    """Lengths of list columns, from the first row that has one."""
    widths = {}
    for column, kind in source.columns.items():
        if kind == "list":
            lengths = pc.list_value_length(rows.column(column)).drop_null()
            if len(lengths):
                widths[column] = lengths[0].as_py()
            else:
                problems.add(f"column {column!r} has no value to tell its length", *where)
    return widths


def _check_payloads(
    source: SourcePlan, rows: pa.Table, problems: _Problems, where: tuple[str | int, ...]
) -> None:
    """A wrong folder makes every payload missing: say so before work starts."""
    assert source.uri is not None
    uris = rows.column("uri").drop_null().to_pylist()[:100]
    wrong, _ = examine(locate(source, np.zeros(len(uris), int), uris), 2**62)
    if uris and all(isinstance(bad, BadRecord) for bad in wrong):
        assert wrong[0] is not None
        problems.add(
            f"none of the first {len(uris)} files is there: {wrong[0].message} (paths in a "
            "manifest are relative to the manifest's folder)",
            *where,
            "uri",
        )


def _count(source: SourcePlan) -> int:
    if source.format == "files":
        return len(source.files)
    return sum(sources.count_rows(file, source.format) for file in source.files)


# --- target, fusion, output ----------------------------------------------------------------------


def _target(recipe: Recipe, base: str, problems: _Problems) -> SourcePlan | None:
    target = recipe.target
    assert target is not None
    written = recipe.target_source()
    assert written is not None
    where: tuple[str | int, ...] = ("target", "source")
    if isinstance(target.source, str):
        where = ("modalities", target.source, "source")
    # What is wrong with a modality's source is reported there already.
    quiet = _Problems(problems.place) if isinstance(target.source, str) else problems
    found = _find(written, base, quiet, *where)
    if found is None:
        return None
    if found.format == "files":
        problems.add("bare files have no columns: name a manifest with labels", *where)
        return None
    found = replace(found, uri=None)
    known = _available(found, quiet, where)
    if known is None:
        return None
    columns: dict[str, ColumnType] = {
        target.column: "number" if target.task == "regression" else "category"
    }
    if recipe.split.group is not None:
        columns.setdefault(recipe.split.group, "category")
    for column, field_name in ((target.column, ("target", "column")),) + (
        ((recipe.split.group, ("split", "group")),) if recipe.split.group else ()
    ):
        if column not in known:
            problems.add(_no_column(column, known, found), *field_name)
    if problems:
        return None
    plan = replace(found, columns=columns)
    if _first_rows(plan, problems, ("target", "column")) is None:
        return None
    if target.task == "classification" and known[target.column].startswith(FLOATING):
        problems.add(
            f"column {target.column!r} holds floating-point numbers: for classes write text or "
            "integers, or set target.task: regression",
            "target",
            "column",
        )
    return plan


def _check_fusion(recipe: Recipe, problems: _Problems) -> None:
    names = list(recipe.modalities)
    if recipe.fuse.method == "average" and len(names) < 2:
        problems.add("an average needs at least two modalities", "fuse", "method")


def _check_output(output: str, inputs: list[SourcePlan], problems: _Problems) -> None:
    """The output must be no file, hold nothing but an output, and have no input below it."""
    for source in inputs:
        for file in source.files:
            if file == output or file.startswith(output + "/"):
                problems.add(
                    f"the output folder {output} would hold the input {file}: choose another "
                    "folder with --to"
                )
                return
    if storage.is_local(output) and os.path.exists(output):
        if not os.path.isdir(output):
            problems.add(f"the output {output} is a file: choose a folder with --to")
        elif os.listdir(output) and not os.path.exists(Layout(output, 1).state):
            problems.add(
                f"the output folder {output} holds other files: choose another with --to, "
                "or empty it"
            )


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
        if any(extractor.fits for _, extractor in extractors_of(modality)):
            # Which rows are training rows counts only for what learns from them.
            out[f"fits/{modality.name}"] = split = _split_part(recipe)
            out[f"extract/{modality.name}"] = fingerprint(out[f"extract/{modality.name}"], split)
    if target is not None:
        out[f"ingest/{TARGET}"] = fingerprint(FORMAT_VERSION, _source_part(target))
    names = [m.name for m in modalities]
    fuse, missing = recipe.fuse, recipe.join.missing
    out["join"] = fingerprint(
        GROUP,
        recipe.join.model_dump(mode="json")["how"],
        {name: needs(fuse, missing, name) for name in names},
    )
    label = None if recipe.target is None else [recipe.target.column, recipe.target.task]
    out["fuse"] = fingerprint(
        FORMAT_VERSION,
        names,
        recipe.join.model_dump(mode="json"),
        fuse.model_dump(mode="json"),
        label,
        _split_part(recipe),
    )
    train = None if recipe.train is None else recipe.train.model_dump(mode="json")
    out["train"] = fingerprint(FORMAT_VERSION, train)
    return out


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
