"""What readers find, turned into the typed values that a source's columns are to hold.

A value that does not fit makes its row a dead letter: the value is null, and the row's first
problem (key, then URI, then columns in order) is kept with a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.plan import ColumnType, SourcePlan
from transforms.extractors.base import BadRecord
from transforms.records.keys import (
    EMPTY_KEY,
    FLOAT_KEY,
    NULL_KEY,
    canonical_keys,
    decode_utf8,
    is_binary,
    is_text,
    one_array,
)

LIST = pa.list_(pa.float64())
MISSING = ("", "NaN", "nan", "null", "NA", "N/A", "None")  # texts that say: no number
_BRACKETS, _BETWEEN = r"^\[\s*|\s*\]$", r"\s*,\s*|\s+"  # of a list that is written as text
NO_URI = "there is no path or URL"


@dataclass
class Found:
    """Rows of one file as its reader found them.

    Attributes:
        rows: int64[n], numbers of the records within the file, from 0.
        columns: columns by name; those that are wanted, of any type.
        key: the key's column, or None where the row's number is the key.
        uri: the URI's column, or None.
        problems: by position in `rows`, the kind of error and what is wrong.
    """

    rows: np.ndarray
    columns: dict[str, pa.Array]
    key: pa.Array | None = None
    uri: pa.Array | None = None
    problems: dict[int, tuple[str, str]] = field(default_factory=dict)

    def fail(self, wrong: pa.Array, kind: str, messages: str | list[str]) -> None:
        """Note what is wrong with the rows where `wrong` is true; a row's first problem stays."""
        for n, at in enumerate(np.flatnonzero(_mask(wrong)).tolist()):
            message = messages if isinstance(messages, str) else messages[n]
            self.problems.setdefault(at, (kind, message))


def wanted(source: SourcePlan) -> list[str]:
    """Columns of its files that a source needs, each once."""
    names = [source.key, source.uri, *source.columns]
    return list(dict.fromkeys(name for name in names if name is not None))


def arrays_of(found: Found, source: SourcePlan, index: int) -> list[pa.Array]:
    """The columns of a source's rows, in the order of `sources.rows_schema`.

    Args:
        found: what a reader found; its problems are added to.
        source: says what the columns hold.
        index: of the file in `source.files`, for each row or for all.
    """
    n = len(found.rows)
    rows = pa.array(found.rows, pa.int64())
    if found.key is None:
        keys = rows.cast(pa.string())
    else:
        keys, wrong = canonical_keys(found.key)
        if wrong.null_count < n:
            bad = wrong.is_valid()
            found.fail(bad, "bad_key", wrong.filter(bad).to_pylist())
    out = [keys, pa.array(np.full(n, index, np.int32)), rows]
    if found.uri is not None:
        uri = _empty_to_null(texts(found, "uri" if source.uri is None else source.uri, found.uri))
        found.fail(uri.is_null(), "missing_uri", NO_URI)
        out.append(uri)
    for name, kind in source.columns.items():
        out.append(_CONVERT[kind](found, name, found.columns[name]))
    kinds: list[str | None] = [None] * n
    messages: list[str | None] = [None] * n
    for at, (what, message) in found.problems.items():
        kinds[at], messages[at] = what, message
    return [*out, pa.array(kinds, pa.string()), pa.array(messages, pa.string())]


def texts(found: Found, name: str, column: pa.Array) -> pa.Array:
    """A column as text: string[n]. Numbers, booleans and times are written out, NaN is null."""
    column = one_array(column)
    if is_text(column.type) or is_binary(column.type):
        text, broken = decode_utf8(column)
        if broken is not None:
            found.fail(broken, "not_utf8", f"column {name!r} is not UTF-8 text")
        return text
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    try:
        return column.cast(pa.string())
    except pa.ArrowNotImplementedError:
        found.fail(column.is_valid(), "not_text", f"column {name!r} holds {column.type}, not text")
        return pa.nulls(len(column), pa.string())


def categories(found: Found, name: str, column: pa.Array) -> pa.Array:
    """A column as categories: string[n]; empty ones are null."""
    return _empty_to_null(texts(found, name, column))


def numbers(found: Found, name: str, column: pa.Array) -> pa.Array:
    """A column as numbers: float64[n], finite or null."""
    column = one_array(column)
    if is_text(column.type) or is_binary(column.type):
        values = _parse(found, name, texts(found, name, column))
    else:
        try:
            values = column.cast(pa.float64(), safe=False)
        except pa.ArrowNotImplementedError:
            message = f"column {name!r} holds {column.type}, not numbers"
            found.fail(column.is_valid(), "not_a_number", message)
            return pa.nulls(len(column), pa.float64())
    usable = pc.is_finite(values)
    if pc.all(usable).as_py():  # nulls are passed over
        return values
    infinite = pc.is_inf(values)
    shown = [_infinite(name, value) for value in values.filter(infinite).to_pylist()]
    found.fail(infinite, "infinite", shown)
    return pc.if_else(usable, values, pa.scalar(None, pa.float64()))


def lists(found: Found, name: str, column: pa.Array) -> pa.Array:
    """A column as lists: list<float64>[n], items finite or null.

    A list with an infinite item is null.
    """
    column = one_array(column)
    if is_text(column.type) or is_binary(column.type):
        column = _parse_lists(found, name, texts(found, name, column))
    n = len(column)
    kind = column.type
    if not _holds_numbers(kind):
        message = f"column {name!r} holds {kind}, not lists of numbers"
        found.fail(column.is_valid(), "not_a_list", message)
        return pa.nulls(n, LIST)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int32)
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    values = pc.list_flatten(column).cast(pa.float64(), safe=False)
    usable = pc.is_finite(values)
    null = column.is_null()
    if not pc.all(usable).as_py():
        infinite = np.zeros(n, bool)
        infinite[np.repeat(np.arange(n), lengths)[_mask(pc.is_inf(values))]] = True
        found.fail(pa.array(infinite), "infinite", f"column {name!r} holds an infinite number")
        values = pc.if_else(usable, values, pa.scalar(None, pa.float64()))
        null = pc.or_(null, pa.array(infinite))
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=null)


def _holds_numbers(kind: pa.DataType) -> bool:
    t = pa.types
    if not (
        t.is_list(kind)
        or t.is_large_list(kind)
        or t.is_fixed_size_list(kind)
        or t.is_list_view(kind)
        or t.is_large_list_view(kind)
    ):
        return False
    item = kind.value_type
    return (
        t.is_integer(item)
        or t.is_floating(item)
        or t.is_boolean(item)
        or t.is_decimal(item)
        or t.is_null(item)
    )


_CONVERT = {"text": texts, "number": numbers, "category": categories, "list": lists}


def _parse(found: Found, name: str, text: pa.Array) -> pa.Array:
    values, wrong = _parsed(name, text)
    for at, message in wrong.items():
        found.problems.setdefault(at, ("not_a_number", message))
    return values


def _parsed(name: str, text: pa.Array) -> tuple[pa.Array, dict[int, str]]:
    """Texts as float64[n], null where one is missing or wrong; and what is wrong, by position."""
    text = pc.utf8_trim_whitespace(text)
    missing = pc.is_in(text, pa.array(MISSING))
    text = pc.if_else(missing, pa.scalar(None, pa.string()), text)
    try:
        values = text.cast(pa.float64())
        if not pc.any(pc.is_nan(values)).as_py():
            return values, {}
    except pa.ArrowInvalid:
        pass
    # Some are not plain decimals. Python judges those one by one, so that what a text means
    # does not depend on the other texts of the batch.
    plain = pc.match_substring_regex(text, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
    odd = pc.fill_null(pc.invert(plain), False)
    values = pc.if_else(odd, pa.scalar(None, pa.string()), text).cast(pa.float64())
    parsed: list[float | None] = []
    wrong: dict[int, str] = {}
    for at in np.flatnonzero(_mask(odd)).tolist():
        try:
            parsed.append(parse_number(name, text[at].as_py()))
        except BadRecord as error:
            parsed.append(None)
            wrong[at] = error.message
    return pc.replace_with_mask(values, odd, pa.array(parsed, pa.float64())), wrong


def _parse_lists(found: Found, name: str, text: pa.Array) -> pa.Array:
    """Texts such as `[1, 2.5, ]` or `1 2.5` as lists: list<float64>[n].

    Commas or white space stand between numbers. An empty text is null, `[]` an empty list, and
    what stands for a missing number between commas is null.
    """
    text = pc.utf8_trim_whitespace(text)
    text = pc.if_else(pc.is_in(text, pa.array(MISSING)), pa.scalar(None, pa.string()), text)
    bare = pc.replace_substring_regex(text, _BRACKETS, "")
    split = pc.split_pattern_regex(bare, _BETWEEN)
    lengths = pc.fill_null(pc.list_value_length(split), 0).to_numpy().astype(np.int32)
    some = ~_mask(pc.equal(bare, ""))
    lengths[~some] = 0
    values, wrong = _parsed(name, pc.list_flatten(split.filter(pa.array(some))))
    rows = np.repeat(np.arange(len(text)), lengths)
    for at, message in wrong.items():
        found.problems.setdefault(int(rows[at]), ("not_a_list", message))
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=text.is_null())


def parse_number(name: str, text: str) -> float | None:
    """A number as it is written in a text file; None where it is missing.

    Raises:
        BadRecord: if it is not a number; infinite ones are returned.
    """
    text = text.strip()
    if text in MISSING:
        return None
    try:
        if not text.isascii() or "_" in text:  # which Python would accept
            raise ValueError
        return float(text)
    except ValueError:
        raise BadRecord("not_a_number", f"column {name!r}: {short(text)} is not a number") from None


# --- values of JSON, one by one: there, each line has types of its own -------------------------


def json_key(value: Any) -> str:
    """A key as text; raises BadRecord where `canonical_keys` sees a problem."""
    if value is None:
        raise BadRecord("bad_key", NULL_KEY)
    if value == "":
        raise BadRecord("bad_key", EMPTY_KEY)
    if isinstance(value, float):
        raise BadRecord("bad_key", FLOAT_KEY)
    if isinstance(value, list | dict):
        raise BadRecord("bad_key", f"the key is a {type(value).__name__}, not text or an integer")
    return str(json_text("", value))


def json_uri(name: str, value: Any) -> str:
    """A URI; raises BadRecord if there is none."""
    text = json_text(name, value)
    if not text:
        raise BadRecord("missing_uri", NO_URI)
    return text


def json_text(name: str, value: Any) -> str | None:
    """Text as `texts` makes it; raises BadRecord for lists and objects."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        # Arrow's spelling, so that a category is the same from JSON lines as from Parquet.
        return None if value != value else pa.scalar(value).cast(pa.string()).as_py()
    raise BadRecord("not_text", f"column {name!r} holds a {type(value).__name__}, not text")


def json_category(name: str, value: Any) -> str | None:
    """A category as `categories` makes it."""
    return json_text(name, value) or None


def json_number(name: str, value: Any) -> float | None:
    """A number as `numbers` makes it; raises BadRecord unless it is finite or missing."""
    if isinstance(value, str):
        number = parse_number(name, value)
    elif isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            number = float("inf") if value > 0 else float("-inf")
    elif value is None:
        return None
    else:
        message = f"column {name!r} holds a {type(value).__name__}, not a number"
        raise BadRecord("not_a_number", message)
    if number is None or number != number:
        return None
    if number in (float("inf"), float("-inf")):
        raise BadRecord("infinite", _infinite(name, number))
    return number


def json_list(name: str, value: Any) -> list[float | None] | None:
    """A list as `lists` makes it; raises BadRecord unless it holds numbers and nulls."""
    if isinstance(value, str):
        bare = re.sub(_BRACKETS, "", value.strip(), flags=re.ASCII)
        items = re.split(_BETWEEN, bare, flags=re.ASCII) if bare else []
        value = None if value.strip() in MISSING else [_json_item(name, item) for item in items]
    if value is None:
        return None
    if not isinstance(value, list) or any(isinstance(item, str | list | dict) for item in value):
        raise BadRecord(
            "not_a_list", f"column {name!r}: {short(str(value))} is not a list of numbers"
        )
    try:
        return [json_number(name, item) for item in value]
    except BadRecord as error:
        raise BadRecord(error.kind, f"column {name!r} holds an infinite number") from None


def _json_item(name: str, text: str) -> float | None:
    try:
        return parse_number(name, text)
    except BadRecord as error:
        raise BadRecord("not_a_list", error.message) from None


JSON: dict[ColumnType, Any] = {
    "text": json_text,
    "number": json_number,
    "category": json_category,
    "list": json_list,
}


def short(text: str) -> str:
    """Text for a message: quoted, and cut where it is long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _infinite(name: str, value: float) -> str:
    return f"column {name!r} is infinite ({value}): it needs a finite number or none"


def _empty_to_null(text: pa.Array) -> pa.Array:
    empty = pc.equal(text, "")
    if not pc.any(empty).as_py():
        return text
    return pc.if_else(empty, pa.scalar(None, pa.string()), text)


def _mask(array: pa.Array) -> np.ndarray:
    return pc.fill_null(array, False).to_numpy(zero_copy_only=False)
