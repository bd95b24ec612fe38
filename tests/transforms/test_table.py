"""Tables: scaling, one-hot categories, and a fit that is the same in any parts."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from schemas.arrays import load_arrays, save_arrays
from schemas.errors import DataError
from transforms.extractors.base import Batch, Context, State
from transforms.extractors.table.columns import Columns

TYPES = {"number": pa.float64(), "category": pa.string()}
MIXED = {"age": "number", "usage": "category", "height": "number"}


def columns(kinds: dict[str, str], **options: object) -> Columns:
    extractor = Columns(**options)
    extractor.context = Context(columns=kinds)
    return extractor


def table(kinds: dict[str, str], *rows: tuple) -> pa.Table:
    schema = pa.schema([(name, TYPES[kind]) for name, kind in kinds.items()])
    return pa.table(
        [pa.array([row[i] for row in rows], schema[i].type) for i in range(len(kinds))],
        schema=schema,
    )


def fit(extractor: Columns, *parts: pa.Table) -> Columns:
    states = [extractor.partial(Batch(part)) for part in parts]
    extractor.load(extractor.finish(extractor.merge(states)))
    return extractor


def test_mixed_columns() -> None:
    training = table(
        MIXED, (1.0, "fighter", 5.0), (3.0, "archer", None), (5.0, None, 9.0), (3.0, "archer", 7.0)
    )
    extractor = fit(columns(MIXED), training)
    assert extractor.names() == [
        "age",
        "usage=archer",
        "usage=fighter",
        "usage is other",
        "height",
        "height is missing",
    ]
    unseen = table(MIXED, (None, "scout", 7.0), (3.0, None, None))
    batch = Batch(pa.concat_tables([training, unseen]))
    out = extractor.transform(batch)
    assert out.dtype == np.float32
    root, third = np.sqrt(2), np.sqrt(8 / 3)
    expected = [
        [-root, 0, 1, 0, -2 / third, 0],
        [0, 1, 0, 0, 0, 1],
        [root, 0, 0, 0, 2 / third, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    np.testing.assert_allclose(out, expected, atol=1e-7)
    assert batch.failures == {}


def test_unscaled_numbers_are_as_they_are() -> None:
    kinds = {"a": "number"}
    extractor = fit(columns(kinds, scale=False), table(kinds, (10.0,), (20.0,)))
    assert extractor.names() == ["a"]
    out = extractor.transform(Batch(table(kinds, (10.0,), (0.1,), (None,))))
    assert out[:, 0].tolist() == [10, np.float32(0.1), 15]


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.1, -3.7e-12])
def test_constant_columns_are_zero(value: float) -> None:
    kinds = {"a": "number", "b": "number"}
    parts = [table(kinds, *[(value, None)] * n) for n in (3, 7, 1)]
    extractor = fit(columns(kinds), *parts)
    assert extractor.names() == ["a", "b", "b is missing"]
    out = extractor.transform(Batch(table(kinds, (value, None), (value + 1, 4.0), (None, None))))
    assert out.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 1]]


def test_scaling_is_exact_far_from_zero() -> None:
    values = np.random.default_rng(0).normal(1e6, 1, 20_000)
    whole = pa.table({"a": values})
    extractor = columns({"a": "number"})
    parts = [extractor.partial(Batch(whole.slice(i, 1000))) for i in range(0, len(values), 1000)]
    merged = parts[0]
    for part in parts[1:]:
        merged = extractor.merge([merged, part])
    fitted = extractor.finish(merged)
    np.testing.assert_allclose(fitted["numbers/mean"], values.mean(), rtol=1e-14)
    np.testing.assert_allclose(fitted["numbers/deviation"], values.std(), rtol=1e-10)
    extractor.load(fitted)
    expected = StandardScaler().fit_transform(values[:, None])
    np.testing.assert_allclose(extractor.transform(Batch(whole)), expected, rtol=1e-6, atol=1e-8)


NUMBERS = st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([0.1, 1e6]))
TEXTS = st.one_of(st.none(), st.sampled_from(["a", "b", "ä", "a\0", "", "😀", "\uffff"]), st.text(
    st.characters(exclude_categories=["Cs"]), max_size=3
))  # fmt: skip


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(NUMBERS, TEXTS, NUMBERS), max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=5),
    nested=st.integers(0, 6),
)
def test_fit_is_the_same_in_any_parts(rows: list[tuple], cuts: list[int], nested: int) -> None:
    extractor = columns(MIXED, max_categories=3)
    whole = table(MIXED, *rows)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [extractor.partial(Batch(whole.slice(a, b - a))) for a, b in itertools.pairwise(edges)]
    expected = extractor.merge([extractor.partial(Batch(whole))])
    merged = extractor.merge([extractor.merge(parts[:nested]), *parts[nested:]])
    assert merged.keys() == expected.keys()
    for name in merged:
        assert merged[name].dtype == expected[name].dtype
        scale = 1e6 if name == "numbers/mean" else 1e12 if name == "numbers/scatter" else 0
        np.testing.assert_allclose(merged[name], expected[name], rtol=1e-9, atol=1e-12 * scale)
    # And it is what a second look at the rows says.
    for i, at in enumerate((0, 2)):
        known = np.array([row[at] for row in rows if row[at] is not None])
        assert merged["numbers/count"][i] == len(known)
        assert merged["numbers/missing"][i] == len(rows) - len(known)
        if len(known):
            np.testing.assert_allclose(merged["numbers/mean"][i], known.mean(), 1e-9, 1e-6)


@settings(deadline=None)
@given(rows=st.lists(st.tuples(TEXTS), max_size=30), kept=st.integers(1, 4))
def test_the_most_frequent_categories_are_kept(rows: list[tuple], kept: int) -> None:
    kinds = {"c": "category"}
    extractor = fit(
        columns(kinds, max_categories=kept), table(kinds, *rows[:7]), table(kinds, *rows[7:])
    )
    known = [row[0] for row in rows if row[0] is not None]
    ranked = sorted(set(known), key=lambda one: (-known.count(one), one.encode()))[:kept]
    names = sorted(ranked, key=str.encode)
    assert extractor.names() == [*(f"c={one}" for one in names), "c is other"]
    out = extractor.transform(Batch(table(kinds, *rows, ("never seen",), (None,))))
    for (value,), row in zip([*rows, ("never seen",), (None,)], out.tolist(), strict=True):
        at = names.index(value) if value in names else len(names)
        expected = np.zeros(len(names) + 1)
        if value is not None:
            expected[at] = 1
        assert row == expected.tolist()


def test_rows_do_not_depend_on_their_batch() -> None:
    random = np.random.default_rng(0)
    rows = [
        (
            None if random.random() < 0.2 else float(random.normal(3, 9)),
            str(random.integers(9)),
            1.5,
        )
        for _ in range(99)
    ]
    whole = table(MIXED, *rows)
    extractor = fit(columns(MIXED, max_categories=4), whole)
    together = extractor.transform(Batch(whole))
    alone = [extractor.transform(Batch(whole.slice(i, 1))) for i in range(len(rows))]
    assert np.vstack(alone).tobytes() == together.tobytes()
    pieces = pa.concat_tables([whole.slice(0, 40), whole.slice(40)])
    assert extractor.transform(Batch(pieces)).tobytes() == together.tobytes()


@pytest.mark.parametrize("scale", [True, False])
def test_numbers_too_large_for_the_features_fail_their_row(scale: bool) -> None:
    kinds = {"a": "number", "b": "number"}
    extractor = fit(columns(kinds, scale=scale), table(kinds, (1.0, 2.0), (2.0, 4.0)))
    batch = Batch(table(kinds, (1.0, 2.0), (2.0, -1e300)))
    out = extractor.transform(batch)
    assert np.isfinite(out[0]).all()
    assert list(batch.failures) == [1]
    assert batch.failures[1].kind == "overflow"
    assert batch.failures[1].message.startswith("b is -1e+300, too ")


def test_training_numbers_too_large_for_moments_end_the_run() -> None:
    kinds = {"a": "number", "b": "number"}
    extractor = columns(kinds)
    parts = [table(kinds, (1.0, 1e300)), table(kinds, (2.0, -1e300))]
    state = extractor.merge([extractor.partial(Batch(part)) for part in parts])
    with pytest.raises(DataError, match=r"column 'b' has numbers from -1e\+300 to 1e\+300"):
        extractor.finish(state)


def test_no_training_rows() -> None:
    extractor = fit(columns(MIXED))
    assert extractor.names() == ["age", "usage is other", "height"]
    assert extractor.transform(Batch(table(MIXED, (3.0, "a", None)))).tolist() == [[0, 1, 0]]


def test_states_can_be_saved(tmp_path: Path) -> None:
    training = table(MIXED, (1.0, "fighter\0", 5.0), (3.0, "größe 😀", None), (5.0, None, 9.0))
    extractor = columns(MIXED)

    def saved(state: State) -> State:
        save_arrays(str(tmp_path / "table.npz"), state)
        return load_arrays(str(tmp_path / "table.npz"))

    part = saved(extractor.partial(Batch(training)))
    extractor.load(saved(extractor.finish(saved(extractor.merge([part])))))
    expected = fit(columns(MIXED), training)
    assert extractor.names() == expected.names()
    assert "usage=fighter\0" in extractor.names()
    out = extractor.transform(Batch(training))
    assert out.tobytes() == expected.transform(Batch(training)).tobytes()
