"""Tables: columns of all types side by side, and a fit that is the same in any parts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import BOOLEANS, NUMBERS, TEXTS, TIMES, columns, cut, fit, merged, table, transformed

from schemas.arrays import load_arrays, save_arrays
from transforms.extractors.base import Batch, State

MIXED = {"age": "number", "usage": "category", "height": "number"}
ALL = {"n": "number", "c": "category", "m": "number", "t": "time", "b": "boolean", "d": "category"}
OPTIONS = {"max_categories": 3, "min_count": 2, "scale": {"m": "rank"}, "hash": {"d": 4}}
ROWS = st.lists(st.tuples(NUMBERS, TEXTS, NUMBERS, TIMES, BOOLEANS, TEXTS), max_size=30)


def test_mixed_columns() -> None:
    training = table(
        MIXED, (1.0, "fighter", 5.0), (3.0, "archer", None), (5.0, None, 9.0), (3.0, "archer", 8.0)
    )
    extractor = fit(columns(MIXED, min_count=2), training)
    assert extractor.names() == [
        *("age", "usage=archer", "usage is rare", "usage is unseen", "usage is missing"),
        *("height", "height is missing"),
    ]
    unseen = table(MIXED, (None, "scout", 7.0), (3.0, None, None))
    batch = Batch(pa.concat_tables([training, unseen]))
    out = extractor.transform(batch)
    assert out.dtype == np.float32
    root = np.sqrt(2)
    height = (np.array([5, 8, 9, 8, 7, 8]) - 22 / 3) / np.std([5, 9, 8])
    expected = [
        [-root, 0, 1, 0, 0, height[0], 0],
        [0, 1, 0, 0, 0, height[1], 1],
        [root, 0, 0, 0, 1, height[2], 0],
        [0, 1, 0, 0, 0, height[3], 0],
        [0, 0, 0, 1, 0, height[4], 0],
        [0, 0, 0, 0, 1, height[5], 1],
    ]
    np.testing.assert_allclose(out, expected, atol=1e-6)
    assert batch.failures == {}


@given(rows=ROWS, cuts=st.lists(st.integers(0, 30), max_size=5), data=st.data())
def test_fit_is_the_same_in_any_parts_and_order(
    rows: list[tuple], cuts: list[int], data: st.DataObject
) -> None:
    extractor = columns(ALL, **OPTIONS)
    whole = table(ALL, *rows)
    expected = merged(extractor, [whole])
    states = [extractor.partial(Batch(part)) for part in cut(whole, cuts)]
    states = data.draw(st.permutations(states))
    nested = data.draw(st.integers(0, len(states)))
    state = extractor.merge([extractor.merge(states[:nested]), *states[nested:]])
    assert state.keys() == expected.keys()
    for name in state:
        assert state[name].dtype == expected[name].dtype, name
        # Moments are sums of fractions; all else is the same bit for bit.
        if name.endswith(("/mean", "/scatter")):
            scale = max(np.abs(expected[name]).max(initial=0), 1e6)
            np.testing.assert_allclose(state[name], expected[name], 1e-9, 1e-12 * scale)
        else:
            assert state[name].tobytes() == expected[name].tobytes(), name


@given(training=ROWS, rows=ROWS, at=st.integers(0, 30))
def test_rows_do_not_depend_on_their_batch(
    training: list[tuple], rows: list[tuple], at: int
) -> None:
    extractor = fit(columns(ALL, **OPTIONS), table(ALL, *training))
    whole = table(ALL, *rows)
    batch = Batch(whole)
    together = extractor.transform(batch)
    assert together.shape == (len(rows), len(extractor.names()))
    # Training rows may lie so close together that others are too far away for their scale.
    assert all(bad.kind == "overflow" for bad in batch.failures.values())
    kept = [i for i in range(len(rows)) if i not in batch.failures]
    assert np.isfinite(together[kept]).all()
    alone = [extractor.transform(Batch(whole.slice(i, 1))) for i in range(len(rows))]
    assert b"".join(row.tobytes() for row in alone) == together.tobytes()
    pieces = pa.concat_tables([whole.slice(0, at), whole.slice(at)])
    assert extractor.transform(Batch(pieces)).tobytes() == together.tobytes()


def test_no_training_rows() -> None:
    extractor = fit(columns(ALL, **OPTIONS))
    names = ["n", "c is unseen", "m", "t: elapsed", "b", *(f"d#{i}" for i in range(4))]
    assert extractor.names() == names
    found = transformed(extractor, table(ALL, (3.0, "a", None, None, True, None)))
    assert {name for name in found if found[name] != [0]} == {"c is unseen", "b"}


def test_states_can_be_saved(tmp_path: Path) -> None:
    day = datetime(2024, 1, 31, 5, 6, tzinfo=UTC)
    training = table(
        ALL,
        (1.0, "fighter\0", 5.0, day, True, "x"),
        (3.0, "größe 😀", None, None, None, None),
        (5.0, None, 9.0, day.replace(month=3), False, "y"),
    )
    extractor = columns(ALL, **OPTIONS | {"min_count": 1})

    def saved(state: State) -> State:
        save_arrays(str(tmp_path / "table.npz"), state)
        return load_arrays(str(tmp_path / "table.npz"))

    part = saved(extractor.partial(Batch(training)))
    extractor.load(saved(extractor.finish(saved(extractor.merge([part])))))
    expected = fit(columns(ALL, **OPTIONS | {"min_count": 1}), training)
    assert extractor.names() == expected.names()
    assert "c=fighter\0" in extractor.names()
    out = extractor.transform(Batch(training))
    assert out.tobytes() == expected.transform(Batch(training)).tobytes()


@pytest.mark.parametrize("rows", [20_000, 60_000])
def test_what_is_merged_is_bounded(rows: int) -> None:
    random = np.random.default_rng(rows)
    extractor = columns({"n": "number", "t": "time"})
    micros = pa.array(random.integers(0, 10**15, rows), pa.timestamp("us", "UTC"))
    whole = pa.table({"n": random.normal(size=rows), "t": micros})
    state = merged(extractor, [whole.slice(i, 4096) for i in range(0, rows, 4096)])
    assert sum(array.nbytes for array in state.values()) < 2 * 40 * 8192 + 1000
