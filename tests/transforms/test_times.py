"""Times and booleans as they stand in files: what is read, and what is wrong with the others."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import plan, rows_of, write_all

from schemas.plan import ColumnType
from transforms.extractors.base import BadRecord
from transforms.records.json_values import json_boolean, json_time
from transforms.records.times import all_of_seconds, of_seconds, parse_all, parse_time
from transforms.records.values import Found, booleans, times


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)


NOON = utc(2024, 1, 31, 12)
TIMES = {
    "2024-01-31": utc(2024, 1, 31), " 2024-01-31 ": utc(2024, 1, 31), "2024-01-31T12": NOON,
    "2024-01-31 12:00": NOON, "2024-01-31t12:00:00z": NOON, "2024-01-31 12:00:00 +0000": NOON,
    "2024-01-31T17:30:00+05:30": NOON, "2024-01-30T23:00-13": NOON, "2024-01-31T12:00:00Z": NOON,
    "2024-01-31T12:00:00.000001": NOON.replace(microsecond=1),
    "2024-01-31T12:00:00,1234567899": NOON.replace(microsecond=123456),
    "0001-01-01": utc(1, 1, 1), "9999-12-31T23:59": utc(9999, 12, 31, 23, 59),
    "2024-02-29": utc(2024, 2, 29), "1706702400": NOON, "1.7067024e9": NOON,
    "-86400": utc(1969, 12, 31), "0.25": utc(1970, 1, 1, 0, 0, 0, 250_000),
    "": None, "NaT": None, "NA": None, "nan": None, "-NAN": None, "2024-13-01": "is not a time",
    "2023-02-29": "is not a time", "2024-01-31T24:00": "is not a time",
    "2024-01-31T12:60": "is not a time", "2024-01-31T23:59:60": "is not a time",
    "2024-01-31T12:00+24:00": "is not a time", "2024-01-31Z": "is not a time",
    "31.01.2024": "is not a time", "01/31/2024": "is not a time", "2024-W05-3": "is not a time",
    "2024-031": "is not a time", "soon": "is not a time", "1_0": "is not a time",
    "٢٠٢٤-01-31": "is not a time",
    "0000-01-01": "years 1 and 9999", "0001-01-01T00:00+01:00": "years 1 and 9999",
    "9999-12-31T23:00-01:00": "years 1 and 9999", "1706702400000": "milliseconds are to be divided",
    "inf": "years 1 and 9999", "1e300": "years 1 and 9999", "3e11": "years 1 and 9999",
    "20240131": "may be a date", "2024": "may be a date", "2024.0": "may be a date",
}  # fmt: skip
BOOLEANS = {
    "true": True, "False": False, "TRUE": True, " yes ": True, "No": False, "Y": True, "n": False,
    "t": True, "F": False, "1": True, "0": False, "1.0": True, "0.0": False, "": None, "NA": None,
    "nan": None, "2": "not true", "on": "not true", "-1": "not true", "ja": "not true",
}  # fmt: skip


@pytest.mark.parametrize("format", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize(("kind", "fates"), [("time", TIMES), ("boolean", BOOLEANS)])
def test_written_as_text(tmp_path: Path, format: str, kind: ColumnType, fates: dict) -> None:
    texts = list(fates)
    path = write_all(tmp_path, {"key": list(map(str, range(len(texts)))), "v": texts})[format]
    together = rows_of(plan(path, format=format, columns={"v": kind}))
    for i, (row, (text, wanted)) in enumerate(zip(together, fates.items(), strict=True)):
        if isinstance(wanted, str):
            assert (row["v"], row["problem"]) == (None, f"not_a_{kind}"), text
            assert row["message"].startswith("column 'v': '")
            assert wanted in row["message"]
        else:
            assert (row["v"], row["problem"]) == (wanted, None), text
        # Alone and among others: what a text means must not depend on its batch.
        if format == "csv":
            column, alone = pa.array([text]), Found(np.arange(1), {})
            assert (times if kind == "time" else booleans)(alone, "v", column)[0].as_py() == row[
                "v"
            ]
            problem = (row["problem"], row["message"]) if row["problem"] else None
            assert alone.problems.get(0) == problem, i


def read(column: pa.Array, kind: str = "time") -> list[Any]:
    """Values read, or what is wrong with them."""
    found = Found(np.arange(len(column)), {})
    values = (times if kind == "time" else booleans)(found, "v", column)
    assert values.type == (pa.timestamp("us", "UTC") if kind == "time" else pa.bool_())
    return [
        found.problems[i][1].removeprefix("column 'v'") if i in found.problems else value
        for i, value in enumerate(values.to_pylist())
    ]


MICRO = dt.timedelta(microseconds=1)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "+05:30"])
def test_timestamps_of_any_unit_and_zone(unit: str, zone: str | None) -> None:
    column = pa.array([None, 0, 1_706_702_400, -1, 7], pa.timestamp("s", zone)).slice(1)
    expected = [utc(1970, 1, 1), NOON, utc(1969, 12, 31, 23, 59, 59), utc(1970, 1, 1, 0, 0, 7)]
    assert read(column.cast(pa.timestamp(unit, zone))) == expected


def test_times_of_parquet_that_are_too_far_away(tmp_path: Path) -> None:
    least, most = -62_135_596_800, 253_402_300_799  # the years 1 to 9999 in seconds
    edges = [least - 1, least, most, most + 1, 2**62]
    far = ": timestamp[s] is not between the years 1 and 9999"
    last = utc(9999, 12, 31, 23, 59, 59)
    assert read(pa.array(edges, pa.timestamp("s"))) == [far, utc(1, 1, 1), last, far, far]
    days = pa.array([-719_163, -719_162, 2_932_896, 2_932_897, 2**31 - 1], pa.date32())
    far = ": date32[day] is not between the years 1 and 9999"
    assert read(days) == [far, utc(1, 1, 1), utc(9999, 12, 31), far, far]
    assert read(pa.array([1, -1, None], pa.timestamp("ns"))) == [
        utc(1970, 1, 1),
        utc(1970, 1, 1) - MICRO,
        None,
    ]
    pq.write_table(pa.table({"key": list("abcde"), "v": days}), tmp_path / "a.parquet")
    rows = rows_of(plan(tmp_path / "a.parquet", format="parquet", columns={"v": "time"}))
    assert [row["problem"] for row in rows] == ["not_a_time", None, None, *["not_a_time"] * 2]
    assert rows[1]["v"] == utc(1, 1, 1)


def test_dates_numbers_and_what_holds_no_times() -> None:
    assert read(pa.array([dt.date(2024, 1, 31), None])) == [utc(2024, 1, 31), None]
    assert read(pa.array([dt.date(2024, 1, 31)], pa.date64())) == [utc(2024, 1, 31)]
    assert read(pa.array([1_706_702_400, None])) == [NOON, None]
    assert read(pa.array([1_706_702_400.25, float("nan")])) == [
        NOON.replace(microsecond=250_000),
        None,
    ]
    assert read(pa.array([Decimal("0.5")])) == [utc(1970, 1, 1, 0, 0, 0, 500_000)]
    assert read(pa.nulls(2)) == [None, None]
    unclear = "may be a date or seconds since 1970: write it as 2024-01-31"
    assert read(pa.array([20_240_131, 2024, 20_241_331])) == [
        f": 20240131 {unclear}",
        f": 2024 {unclear}",
        utc(1970, 8, 23, 6, 35, 31),
    ]
    for wrong in (pa.array([True, None]), pa.array([3, None], pa.time32("s"))):
        assert read(wrong) == [f" holds {wrong.type}, not times", None]
    assert read(pa.array([[1]])) == [" holds list<item: int64>, not times"]


def test_booleans_of_other_types() -> None:
    assert read(pa.array([True, None, False]), "boolean") == [True, None, False]
    assert read(pa.array([1, 0, None]), "boolean") == [True, False, None]
    wrong = ": 2 is not true or false, nor 1 or 0"
    assert read(pa.array([1.0, 2, float("nan")]), "boolean") == [True, wrong, None]
    assert read(pa.nulls(1), "boolean") == [None]
    assert read(pa.array([[1]]), "boolean") == [" holds list<item: int64>, not true or false"]
    texts = pa.array(["yes", None, "no", "yes"]).dictionary_encode()
    assert read(texts, "boolean") == [True, None, False, True]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(True, True), (1, True), (0.0, False), (None, None), (float("nan"), None), (" T ", True),
     ("NA", None), (2, "2 is not true"), (10**400, "inf is not true"), ([1], "holds a list"),
     ("maybe", "'maybe' is not true")],
)  # fmt: skip
def test_booleans_of_json(value: object, wanted: object) -> None:
    if isinstance(wanted, str):
        with pytest.raises(BadRecord, match=wanted):
            json_boolean("v", value)
    else:
        assert json_boolean("v", value) is wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(0, 0), (1.5, 1_500_000), (None, None), (float("nan"), None), ("1970-01-02", 86_400_000_000),
     ("", None), (True, "holds a bool"), ({}, "holds a dict"), (10**400, "inf is not between"),
     (float("-inf"), "-inf is not between"), (2024, "2024 may be a date"), ("soon", "'soon' is")],
)  # fmt: skip
def test_times_of_json(value: object, wanted: object) -> None:
    if isinstance(wanted, str):
        with pytest.raises(BadRecord, match=wanted):
            json_time("v", value)
    else:
        assert json_time("v", value) == wanted


STAMPS = st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29))
ZONES = st.integers(-1439, 1439).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))


@given(st.lists(st.tuples(STAMPS, st.none() | ZONES, st.sampled_from("T ")), max_size=8))
def test_what_python_writes_is_read(written: list[tuple]) -> None:
    stamps = [stamp.replace(tzinfo=zone) for stamp, zone, _ in written]
    texts = [one.isoformat(sep) for one, (_, _, sep) in zip(stamps, written, strict=True)]
    expected = [
        one.astimezone(dt.UTC) if one.tzinfo else one.replace(tzinfo=dt.UTC) for one in stamps
    ]
    assert read(pa.array(texts, pa.string())) == expected
    micros = [(one - utc(1970, 1, 1)) // MICRO for one in expected]
    assert [parse_time(text) for text in texts] == micros


@settings(max_examples=300)
@given(
    st.one_of(
        st.from_regex(
            r"\A\d{4}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d{1,7})?)?)?(Z|[+-]\d\d(:?\d\d)?)?)?\Z"
        ),
        st.from_regex(r"\A[12]\d{3}-[01]\d-[0-3]\d([T ][012]\d:[0-6]\d)?(Z|\+0\d:?00)?\Z"),
        st.text("0123456789-+:.TZ ,e", max_size=20),
    )
)
def test_what_arrow_reads_means_the_same_alone(text: str) -> None:
    together = parse_all(pa.array([text]))
    if together is not None and not text.startswith("0000"):
        assert together[0].as_py() == parse_time(text)


@given(
    st.lists(st.one_of(st.floats(allow_nan=False), st.floats(-7e10, 3e11), st.integers(0, 10**9)))
)
def test_seconds_are_the_same_one_by_one(seconds: list[float]) -> None:
    micros, wrong = all_of_seconds(np.array(seconds, np.float64))
    for one, found, bad in zip(seconds, micros.tolist(), wrong.tolist(), strict=True):
        if bad:
            with pytest.raises(ValueError, match=r"years 1 and 9999|may be a date"):
                of_seconds(float(one))
        else:
            assert of_seconds(float(one)) == found
