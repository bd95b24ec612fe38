"""Reading a source's rows: CSV, TSV, JSON lines and Parquet manifests, and bare files.

Files are local paths or fsspec URLs. Every record of a file gives exactly one row, in order;
one that cannot be used says why in the columns `problem` and `message`. Only what stops a whole
file raises: a missing column, a corrupt or empty file.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from schemas import storage, stores
from schemas.plan import SourcePlan
from schemas.recipe import Format
from schemas.tables import ARROW, has_payload
from transforms.records import delimited, json_lines, parquet
from transforms.records.opening import nearest
from transforms.records.values import Found, arrays_of

MAX_ROWS = 65_536
_FILES_OF_A_PART = 10_000
_OWN = ("key", "source", "row", "uri", "problem", "message")  # columns that all sources have
_VERSION = re.compile(  # what file systems call that which changes with a file's content
    r"etag|md5|md5hash|checksum|crc32c|generation|version_?id|last_?modified|mtime|updated|created",
    re.IGNORECASE,
)


_GLOB = re.compile(r"[*?\[]")


class Part(NamedTuple):
    """A stretch of a source that is read in one go.

    Attributes:
        file: position in `source.files`; of bare files, of the first.
        start: Parquet: the first row group. Bare files: position of the first. Else 0.
        stop: one past the last of them. Else 1.
    """

    file: int
    start: int
    stop: int


def rows_schema(source: SourcePlan) -> pa.Schema:
    """Schema of a source's rows.

    key: string, null if unusable; source: int32, position in `source.files`; row: int64, number
    of the record within the file, from 0; uri: string, as it is written in the manifest, only
    where rows point at files; the source's columns; problem: string, the kind of error in snake
    case, or null; message: string, what is wrong, or null.

    Raises:
        ValueError: if a column of the source bears one of those names.
    """
    for name in source.columns:
        if name in _OWN:
            raise ValueError(
                f"{_first(source)}: a column called {name!r} cannot be carried, as every row has "
                f"its own {name}: rename it in the file"
            )
    fields = [("key", pa.string()), ("source", pa.int32()), ("row", pa.int64())]
    if has_payload(source):
        fields.append(("uri", pa.string()))
    fields += [(name, ARROW[kind]) for name, kind in source.columns.items()]
    return pa.schema([*fields, ("problem", pa.string()), ("message", pa.string())])


def expand(paths: list[str], base: str) -> list[str]:
    """The files that paths and globs stand for.

    Args:
        paths: paths or URLs, absolute or relative to `base`; `*`, `?`, `[...]` and `**` match
            as in a shell, and hidden files only where the pattern begins with a dot.
        base: a local folder or a URL.

    Returns:
        Absolute paths or URLs, sorted, without duplicates.

    Raises:
        FileNotFoundError: says which path matched nothing and, for a plain file, the nearest
            names in its folder.
    """
    if storage.is_local(base):
        base = os.path.abspath(storage.local(base))
    found: set[str] = set()
    for path in paths:
        found.update(_matches(path, storage.join(base, path)))
    return sorted(found)


def identity(file: str) -> list[Any]:
    """What tells a changed file: [size in bytes, version].

    The version is the time of the last change in ns for local files, else what the store gives
    of ETag, checksum, generation and times, as text.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    if storage.is_local(file):
        status = os.stat(storage.local(file))
        return [status.st_size, status.st_mtime_ns]
    info = stores.info(file)
    version = [f"{name}={info[name]}" for name in sorted(info) if _VERSION.fullmatch(name)]
    return [info.get("size"), " ".join(version)]


def columns_of(file: str, format: Format) -> dict[str, str]:
    """Columns of a file in order, and their physical types in Arrow's words.

    CSV holds `string` only; for JSON lines, the first 1,000 records tell. Names that repeat in a
    CSV header are told apart as pandas does (`a`, `a.1`). Bare files have no columns.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is empty or cannot be read.
    """
    if format == "files":
        return {}
    if format == "parquet":
        return parquet.columns(file)
    return json_lines.columns(file) if format == "jsonl" else delimited.columns(file, format)


def sample(file: str, format: Format, n: int = 1000) -> pa.Table:
    """The first n well-formed rows with all columns; raises as `columns_of` does."""
    if format == "files":
        return pa.table({})
    if format == "parquet":
        return parquet.sample(file, n)
    return json_lines.sample(file, n) if format == "jsonl" else delimited.sample(file, format, n)


def count_rows(file: str, format: Format) -> int:
    """Number of rows: exact for Parquet and bare files, else told from the line ends.

    The latter counts blank lines, and line ends within values, as rows of their own.
    """
    if format == "files":
        return 1
    if format == "parquet":
        return parquet.count(file)
    return json_lines.count(file) if format == "jsonl" else delimited.count(file, format)


def parts(source: SourcePlan) -> list[Part]:
    """Split a source so that its parts can be read in parallel.

    A part is some row groups of a Parquet file (about 100,000 rows), up to 10,000 bare files, or
    a whole file of another format.
    """
    if source.format == "files":
        starts = range(0, len(source.files), _FILES_OF_A_PART)
        return [Part(s, s, min(s + _FILES_OF_A_PART, len(source.files))) for s in starts]
    if source.format == "parquet":
        found = storage.side_by_side(parquet.parts, source.files)
        return [Part(i, *part) for i, parts in enumerate(found) for part in parts]
    return [Part(i, 0, 1) for i in range(len(source.files))]


def read_part(source: SourcePlan, part: Part, max_rows: int = MAX_ROWS) -> Iterator[pa.Table]:
    """The rows of one part, in order, in tables of at most `max_rows` rows.

    The kinds of `problem`: malformed_row, not_utf8, bad_key, missing_uri, not_text,
    not_a_number, infinite, not_a_time, not_a_boolean, not_a_list. Memory is bounded by some
    hundred MB, or by a few row groups of Parquet if they are larger, whatever the file's size.

    Returns:
        Tables with `rows_schema(source)`, none of them empty.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a column is missing, or the file is empty, corrupt, or of another format.
    """
    schema = rows_schema(source)
    if source.format == "files":
        rows = _bare_files(source, part, schema)
        yield from (rows.slice(start, max_rows) for start in range(0, len(rows), max_rows))
        return
    for found in _found(source, part):
        for some in _pieces(found, max_rows):
            yield pa.Table.from_arrays(arrays_of(some, source, part.file), schema=schema)


def _found(source: SourcePlan, part: Part) -> Iterator[Found]:
    file = source.files[part.file]
    if source.format == "parquet":
        return parquet.read(file, source, part.start, part.stop)
    return (
        json_lines.read(file, source) if source.format == "jsonl" else delimited.read(file, source)
    )


def _pieces(found: Found, size: int) -> Iterator[Found]:
    """The same rows, at most `size` at a time: what is not looked at need not be converted."""
    for start in range(0, len(found.rows), size):
        stop = start + size
        yield Found(
            found.rows[start:stop],
            {name: column.slice(start, size) for name, column in found.columns.items()},
            None if found.key is None else found.key.slice(start, size),
            None if found.uri is None else found.uri.slice(start, size),
            {at - start: what for at, what in found.problems.items() if start <= at < stop},
        )


def _bare_files(source: SourcePlan, part: Part, schema: pa.Schema) -> pa.Table:
    """One row a file: its key is found in its path, and the file itself is the payload."""
    files = source.files[part.start : part.stop]
    pattern = re.compile(source.key_pattern or "")
    keys: list[str | None] = []
    problems: list[str | None] = []
    for file in files:
        match = pattern.search(file)
        key = match.group(1) if match else None
        keys.append(key or None)
        problems.append(
            None if key else f"key_pattern {source.key_pattern!r} finds no key in {file!r}"
        )
    columns = {
        "key": keys,
        "source": np.arange(part.start, part.stop, dtype=np.int32),
        "row": np.zeros(len(files), np.int64),
        "uri": list(files),
        "problem": [message and "bad_key" for message in problems],
        "message": problems,
    }
    return pa.table(columns, schema=schema)


def _matches(written: str, path: str) -> list[str]:
    """Files that an absolute path or glob stands for."""
    if storage.is_local(path):
        path = storage.local(path)
    elif "/../" in path or "/./" in path:  # object stores would take them for names
        scheme, _, rest = path.partition("://")
        path = f"{scheme}://{posixpath.normpath(rest)}"
    else:
        storage.reach(path)
    kind = storage.kind(path) if not _GLOB.search(path) or storage.is_local(path) else None
    if kind == "file":
        return [path]
    if kind == "folder":
        raise FileNotFoundError(
            f"{written}: is a folder; give files, such as {written.rstrip('/')}/*"
        )
    glob = _GLOB.search(path)
    if glob is None:
        raise FileNotFoundError(f"{written}: there is no such file; {_near(path)}")
    hidden = posixpath.basename(path).startswith(".")
    found = [
        name
        for name in storage.matching(path, path.rindex("/", 0, glob.start()) + 1)
        if hidden or not posixpath.basename(name).startswith(".")
    ]
    if not found:
        raise FileNotFoundError(f"{written}: no file matches this pattern")
    return found


def _near(path: str) -> str:
    folder, _, name = path.rpartition("/")
    try:
        listed = storage.listed(folder or "/")
    except (FileNotFoundError, NotADirectoryError):
        return f"there is no folder {folder}"
    return f"in {folder} {nearest(name, listed)}"


def _first(source: SourcePlan) -> str:
    return source.names[0] if source.names else "source"
