"""Columns of categories: one-hot with rare and unseen ones, or hashed, beside scikit-learn."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction import FeatureHasher
from sklearn.preprocessing import OneHotEncoder
from tables import TEXTS, column, columns, cut, fit, merged, table, transformed

from schemas.errors import DataError
from transforms.extractors.base import Batch
from transforms.extractors.table.categories import MOST, MOST_BYTES

X = {"x": "category"}


@given(
    values=st.lists(TEXTS, max_size=30),
    kept=st.integers(1, 4),
    least=st.integers(1, 3),
    cuts=st.lists(st.integers(0, 30), max_size=3),
)
def test_frequent_rare_unseen_and_missing_ones(
    values: list[str | None], kept: int, least: int, cuts: list[int]
) -> None:
    rows = column("category", *values)
    extractor = fit(columns(X, max_categories=kept, min_count=least), *cut(rows, cuts))
    known = [value for value in values if value is not None]
    ranked = sorted(set(known), key=lambda one: (-known.count(one), one.encode()))[:kept]
    frequent = sorted((one for one in ranked if known.count(one) >= least), key=str.encode)
    names = [f"x={one}" for one in frequent]
    names += ["x is rare"] if set(known) - set(frequent) else []
    names += ["x is unseen"] + (["x is missing"] if None in values else [])
    found = transformed(extractor, column("category", *values, "never seen", None))
    assert list(found) == names
    for i, value in enumerate([*values, "never seen", None]):
        name = "x is missing"
        if value is not None:
            rare = "x is rare" if value in known else "x is unseen"
            name = f"x={value}" if value in frequent else rare
        assert {one for one in found if found[one][i]} == {name} & set(names)
        assert sum(found[one][i] for one in found) == (name in names)


@pytest.mark.parametrize("options", [{"min_count": 40}, {"max_categories": 5}])
def test_one_hot_as_scikit_learn_does(options: dict[str, int]) -> None:
    random = np.random.default_rng(0)
    values = np.array([f"sort{i}" for i in random.zipf(1.6, 2000) % 50])
    extractor = fit(columns(X, **options), pa.table({"x": values}))
    # scikit-learn counts the dimension of the rare ones as one of max_categories.
    theirs = {"min_frequency": options.get("min_count"), "max_categories": 6}
    if "min_count" in options:
        del theirs["max_categories"]
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False, **theirs)
    encoder.fit(values[:, None])
    new = np.array([*values[:100], "sort99", "new"])
    expected = encoder.transform(new[:, None])
    found = transformed(extractor, pa.table({"x": new}))
    names = [f"x={one.removeprefix('x_')}" for one in encoder.get_feature_names_out(["x"])[:-1]]
    assert list(found) == [*names, "x is rare", "x is unseen"]
    np.testing.assert_array_equal(np.array(list(found.values())[:-1]).T, expected)
    assert found["x is unseen"] == [0] * 100 + [1, 1]


@given(values=st.lists(TEXTS, max_size=30), slots=st.sampled_from([2, 7, 64]))
def test_hashed_as_scikit_learn_does(values: list[str | None], slots: int) -> None:
    extractor = fit(columns(X, hash=slots), column("category", None))
    found = np.array(list(transformed(extractor, column("category", *values)).values())).T
    texts = [[] if value is None else [value] for value in values]
    if values:
        hasher = FeatureHasher(slots, input_type="string")
        np.testing.assert_array_equal(found[:, :-1], hasher.transform(texts).toarray())
        assert found[:, -1].tolist() == [value is None for value in values]
    assert extractor.names() == [*(f"x#{i}" for i in range(slots)), "x is missing"]


def test_hashing_of_single_columns_and_of_all() -> None:
    kinds = {"a": "category", "n": "number", "b": "category"}
    training = table(kinds, ("p", 1.0, "q"), ("r", 2.0, "q"))
    some = fit(columns(kinds, hash={"b": 2}), training)
    assert some.names() == ["a=p", "a=r", "a is unseen", "n", "b#0", "b#1"]
    every = fit(columns(kinds, hash=2), training)
    assert every.names() == ["a#0", "a#1", "n", "b#0", "b#1"]
    state = merged(every, [training])
    assert not any("text" in name for name in state)  # nothing grows with the categories


def test_too_many_categories_to_count_end_the_run() -> None:
    extractor = columns(X)
    texts = [f"{i:x}" for i in range(MOST + 1)]
    parts = [column("category", *texts[:40_000]), column("category", *texts[30_000:])]
    states = [extractor.partial(Batch(part)) for part in parts]
    with pytest.raises(DataError, match=r"'x' has more than 65,536 .* \{hash: \{x: 256\}\}"):
        extractor.merge(states)
    assert len(fit(columns(X, hash=4), *parts).names()) == 4
    enough = fit(extractor, parts[0], column("category", *texts[30_000:-1]))
    assert len(enough.names()) == 64 + 2
    with pytest.raises(DataError, match="more than 16 MB of them"):
        extractor.partial(Batch(column("category", "long" * (MOST_BYTES // 4) + ".")))


def test_other_layouts_of_text_and_chunks() -> None:
    rows = column("category", "a", None, "b", "a", "c")
    extractor = fit(columns(X), rows)
    expected = transformed(extractor, rows)
    pieces = pa.concat_tables([rows.slice(0, 2), rows.slice(2, 0), rows.slice(2)])
    assert transformed(extractor, pieces) == expected
    assert expected["x is missing"] == [0, 1, 0, 0, 0]
