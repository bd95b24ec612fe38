"""Fitting a strategy as a run does, for the tests of fusion."""

from __future__ import annotations

from typing import Any

import numpy as np

from transforms.fusion.filling import Missing
from transforms.fusion.fitted import Fusion
from transforms.fusion.strategies import (
    Learnt,
    assemble,
    fit_pass,
    known_of,
    merged,
    passes,
    rows_for,
    wanted,
)
from transforms.fusion.trees import Tree


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
