"""Looking at sources before work starts: which files there are, and what is in them."""

from __future__ import annotations

import fnmatch
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import storage
from schemas.plan import ColumnType, ModalityPlan, SourcePlan
from schemas.problems import Loc, Place, nearest
from schemas.recipe import (
    Recipe,
    SeriesModality,
    Source,
    TableModality,
    TextModality,
    VectorModality,
)
from transforms.extractors.base import BadRecord
from transforms.records import opening, sources
from transforms.records.payloads import examine, locate
from transforms.records.sources import rows_schema

SAMPLE = 1000  # rows that are read to see whether a source is what the recipe says
FLOATING = ("float", "double", "halffloat")  # Arrow's words for floating-point types


class Problems(list[str]):
    """What is wrong, each with its place in the recipe."""

    def __init__(self, place: Callable[[Loc], Place]) -> None:
        super().__init__()
        self.place = place

    def add(self, message: str, *where: str | int) -> None:
        """Note what is wrong with the field at `where`."""
        self.append(self.place(where).problem(where, message))


def find_files(
    source: Source, base: str, problems: Problems, *where: str | int
) -> SourcePlan | None:
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


def available_columns(
    source: SourcePlan, problems: Problems, where: tuple[str | int, ...]
) -> dict[str, str] | None:
    """Columns that every manifest of a source has; checks the key column."""
    if source.format == "files":
        return {}
    common: dict[str, str] | None = None
    columns = storage.side_by_side(lambda f: _columns_or_error(f, source), source.files)
    for found, name in zip(columns, source.names, strict=True):
        if isinstance(found, Exception):
            problems.add(f"{name}: {found}", *where, "path")
            return None
        common = found if common is None else {c: t for c, t in common.items() if c in found}
    assert common is not None
    ok = True
    for label, column in (("key", source.key), ("uri", source.uri)):
        if column is not None and column not in common:
            problems.add(no_column(column, common, source), *where, label)
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


def _columns_or_error(file: str, source: SourcePlan) -> dict[str, str] | OSError | ValueError:
    try:
        return sources.columns_of(file, source.format)
    except (OSError, ValueError) as error:
        return error


def no_column(column: str, known: dict[str, str], source: SourcePlan) -> str:
    """What to say of a column, or a pattern, that not all files have; `known` are those they have.

    The first file without it is named.
    """
    name, there = source.names[0], list(known)
    for file, own_name in zip(source.files, source.names, strict=True):
        own = list(sources.columns_of(file, source.format))
        if column not in own and not fnmatch.filter(own, column):
            name, there = own_name, own
            break
    hint = nearest(column, there) or f"; {opening.nearest(column, there)}"
    if source.format in ("csv", "tsv") and len(there) == 1:
        for delimiter, cure in _DELIMITERS.items():
            if delimiter in there[0]:
                hint = f", only {there[0]!r}: if {delimiter!r} is between its values, {cure}"
    return f"{name} has no column {column!r}{hint}"


_DELIMITERS = {";": "write the file anew with ','", "\t": "set `format: tsv`"}
"""What may be in the place of the comma in a CSV file, and what to do then."""


def choose_columns(
    name: str, recipe: Recipe, source: SourcePlan, problems: Problems
) -> ModalityPlan | None:
    """Decide which columns of a modality are carried, and check them on a sample of rows."""
    modality, where = recipe.modalities[name], ("modalities", name, "source")
    known = available_columns(source, problems, where)
    if known is None:
        return None
    before, columns = len(problems), dict[str, ColumnType]()
    widths: dict[str, int] = {}
    if isinstance(modality, TableModality):
        columns = _table_columns(name, recipe, modality, known, source, problems)
        _check_options(name, modality, columns, problems)
    elif isinstance(modality, TextModality):
        columns = dict.fromkeys(modality.source.columns or [], "text")
    elif isinstance(modality, VectorModality):
        columns = _vector_columns(name, recipe, modality, known, source, problems)
    elif isinstance(modality, SeriesModality):
        columns = {modality.source.column: "list"}
    field = "column" if isinstance(modality, SeriesModality) else "columns"
    for column in columns:
        if column not in known:
            problems.add(no_column(column, known, source), *where, field)
    if len(problems) > before:
        return None
    source = replace(source, columns=columns)
    if source.format != "files":
        rows = first_rows(source, problems, where)
        if rows is None:
            return None
        if isinstance(modality, VectorModality):
            widths = _widths(source, known, rows, problems, where)
        if source.uri is not None:
            _check_payloads(source, rows, problems, where)
    return ModalityPlan(name, modality, source, widths) if len(problems) == before else None


def _vector_columns(
    name: str,
    recipe: Recipe,
    modality: VectorModality,
    known: dict[str, str],
    source: SourcePlan,
    problems: Problems,
) -> dict[str, ColumnType]:
    """Columns of numbers that the patterns name, the key and the labels left out."""
    chosen = _unused(name, recipe, known)
    where = ("modalities", name, "source")
    if modality.source.columns is not None:
        chosen = []
        for pattern in modality.source.columns:
            hits = [c for c in known if fnmatch.fnmatchcase(c, pattern)]
            if not hits:
                problems.add(no_column(pattern, known, source), *where, "columns")
            chosen += [c for c in hits if c not in chosen]
    chosen = _left(chosen, modality.source.exclude, known, source, problems, where)
    return {c: "list" if _LISTS.search(known[c]) else "number" for c in chosen}


def _table_columns(
    name: str,
    recipe: Recipe,
    modality: TableModality,
    known: dict[str, str],
    source: SourcePlan,
    problems: Problems,
) -> dict[str, ColumnType]:
    """Columns as they are given; or all, by their types in the file, key and labels left out."""
    if modality.source.columns is not None:
        return dict(modality.source.columns)
    where = ("modalities", name, "source")
    exclude = modality.source.exclude
    chosen = _left(_unused(name, recipe, known), exclude, known, source, problems, where)
    columns: dict[str, ColumnType] = {}
    for column in chosen:
        kind = next(
            (kind for kind, types in _TYPES.items() if re.match(types, known[column])), None
        )
        if kind is None:
            problems.add(
                f"column {column!r} holds {known[column]}, which is neither number, category, time "
                "nor boolean: leave it out with `exclude`, or name the others in `columns`",
                *where,
            )
        else:
            columns[column] = kind
    return columns


# What Arrow calls the types that a table's columns may have, and those that hold lists.
_TYPES: dict[ColumnType, str] = {
    "number": r"u?int\d+$|halffloat$|float$|double$|decimal",
    "category": r"(large_)?string(_view)?$|dictionary<values=(large_)?string",
    "time": r"timestamp|date",
    "boolean": r"bool$",
}
_LISTS = re.compile(r"list|^extension<arrow.fixed_shape_tensor|^array$")
_SHAPE = re.compile(
    r"(?:fixed_size_list<.*>|extension<arrow.fixed_shape_tensor.* shape=)\[([\d,]+)\]"
)


def _unused(name: str, recipe: Recipe, known: dict[str, str]) -> list[str]:
    """A modality's columns but the key and, if labels are in the same files, label and group."""
    source = recipe.modalities[name].source
    used = set() if source.key_from_row else {source.key}
    target = recipe.target
    if target is not None and (target.source == name or _same_files(target.source, source)):
        used |= {target.column, recipe.split.group or target.column}
    return [column for column in known if column not in used]


def _left(
    chosen: list[str],
    exclude: list[str],
    known: dict[str, str],
    source: SourcePlan,
    problems: Problems,
    where: tuple[str | int, ...],
) -> list[str]:
    """The chosen columns that no pattern excludes."""
    for pattern in exclude:
        if not fnmatch.filter(known, pattern):
            problems.add(no_column(pattern, known, source), *where, "exclude")
        chosen = [c for c in chosen if not fnmatch.fnmatchcase(c, pattern)]
    if not chosen:
        problems.add("no column is left", *where, "columns")
    return chosen


def _check_options(
    name: str, modality: TableModality, columns: dict[str, ColumnType], problems: Problems
) -> None:
    """Columns that options name must be there, and hold what the option is for."""
    options = modality.extract.columns
    for option, kinds in (("scale", ("number", "time")), ("hash", ("category",))):
        named = getattr(options, option, None)
        for column in named if isinstance(named, dict) else ():
            if columns.get(column) not in kinds:
                fit = [c for c, kind in columns.items() if kind in kinds]
                problems.add(
                    f"the table has no column {column!r} that holds a {' or '.join(kinds)}"
                    f"{nearest(column, fit)}",
                    *("modalities", name, "extract", "columns", option, column),
                )


def _same_files(target: str | Source, source: Source) -> bool:
    return isinstance(target, Source) and target.paths == source.paths


def first_rows(
    source: SourcePlan, problems: Problems, where: tuple[str | int, ...]
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
    source: SourcePlan,
    known: dict[str, str],
    rows: pa.Table,
    problems: Problems,
    where: tuple[str | int, ...],
) -> dict[str, int]:
    """Lengths of list columns, from the first row that has one, or else from their types."""
    widths = {}
    for column, kind in source.columns.items():
        if kind == "list":
            lengths = pc.list_value_length(rows.column(column)).drop_null()
            if len(lengths):
                widths[column] = lengths[0].as_py()
            elif shape := _SHAPE.match(known[column]):
                widths[column] = math.prod(map(int, shape[1].split(",")))
            else:
                problems.add(f"column {column!r} has no value to tell its length", *where)
            if widths.get(column) == 0:
                words = f"the first list of column {column!r} is empty: a vector has numbers"
                problems.add(words, *where)
    return widths


def _check_payloads(
    source: SourcePlan, rows: pa.Table, problems: Problems, where: tuple[str | int, ...]
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


def count_rows(source: SourcePlan) -> int:
    """Number of rows of all files."""
    if source.format == "files":
        return len(source.files)
    return sum(
        storage.side_by_side(lambda file: sources.count_rows(file, source.format), source.files)
    )
