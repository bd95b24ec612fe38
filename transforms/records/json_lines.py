"""Reading JSON lines: one object a line, UTF-8.

Lines are parsed one by one with the standard library, not with Arrow: the types of a column may
differ from line to line, and a malformed line must not stop the file. Rows are numbered by
record from 0, malformed ones included; blank lines are not records.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.plan import SourcePlan
from schemas.tables import ARROW
from transforms.extractors.base import BadRecord
from transforms.records.delimited import count_lines
from transforms.records.json_values import JSON, json_key, json_text, json_uri
from transforms.records.opening import open_file, readable, require
from transforms.records.values import Found, short, wanted

FIRST = 1000  # records that tell which columns a file has
_ROWS = 65_536  # rows of a batch
_BYTES = 16 << 20  # bytes of lines after which a batch ends before that


def sample(file: str, n: int) -> pa.Table:
    """The first n well-formed records; columns in the order they first appear.

    Types are told from the values; a column of several types is text.

    Raises:
        ValueError: if the file is empty, or none of its first 1,000 lines is a JSON object.
    """
    records: list[dict[str, Any]] = []
    error = "the file is empty"
    with open_file(file) as stream, readable(file, "JSON lines"):
        for record in itertools.islice(map(_parse, _lines(stream)), max(n, FIRST)):
            if isinstance(record, BadRecord):
                error = f"cannot be read as JSON lines: {record.message}"
            elif len(records) < n:
                records.append(record)
    if not records:
        raise ValueError(f"{file}: {error}")
    names = dict.fromkeys(name for record in records for name in record)
    return pa.table({name: _inferred([record.get(name) for record in records]) for name in names})


def columns(file: str) -> dict[str, str]:
    """Columns that the first 1,000 records have, and their Arrow types."""
    return {field.name: str(field.type) for field in sample(file, FIRST).schema}


def count(file: str) -> int:
    """Number of lines."""
    with open_file(file) as stream, readable(file, "JSON lines"):
        return count_lines(stream)


def read(file: str, source: SourcePlan) -> Iterator[Found]:
    """Rows in order, in batches; a column that a record lacks is null there.

    A line that is no JSON object has the problem `malformed_row` or `not_utf8`.

    Raises:
        ValueError: if none of the first 1,000 records has a column that is wanted.
    """
    require(file, wanted(source), columns(file))
    start = 0
    with open_file(file) as stream, readable(file, "JSON lines"):
        lines = _lines(stream)
        while batch := _take(lines):
            yield _found(source, start, batch)
            start += len(batch)


def _take(lines: Iterator[bytes]) -> list[bytes]:
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if len(batch) == _ROWS or size >= _BYTES:
            break
    return batch


def _found(source: SourcePlan, start: int, lines: list[bytes]) -> Found:
    problems: dict[int, tuple[str, str]] = {}
    records: list[dict[str, Any]] = []
    for at, line in enumerate(lines):
        record = _parse(line)
        if isinstance(record, BadRecord):
            problems[at] = (record.kind, record.message)
            record = {}
        records.append(record)

    def column(name: str, convert: Callable[[Any], Any], kind: pa.DataType) -> pa.Array:
        out = []
        for at, record in enumerate(records):
            try:
                out.append(convert(record.get(name)))
            except BadRecord as error:
                problems.setdefault(at, (error.kind, error.message))
                out.append(None)
        return pa.array(out, kind)

    key = uri = None
    if source.key is not None:
        key = column(source.key, json_key, pa.string())
    if source.uri is not None:
        uri = column(source.uri, partial(json_uri, source.uri), pa.string())
    values = {
        name: column(name, partial(JSON[kind], name), ARROW[kind])
        for name, kind in source.columns.items()
    }
    rows = np.arange(start, start + len(lines))
    return Found(rows, values, key, uri, problems)


def _lines(stream: io.BufferedReader) -> Iterator[bytes]:
    """Lines that are not blank, without a byte order mark."""
    first = True
    for line in stream:
        if first:
            line, first = line.removeprefix(b"\xef\xbb\xbf"), False
        if not line.isspace() and line:
            yield line


def _parse(line: bytes) -> dict[str, Any] | BadRecord:
    try:
        text = line.decode()
        record = json.loads(text)
        if b"\\u" in line:  # which may spell half a surrogate pair, no text in any encoding
            json.dumps(record, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        return BadRecord("not_utf8", f"not UTF-8 text: {short(line.decode(errors='replace'))}")
    except UnicodeEncodeError:
        return BadRecord("malformed_row", f"half a surrogate pair in a text: {short(text)}")
    except (ValueError, RecursionError) as error:
        return BadRecord("malformed_row", f"not JSON ({error}): {short(text.rstrip())}")
    if not isinstance(record, dict):
        return BadRecord("malformed_row", f"not a JSON object: {short(text.rstrip())}")
    return record


def _inferred(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([_as_text(value) for value in values], pa.string())


def _as_text(value: Any) -> str | None:
    return json.dumps(value) if isinstance(value, list | dict) else json_text("", value)
