"""Values of JSON, one by one, turned into those that a source's columns are to hold.

The same as `transforms.records.values` makes of columns; here each line has types of its own.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from schemas.plan import ColumnType
from transforms.extractors.base import BadRecord
from transforms.records.keys import EMPTY_KEY, FLOAT_KEY, NULL_KEY
from transforms.records.times import of_seconds, parse_time
from transforms.records.values import (
    BETWEEN,
    BRACKETS,
    MISSING,
    NO_URI,
    infinite,
    no_boolean,
    parse_boolean,
    parse_number,
    short,
)


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
        number = _float(value)
    elif value is None:
        return None
    else:
        message = f"column {name!r} holds a {type(value).__name__}, not a number"
        raise BadRecord("not_a_number", message)
    if number is None or number != number:
        return None
    if number in (float("inf"), float("-inf")):
        raise BadRecord("infinite", infinite(name, number))
    return number


def json_time(name: str, value: Any) -> int | None:
    """A time as `times` makes it, in microseconds since 1970; raises BadRecord if it is none."""
    try:
        if isinstance(value, str):
            text = value.strip()
            return None if text in MISSING else parse_time(text)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return of_seconds(_float(value))
    except ValueError as error:
        raise BadRecord("not_a_time", f"column {name!r}: {_shown(value)} {error}") from None
    message = f"column {name!r} holds a {type(value).__name__}, not a time"
    raise BadRecord("not_a_time", message)


def json_boolean(name: str, value: Any) -> bool | None:
    """A boolean as `booleans` makes it; raises BadRecord if it is none."""
    if value is None or value != value:
        return None
    if isinstance(value, int | float):
        if value in (0, 1):
            return value == 1
        raise BadRecord("not_a_boolean", no_boolean(name, _float(value)))
    if not isinstance(value, str):
        message = f"column {name!r} holds a {type(value).__name__}, not true or false"
        raise BadRecord("not_a_boolean", message)
    text = value.strip()
    try:
        return None if text in MISSING else parse_boolean(text)
    except ValueError as error:
        raise BadRecord("not_a_boolean", f"column {name!r}: {short(text)} {error}") from None


def json_list(name: str, value: Any) -> list[float | None] | None:
    """A list as `lists` makes it; raises BadRecord unless it holds numbers and nulls."""
    if isinstance(value, str):
        bare = re.sub(BRACKETS, "", value.strip(), flags=re.ASCII)
        items = re.split(BETWEEN, bare, flags=re.ASCII) if bare else []
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
    "time": json_time,
    "boolean": json_boolean,
    "list": json_list,
}


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # of a whole number, which JSON does not bound
        return float("inf") if value > 0 else float("-inf")


def _shown(value: str | float) -> str:
    return short(value.strip()) if isinstance(value, str) else f"{_float(value):.15g}"
