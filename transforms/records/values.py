"""What readers find, turned into the typed values that a source's columns are to hold.

A value that does not fit makes its row a dead letter: the value is null, and the row's first
problem (key, then URI, then columns in order) is kept with a message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.plan import SourcePlan
from schemas.tables import ARROW
from transforms.extractors.base import BadRecord
from transforms.records import times as points
from transforms.records.keys import (
    canonical_keys,
    decode_utf8,
    is_binary,
    is_text,
    one_array,
)

LIST = ARROW["list"]
MISSING = ("", "NaN", "nan", "NaT", "null", "NA", "N/A", "None")  # texts that say: no value
_BOOLEANS = {"true": True, "yes": True, "y": True, "t": True, "1": True, "1.0": True} | {
    "false": False, "no": False, "n": False, "f": False, "0": False, "0.0": False
}  # fmt: skip
BRACKETS, BETWEEN = r"^\[\s*|\s*\]$", r"\s*,\s*|\s+"  # of a list that is written as text
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
    endless = pc.is_inf(values)
    shown = [infinite(name, value) for value in values.filter(endless).to_pylist()]
    found.fail(endless, "infinite", shown)
    return pc.if_else(usable, values, pa.scalar(None, pa.float64()))


def times(found: Found, name: str, column: pa.Array) -> pa.Array:
    """A column as times: timestamp[us, UTC][n], of the years 1 to 9999, or null."""
    column = one_array(column)
    if is_text(column.type) or is_binary(column.type):
        text = _stated(texts(found, name, column))
        micros = points.parse_all(text)
        if micros is None or points.too_far(pc.fill_null(micros, 0).to_numpy()).any():
            micros = _each(found, name, "not_a_time", text, points.parse_time, pa.int64())
        return micros.cast(ARROW["time"])
    read = points.of_arrow(column)
    if read is not None:
        values, wrong = read
        shown = [f"column {name!r}: {column.type} {points.TOO_FAR}"] * int(wrong.sum())
    elif _is_number(column.type):
        seconds = column.cast(pa.float64(), safe=False)
        column = pc.if_else(pc.is_nan(seconds), pa.scalar(None, pa.float64()), seconds)
        values, wrong = points.all_of_seconds(pc.fill_null(column, 0).to_numpy())
        shown = [no_time(name, one) for one in column.filter(pa.array(wrong)).to_pylist()]
    else:
        message = f"column {name!r} holds {column.type}, not times"
        found.fail(column.is_valid(), "not_a_time", message)
        return pa.nulls(len(column), ARROW["time"])
    found.fail(pa.array(wrong), "not_a_time", shown)
    return pa.array(values, ARROW["time"], mask=wrong | _mask(column.is_null()))


def booleans(found: Found, name: str, column: pa.Array) -> pa.Array:
    """A column as booleans: bool[n]; of numbers, 1 and 0 are true and false."""
    column = one_array(column)
    if is_text(column.type) or is_binary(column.type):
        text = _stated(texts(found, name, column))
        return _each(found, name, "not_a_boolean", text, parse_boolean, pa.bool_())
    if pa.types.is_boolean(column.type):
        return column
    if not _is_number(column.type):
        message = f"column {name!r} holds {column.type}, not true or false"
        found.fail(column.is_valid(), "not_a_boolean", message)
        return pa.nulls(len(column), pa.bool_())
    values = column.cast(pa.float64(), safe=False)
    values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    wrong = pc.fill_null(pc.invert(pc.is_in(values, pa.array([0.0, 1.0]))), False)
    wrong = pc.and_(wrong, values.is_valid())
    shown = [no_boolean(name, value) for value in values.filter(wrong).to_pylist()]
    found.fail(wrong, "not_a_boolean", shown)
    return pc.if_else(wrong, pa.scalar(None, pa.bool_()), pc.equal(values, 1.0))


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
    return _is_number(kind.value_type) or t.is_boolean(kind.value_type)


def _is_number(kind: pa.DataType) -> bool:
    t = pa.types
    return t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind) or t.is_null(kind)


_CONVERT = {
    "text": texts,
    "number": numbers,
    "category": categories,
    "time": times,
    "boolean": booleans,
    "list": lists,
}


def _stated(text: pa.Array) -> pa.Array:
    """Texts without blanks around them; null where they say that there is no value."""
    text = pc.utf8_trim_whitespace(text)
    missing = pc.is_in(text, pa.array(MISSING))
    return pc.if_else(missing, pa.scalar(None, pa.string()), text)


def _each(
    found: Found,
    name: str,
    kind: str,
    text: pa.Array,
    parse: Callable[[str], Any],
    type: pa.DataType,
) -> pa.Array:
    """Each distinct text parsed by itself; ValueError says what is wrong with one."""
    encoded = text.dictionary_encode()
    values: list[Any] = []
    wrong: list[str | None] = []
    for one in encoded.dictionary.to_pylist():
        try:
            values.append(parse(one))
            wrong.append(None)
        except ValueError as error:
            values.append(None)
            wrong.append(f"column {name!r}: {short(one)} {error}")
    told = pa.array(wrong, pa.string()).take(encoded.indices)
    found.fail(told.is_valid(), kind, told.drop_null().to_pylist())
    return pa.array(values, type).take(encoded.indices)


def _parse(found: Found, name: str, text: pa.Array) -> pa.Array:
    values, wrong = _parsed(name, text)
    for at, message in wrong.items():
        found.problems.setdefault(at, ("not_a_number", message))
    return values


def _parsed(name: str, text: pa.Array) -> tuple[pa.Array, dict[int, str]]:
    """Texts as float64[n], null where one is missing or wrong; and what is wrong, by position."""
    text = _stated(text)
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
    bare = pc.replace_substring_regex(text, BRACKETS, "")
    split = pc.split_pattern_regex(bare, BETWEEN)
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


def parse_boolean(text: str) -> bool:
    """A boolean as it is written in a text file.

    Raises:
        ValueError: if it is none.
    """
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise ValueError("is not true or false, nor yes, no, y, n, t, f, 1 or 0")
    return value


def short(text: str) -> str:
    """Text for a message: quoted, and cut where it is long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def infinite(name: str, value: float) -> str:
    """What to say of an infinite number."""
    return f"column {name!r} is infinite ({value}): it needs a finite number or none"


def no_time(name: str, seconds: float) -> str:
    """What to say of a number that is no time."""
    try:
        points.of_seconds(seconds)
    except ValueError as error:
        return f"column {name!r}: {seconds:.15g} {error}"
    raise AssertionError(f"{seconds!r} is a time")


def no_boolean(name: str, value: float) -> str:
    """What to say of a number that is no boolean."""
    return f"column {name!r}: {value:.15g} is not true or false, nor 1 or 0"


def _empty_to_null(text: pa.Array) -> pa.Array:
    empty = pc.equal(text, "")
    if not pc.any(empty).as_py():
        return text
    return pc.if_else(empty, pa.scalar(None, pa.string()), text)


def _mask(array: pa.Array) -> np.ndarray:
    return pc.fill_null(array, False).to_numpy(zero_copy_only=False)
