"""Conditional means of missing modalities: against regression by hand, alone, saved, and rare."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fusions import fit_by_pass
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import OAS

from schemas.arrays import load_arrays, save_arrays
from schemas.options.fuse import Average, Concatenate, Hierarchical, Node
from transforms.fusion import filling
from transforms.fusion.collecting import Rows, collect
from transforms.fusion.em import approximated_shrinkage, fit_gaussian
from transforms.fusion.filling import DIMENSIONS, filled_heads, shares
from transforms.fusion.fitted import Fusion
from transforms.fusion.strategies import fit_rows, passes
from transforms.fusion.trees import tree_of

DIMS = {"image": 6, "audio": 4, "text": 3}
NAMES = {name: [f"x{i}" for i in range(d)] for name, d in DIMS.items()}
FUSES: dict[str, Any] = {
    "side by side": Concatenate(),
    "raw": Concatenate(scale="none"),
    "components": Concatenate(pca=2),
    "average": Average(method="average", dimension=3),
    "cca": Average(method="average", dimension=2, shared="cca"),
    "tree": Hierarchical(
        method="hierarchical",
        tree=Node(parts=[Node(parts=["image", "text"], dimension=3), "audio"], dimension=4),
    ),
    "decisions": Hierarchical(
        method="hierarchical",
        tree=Node(parts=[Node(parts=["image", "audio"]), "text"], of="decisions"),
    ),
}


def data(
    n: int = 200, seed: int = 0, dims: dict[str, int] = DIMS, missing: float = 0.3
) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """Features of three common factors and little noise, NaN where missing; who has which; all."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, 3))
    whole = {}
    for name, d in dims.items():
        values = factors @ rng.normal(size=(3, d)) + 0.1 * rng.normal(size=(n, d))
        whole[name] = (values * np.linspace(1, 50, d) + 7).astype(np.float32)
    present = rng.random((n, len(dims))) >= missing
    present[:5], present[5] = True, False
    blocks = {
        name: np.where(present[:, [i]], block, np.float32(np.nan))
        for i, (name, block) in enumerate(whole.items())
    }
    return blocks, present, whole


def fit(
    fuse: Any, blocks: Any, present: Any, rows: Any = None, missing: Any = "conditional"
) -> Fusion:
    names = {m: [f"x{i}" for i in range(b.shape[1])] for m, b in blocks.items()}
    rows = np.ones(len(present), bool) if rows is None else rows
    return fit_rows(tree_of(fuse, list(blocks)), missing, blocks, present, rows, names)


def test_it_is_the_regression_on_what_is_present(monkeypatch: pytest.MonkeyPatch) -> None:
    # The steps of EM depend on the axes, but not where they end.
    monkeypatch.setattr(filling, "TOLERANCE", 1e-9)
    blocks, present, _ = data()
    fused = fit(Concatenate(scale="none"), blocks, present).apply(blocks, present)
    # The same by hand: standardised features, one normal distribution of all of them.
    x = np.hstack(list(blocks.values())).astype(np.float64)
    mean, deviation = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
    z = (x - mean) / deviation
    ends = np.cumsum([0, *DIMS.values()])
    parts = {m: z[:, a:b] for m, a, b in zip(DIMS, ends, ends[1:], strict=False)}
    known = collect([Rows(parts, present, np.zeros(len(z), int))])
    model, _ = fit_gaussian(known, approximated_shrinkage(known), 1e-9)
    for i in range(len(z)):
        o = ~np.isnan(z[i])
        if not o.any():
            np.testing.assert_allclose(fused[i], mean, rtol=1e-5)
            continue
        b = model.covariance[np.ix_(~o, o)] @ np.linalg.inv(model.covariance[np.ix_(o, o)])
        expected = z[i].copy()
        expected[~o] = model.mean[0, ~o] + b @ (z[i, o] - model.mean[0, o])
        np.testing.assert_allclose(fused[i], expected * deviation + mean, rtol=2e-4, atol=2e-4)


def test_it_is_near_what_was_there() -> None:
    blocks, present, whole = data(400)
    train = np.arange(400) < 300
    for fuse, most in (("side by side", 0.1), ("raw", 0.1), ("components", 0.1), ("tree", 0.2)):
        fusion = fit(FUSES[fuse], blocks, present, train)
        found, true = fusion.apply(blocks, present), fusion.apply(whole, np.ones_like(present))
        some = ~train & present.any(axis=1) & ~present.all(axis=1)
        error = np.square(found - true)[some].mean()
        without = replace(fusion, conditional={}).apply(blocks, present)
        assert error < most * np.square(without - true)[some].mean(), fuse


@pytest.mark.parametrize("fuse", [name for name in FUSES if name != "tree"])
def test_only_rows_that_lack_a_part_of_what_they_have_are_filled(fuse: str) -> None:
    blocks, present, _ = data()
    tree = tree_of(FUSES[fuse], list(DIMS))
    filled, plain = (fit(FUSES[fuse], blocks, present, None, m) for m in ("conditional", "mean"))
    assert list(filled.conditional) == [head.name for head in filled_heads(tree, "conditional")]
    assert list(filled.conditional) == [tree.heads[0].name]
    found, expected = (fusion.apply(blocks, present) for fusion in (filled, plain))
    assert np.isfinite(found).all()
    for head in tree.heads:
        has = present[:, [list(DIMS).index(m) for m in head.modalities]]
        exactly = has.all(axis=1) | ~has.any(axis=1)
        own = slice(*filled.of_heads()[head.name])
        a, b = found[:, own], expected[:, own]
        np.testing.assert_allclose(a[exactly], b[exactly], rtol=1e-4, atol=1e-5)
        assert (np.abs(a - b).max(axis=1) > 1e-3)[~exactly].all()


@pytest.mark.parametrize("fuse", list(FUSES))
def test_in_passes_over_groups_of_rows_it_is_the_same(fuse: str, tmp_path: Path) -> None:
    blocks, present, _ = data()
    tree = tree_of(FUSES[fuse], list(DIMS))
    assert passes(tree, "conditional") == tree.levels + 1
    by_pass = fit_by_pass(tree, blocks, present, NAMES, 4, "conditional")
    fused = by_pass.apply(blocks, present)
    whole = fit(FUSES[fuse], blocks, present).apply(blocks, present)
    np.testing.assert_allclose(fused, whole, rtol=1e-4, atol=1e-4)
    path = str(tmp_path / "fusion.npz")
    save_arrays(path, by_pass.to_arrays())
    loaded = Fusion.load(load_arrays(path), json.loads(json.dumps(by_pass.to_json())))
    assert loaded.apply(blocks, present).tobytes() == fused.tobytes()


@settings(max_examples=15)
@given(start=st.integers(0, 199), n=st.integers(1, 60), seed=st.integers(0, 99))
def test_no_row_depends_on_the_others(start: int, n: int, seed: int) -> None:
    blocks, present, _ = data()
    fusion = fit(FUSES["side by side"], blocks, present)
    fused = fusion.apply(blocks, present)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(200)[start : start + n]
    some = {m: block[chosen] for m, block in blocks.items()}
    for i, m in enumerate(some):  # whatever stands where nothing is
        some[m][~present[chosen, i]] = rng.choice([np.nan, np.inf, 1e30])
    assert fusion.apply(some, present[chosen]).tobytes() == fused[chosen].tobytes()


@pytest.mark.parametrize("fuse", list(FUSES))
def test_only_training_rows_are_looked_at(fuse: str) -> None:
    blocks, present, _ = data()
    train = np.arange(200) % 4 > 0
    before = fit(FUSES[fuse], blocks, present, train).to_arrays()
    for block in blocks.values():
        block[~train] = 1e6
    present[~train] = ~present[~train]
    after = fit(FUSES[fuse], blocks, present, train).to_arrays()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_wide_modalities_are_brought_to_a_few_components() -> None:
    assert shares({"a": 6, "b": 300, "c": 9000}) == 61
    assert shares({f"m{i}": 10 for i in range(DIMENSIONS + 9)}) == 1
    dims = {"a": 400, "b": 300, "c": 5}
    for n in (60, 900):  # fewer rows than dimensions, and more
        blocks, present, whole = data(n, dims=dims)
        train = np.arange(n) < n - n // 5
        fusion = fit(Concatenate(), blocks, present, train)
        gaussian = fusion.conditional["a+b+c"].gaussian
        assert gaussian is not None
        assert gaussian.mean.shape[1] <= DIMENSIONS
        found = fusion.apply(blocks, present)
        true = fusion.apply(whole, np.ones_like(present))
        lacks = ~train & ~present[:, 0] & present[:, 1]
        error = np.square(found - true)[lacks, :400].mean()
        assert error < 0.5 * np.square(true)[lacks, :400].mean()


def test_what_is_rare() -> None:
    blocks, present, whole = data(80)
    one = np.arange(80) == 0
    some = np.arange(80) < 40
    apart = np.zeros_like(present)
    apart[::2, 0], apart[1::2, 1] = True, True
    constant = {m: np.ones_like(b) for m, b in blocks.items()}
    plain, found = (
        fit(Concatenate(), whole, apart, missing=m).apply(whole, apart)
        for m in ("mean", "conditional")
    )
    np.testing.assert_allclose(found, plain, atol=1e-5)
    nothing, nowhere = np.zeros_like(present), np.zeros(80, bool)
    for fuse in FUSES.values():
        for b, p, rows in (
            (whole, present, one),
            (whole, present, nowhere),
            (whole, nothing, some),
            (constant, present, some),
            ({**whole, "audio": constant["audio"]}, present, some),
        ):
            assert np.isfinite(fit(fuse, b, p, rows).apply(b, present)).all()
    absent = present & (np.arange(3) != 1)
    lacking: dict[str, Any] = {**blocks, "audio": None}
    tree = tree_of(Concatenate(), list(DIMS))
    fusion = fit_rows(tree, "conditional", lacking, absent, ~nowhere, NAMES)
    assert np.isfinite(fusion.apply(lacking, absent)).all()


@pytest.mark.parametrize(("n", "d"), [(50, 8), (40, 60), (2000, 12)])
def test_the_shrinkage_is_that_of_scikit_learn(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    rows = Rows({"a": x[:, :5], "b": x[:, 5:]}, np.ones((n, 2), bool), np.zeros(n, int))
    found = approximated_shrinkage(collect([rows]))
    assert found == pytest.approx(OAS().fit(x).shrinkage_, rel=1e-9)
    x[:] = np.eye(d)[np.arange(n) % d] if n % d == 0 else 0
    assert 0 <= approximated_shrinkage(collect([rows])) <= 0.99


def test_of_one_modality_nothing_is_to_be_filled() -> None:
    blocks, present, _ = data()
    product = Average(method="average", of="decisions")
    assert not filled_heads(tree_of(product, list(DIMS)), "conditional")
    assert not filled_heads(tree_of(Concatenate(), ["image"]), "conditional")
    assert not filled_heads(tree_of(Concatenate(), list(DIMS)), "mean")
    fusion = fit(product, blocks, present)
    assert not fusion.conditional
    plain = fit(product, blocks, present, missing="mean")
    assert fusion.apply(blocks, present).tobytes() == plain.apply(blocks, present).tobytes()
