"""Splits: shares, whole groups, balance, independence of order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DataError
from schemas.recipe import Split
from transforms.fusion.splitting import split_by_group, split_by_key

KEYS = pa.array([f"key {i}" for i in range(50_000)])


def test_shares_and_folds_are_as_asked() -> None:
    fold = split_by_key(Split(test_share=0.2, folds=5)).assign(KEYS)
    assert abs((fold < 0).mean() - 0.2) < 0.01
    for number in range(5):
        assert abs((fold == number).mean() - 0.16) < 0.01


def test_no_test_share_means_no_test_rows() -> None:
    fold = split_by_key(Split(test_share=0)).assign(KEYS)
    assert (fold >= 0).all()


def test_a_seed_changes_the_split_and_an_order_does_not() -> None:
    one = split_by_key(Split()).assign(KEYS)
    other = split_by_key(Split(seed=1)).assign(KEYS)
    assert (one == other).mean() < 0.5
    order = np.random.default_rng(0).permutation(len(KEYS))
    assert (split_by_key(Split()).assign(KEYS.take(pa.array(order))) == one[order]).all()


@given(
    st.dictionaries(st.text(min_size=1, max_size=5), st.integers(1, 50), min_size=8, max_size=40),
    st.integers(0, 5),
)
def test_groups_stay_whole_and_folds_are_filled(sizes: dict[str, int], seed: int) -> None:
    split = Split(group="g", folds=3, test_share=0.2, seed=seed)
    splits = split_by_group(split, sizes)
    assert splits.groups is not None
    assert set(splits.groups) == set(sizes)
    assert set(splits.groups.values()) - {-1} == {0, 1, 2}
    filled = [sum(sizes[g] for g, f in splits.groups.items() if f == k) for k in range(3)]
    assert max(filled) - min(filled) <= max(sizes.values())
    test = sum(sizes[g] for g, f in splits.groups.items() if f == -1)
    assert abs(test - 0.2 * sum(sizes.values())) <= max(sizes.values())
    # The order in which groups come must not count.
    assert split_by_group(split, dict(reversed(sizes.items()))) == splits
    groups = pa.array([g for g, n in sizes.items() for _ in range(n)])
    keys = pa.array([f"{i}" for i in range(len(groups))])
    assigned = splits.assign(keys, groups)
    assert assigned.tolist() == [splits.groups[g] for g in groups.to_pylist()]


def test_the_test_leaves_the_folds_what_they_need() -> None:
    sizes = {"1": 21} | dict.fromkeys("0234567", 1)
    groups = split_by_group(Split(group="g", folds=3, test_share=0.2), sizes).groups
    assert groups is not None
    assert sorted(groups.values()) == [-1, -1, -1, -1, -1, 0, 1, 2]


def test_one_fold_a_group_in_the_order_of_names() -> None:
    splits = split_by_group(Split(group="g", folds="group", test_share=0), {"b": 2, "a": 9, "c": 1})
    assert splits.groups == {"a": 0, "b": 1, "c": 2}
    assert splits.folds == 3


def test_keys_without_a_group_are_split_by_their_own_hash() -> None:
    splits = split_by_group(Split(group="g", test_share=0.3), {f"g{i}": 1 for i in range(20)})
    fold = splits.assign(KEYS, pa.nulls(len(KEYS), pa.string()))
    assert (fold == split_by_key(Split(test_share=0.3)).assign(KEYS)).all()


def test_too_few_groups_say_what_to_lower() -> None:
    with pytest.raises(DataError, match=r"split\.group 'g' has 3 groups.*Lower split\.folds"):
        split_by_group(Split(group="g", folds=5, test_share=0), {"a": 1, "b": 1, "c": 1})
    with pytest.raises(DataError, match=r"groups, 2 of them for training: .* or split\.test_share"):
        split_by_group(Split(group="g", folds=3, test_share=0.4), {"a": 1, "b": 1, "c": 1})
    with pytest.raises(DataError, match="too few"):
        split_by_group(Split(group="g", folds="group", test_share=0), {"a": 1})
