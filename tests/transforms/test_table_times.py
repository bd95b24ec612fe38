"""Columns of times and of booleans."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tables import BOOLEANS, TIMES, column, columns, cut, fit, table, transformed

X = {"x": "time"}
PARTS = ("hour", "weekday", "day", "month")


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def turns(time: datetime) -> list[float]:
    """Where a time is on each circle, by the calendar of the standard library."""
    after = (time.replace(day=28) + timedelta(days=4)).replace(day=1) if time.year < 9999 else None
    length = (after - timedelta(days=1)).day if after else 31
    return [
        (time.hour * 60 + time.minute) / 1440,
        time.weekday() / 7,
        (time.day - 1) / length,
        (time.month - 1) / 12,
    ]


VARIED = [at(2024, 1, 31, 5, 59), at(2024, 2, 1, 6), None]


@given(
    times=st.lists(st.datetimes(datetime(1, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC)))
)
def test_recurring_parts_are_those_of_the_calendar(times: list[datetime]) -> None:
    extractor = fit(columns(X), column("time", *VARIED))
    found = transformed(extractor, column("time", *times))
    for i, time in enumerate(times):
        for part, turn in zip(PARTS, turns(time), strict=True):
            assert math.isclose(
                found[f"x: {part} sin"][i], math.sin(2 * math.pi * turn), abs_tol=1e-6
            )
            assert math.isclose(
                found[f"x: {part} cos"][i], math.cos(2 * math.pi * turn), abs_tol=1e-6
            )


def test_elapsed_days_missing_times_and_names() -> None:
    training = column("time", at(2024, 1, 2), at(2024, 1, 1, 12), at(2024, 2, 1, 6), None)
    plain = fit(columns(X, scale="none"), training)
    names = [f"x: {part} {wave}" for part in PARTS for wave in ("sin", "cos")]
    assert plain.names() == [*names, "x: elapsed", "x is missing"]
    rows = column("time", at(2024, 1, 1, 12), at(2024, 1, 2), at(2023, 12, 31), None)
    found = transformed(plain, rows)
    np.testing.assert_allclose(found["x: elapsed"], [0, 0.5, -1.5, 0.5])
    assert found["x is missing"] == [0, 0, 0, 1]
    assert [found[name][3] for name in names] == [0] * 8
    scaled = transformed(fit(columns(X), training), rows)["x: elapsed"]
    days = np.array([0, 0.5, 30.75])
    expected = (np.array([0, 0.5, -1.5, 0.5]) - days.mean()) / days.std()
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
    ranked = transformed(fit(columns(X, scale={"x": "rank"}), training), rows)["x: elapsed"]
    np.testing.assert_allclose(ranked, [0, 0.5, 0, 0.5], atol=1e-3)


def test_the_end_of_a_month_is_beside_the_start_of_the_next() -> None:
    extractor = fit(columns(X), column("time", *VARIED))
    found = transformed(
        extractor, column("time", at(2023, 2, 28), at(2023, 3, 1), at(2024, 2, 29), at(2024, 1, 31))
    )
    angles = np.arctan2(found["x: day sin"], found["x: day cos"]) / (2 * np.pi) % 1
    np.testing.assert_allclose(angles, [27 / 28, 0, 28 / 29, 30 / 31], atol=1e-6)


def test_parts_that_do_not_vary_are_left_out() -> None:
    dates = fit(columns(X), column("time", at(2024, 1, 31), at(2023, 2, 2)))
    kept = [f"x: {part} {wave}" for part in PARTS[1:] for wave in ("sin", "cos")]
    assert dates.names() == [*kept, "x: elapsed"]
    once = fit(columns(X), column("time", at(2024, 1, 31), None))
    assert once.names() == ["x: elapsed", "x is missing"]
    assert fit(columns(X)).names() == ["x: elapsed"]
    assert transformed(once, column("time", at(1, 1, 1), None))["x: elapsed"] == [0, 0]


@given(
    times=st.lists(TIMES, min_size=1, max_size=20),
    cuts=st.lists(st.integers(0, 20), max_size=3),
    scale=st.sampled_from(["standard", "rank", "none"]),
)
def test_any_times_are_finite_and_their_names_fit(
    times: list[datetime | None], cuts: list[int], scale: str
) -> None:
    rows = column("time", *times)
    extractor = fit(columns(X, scale=scale), *cut(rows, cuts))
    found = transformed(extractor, column("time", *times, at(1, 1, 1), at(9999, 12, 31), None))
    values = np.array([found[name] for name in found if name.endswith(("sin", "cos"))])
    assert (np.abs(values) <= 1).all()
    known = [time for time in times if time is not None]
    if known and scale == "none":
        days = [(time - min(known)) / timedelta(days=1) for time in known]
        elapsed = [found["x: elapsed"][i] for i, time in enumerate(times) if time is not None]
        np.testing.assert_allclose(elapsed, days, rtol=1e-6, atol=1e-9)


@given(
    values=st.lists(BOOLEANS, max_size=20),
    cuts=st.lists(st.integers(0, 20), max_size=3),
)
def test_booleans(values: list[bool | None], cuts: list[int]) -> None:
    kinds = {"x": "boolean"}
    extractor = fit(columns(kinds), *cut(column("boolean", *values), cuts))
    found = transformed(extractor, column("boolean", *values, None))
    instead = values.count(True) > values.count(False)
    assert found["x"] == [instead if value is None else value for value in [*values, None]]
    assert ("x is missing" in found) == (None in values)
    if None in values:
        assert found["x is missing"] == [value is None for value in [*values, None]]


def test_columns_are_told_apart() -> None:
    kinds = {"a": "time", "b": "time"}
    first, second = (at(2024, 1, 1), at(2024, 1, 1, 3)), (at(2024, 3, 1, 9), at(2024, 2, 1))
    third = (at(2024, 1, 5), at(2025, 2, 1))
    both = fit(columns(kinds), table(kinds, first, second, third))
    found = transformed(both, table(kinds, first, second, third))
    for i, name in enumerate("ab"):
        alone = column("time", first[i], second[i], third[i])
        expected = transformed(fit(columns(X), alone), alone)
        assert {
            n.replace(f"{name}:", "x:"): v for n, v in found.items() if n[0] == name
        } == expected
