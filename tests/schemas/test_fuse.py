"""Strategies of fusion in recipes: what is wrong with one, told in a line; written and read."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from texts import GOOD, load, problems

from schemas.loading import dump_recipe, json_schema
from schemas.options.fuse import (
    Average,
    Compare,
    Concatenate,
    Deep,
    Hierarchical,
    Node,
    Weighted,
    learns_from_labels,
    needs_choice,
)

STRATEGIES = [
    "{method: average}",
    "{method: average, of: decisions, rule: mean}",
    "{method: average, shared: cca, dimension: 4}",
    "{method: weighted}",
    "{method: weighted, weights: {image: 1, sound: 0, facts: 0.5}}",
    "{method: weighted, of: decisions, weights: stacking}",
    "{method: hierarchical}",
    "{method: hierarchical, tree: cka}",
    "{method: hierarchical, tree: [[image, facts], sound]}",
    "{method: hierarchical, tree: {parts: [[image, facts], sound], of: decisions, rule: mean}}",
    "{method: hierarchical, tree: {parts: [{parts: [image, facts], dimension: 8}, sound],"
    " method: average, dimension: 8}}",
    "{method: deep}",
    "{method: deep, pooling: attention, dimension: 8, seed: 3}",
    "{method: compare, strategies: {a: {}, b: {method: deep}}}",
    "{method: compare}",
    "{method: compare, keep_modalities: true,"
    " strategies: {a: {pca: 3}, b: {method: hierarchical}}}",
]


@pytest.mark.parametrize(
    ("fuse", "expected"),
    [
        (
            "{method: hierarchical, tree: [[image, sond], facts]}",
            "tree: unknown name 'sond'; did you mean 'sound'? known are: image, sound, facts",
        ),
        (
            "{method: hierarchical, tree: [image, sound]}",
            "tree: lacks facts: each modality has one place in it",
        ),
        (
            "{method: hierarchical, tree: [image, sound, [facts, image]]}",
            "tree: has image twice: each modality has one place in it",
        ),
        (
            "{method: hierarchical, tree: [image, [sound], facts]}",
            "tree.parts.1.parts: must have at least 2 entries, got 1",
        ),
        (
            "{method: hierarchical, tree: [image, 3, facts]}",
            "tree.parts.1: must be text or a mapping with parts, got 3: put it in quotes",
        ),
        (
            "{method: hierarchical, tree: aut}",
            "tree: must be one of auto, cka or a mapping with parts, got 'aut'; "
            "did you mean 'auto'?",
        ),
        (
            "{method: hierarchical, tree: {parts: [image, {parts: [sound, facts], dimenson: 3}]}}",
            "tree.parts.1.dimenson: unknown field; did you mean 'dimension'? "
            "known are: parts, method, of, dimension, rule",
        ),
        (
            "{method: hierarchical, tree: {parts: [image, sound, facts], method: average}}",
            "tree.dimension: an average of features needs a dimension",
        ),
        (
            "{method: hierarchical, tree: {parts: [image, {parts: [sound, facts], dimension: 8}], "
            "method: average, dimension: 6}}",
            "tree.parts.1.dimension: is averaged with others over 6 dimensions, not 8",
        ),
        (
            "{method: hierarchical, tree: [image, {parts: [sound, facts], of: decisions}]}",
            "tree.parts.1.of: decisions cannot become features again",
        ),
        (
            "{method: weighted, weights: {image: 1, sond: 2, facts: 1}}",
            "weights.sond: unknown name 'sond'; did you mean 'sound'? "
            "known are: image, sound, facts",
        ),
        ("{method: weighted, weights: {image: 1, facts: 1}}", "weights: lacks a weight for sound"),
        (
            "{method: weighted, weights: {image: 0, sound: 0, facts: 0}}",
            "weights: at least one weight must be above 0",
        ),
        (
            "{method: weighted, weights: {image: -1, sound: 1, facts: 0}}",
            "weights.image: must be at least 0, got -1",
        ),
        (
            "{method: weighted, weights: score}",
            "weights: must be a mapping or one of scores, error_covariance, stacking, "
            "got 'score'; did you mean 'scores'?",
        ),
        (
            "{method: weighted, weights: stacking}",
            "weights: stacking is learned from decisions: set `of: decisions`",
        ),
        (
            "{method: compare, strategies: {a: {pca: 3}}}",
            "strategies: must have at least 2 entries, got 1",
        ),
        (
            "{method: compare, strategies: {a: {pca: 3}, b: {method: averag}}}",
            "strategies.b.method: must be one of "
            "concatenate, average, weighted, hierarchical, deep, "
            "got 'averag'; did you mean 'average'?",
        ),
        (
            "{method: compare, strategies: {a: {pca: {imag: 3}}, b: {method: average}}}",
            "strategies.a.pca.imag: unknown name 'imag'; did you mean 'image'? "
            "known are: image, sound, facts",
        ),
        (
            "{method: compare, strategies: {a: {}, b: {method: weighted, weights: {sound: 1}}}}",
            "strategies.b.weights: lacks a weight for image, facts",
        ),
        (
            "{method: compare, strategies: "
            "{a: {}, b: {method: hierarchical, tree: [image, sond, facts]}}}",
            "strategies.b.tree: unknown name 'sond'; did you mean 'sound'? "
            "known are: image, sound, facts",
        ),
    ],
)
def test_what_is_wrong_with_a_strategy_is_one_line(folder: Path, fuse: str, expected: str) -> None:
    assert problems(f"{GOOD}fuse: {fuse}") == f"recipe.yaml:21: fuse.{expected}"


@pytest.mark.parametrize("fuse", STRATEGIES)
def test_strategies_are_written_and_read_again(folder: Path, fuse: str) -> None:
    recipe = load(f"{GOOD}fuse: {fuse}")
    written = dump_recipe(recipe)
    assert load(written) == recipe
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    for text in (f"{GOOD}fuse: {fuse}", written):
        read = yaml.safe_load(text)
        read["target"] = {"source": "facts", "column": "no"}  # which PyYAML takes for false
        read["modalities"]["facts"]["source"]["columns"] = {"a": "number"}
        assert not list(validator.iter_errors(read))


@pytest.mark.parametrize("fuse", STRATEGIES)
def test_what_learns_from_labels_needs_a_target(folder: Path, fuse: str) -> None:
    strategy = load(f"{GOOD}fuse: {fuse}").fuse
    lines = GOOD.splitlines(keepends=True)
    without = "".join(line for line in lines if not line.startswith("target"))
    assert learns_from_labels(strategy) or not needs_choice(strategy)
    if not learns_from_labels(strategy):
        assert load(f"{without}fuse: {fuse}").fuse == strategy
        return
    for text in (f"{without}fuse: {fuse}", f"{GOOD}train:\nfuse: {fuse}"):
        assert problems(text).endswith(
            "fuse: is chosen by how well models do: it needs `target`, and `train` not null"
        )


@pytest.mark.parametrize(
    ("strategy", "choice", "labels"),
    [
        (Concatenate(pca=3), False, False),
        (Average(method="average"), False, False),
        (Average(method="average", of="decisions"), False, True),
        (Weighted(method="weighted"), True, True),
        (Weighted(method="weighted", weights={"a": 1.0}), False, False),
        (Weighted(method="weighted", of="decisions"), False, True),
        (Hierarchical(method="hierarchical"), True, True),
        (Hierarchical(method="hierarchical", tree="cka"), True, True),
        (Hierarchical(method="hierarchical", tree=Node(parts=["a", "b"])), False, False),
        (
            Hierarchical(method="hierarchical", tree=Node(parts=["a", "b"], of="decisions")),
            False,
            True,
        ),
        (Deep(method="deep"), True, True),
        (Compare(method="compare"), True, True),
    ],
)
def test_what_must_be_chosen_and_what_needs_labels(
    strategy: Any, choice: bool, labels: bool
) -> None:
    assert needs_choice(strategy) == choice
    assert learns_from_labels(strategy) == labels


@pytest.mark.parametrize("method", ["average", "weighted", "hierarchical", "compare"])
def test_several_modalities_are_needed(folder: Path, method: str) -> None:
    text = GOOD[: GOOD.index("  image:")] + GOOD[GOOD.index("  facts:") :]
    assert f"fuse.method: {method} needs two modalities or more" in problems(
        f"{text}fuse: {{method: {method}}}"
    )


def test_networks_scale_in_a_way_of_their_own(folder: Path) -> None:
    recipe = load(f"{GOOD}fuse: {{method: compare, strategies: {{a: {{}}, b: {{method: deep}}}}}}")
    assert isinstance(recipe.fuse, Compare)
    assert [one.scale for one in recipe.fuse.strategies.values()] == ["standard", "tails"]
    assert dump_recipe(load(f"{GOOD}fuse: {{method: deep}}")).count("scale: tails\n") == 1
    for method in ("concatenate", "average", "weighted", "hierarchical"):
        assert "fuse.scale: must be one of standard, block, none, got 'tails'" in problems(
            f"{GOOD}fuse: {{method: {method}, scale: tails}}"
        )


def test_conditional_means_need_features_of_several_modalities(folder: Path) -> None:
    for fuse in (
        "{method: average, of: decisions}",
        "{method: weighted, of: decisions, weights: stacking}",
        "{method: hierarchical, tree: {parts: [image, facts, sound], of: decisions}}",
        "{method: compare, strategies: {a: {method: average, of: decisions},"
        " b: {method: average, of: decisions, rule: mean}}}",
    ):
        found = problems(f"{GOOD}fuse: {fuse}\n", "join.missing=conditional")
        assert "join.missing: conditional is for features of several modalities" in found
        assert len(found.splitlines()) == 1
    for fuse in (
        "{method: concatenate}",
        "{method: average, dimension: 3}",
        "{method: hierarchical, tree: auto}",
        "{method: hierarchical, tree: {parts: [[image, facts], sound], of: decisions}}",
        "{method: compare}",
    ):
        recipe = load(f"{GOOD}fuse: {fuse}\n", "join.missing=conditional")
        assert recipe.join.missing == "conditional"
    assert "nothing is missing" in problems(GOOD, "join={missing: conditional, how: inner}")
