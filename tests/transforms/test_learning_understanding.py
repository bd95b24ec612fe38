"""Shapley values and the removal of modalities."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.learning.understanding import (
    LEVELS,
    removal_curve,
    removal_masks,
    shapley_values,
    subsets,
)

SEEDS = st.integers(0, 10_000)


def by_orders(names, scores, nothing):
    """The definition: the mean gain of a modality over all orders of adding them."""
    gains = {name: [] for name in names}
    for order in itertools.permutations(names):
        before = nothing
        for i, name in enumerate(order):
            after = scores[tuple(m for m in names if m in order[: i + 1])]
            gains[name].append(after - before)
            before = after
    return {name: np.mean(own) for name, own in gains.items()}


@settings(max_examples=25)
@given(seed=SEEDS, n=st.integers(1, 6))
def test_shapley_values_are_the_mean_over_all_orders(seed, n):
    rng = np.random.default_rng(seed)
    names = [f"m{i}" for i in range(n)]
    scores = {chosen: float(rng.random()) for chosen in subsets(names)}
    found = shapley_values(names, scores, 0.3)
    assert json.loads(json.dumps(found)) == found
    assert found["values"] == pytest.approx(by_orders(names, scores, 0.3))
    assert sum(found["values"].values()) == pytest.approx(scores[tuple(names)] - 0.3, abs=1e-12)


def test_shapley_values_by_hand():
    # b adds nothing that a does not; c is the only one that adds to both.
    scores = {("a",): 0.8, ("b",): 0.8, ("a", "b"): 0.8}
    assert shapley_values(["a", "b"], scores, 0.5)["values"] == pytest.approx(
        {"a": 0.15, "b": 0.15}
    )
    scores = {("a",): 0.8, ("b",): 0.5, ("a", "b"): 0.7}
    found = shapley_values(["a", "b"], scores, 0.5)
    assert found["values"] == pytest.approx({"a": 0.25, "b": -0.05})
    assert (found["nothing"], found["total"]) == (0.5, 0.7)


def test_subsets():
    assert subsets(["x", "a", "b"]) == [
        ("x",), ("a",), ("b",), ("x", "a"), ("x", "b"), ("a", "b"), ("x", "a", "b"),
    ]  # fmt: skip
    assert len(subsets(list("abcdef"))) == 63
    with pytest.raises(ValueError, match="7 modalities have 127 subsets"):
        subsets(list("abcdefg"))


def made(seed, n=300, m=3, missing=0.3):
    rng = np.random.default_rng(seed)
    return [f"key{seed}-{i}" for i in range(n)], rng.random((n, m)) >= missing


@settings(max_examples=25)
@given(seed=SEEDS, m=st.integers(1, 4), missing=st.sampled_from([0.0, 0.4]))
def test_removal_is_nested_and_leaves_one(seed, m, missing):
    keys, present = made(seed, 50, m, missing)
    names = [f"m{i}" for i in range(m)]
    masks = removal_masks(keys, present, names)
    assert masks.shape == (9, 50, m)
    before = present
    for mask in masks:
        assert not (mask & ~before).any()
        before = mask
    several = present.sum(axis=1) > 1
    assert masks[:, several].any(axis=2).all()
    part = slice(7, 20)
    few = removal_masks(keys[part], present[part], names)
    np.testing.assert_array_equal(few, masks[:, part])


def test_as_much_is_removed_as_asked_for():
    keys, present = made(0, 20_000, 6, 0.0)
    names = list("abcdef")
    masks = removal_masks(keys, present, names, (0.0, 0.1, 0.3, 0.5))
    shares = 1 - masks.mean(axis=(1, 2))
    # The one that stays would have gone with all others, with probability level ** 6.
    expected = [level - level**6 / 6 for level in (0.0, 0.1, 0.3, 0.5)]
    np.testing.assert_allclose(shares, expected, atol=0.004)
    per_modality = 1 - masks[2].mean(axis=0)
    np.testing.assert_allclose(per_modality, 0.3, atol=0.012)
    both = (~masks[2][:, 0] & ~masks[2][:, 1]).mean()
    assert both == pytest.approx(0.09, abs=0.01)
    alone = removal_masks(keys, present[:, :1], ["a"], (0.5, 1.0))
    assert alone[0].mean() == pytest.approx(0.5, abs=0.02)
    assert not alone[1].any()
    everything = removal_masks(keys, present, names, (1.0,))
    assert (everything[0].sum(axis=1) == 1).all()


def test_draws_are_the_keys_and_the_seeds():
    keys, present = made(1)
    first = removal_masks(keys, present, ["a", "b", "c"])
    np.testing.assert_array_equal(first, removal_masks(np.array(keys), present, ["a", "b", "c"]))
    assert (first != removal_masks(keys, present, ["a", "b", "c"], seed=1)).any()
    order = [2, 0, 1]
    turned = removal_masks(keys, present[:, order], ["c", "a", "b"])
    np.testing.assert_array_equal(first[:, :, order], turned)


def test_removal_curve():
    keys, present = made(2)
    told = []

    def score(mask):
        told.append(mask)
        return float(mask.mean())

    found = removal_curve(keys, present, ["a", "b", "c"], score)
    assert json.loads(json.dumps(found)) == found
    assert [point["level"] for point in found] == [0.0, *LEVELS]
    np.testing.assert_array_equal(told[0], present)
    removed = [point["removed"] for point in found]
    assert removed[0] == 0
    assert (np.diff(removed) > 0).all()
    for point, mask in zip(found, told, strict=True):
        assert point["score"] == mask.mean()
        assert point["removed"] == pytest.approx(1 - mask.sum() / present.sum())
    nothing = removal_curve(keys, np.zeros_like(present), ["a", "b", "c"], lambda _: None)
    assert {point["removed"] for point in nothing} == {0.0}
