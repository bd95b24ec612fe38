"""Features of three modalities, and fusion fitted to them, for the tests of strategies."""

from __future__ import annotations

from typing import Any

import numpy as np

from schemas.options.fuse import Average, Concatenate
from transforms.fusion import strategies
from transforms.fusion.filling import Missing
from transforms.fusion.fitted import Fusion
from transforms.fusion.moments import Moments, merge_all
from transforms.fusion.strategies import (
    Learnt,
    assemble,
    fit_pass,
    known_of,
    merged,
    needs,
    parts_in,
    passes,
    rows_for,
    wanted,
)
from transforms.fusion.trees import Tree, tree_of

DIMS = {"image": 12, "audio": 5, "notes": 3}
NAMES = {name: [f"x.{i}" for i in range(d)] for name, d in DIMS.items()}
FUSES = [
    Concatenate(scale=scale, pca=pca)
    for scale in ("standard", "block", "none")
    for pca in (None, 3, {"image": 4, "audio": 99})
] + [Average(method="average", scale=scale, dimension=4) for scale in ("standard", "block", "none")]


def data(n: int = 60, seed: int = 0, offset: float = 0.0) -> dict[str, np.ndarray]:
    """Correlated features with distinct variances."""
    rng = np.random.default_rng(seed)
    blocks = {}
    for name, d in DIMS.items():
        mix = rng.normal(size=(d, d)) * np.linspace(1, 3, d)
        blocks[name] = (rng.normal(size=(n, d)) @ mix + offset).astype(np.float32)
    return blocks


def mask(n: int, seed: int = 7) -> np.ndarray:
    present = np.random.default_rng(seed).random((n, len(DIMS))) < 0.7
    present[:2], present[2] = True, False
    return present


def fit(fuse: Any, missing: Any, known: Any, dims: Any, names: Any) -> Fusion:
    """Fit a strategy of one level on moments."""
    tree = tree_of(fuse, list(dims))
    assert tree.levels == 1
    return assemble(tree, fit_pass(tree, missing, 0, known, dims, Learnt()), names)


def fit_rows(
    fuse: Any, missing: Any, blocks: Any, present: Any, rows: Any, which: list[str], names: Any
) -> Fusion:
    """Fit a strategy on rows in memory."""
    own = {name: names[name] for name in which}
    return strategies.fit_rows(tree_of(fuse, which), missing, blocks, present, rows, own)


def need_of(fuse: Any, missing: Any, name: str) -> str:
    """What a modality's own part needs."""
    parts = {p.name: p for p in parts_in(tree_of(fuse, list(DIMS)), missing, 0)}
    return needs(parts[name], missing)


def fit_moments(
    fuse: Concatenate | Average,
    missing: Any,
    blocks: dict[str, np.ndarray],
    present: np.ndarray,
    parts: int = 1,
) -> Fusion:
    """Fit as a run does: only what is needed, bucket by bucket."""
    known = {}
    for i, (name, block) in enumerate(blocks.items()):
        need = need_of(fuse, missing, name)
        if need != "nothing":
            pieces = np.array_split(np.arange(len(block)), parts)
            known[name] = merge_all(
                Moments.of(block[p[present[p, i]]], need == "full") for p in pieces
            )
    return fit(fuse, missing, known, DIMS, NAMES)


def fit_by_pass(
    tree: Tree,
    blocks: Any,
    present: np.ndarray,
    names: dict[str, list[str]],
    parts: int = 3,
    missing: Missing = "mean",
) -> Fusion:
    """As a run does it: moments of groups of rows, level by level, each saved and loaded."""
    learnt = Learnt()
    dims = {name: len(own) for name, own in names.items()}
    here = {name: present[:, i] for i, name in enumerate(blocks)}
    for number in range(passes(tree, missing)):
        known: dict[str, Any] = {}
        for want in wanted(tree, missing, number):
            for rows in np.array_split(np.arange(len(present)), parts):
                some = {name: block[rows] for name, block in blocks.items()}
                seen = {name: there[rows] for name, there in here.items()}
                values = rows_for(tree, want, learnt, some, seen)
                assert values is not None
                one = known_of(values, want.need)
                known[want.name] = merged(known[want.name], one) if want.name in known else one
        learnt = fit_pass(tree, missing, number, known, dims, learnt)
        learnt = Learnt.load(learnt.to_arrays(), learnt.to_json())
    return assemble(tree, learnt, names)


def everywhere(blocks: dict[str, np.ndarray]) -> np.ndarray:
    return np.ones((len(blocks["image"]), len(blocks)), bool)
