"""The summary of a column's values: exact while it can be, and the same for any split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transforms.extractors.base import State
from transforms.extractors.table.quantiles import (
    CELLS,
    extremes,
    merge,
    ordered,
    quantiles,
    summarise,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SHARES = np.linspace(0, 1, 1001)


def same(a: State, b: State) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].tobytes() == b[name].tobytes(), name


@settings(max_examples=200)
@given(
    values=st.lists(st.one_of(FINITE, st.floats(-2, 2), st.sampled_from([0.0, -0.0, 1.0, -1.0]))),
    others=st.lists(FINITE, max_size=5),
    limit=st.integers(2, 12),
    data=st.data(),
)
def test_any_split_and_any_order_give_the_same_bits(
    values: list[float], others: list[float], limit: int, data: st.DataObject
) -> None:
    array = np.array(values)
    whole = summarise([array, np.array(others)], limit)
    order = np.array(data.draw(st.permutations(range(len(values)))), int)
    of = np.array([data.draw(st.integers(0, 4)) for _ in values], int)
    parts = [array[order][of[order] == i] for i in range(5)]
    rest = [np.array(others[:2]), np.array(others[2:]), *[np.zeros(0)] * 3]
    states = [summarise([a, b], limit) for a, b in zip(parts, rest, strict=True)]
    same(merge(states, limit), whole)
    nested = merge([states[2], merge([states[0], states[3]], limit)], limit)
    nested = merge([states[4], nested], limit)
    same(merge([nested, states[1]], limit), whole)
    assert (whole["cells"] <= limit).all()
    sizes = np.diff([0, *np.cumsum(whole["cells"])])
    rows = np.split(whole["rows"], np.cumsum(sizes)[:-1])
    assert [part.sum() for part in rows] == [len(values), len(others)]


@settings(max_examples=200)
@given(
    values=st.lists(st.one_of(FINITE, st.sampled_from([0.0, 1.0])), min_size=1, max_size=60),
    limit=st.integers(2, 12),
)
@example(values=[0.0] * 31 + [1.0] * 28, limit=2)
@example(values=[-1.7976931348615184e308, -1.797693134861719e308], limit=2)
@example(values=[1.0, 1.0000000000000004], limit=2)
@example(values=[-1.7976931348623157e308, 1.7976931348623157e308], limit=2)
def test_quantiles_are_within_their_cell(values: list[float], limit: int) -> None:
    array = np.array(values)
    state = summarise([array], limit)
    least, most = extremes(state)
    assert (least, most) == ([array.min()], [array.max()])
    found = quantiles(state, SHARES)[0]
    assert (np.diff(found) >= 0).all()
    assert (found[0], found[-1]) == (array.min(), array.max())
    # The true value of a whole rank is in the same cell, so they share their first bits.
    ranks = np.arange(len(values)) / max(len(values) - 1, 1)
    close = quantiles(state, ranks)[0]
    whole = ranks * (len(values) - 1) == np.arange(len(values))  # not a bit above it
    bits = np.uint64(state["shift"][0])
    true = ordered(np.sort(array)) >> bits
    np.testing.assert_array_equal((ordered(close) >> bits)[whole], true[whole])
    if len(np.unique(array)) <= limit:
        assert state["shift"][0] == 0
        with np.errstate(over="ignore", invalid="ignore"):
            expected = np.quantile(array, SHARES)
        usable = np.isfinite(expected)
        np.testing.assert_allclose(found[usable], expected[usable], rtol=1e-9, atol=1e-300)


def in_parts(values: np.ndarray) -> State:
    parts = [summarise([values[i : i + 4096]]) for i in range(0, len(values), 4096)]
    return merge(parts)


N = 200_000
SPREAD = {
    "normal": lambda random: random.normal(size=N),
    "log-normal": lambda random: random.lognormal(0, 2, N),
    "uniform": lambda random: random.uniform(-1, 1, N),
    "far from zero": lambda random: random.normal(1e6, 1, N),
    "Cauchy": lambda random: random.standard_cauchy(N),
    "mostly zero": lambda random: np.where(random.random(N) < 0.4, 0, random.lognormal(size=N)),
    "cut off": lambda random: np.clip(random.normal(size=N), -0.7, 1.3),
    "days": lambda random: random.integers(0, 10**14, N) / 86400e6,
}


@pytest.mark.parametrize("name", SPREAD)
def test_of_many_values_the_error_is_below_what_is_stated(name: str) -> None:
    values = SPREAD[name](np.random.default_rng(3))
    state = in_parts(values)
    assert state["shift"][0] > 0
    assert state["cells"][0] <= CELLS
    assert sum(array.nbytes for array in state.values()) <= 40 * CELLS + 16
    found, order = quantiles(state, SHARES)[0], np.sort(values)
    below = np.searchsorted(order, found, "left") / N
    upto = np.searchsorted(order, found, "right") / N
    # Distance of each share from those that the value found has.
    assert np.maximum(below - SHARES, SHARES - upto).max() < 2e-4
    # And of the values, less than the width of a cell that keeps so many bits of the mantissa.
    true = np.quantile(values, SHARES)
    width = 2.0 ** (state["shift"][0] - 52)
    assert (np.abs(found - true) <= width * np.abs(true)).all()


def test_few_values_are_exact_however_many_rows_there_are() -> None:
    values = np.random.default_rng(0).integers(-4000, 4000, 300_000) / 7
    state = in_parts(values)
    assert state["shift"][0] == 0
    np.testing.assert_allclose(quantiles(state, SHARES)[0], np.quantile(values, SHARES), 1e-12)


def test_no_values() -> None:
    state = merge([summarise([np.zeros(0)]), summarise([np.zeros(0)])])
    assert quantiles(state, SHARES).tolist() == [[0.0] * 1001]
    assert [side.tolist() for side in extremes(state)] == [[np.inf], [-np.inf]]
