"""Nested cross-validation is honest: nothing chosen or fitted for a row has seen it."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from training_sets import LDA, learn, make, training_set

from schemas.options.fuse import Average, Compare, Concatenate, Hierarchical, Node, Weighted
from schemas.options.models import Models
from transforms.fusion.trees import tree_of
from transforms.learning.candidates import fit_rows
from transforms.learning.choosing import choose, choose_out_of_fold
from transforms.learning.judging import judge
from transforms.learning.nested import BLOCKS, Heads
from transforms.learning.problem import TrainingSet
from transforms.learning.training import judging

MANY = Models.model_validate({"lda": {"shrinkage": [0.0, 0.01, 0.1, 0.3, 0.6, 0.9, 1.0, "auto"]}})
TWO = Models.model_validate({"lda": {"shrinkage": [0.1, 0.9]}})
FUSES: dict[str, Any] = {
    "side by side": Concatenate(),
    "components": Concatenate(pca=3),
    "product rule": Average(method="average", of="decisions"),
    "stacking": Weighted(method="weighted", of="decisions", weights="stacking", rule="mean"),
    "errors": Weighted(method="weighted", of="decisions", weights="error_covariance"),
    "scores": Weighted(method="weighted", of="decisions", weights="scores"),
    "tree": Hierarchical(
        method="hierarchical",
        tree=Node(parts=[Node(parts=["image", "audio"], dimension=3), "text"], of="decisions"),
    ),
}
OPEN: dict[str, Any] = {
    "compare": Compare(
        method="compare",
        strategies={name: FUSES[name] for name in ("side by side", "product rule", "stacking")},
    ),
    "weights": Weighted(method="weighted", dimension=3),
    "auto": Hierarchical(method="hierarchical"),
    "cka": Hierarchical(method="hierarchical", tree="cka"),
}


def output_of(data: TrainingSet, fuse: Any, models: Models = TWO) -> np.ndarray:
    """Out-of-fold output of a strategy, or of choosing one."""
    with judging(data, models, "classification") as heads:
        if fuse in OPEN.values():
            return choose_out_of_fold(heads, fuse)
        return judge(heads, tree_of(fuse, data.modalities)).output


def three(folds: int = 4, n: int = 100, **fields: Any) -> TrainingSet:
    """Three modalities, a third of them missing."""
    data = make(n=n, widths=(4, 5, 3), folds=folds, **fields)
    rng = np.random.default_rng(3)
    data.present[:] = rng.random(data.present.shape) < 0.7
    return data


@pytest.mark.parametrize("folds", [3, 4, BLOCKS + 2])
@pytest.mark.parametrize("fuse", [*FUSES.values(), *OPEN.values()], ids=[*FUSES, *OPEN])
def test_what_is_said_of_a_fold_does_not_depend_on_its_labels(fuse: Any, folds: int) -> None:
    data, other = three(folds), three(folds)
    held = data.fold == 1
    other.labels[held] = np.roll(other.labels[held], 1)
    assert (data.labels[held] != other.labels[held]).sum() > 1
    before, after = (output_of(d, fuse) for d in (data, other))
    np.testing.assert_array_equal(before[held], after[held])
    assert (before != after).any()


@pytest.mark.parametrize("fuse", [*FUSES.values(), *OPEN.values()], ids=[*FUSES, *OPEN])
def test_what_is_said_of_a_row_does_not_depend_on_its_neighbours_in_the_fold(fuse: Any) -> None:
    data, other = three(), three()
    held = np.flatnonzero(data.fold == 1)
    for block in other.blocks.values():
        block[held[:3]] = 100 * block[held[:3]] + 7
    before, after = (output_of(d, fuse)[held] for d in (data, other))
    if fuse is not OPEN["cka"]:  # which modalities are alike is asked of all training rows
        np.testing.assert_array_equal(before[3:], after[3:])
    assert (before[:3] != after[:3]).any()


def noise(seed: int, groups: int = 90) -> TrainingSet:
    """90 random vectors of more dimensions than that, and random labels, half and half in a fold.

    With fewer groups, the rows of a group are much alike and have one label.
    """
    rng = np.random.default_rng(seed)
    of_row = np.arange(90) % groups
    blocks = {
        name: rng.normal(size=(groups, d))[of_row] + 0.1 * rng.normal(size=(90, d))
        for name, d in (("image", 100), ("audio", 60), ("text", 30))
    }
    fold = np.arange(groups) % 5
    labels = np.empty(groups, int)
    for f in range(5):
        labels[fold == f] = rng.permutation(groups // 5) % 2
    return training_set(
        blocks,
        np.array(["a", "b"])[labels[of_row]],
        fold=fold[of_row].astype(np.int32),
        test=np.zeros(90, bool),
        groups=np.array([f"g{i}" for i in of_row]),
    )


@pytest.mark.parametrize(
    "name",
    [
        "side by side",
        "stacking",
        "weights",
        pytest.param("auto", marks=pytest.mark.slow),
        "compare",
    ],
)
def test_random_labels_score_at_chance(name: str) -> None:
    fuse, right = {**FUSES, **OPEN}[name], []
    for seed in range(5):
        data = noise(seed)
        right.append((output_of(data, fuse, MANY).argmax(axis=1) == (data.labels == "b")).mean())
    # The standard error is 0.03: what models trained on the same rows say goes together.
    assert abs(np.mean(right) - 0.5) < 0.09, right


@pytest.mark.parametrize("fuse", [FUSES["side by side"], FUSES["stacking"]], ids=lambda f: f.method)
def test_groups_whose_rows_are_alike_score_at_chance(fuse: Any) -> None:
    right = []
    for seed in range(5):
        data = noise(seed, groups=30)
        right.append((output_of(data, fuse).argmax(axis=1) == (data.labels == "b")).mean())
    # As many independent labels as groups: a standard error of 0.04.
    assert abs(np.mean(right) - 0.5) < 0.1, right
    torn = noise(0, groups=30)
    torn.fold[:] = np.arange(90) // 30  # every group is in every fold: this is what leaks
    said = output_of(torn, fuse).argmax(axis=1)
    assert (said == (torn.labels == "b")).mean() > 0.95


# --- the fits --------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [2, 3, 5, BLOCKS, BLOCKS + 3])
def test_one_model_for_a_pair_of_blocks_serves_both(folds: int) -> None:
    data = make(folds=folds)
    with judging(data, LDA, "classification") as heads:
        judge(heads, tree_of(Concatenate(), data.modalities))
        assert heads.blocks == min(folds, BLOCKS)
        block = heads.block
        assert (block[data.test] == -1).all()
        assert set(block[~data.test]) == set(range(heads.blocks))
        for fold in range(folds):
            assert len(set(block[data.fold == fold])) == 1
    everyone = ~data.test
    expected = Counter(
        frozenset(np.flatnonzero(everyone & (data.fold != f)).tolist()) for f in range(folds)
    )
    if folds > 2:
        expected += Counter(
            frozenset(np.flatnonzero(everyone & (block != b) & (block != c)).tolist())
            for b, c in combinations(range(heads.blocks), 2)
        )
    assert Counter(rows for rows, _ in data.fit.calls) == expected


def outputs_without(heads: Heads, data: TrainingSet, out: np.ndarray) -> np.ndarray:
    """Standard scaling and one LDA on the training rows that are not left out, by hand."""
    rows = ~data.test & ~out
    X = np.hstack(list(data.blocks.values())).astype(np.float64)
    X = (X - X[rows].mean(axis=0)) / X[rows].std(axis=0)
    (fitted,) = fit_rows(heads.candidates, X[rows].astype(np.float32), heads.problem.y[rows])
    return fitted.estimator.predict_proba(X.astype(np.float32).astype(np.float64))


@pytest.mark.parametrize("folds", [4, BLOCKS + 2])
def test_outputs_are_those_of_models_without_the_rows(folds: int) -> None:
    data = make(folds=folds)
    with judging(data, LDA, "classification") as heads:
        (part,) = tree_of(Concatenate(), data.modalities).heads
        found = heads.of(part)
        block = heads.block
    for fold in range(folds):
        held = data.fold == fold
        expected = outputs_without(heads, data, held)[held]
        np.testing.assert_allclose(found.once[0][held], expected, rtol=1e-5, atol=1e-6)
    for b, c in ((0, 1), (2, 1), (3, 0)):
        expected = outputs_without(heads, data, np.isin(block, (b, c)))
        seen = block == c
        np.testing.assert_allclose(found.twice[b][0][seen], expected[seen], rtol=1e-5, atol=1e-6)
    assert all(not found.twice[b][0][block == b].any() for b in range(heads.blocks))


def test_two_folds_leave_nothing_to_nest() -> None:
    data = make(folds=2)
    m = learn(data, TWO).metrics
    cv, best = m["fused"]["cross_validation"], [c for c in m["candidates"] if c["chosen"]]
    assert cv["accuracy"] == best[0]["score"]
    assert m["nested"] is False
    assert learn(make(folds=3), TWO).metrics["nested"] is True
    with judging(data, TWO, "classification") as heads:
        assert choose(heads, OPEN["compare"]).report["cross_validation"] is None


def test_outputs_are_found_once() -> None:
    data = make(widths=(4, 5, 3))
    with judging(data, LDA, "classification") as heads:
        choose(heads, OPEN["auto"])
        calls = len(data.fit.calls)
        # Seven sets of modalities at most, ten fits each.
        assert calls % 10 == 0
        assert calls <= 70
        choose(heads, OPEN["cka"])
        for fuse in FUSES.values():
            if fuse.method != "hierarchical":
                judge(heads, tree_of(fuse, data.modalities))
        assert len(data.fit.calls) <= 80  # components are another head
