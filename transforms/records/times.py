"""Points in time, from text, from Arrow's types and from seconds, as microseconds since 1970.

All are in UTC; a time without a zone is taken to be in UTC. What can be told apart must not be
guessed at: a number that reads as a year or as a date without its hyphens is no time.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MICROSECONDS = 1_000_000  # a second
_DAY = 86_400 * MICROSECONDS
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_FIRST = (datetime.date.min.toordinal() - _EPOCH) * _DAY
_LAST = (datetime.date.max.toordinal() - _EPOCH + 1) * _DAY - 1
_UNITS = {"d": _DAY, "s": MICROSECONDS, "ms": 1000, "us": 1}
_FAR = 1e12  # seconds, beyond all years with four digits: not to be multiplied before a check
_ISO_8601 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[Tt ](\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d+))?)?)?(?: ?(?:[Zz]|([+-])(\d\d):?(\d\d)?))?)?",
    re.ASCII,
)
NO_TIME = "is not a time: write 2024-01-31, 2024-01-31T09:30:00Z or seconds since 1970"
TOO_FAR = "is not between the years 1 and 9999"


def parse_all(text: pa.Array) -> pa.Array | None:
    """Texts as int64[n] of microseconds, nulls kept, if all are in a form that Arrow reads.

    Those are a part of the forms that `parse_time` reads, with the same meaning. Times too far
    from now are not told apart here.
    """
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return text.cast(kind).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
    return None


def parse_time(text: str) -> int | None:
    """Microseconds since 1970 of a time written in ISO 8601, or as seconds since 1970.

    None of what Python reads as the number NaN.

    A date, or a date and time of day down to hours, minutes, seconds or a fraction (of which
    microseconds count), with a zone (`Z`, `+05:30`) or without (UTC). Neither dates by week or
    by number of the day, nor leap seconds, nor 24:00.

    Raises:
        ValueError: says why it is none, without the text itself.
    """
    found = _ISO_8601.fullmatch(text)
    if found is None:
        try:
            if not text.isascii() or "_" in text:  # which Python would accept
                raise ValueError
            seconds = float(text)
        except ValueError:
            raise ValueError(NO_TIME) from None
        return of_seconds(seconds)
    year, month, day, hour, minute, second, fraction, sign, *zone = found.groups("0")
    if year == "0000":
        raise ValueError(TOO_FAR)
    hours, minutes = map(int, zone)
    try:
        days = datetime.date(int(year), int(month), int(day)).toordinal() - _EPOCH
        clock = datetime.time(int(hour), int(minute), int(second))
        datetime.time(hours, minutes)  # which raises as well
    except ValueError:
        raise ValueError(NO_TIME) from None
    ahead = 60 * hours + minutes
    minutes = 1440 * days + 60 * clock.hour + clock.minute - (-ahead if sign == "-" else ahead)
    micros = (60 * minutes + clock.second) * MICROSECONDS + int(fraction[:6].ljust(6, "0"))
    return in_range(micros)


def of_seconds(seconds: float) -> int | None:
    """Microseconds since 1970 of seconds since 1970, None of NaN; raises as `parse_time`."""
    if seconds != seconds:
        return None
    if abs(seconds) >= _FAR:
        raise ValueError(f"{TOO_FAR} in seconds since 1970; milliseconds are to be divided")
    if seconds == int(seconds) and _reads_as_date(int(seconds)):
        raise ValueError("may be a date or seconds since 1970: write it as 2024-01-31")
    return in_range(round(seconds * MICROSECONDS))


def in_range(micros: int) -> int:
    """The same number; raises ValueError if it is not in the years 1 to 9999."""
    if not _FIRST <= micros <= _LAST:
        raise ValueError(TOO_FAR)
    return micros


def all_of_seconds(seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`of_seconds` of float64[n], none NaN: int64[n], and bool[n], which of them raise."""
    near = np.abs(seconds) < _FAR
    safe = np.where(near, seconds, 0)
    micros = np.rint(safe * MICROSECONDS).astype(np.int64)
    whole = safe.astype(np.int64)
    unclear = (whole == safe) & _reads_as_date(whole)
    return micros, ~near | unclear | ~_within(micros, 1)


def of_arrow(column: pa.Array) -> tuple[np.ndarray, np.ndarray] | None:
    """Dates and timestamps of any unit as int64[n] of microseconds.

    Returns:
        The times, with any number where the column is null, and bool[n], which of them are out
        of range; None if the column holds something else.
    """
    kind = column.type
    if pa.types.is_timestamp(kind):
        unit = kind.unit
        raw = _raw(column, pa.int64())
    elif pa.types.is_date32(kind):
        unit, raw = "d", _raw(column, pa.int32()).astype(np.int64)
    elif pa.types.is_date64(kind):
        unit, raw = "ms", _raw(column, pa.int64())
    else:
        return None
    if unit == "ns":
        return raw // 1000, np.zeros(len(raw), bool)
    usable = _within(raw, _UNITS[unit])
    return np.where(usable, raw, 0) * _UNITS[unit], ~usable


def too_far(micros: np.ndarray) -> np.ndarray:
    """bool[n]: which of int64[n] are not in the years 1 to 9999."""
    return ~_within(micros, 1)


def _raw(column: pa.Array, kind: pa.DataType) -> np.ndarray:
    return pc.fill_null(column.view(kind), 0).to_numpy()


def _within(numbers: np.ndarray, factor: int) -> np.ndarray:
    """Whether whole numbers of `factor` microseconds are in the years 1 to 9999."""
    return (numbers >= -(-_FIRST // factor)) & (numbers <= _LAST // factor)


def _reads_as_date(numbers: Any) -> Any:
    """Whether whole numbers read as a year, or as year, month and day in one, of 1900 to 2100."""
    year, month, day = numbers // 10_000, numbers // 100 % 100, numbers % 100
    date = (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    return _is_near(numbers) | (_is_near(year) & date)


def _is_near(year: Any) -> Any:
    return (year >= 1900) & (year <= 2100)
