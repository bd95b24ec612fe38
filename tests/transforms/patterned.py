"""Rows of several modalities, some lacking, for the tests of statistics and of what they give."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from transforms.fusion.collecting import Rows

DIMS = {"image": 4, "audio": 3, "text": 2}


def make(
    seed: int,
    n: int,
    dims: dict[str, int] = DIMS,
    classes: tuple[str, ...] = ("ash", "birch", "cedar"),
    folds: int = 4,
    domains: tuple[str, ...] = (),
    missing: float = 0.3,
    offset: float = 0.0,
    test: bool = True,
    unlabelled: bool = True,
) -> Rows:
    """Correlated rows whose means depend on the class; NaN where a modality is lacking."""
    rng = np.random.default_rng(seed)
    d = sum(dims.values())
    mix = rng.normal(size=(d, d)) / np.sqrt(d)
    y = rng.integers(-1 if unlabelled else 0, len(classes), n)
    values = rng.normal(size=(n, d)) @ mix + rng.normal(size=(len(classes) + 1, d))[y] + offset
    present = rng.random((n, len(dims))) >= missing
    ends = np.cumsum([0, *dims.values()]).tolist()
    blocks = {}
    for i, (name, (a, b)) in enumerate(zip(dims, pairwise(ends), strict=True)):
        blocks[name] = values[:, a:b].astype(np.float32)
        blocks[name][~present[:, i]] = np.nan
    fold = rng.integers(-1 if test else 0, folds, n).astype(np.int32)
    domain = rng.integers(0, len(domains), n) if domains else None
    return Rows(blocks, present, fold, y, classes, domain, domains)


def numbers(rows: Rows, seed: int = 0) -> Rows:
    """The same rows with a number to predict, which depends on all values; NaN where unlabelled."""
    rng = np.random.default_rng(seed)
    x = np.nan_to_num(matrix(rows))
    z = x @ rng.normal(size=x.shape[1]) + rng.normal(size=len(x))
    if rows.y is not None:
        z[rows.y < 0] = np.nan
    return replace(rows, y=z, classes=())


def matrix(rows: Rows) -> np.ndarray:
    """float64[n, D], all modalities side by side, NaN where one is lacking."""
    return np.hstack([block.astype(np.float64) for block in rows.blocks.values()])


def cut(rows: Rows, start: int, stop: int) -> Rows:
    """Some consecutive rows."""
    at = slice(start, stop)
    return replace(
        rows,
        blocks={name: block[at] for name, block in rows.blocks.items()},
        present=rows.present[at],
        fold=rows.fold[at],
        y=None if rows.y is None else rows.y[at],
        domain=None if rows.domain is None else rows.domain[at],
    )


def pick(rows: Rows, chosen: np.ndarray) -> Rows:
    """The rows that are chosen, bool[n]."""
    return replace(
        rows,
        blocks={name: block[chosen] for name, block in rows.blocks.items()},
        present=rows.present[chosen],
        fold=rows.fold[chosen],
        y=None if rows.y is None else rows.y[chosen],
        domain=None if rows.domain is None else rows.domain[chosen],
    )
