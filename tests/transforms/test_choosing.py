"""Choosing a strategy: which is taken, why, and what the choice itself is worth."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from training_sets import LDA, RIDGE, learn, make, training_set

from schemas.options.fuse import Average, Compare, Concatenate, Hierarchical, Node, Weighted
from transforms.fusion.decisions import weights_by_score
from transforms.fusion.trees import tree_of
from transforms.learning.choosing import Choice, choose
from transforms.learning.judging import judge
from transforms.learning.problem import TrainingSet
from transforms.learning.training import judging

SIDE_BY_SIDE, PRODUCT = Concatenate(), Average(method="average", of="decisions")
AUTO, CKA = (Hierarchical(method="hierarchical", tree=tree) for tree in ("auto", "cka"))


def compare(**strategies: Any) -> Compare:
    return Compare(method="compare", strategies=strategies)


def choice_of(data: TrainingSet, fuse: Any, task: Any = "classification") -> Choice:
    with judging(data, LDA if task == "classification" else RIDGE, task) as heads:
        return choose(heads, fuse)


def together(n: int = 300, seed: int = 0) -> TrainingSet:
    """What image and audio say is drowned in noise that they share; text stands by itself."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    noise = 5 * rng.normal(size=(n, 3))
    blocks = {
        "image": noise + y[:, None] + 0.5 * rng.normal(size=(n, 3)),
        "text": rng.normal(size=(n, 2)) + 0.7 * y[:, None],
        "audio": noise + 0.5 * rng.normal(size=(n, 3)),
    }
    return training_set(blocks, np.array(["no", "yes"])[y], folds=5)


def apart(n: int = 120, seed: int = 0) -> TrainingSet:
    """Each modality by itself, of many dimensions: one model of all has too much to learn."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    blocks = {
        name: rng.normal(size=(n, 60)) * np.exp(rng.normal(size=60)) + 0.4 * y[:, None]
        for name in ("image", "audio", "text")
    }
    return training_set(blocks, np.array(["no", "yes"])[y], folds=5)


def test_comparison_takes_the_best_and_says_why() -> None:
    fuse = compare(apart=PRODUCT, together=SIDE_BY_SIDE, space=Average(method="average"))
    found = choice_of(together(), fuse)
    assert found.fuse == SIDE_BY_SIDE
    report = found.report
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["chosen"] == report["best"] == "together"
    assert report["reason"].startswith("together has the best mean accuracy")
    names = [line["name"] for line in report["strategies"]]
    assert names == ["apart", "together", "space"]
    for line in report["strategies"]:
        assert len(line["per_fold"]) == 5
        assert line["mean"] == pytest.approx(np.mean(line["per_fold"]))
        difference = line["against_chosen"]["difference"]
        assert difference == pytest.approx(line["mean"] - report["strategies"][1]["mean"])
    assert report["strategies"][1]["against_chosen"]["difference"] == 0
    assert report["cross_validation"]["score"] == pytest.approx(
        report["strategies"][1]["score"], abs=0.02
    )


def test_the_simplest_of_equals_is_taken() -> None:
    raw = Concatenate(pca=6)  # all dimensions, turned: the same to LDA
    found = choice_of(together(), compare(first=SIDE_BY_SIDE, second=raw, third=PRODUCT))
    assert found.report["chosen"] == "first"
    again = choice_of(together(), compare(first=raw, second=SIDE_BY_SIDE, third=PRODUCT))
    assert again.report["chosen"] == "first"
    assert again.fuse == raw


def test_scores_of_a_comparison_are_those_of_the_strategies_alone() -> None:
    data = together()
    found = choice_of(data, compare(one=SIDE_BY_SIDE, two=PRODUCT)).report["strategies"]
    for line, fuse in zip(found, (SIDE_BY_SIDE, PRODUCT), strict=True):
        m = learn(data, LDA, fuse=fuse).metrics["fused"]["cross_validation"]
        assert line["score"] == m["accuracy"]
        assert line["log_loss"] == m["log_loss"]
        assert line["per_fold"] == [fold["accuracy"] for fold in m["per_fold"]]


def test_what_is_open_inside_a_comparison_is_settled_first() -> None:
    data = together()
    fuse = compare(tree=AUTO, weights=Weighted(method="weighted", dimension=3))
    found = choice_of(data, fuse)
    tree, weights = (line["settled"] for line in found.report["strategies"])
    assert tree["steps"] == choice_of(data, AUTO).report["steps"]
    assert sum(weights["weights"].values()) == pytest.approx(1)
    assert found.report["chosen"] == "tree"
    assert found.fuse.tree == choice_of(data, AUTO).fuse.tree


@pytest.mark.parametrize("kept", [(True, False), (False, True), (False, False)])
def test_features_are_kept_if_any_of_both_says_so(kept: tuple[bool, bool]) -> None:
    outer, inner = kept
    fuse = Compare(
        method="compare",
        strategies={"a": Concatenate(keep_modalities=inner), "b": PRODUCT},
        keep_modalities=outer,
    )
    found = choice_of(together(), fuse)
    assert found.report["chosen"] == "a"
    assert found.fuse.keep_modalities == (outer or inner)


# --- trees -----------------------------------------------------------------------------------


def test_modalities_that_need_each_other_are_merged() -> None:
    found = choice_of(together(), AUTO)
    steps = found.report["steps"]
    assert steps[0]["groups"] == ["image", "text", "audio"]
    assert steps[1]["groups"] == ["image+audio", "text"]
    assert [s["score"] for s in steps] == sorted(s["score"] for s in steps)
    assert steps[1]["score"] > steps[0]["score"] + 0.1
    assert isinstance(found.fuse.tree, Node)
    assert sorted(found.fuse.tree.modalities()) == ["audio", "image", "text"]


def test_modalities_that_do_well_apart_stay_apart() -> None:
    found = choice_of(apart(), AUTO)
    assert [s["groups"] for s in found.report["steps"]] == [["image", "audio", "text"]]
    tree = found.fuse.tree
    assert isinstance(tree, Node)
    assert (tree.parts, tree.of, tree.rule) == (["image", "audio", "text"], "decisions", "product")


def test_the_most_alike_are_merged_first() -> None:
    steps = choice_of(together(), CKA).report["steps"]
    assert steps[1]["groups"] == ["image+audio", "text"]
    data = together()
    data.blocks["audio"], data.blocks["text"] = data.blocks["text"], data.blocks["audio"]
    data.fit.blocks = data.blocks  # type: ignore[attr-defined]
    steps = choice_of(data, CKA).report["steps"]
    assert steps[1]["groups"] == ["image+text", "audio"]


def test_a_tree_of_everything_is_side_by_side() -> None:
    data = together()
    blocks = {name: data.blocks[name] for name in ("image", "audio")}
    data = training_set(blocks, data.labels, folds=5)
    found = choice_of(data, AUTO)
    assert found.fuse.tree == Node(parts=["image", "audio"])
    one, two = (learn(data, LDA, fuse=fuse).metrics for fuse in (found.fuse, SIDE_BY_SIDE))
    assert one == two


def test_modalities_that_are_never_there_together() -> None:
    data = together()
    data.present[:, 2] = ~data.present[:, 0]
    found = choice_of(data, CKA)
    assert found.report["steps"][0]["groups"] == ["image", "text", "audio"]


# --- weights ---------------------------------------------------------------------------------


def test_weights_of_features_are_by_what_each_is_worth_alone() -> None:
    data = make(n=300, widths=(4, 5, 3), folds=5)
    data.blocks["text"][:] = np.random.default_rng(1).normal(size=(300, 3))
    fuse = Weighted(method="weighted", dimension=3)
    found = choice_of(data, fuse)
    assert isinstance(found.fuse, Weighted)
    assert found.fuse.weights == found.report["weights"]
    alone = Average(method="average", dimension=3)
    train = ~data.test
    with judging(data, LDA, "classification") as heads:
        outputs = {
            name: judge(heads, tree_of(alone, [name])).output[train] for name in data.modalities
        }
        expected = weights_by_score(outputs, data.present[train], heads.problem.y[train])
    assert list(found.fuse.weights.values()) == pytest.approx(expected.tolist())
    image, audio, text = expected
    assert image > audio > text
    assert text < 0.15


# --- all of it -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fuse",
    [compare(one=SIDE_BY_SIDE, two=PRODUCT), AUTO, CKA, Weighted(method="weighted", dimension=2)],
    ids=["compare", "auto", "cka", "weights"],
)
def test_regression_with_missing_modalities(fuse: Any) -> None:
    data = make(n=150, widths=(4, 5, 3), task="regression")
    data.present[:] = np.random.default_rng(0).random((150, 3)) < 0.7
    found = choice_of(data, fuse, "regression")
    assert json.loads(json.dumps(found.report, allow_nan=False)) == found.report
    assert found.report["cross_validation"]["score"] > 0.1
    again = choice_of(data, fuse, "regression")
    assert again == found
    result = learn(data, RIDGE, "regression", fuse)
    assert result.metrics["fused"]["test"]["r2"] > 0.1


def test_the_test_rows_have_no_part_in_the_choice() -> None:
    data, other = together(), together()
    for block in other.blocks.values():
        block[other.test] = 1000.0
    other.labels[other.test] = "no"
    fuse = compare(one=SIDE_BY_SIDE, two=AUTO, three=Weighted(method="weighted", dimension=2))
    assert choice_of(data, fuse) == choice_of(other, fuse)


def test_what_is_settled_is_left_alone() -> None:
    for fuse in (SIDE_BY_SIDE, PRODUCT, Weighted(method="weighted", of="decisions")):
        data = make()
        assert choice_of(data, fuse) == Choice(fuse, {})
        assert data.fit.calls == []  # type: ignore[attr-defined]
