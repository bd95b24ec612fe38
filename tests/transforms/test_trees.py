"""Strategies as trees: their parts, levels and names, for all modalities and for some."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from fusions import fit_by_pass
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from schemas.options.fuse import Average, Concatenate, Hierarchical, Node, Weighted
from transforms.fusion.fitted import Fusion
from transforms.fusion.strategies import (
    fit_rows,
    parts_in,
)
from transforms.fusion.trees import Decision, Part, tree_of

DIMS = {"image": 12, "audio": 5, "text": 7}
NAMES = {name: [f"x{i}" for i in range(d)] for name, d in DIMS.items()}
ALL = list(DIMS)


def tree_node(*parts: Any, **options: Any) -> Node:
    return Node(parts=list(parts), **options)


def of(tree: Node, scale: Any = "standard") -> Hierarchical:
    return Hierarchical(method="hierarchical", tree=tree, scale=scale)


TWO_LEVELS = tree_node(tree_node("image", "text", dimension=6), "audio", dimension=4)
AVERAGED = tree_node(tree_node("image", "text"), "audio", method="average", dimension=4)
DEEP = tree_node(
    tree_node(tree_node("image", "text", method="average", dimension=5), "audio", dimension=3),
    "touch",
    dimension=2,
)
FUSES = {
    "plain": of(tree_node(tree_node("image", "text"), "audio")),
    "two levels": of(TWO_LEVELS),
    "two levels, block": of(TWO_LEVELS, "block"),
    "two levels, raw": of(TWO_LEVELS, "none"),
    "averaged": of(AVERAGED),
    "heads": of(tree_node(tree_node("image", "text", dimension=6), "audio", of="decisions")),
    "cca": Average(method="average", shared="cca", dimension=3),
    "weighted": Weighted(
        method="weighted", weights={"image": 1.0, "audio": 0.0, "text": 2.0}, dimension=4
    ),
}


def data(n: int = 80, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Features that share three factors, and who is present: sometimes none, sometimes all."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, 3))
    blocks = {
        name: (shared @ rng.normal(size=(3, d)) + rng.normal(size=(n, d)) + 5).astype(np.float32)
        for name, d in DIMS.items()
    }
    present = rng.random((n, 3)) < 0.7
    present[:40], present[40] = True, False
    return blocks, present


# --- shape -----------------------------------------------------------------------------------


def test_a_tree_of_two_levels() -> None:
    tree = tree_of(of(TWO_LEVELS), ALL)
    (head,) = tree.heads
    assert tree.decision is None
    assert tree.levels == 3
    assert [(p.name, p.level, p.learns) for p in head.everything()] == [
        ("image", 0, True),
        ("text", 0, True),
        ("image+text", 1, True),
        ("audio", 0, True),
        ("image+text+audio", 2, True),
    ]
    assert [[p.name for p in parts_in(tree, "mean", level)] for level in range(3)] == [
        ["image", "text", "audio"],
        ["image+text"],
        ["image+text+audio"],
    ]


def test_what_only_stands_side_by_side_takes_no_pass() -> None:
    tree = tree_of(FUSES["plain"], ALL)
    assert tree.levels == 1
    assert [p.level for p in tree.heads[0].everything() if not p.learns] == [1, 1]
    assert tree.heads[0].modalities == ("image", "text", "audio")


def test_parts_of_an_average_have_one_width() -> None:
    (head,) = tree_of(of(AVERAGED), ALL).heads
    assert [(p.name, p.components, p.whole) for p in head.parts] == [
        ("image+text", 4, True),
        ("audio", 4, True),
    ]
    assert not head.learns


def test_heads_are_what_is_below_the_decisions() -> None:
    inner = tree_node("image", "audio", of="decisions", rule="mean")
    tree = tree_of(of(tree_node(inner, "text", of="decisions")), ALL)
    assert [head.name for head in tree.heads] == ALL
    assert isinstance(tree.decision, Decision)
    assert tree.decision.name == "image+audio+text"
    assert tree.decision.rule == "product"
    below, last = tree.decision.parts
    assert isinstance(below, Decision)
    assert (below.name, below.rule) == ("image+audio", "mean")
    assert isinstance(last, Part)


@pytest.mark.parametrize("fuse", FUSES.values(), ids=FUSES)
def test_any_of_the_modalities(fuse: Any) -> None:
    for k in (1, 2, 3):
        for chosen in combinations(ALL, k):
            tree = tree_of(fuse, chosen)
            inside = [m for head in tree.heads for m in head.modalities]
            assert sorted(inside) == sorted(chosen)
            assert (tree.decision is None) == (len(tree.heads) == 1)
            names = [p.name for head in tree.heads for p in head.everything()]
            assert len(set(names)) == len(names)
            if k == 1:
                assert [head.name for head in tree.heads] == list(chosen)


def test_a_modality_alone_is_the_same_head_as_among_others() -> None:
    fuse = FUSES["heads"]
    heads = {head.name: head for head in tree_of(fuse, ALL).heads}
    assert tree_of(fuse, ["audio"]).heads == (heads["audio"],)
    assert tree_of(fuse, ["image", "text"]).heads == (heads["image+text"],)
    assert tree_of(fuse, ["image"]).heads[0].components is None


def test_weights_of_some_modalities() -> None:
    weights = {"image": 1.0, "audio": 0.0, "text": 0.0}
    for kind in ("features", "decisions"):
        fuse = Weighted(method="weighted", of=kind, weights=weights, dimension=4)

        def found(chosen: list[str], fuse: Any = fuse) -> Any:
            tree = tree_of(fuse, chosen)
            if tree.decision is None:
                return tree.heads[0].shares
            kept = tree.decision.weights
            return kept and tuple(kept.values())

        assert found(ALL) == (1, 0, 0)
        assert found(["image", "text"]) == (1, 0)
        assert found(["audio", "text"]) is None  # none of them weighs anything: all the same


# --- fit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fuse", FUSES.values(), ids=FUSES)
@pytest.mark.parametrize("chosen", [ALL, ["audio", "text"], ["image"]])
def test_fit_by_moments_of_levels_is_the_fit_on_rows(fuse: Any, chosen: list[str]) -> None:
    blocks, present = data()
    tree, names = tree_of(fuse, chosen), {name: NAMES[name] for name in chosen}
    direct = fit_rows(tree, "mean", blocks, present, np.ones(80, bool), names)
    fusion = fit_by_pass(tree, blocks, present, names)
    assert fusion.names == direct.names
    assert fusion.slices == direct.slices
    assert fusion.of_heads() == direct.of_heads()
    assert list(direct.of_heads()) == [head.name for head in tree.heads]
    expected = direct.apply(blocks, present)
    assert np.isfinite(expected).all()
    assert expected[:, :].std() > 0
    np.testing.assert_allclose(fusion.apply(blocks, present), expected, rtol=1e-5, atol=1e-5)


def test_two_levels_are_scikit_learns() -> None:
    blocks, _ = data()
    everywhere = np.ones((80, 3), bool)
    tree = tree_of(of(TWO_LEVELS), ALL)
    fusion = fit_rows(tree, "mean", blocks, everywhere, np.ones(80, bool), NAMES)

    def components(x: np.ndarray, k: int) -> np.ndarray:
        pca = PCA(k, svd_solver="full").fit(x)
        axes = pca.components_
        top = axes[np.arange(k), np.abs(axes).argmax(axis=1)]
        return pca.transform(x) * np.sign(top)

    scaled = {
        name: StandardScaler().fit_transform(x.astype(np.float64)) for name, x in blocks.items()
    }
    both = components(np.hstack([scaled["image"], scaled["text"]]), 6)
    expected = components(np.hstack([both, scaled["audio"]]), 4)
    fused = fusion.apply(blocks, everywhere)
    np.testing.assert_allclose(fused, expected, rtol=1e-5, atol=1e-5)
    assert fusion.names == [f"image+text+audio.pc{i}" for i in range(4)]


def test_components_of_components_keep_their_order() -> None:
    # Were they scaled anew they would all be alike, and what comes first would be left to rounding.
    blocks, _ = data()
    blocks["audio"][:] = 0
    everywhere, rows = np.ones((80, 3), bool), np.ones(80, bool)
    both = fit_rows(
        tree_of(of(TWO_LEVELS), ["image", "text"]), "mean", blocks, everywhere, rows, NAMES
    )
    whole = fit_rows(tree_of(of(TWO_LEVELS), ALL), "mean", blocks, everywhere, rows, NAMES)
    inner = both.apply(blocks, everywhere)[:, :4]
    np.testing.assert_allclose(whole.apply(blocks, everywhere), inner, rtol=1e-4, atol=1e-5)


def test_four_modalities_deep() -> None:
    blocks, present = data()
    blocks["touch"] = np.random.default_rng(1).normal(size=(80, 4)).astype(np.float32)
    present = np.hstack([present, present[:, :1]])
    names = {**NAMES, "touch": list("abcd")}
    tree = tree_of(of(DEEP), list(blocks))
    assert tree.levels == 3  # the average is of components of level 0
    direct = fit_rows(tree, "mean", blocks, present, np.ones(80, bool), names)
    fused = direct.apply(blocks, present)
    assert fused.shape == (80, 2)
    assert not fused[40].any()  # which has nothing
    by_level = fit_by_pass(tree, blocks, present, names)
    np.testing.assert_allclose(by_level.apply(blocks, present), fused, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fuse", FUSES.values(), ids=FUSES)
def test_only_training_rows_are_looked_at_on_every_level(fuse: Any) -> None:
    blocks, present = data()
    rows = np.arange(80) % 4 > 0
    tree = tree_of(fuse, ALL)
    fusion = fit_rows(tree, "mean", blocks, present, rows, NAMES)
    junk = {name: np.where(rows[:, None], x, np.float32(np.nan)) for name, x in blocks.items()}
    again = fit_rows(tree, "mean", junk, present, rows, NAMES)
    for name, array in fusion.to_arrays().items():
        assert array.tobytes() == again.to_arrays()[name].tobytes()


@pytest.mark.parametrize("fuse", FUSES.values(), ids=FUSES)
@pytest.mark.parametrize("case", ["never", "once", "constant", "not together"])
def test_modalities_of_which_little_is_known(fuse: Any, case: str) -> None:
    blocks, present = data()
    if case == "never":
        present[:, 1] = False
    elif case == "once":
        present[1:, 1] = False
    elif case == "constant":
        blocks["audio"][:] = 3.0
    else:
        present[:, 1] = ~present[:, 0]
        present[:, 2] = False
    tree = tree_of(fuse, ALL)
    fusion = fit_rows(tree, "mean", blocks, present, np.ones(80, bool), NAMES)
    by_level = fit_by_pass(tree, blocks, present, NAMES)
    for seen in (present, np.ones((80, 3), bool)):
        fused = fusion.apply(blocks, seen)
        assert np.isfinite(fused).all()
        assert by_level.names == fusion.names
        np.testing.assert_allclose(by_level.apply(blocks, seen), fused, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fuse", FUSES.values(), ids=FUSES)
def test_a_row_does_not_depend_on_its_batch(fuse: Any) -> None:
    blocks, present = data(300)
    fusion = fit_rows(tree_of(fuse, ALL), "mean", blocks, present, np.ones(300, bool), NAMES)
    whole = fusion.apply(blocks, present)
    for some in (np.array([7]), np.array([40]), np.arange(250, 17, -1)):
        part = fusion.apply({name: x[some] for name, x in blocks.items()}, present[some])
        assert part.tobytes() == whole[some].tobytes()
    loaded = Fusion.load(fusion.to_arrays(), fusion.to_json())
    assert loaded.apply(blocks, present).tobytes() == whole.tobytes()


def test_an_average_renormalises_over_what_is_there() -> None:
    blocks, _ = data()
    everywhere = np.ones((80, 3), bool)
    fusion = fit_rows(
        tree_of(FUSES["weighted"], ALL), "mean", blocks, everywhere, np.ones(80, bool), NAMES
    )
    (head,) = fusion.heads
    apart = {}
    for node in head.parts:
        apart[node.name] = np.empty((80, 4))
        here = {name: np.ones(80, bool) for name in ALL}
        node.write(blocks, here, apart[node.name])
    expected = (apart["image"] + 2 * apart["text"]) / 3
    np.testing.assert_allclose(fusion.apply(blocks, everywhere), expected, rtol=1e-5, atol=1e-6)
    only = everywhere & [False, True, True]
    np.testing.assert_allclose(fusion.apply(blocks, only), apart["text"], rtol=1e-5, atol=1e-6)
    assert not fusion.apply(blocks, everywhere & [False, True, False]).any()


def test_names_of_a_tree_side_by_side() -> None:
    blocks, present = data()
    rows = np.ones(80, bool)
    plain = fit_rows(tree_of(FUSES["plain"], ALL), "mean", blocks, present, rows, NAMES)
    assert plain.slices == {"image": (0, 12), "text": (12, 19), "audio": (19, 24)}
    assert plain.names[12] == "text.x0"
    flat = fit_rows(tree_of(Concatenate(), ALL), "mean", blocks, present, rows, NAMES)
    order = np.r_[0:12, 17:24, 12:17]
    assert plain.names == [flat.names[i] for i in order]
    assert np.array_equal(plain.apply(blocks, present), flat.apply(blocks, present)[:, order])
    heads = fit_rows(tree_of(FUSES["heads"], ALL), "mean", blocks, present, rows, NAMES)
    assert heads.of_heads() == {"image+text": (0, 6), "audio": (6, 11)}


def test_what_modalities_share_is_learnt_from_all_rows_that_have_two() -> None:
    blocks, _ = data(600)
    everywhere, none = np.ones((600, 3), bool), np.ones(600, bool)
    apart = np.array([[True, True, False], [True, False, True], [False, True, True]])[
        np.arange(600) % 3
    ]
    tree = tree_of(FUSES["cca"], ALL)
    whole = fit_rows(tree, "mean", blocks, everywhere, none, NAMES).apply(blocks, everywhere)
    # No row has all three. The same variables are found, up to chance.
    pairs = fit_rows(tree, "mean", blocks, apart, none, NAMES).apply(blocks, everywhere)
    found = [np.corrcoef(a, b)[0, 1] for a, b in zip(whole.T, pairs.T, strict=True)]
    assert min(np.abs(found)) > 0.9
    # Where no row has two, each has its own components.
    alone = np.eye(3, dtype=bool)[np.arange(600) % 3]
    own = fit_rows(tree, "mean", blocks, alone, none, NAMES)
    fused = own.apply(blocks, alone)
    assert np.isfinite(fused).all()
    first = fit_rows(tree_of(Concatenate(pca=3), ALL), "mean", blocks, alone, none, NAMES)
    np.testing.assert_allclose(fused[::3], first.apply(blocks, alone)[::3, :3], atol=1e-5)
