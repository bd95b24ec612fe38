"""Fusion strategies: against scikit-learn, with absent modalities, saved and loaded."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fusions import DIMS, FUSES, NAMES, data, everywhere, fit, fit_moments, fit_rows, mask, need_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from schemas.options.fuse import Average, Concatenate
from transforms.fusion.fitted import Fusion
from transforms.fusion.moments import Moments
from transforms.fusion.nodes import Node


def sklearn_slices(blocks: dict[str, np.ndarray], k: int | None) -> list[np.ndarray]:
    out = []
    for block in blocks.values():
        x = StandardScaler().fit_transform(block.astype(np.float64))
        if k is not None:
            pca = PCA(min(k, x.shape[1]), svd_solver="full").fit(x)
            loadings = pca.components_
            top = loadings[np.arange(len(loadings)), np.abs(loadings).argmax(axis=1)]
            x = pca.transform(x) * np.sign(top)
        out.append(x)
    return out


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_standard_scaling_is_that_of_scikit_learn(offset: float) -> None:
    blocks = data(offset=offset)
    fusion = fit_moments(Concatenate(), "mean", blocks, everywhere(blocks))
    expected = np.hstack(sklearn_slices(blocks, None))
    fused = fusion.apply(blocks, everywhere(blocks))
    assert fused.dtype == np.float32
    np.testing.assert_allclose(fused, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("parts", [1, 7])
def test_components_are_those_of_scikit_learn(offset: float, parts: int) -> None:
    blocks = data(offset=offset)
    fusion = fit_moments(Concatenate(pca=4), "mean", blocks, everywhere(blocks), parts)
    expected = np.hstack(sklearn_slices(blocks, 4))
    fused = fusion.apply(blocks, everywhere(blocks))
    np.testing.assert_allclose(fused, expected, rtol=1e-6, atol=2e-6)
    assert fusion.slices == {"image": (0, 4), "audio": (4, 8), "notes": (8, 11)}


def test_average_is_the_mean_of_the_components_present() -> None:
    blocks = data()
    fuse = Average(method="average", dimension=4)
    fusion = fit_moments(fuse, "mean", blocks, everywhere(blocks))
    present = mask(60)
    padded = np.zeros((3, 60, 4))
    for i, x in enumerate(sklearn_slices(blocks, 4)):
        padded[i, :, : x.shape[1]] = x
    weight = present.T[:, :, None]
    expected = (padded * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1)
    fused = fusion.apply(blocks, present)
    np.testing.assert_allclose(fused, expected, rtol=1e-6, atol=2e-6)
    assert not fused[2].any()
    assert fusion.slices == {"image+audio+notes": (0, 4)}
    assert fusion.names == [f"image+audio+notes.pc{i}" for i in range(4)]


def test_block_scaling_balances_modalities() -> None:
    blocks = data()
    fusion = fit_moments(Concatenate(scale="block"), "mean", blocks, everywhere(blocks))
    fused = fusion.apply(blocks, everywhere(blocks)).astype(np.float64)
    for name, (a, b) in fusion.slices.items():
        assert np.square(fused[:, a:b]).sum(axis=1).mean() == pytest.approx(DIMS[name], rel=1e-6)
        centred = blocks[name] - blocks[name].mean(axis=0, dtype=np.float64)
        ratio = fused[:, a:b] / centred
        assert ratio.std() < 1e-5 * ratio.mean()  # one number for all dimensions


def test_unscaled_components_are_centred() -> None:
    blocks = data(offset=50)
    fusion = fit_moments(Concatenate(scale="none", pca=2), "zero", blocks, everywhere(blocks))
    a, b = fusion.slices["image"]
    pca = PCA(2, svd_solver="full").fit(blocks["image"].astype(np.float64))
    fused = fusion.apply(blocks, everywhere(blocks))[:, a:b].astype(np.float64)
    expected = pca.transform(blocks["image"].astype(np.float64))
    np.testing.assert_allclose(np.abs(fused), np.abs(expected), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(fused.mean(axis=0), 0, atol=1e-5)


def test_components_of_only_the_modalities_named() -> None:
    blocks = data()
    fusion = fit_moments(Concatenate(pca={"audio": 2}), "mean", blocks, everywhere(blocks))
    assert fusion.slices == {"image": (0, 12), "audio": (12, 14), "notes": (14, 17)}
    assert fusion.names[0] == "image.x.0"
    assert fusion.names[12:15] == ["audio.pc0", "audio.pc1", "notes.x.0"]
    assert len(fusion.names) == fusion.dimension == 17


def test_no_more_components_than_rank() -> None:
    blocks = data()
    blocks["image"][:, 3:] = blocks["image"][:, :3].repeat(3, axis=1)
    fusion = fit_moments(Concatenate(pca=10), "mean", blocks, everywhere(blocks))
    assert [b - a for a, b in fusion.slices.values()] == [3, 5, 3]
    few = {name: block[:3] for name, block in data().items()}
    rows = fit_moments(Concatenate(pca=10), "mean", few, everywhere(few))
    assert {b - a for a, b in rows.slices.values()} == {2}


@pytest.mark.parametrize("fuse", FUSES, ids=repr)
def test_constant_dimensions_become_zero(fuse: Concatenate | Average) -> None:
    blocks = data()
    blocks["image"][:, 2] = 0.1
    blocks["notes"][:] = [0.1, 1e6, -7.7]
    fusion = fit_moments(fuse, "mean", blocks, everywhere(blocks), parts=5)
    new = {name: block + 1 for name, block in blocks.items()}
    fused = fusion.apply(new, everywhere(new))
    assert np.isfinite(fused).all()
    projected = "notes.pc0" in fusion.names
    if fuse.method == "concatenate" and (projected or fuse.scale != "none"):
        a, b = fusion.slices["notes"]
        assert b - a == (1 if projected else 3)
        assert not fused[:, a:b].any()


@pytest.mark.parametrize("missing", ["mean", "zero"])
@pytest.mark.parametrize("fuse", FUSES, ids=repr)
@pytest.mark.parametrize("junk", [np.nan, np.inf, 3e38])
def test_absent_rows_do_not_leak(fuse: Concatenate | Average, missing: Any, junk: float) -> None:
    blocks, present = data(), mask(60)
    spoilt = {
        name: np.where(present[:, [i]], block, np.float32(junk))
        for i, (name, block) in enumerate(blocks.items())
    }
    clean = fit_moments(fuse, missing, blocks, present)
    rows = np.ones(60, bool)
    direct = fit_rows(fuse, missing, spoilt, present, rows, list(DIMS), NAMES)
    expected = clean.apply(blocks, present)
    assert np.isfinite(expected).all()
    assert clean.apply(spoilt, present).tobytes() == expected.tobytes()
    np.testing.assert_allclose(direct.apply(spoilt, present), expected, rtol=1e-6, atol=1e-6)


def test_what_stands_in_for_raw_features() -> None:
    blocks, present = data(offset=5), mask(60)
    for missing, of in (("mean", np.mean), ("zero", lambda x, axis: np.zeros(x.shape[1]))):
        fusion = fit_moments(Concatenate(scale="none"), missing, blocks, present)
        fused = fusion.apply(blocks, present)
        for i, (name, (a, b)) in enumerate(fusion.slices.items()):
            here = present[:, i]
            assert np.array_equal(fused[here, a:b], blocks[name][here])
            fill = of(blocks[name][here].astype(np.float64), axis=0)
            np.testing.assert_allclose(fused[~here, a:b], np.tile(fill, ((~here).sum(), 1)), 1e-6)


@pytest.mark.parametrize("missing", ["mean", "zero"])
@pytest.mark.parametrize("fuse", [f for f in FUSES if f != Concatenate(scale="none")], ids=repr)
def test_what_stands_in_for_centred_features_is_zero(
    fuse: Concatenate | Average, missing: Any
) -> None:
    blocks, present = data(offset=5), mask(60)
    fusion = fit_moments(fuse, missing, blocks, present)
    present[:, 0] = False
    fused = fusion.apply(blocks, present)
    if fuse.method == "average":
        assert not fusion.apply(blocks, np.zeros_like(present)).any()
    elif fuse.scale != "none" or "image.pc0" in fusion.names:
        a, b = fusion.slices["image"]
        assert not fused[:, a:b].any()


@pytest.mark.parametrize("fuse", FUSES, ids=repr)
def test_a_modality_never_seen_in_training(fuse: Concatenate | Average) -> None:
    blocks, present = data(), mask(60)
    seen = present.copy()
    seen[:, 1] = False
    without: dict[str, np.ndarray | None] = {**blocks, "audio": None}
    names = list(DIMS)
    fusion = fit_moments(fuse, "mean", blocks, seen)
    direct = fit_rows(fuse, "mean", without, seen, np.ones(60, bool), names, NAMES)
    assert fusion.names == direct.names
    assert np.isfinite(fusion.apply(blocks, present)).all()
    none = fusion.apply(without, seen)
    assert none.tobytes() == fusion.apply(blocks, seen).tobytes()
    if fuse.method == "concatenate":
        a, b = fusion.slices["audio"]
        assert b > a
        assert not none[:, a:b].any()


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("fuse", FUSES, ids=repr)
def test_fewer_than_two_training_rows(fuse: Concatenate | Average, n: int) -> None:
    blocks = data()
    few = {name: block[:n] for name, block in blocks.items()}
    fusion = fit_moments(fuse, "mean", few, everywhere(few))
    fused = fusion.apply(blocks, everywhere(blocks))
    assert fused.shape == (60, fusion.dimension)
    assert np.isfinite(fused).all()
    if fuse.method == "concatenate" and fusion.dimension == sum(DIMS.values()):
        assert np.array_equal(fused, np.hstack(list(blocks.values())))


@pytest.mark.parametrize("fuse", FUSES, ids=repr)
def test_no_rows_to_fuse(fuse: Concatenate | Average) -> None:
    blocks = data()
    fusion = fit_moments(fuse, "mean", blocks, everywhere(blocks))
    empty = {name: block[:0] for name, block in blocks.items()}
    fused = fusion.apply(empty, everywhere(empty))
    assert fused.shape == (0, fusion.dimension)
    assert fused.dtype == np.float32


@pytest.mark.parametrize("fuse", FUSES, ids=repr)
@pytest.mark.parametrize("n", [9, 60])
def test_rows_in_memory_give_what_their_moments_give(fuse: Concatenate | Average, n: int) -> None:
    blocks, present = data(n, offset=20), mask(n)
    fusion = fit_moments(fuse, "mean", blocks, present, parts=3)
    rows = np.ones(n, bool)
    direct = fit_rows(fuse, "mean", blocks, present, rows, list(DIMS), NAMES)
    assert direct.names == fusion.names
    assert direct.slices == fusion.slices
    expected = fusion.apply(blocks, present)
    np.testing.assert_allclose(direct.apply(blocks, present), expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("fuse", FUSES, ids=repr)
def test_only_training_rows_are_looked_at(fuse: Concatenate | Average) -> None:
    blocks, present = data(), mask(60)
    rows = np.arange(60) < 40
    fusion = fit_rows(fuse, "mean", blocks, present, rows, list(DIMS), NAMES)
    changed = {name: np.where(rows[:, None], block, np.nan) for name, block in blocks.items()}
    again = fit_rows(fuse, "mean", changed, present, rows, list(DIMS), NAMES)
    for name, array in fusion.to_arrays().items():
        assert array.tobytes() == again.to_arrays()[name].tobytes()
    everything = fit_rows(fuse, "mean", blocks, present, np.ones(60, bool), list(DIMS), NAMES)
    assert not np.array_equal(everything.apply(blocks, present), fusion.apply(blocks, present))


def test_some_modalities_alone() -> None:
    blocks, present = data(), mask(60)
    rows = np.ones(60, bool)
    both = fit_rows(Concatenate(), "mean", blocks, present, rows, list(DIMS), NAMES)
    one = fit_rows(Concatenate(), "mean", blocks, present, rows, ["audio"], NAMES)
    a, b = both.slices["audio"]
    assert one.slices == {"audio": (0, 5)}
    assert one.names == both.names[a:b]
    assert np.array_equal(one.apply(blocks, present), both.apply(blocks, present)[:, a:b])
    alone = one.apply({"audio": blocks["audio"]}, present[:, [1]])
    assert np.array_equal(alone, one.apply(blocks, present))


@pytest.mark.parametrize("fuse", FUSES, ids=repr)
def test_saved_and_loaded(tmp_path: Path, fuse: Concatenate | Average) -> None:
    blocks, present = data(), mask(60)
    fusion = fit_moments(fuse, "mean", blocks, present)
    np.savez(tmp_path / "f.npz", allow_pickle=False, **fusion.to_arrays())
    (tmp_path / "f.json").write_text(json.dumps(fusion.to_json(), sort_keys=True))
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        loaded = Fusion.load(dict(file), json.loads((tmp_path / "f.json").read_text()))
    assert loaded.names == fusion.names
    assert list(loaded.slices.items()) == list(fusion.slices.items())
    assert loaded.to_json() == fusion.to_json()
    assert loaded.apply(blocks, present).tobytes() == fusion.apply(blocks, present).tobytes()


def test_files_that_do_not_belong_together() -> None:
    blocks = data()
    fusion = fit_moments(Concatenate(), "mean", blocks, everywhere(blocks))
    arrays = fusion.to_arrays()
    del arrays["audio/factor"]
    with pytest.raises(ValueError, match="no array audio/factor"):
        Fusion.load(arrays, fusion.to_json())


@settings(max_examples=60)
@given(
    fuse=st.sampled_from([*FUSES, Concatenate(pca=1), Average(method="average", dimension=1)]),
    cuts=st.lists(st.integers(0, 300), max_size=5),
    seed=st.integers(0, 1000),
)
def test_rows_do_not_depend_on_their_batch(
    fuse: Concatenate | Average, cuts: list[int], seed: int
) -> None:
    blocks, present = data(300, seed), mask(300, seed)
    fusion = fit_moments(fuse, "mean", blocks, present)
    whole = fusion.apply(blocks, present)
    order = np.random.default_rng(seed).permutation(300)
    bounds = [0, *sorted(cuts), 300]
    for a, b in itertools.pairwise(bounds):
        some = order[a:b]
        part = fusion.apply({name: x[some] for name, x in blocks.items()}, present[some])
        assert part.tobytes() == whole[some].tobytes()


@pytest.mark.parametrize("k", [1, 7])
def test_projections_are_the_same_bits_alone(k: int) -> None:
    # In float64, where BLAS adds up one row in another order than many.
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(200, 333)).astype(np.float32), rng.normal(size=(333, k))
    learnt = {"fill": np.zeros(k), "mean": rng.normal(size=333), "weights": weights}
    node = Node("v", ("v",), (), "concatenate", None, 333, k, **learnt)
    together, alone = np.empty((200, k)), np.empty((200, k))
    node.write({"v": rows}, {"v": np.ones(200, bool)}, together)
    for i in range(200):
        node.write({"v": rows[[i]]}, {"v": np.ones(1, bool)}, alone[i : i + 1])
    assert alone.tobytes() == together.tobytes()


def test_no_more_is_needed_than_is_used() -> None:
    plain = Concatenate(scale="none")
    assert need_of(plain, "zero", "image") == "nothing"
    known = {"v": Moments.of(np.ones((4, 1)), False)}
    assert not fit(plain, "zero", known, {"v": 1}, {"v": ["a"]}).heads[0].fill.any()
    assert need_of(plain, "mean", "image") == "means"
    assert need_of(Concatenate(), "zero", "image") == "diagonal"
    assert need_of(Concatenate(scale="block"), "mean", "image") == "diagonal"
    assert need_of(Concatenate(pca=3), "zero", "image") == "full"
    one = Concatenate(scale="none", pca={"audio": 3})
    assert [need_of(one, "zero", name) for name in ("image", "audio")] == ["nothing", "full"]
    assert need_of(Average(method="average", scale="none"), "zero", "image") == "full"


def test_moments_that_do_not_fit() -> None:
    known, names = {"v": Moments.empty(3, False)}, {"v": ["a", "b", "c"]}
    with pytest.raises(ValueError, match="v: fusion needs the moments"):
        fit(Concatenate(), "mean", {}, {"v": 3}, names)
    with pytest.raises(ValueError, match="4 dimensions, but moments of 3"):
        fit(Concatenate(), "mean", known, {"v": 4}, names)
    with pytest.raises(ValueError, match="full second moments"):
        fit(Concatenate(pca=1), "mean", known, {"v": 3}, names)
    with pytest.raises(ValueError, match="3 dimensions, but 2 names"):
        fit(Concatenate(), "mean", known, {"v": 3}, {"v": ["a", "b"]})


def test_blocks_that_do_not_fit() -> None:
    blocks = data()
    here = everywhere(blocks)
    fusion = fit_moments(Concatenate(), "mean", blocks, here)
    with pytest.raises(ValueError, match=r"audio: features are \[60, 4\].*\[60, 5\]"):
        fusion.apply({**blocks, "audio": blocks["audio"][:, :4]}, here)
    with pytest.raises(ValueError, match="audio: present in some rows"):
        fusion.apply({**blocks, "audio": None}, here)
    with pytest.raises(ValueError, match="notes: the fusion needs"):
        fusion.apply({name: blocks[name] for name in ("image", "audio")}, here[:, :2])
    with pytest.raises(ValueError, match="a column a modality"):
        fusion.apply(blocks, here[:, :2])
    with pytest.raises(ValueError, match="a column a modality"):
        fusion.apply(blocks, here.astype(int))
