"""Labelled rows in memory, and training on them, for the tests of learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from schemas.options.fuse import Concatenate
from schemas.options.models import Models
from transforms.fusion.fitted import Fusion
from transforms.fusion.strategies import fit_rows
from transforms.fusion.trees import Part, Tree
from transforms.learning.choosing import Chosen, choose
from transforms.learning.problem import TrainingSet
from transforms.learning.training import Trained, judging, train

LDA = Models.model_validate({"lda": {}})
RIDGE = Models.model_validate({"ridge": {"alpha": [1.0]}})


def rows(n: int, D: int, k: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of k classes, their numbers, and 25 others: float32[n, D], int64[n], float64[25, D]."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % k)
    X = rng.normal(size=(n, D)) @ np.diag(rng.uniform(0.3, 2, D)) + rng.normal(size=(k, D))[y]
    return (X + 3).astype(np.float32), y, rng.normal(size=(25, D)) + 3


class Fit:
    """Fits parts on rows, and remembers on which."""

    def __init__(self, blocks: dict[str, np.ndarray], present: np.ndarray, missing: Any) -> None:
        self.blocks, self.present, self.missing = blocks, present, missing
        self.calls: list[tuple[frozenset[int], str]] = []

    def __call__(self, rows: np.ndarray, part: Part) -> Fusion:
        self.calls.append((frozenset(np.flatnonzero(rows).tolist()), part.name))
        names = {m: [f"x{i}" for i in range(self.blocks[m].shape[1])] for m in part.modalities}
        return fit_rows(Tree((part,)), self.missing, self.blocks, self.present, rows, names)


def training_set(
    blocks: dict[str, np.ndarray],
    labels: np.ndarray,
    folds: int = 4,
    missing: str = "mean",
    **fields: Any,
) -> TrainingSet:
    """Rows of which every fifth is a test row and the others are dealt out to folds.

    Args:
        blocks: features by modality, [n, d]; they may be changed later.
        labels: n of them.
        folds: number of folds.
        missing: what stands in for a missing modality.
        fields: in the place of those made here; `present` counts for fits, too.
    """
    n = len(labels)
    blocks = {name: block.astype(np.float32) for name, block in blocks.items()}
    present = fields.pop("present", np.ones((n, len(blocks)), bool))
    test = fields.pop("test", np.arange(n) % 5 == 0)
    made = {
        "keys": np.array([f"k{i:04d}" for i in range(n)]),
        "labels": labels,
        "fold": np.where(test, -1, np.arange(n) // 5 % folds).astype(np.int32),
        "test": test,
        "blocks": blocks,
        "present": present,
        "fit": Fit(blocks, present, missing),
    }
    return TrainingSet(**{**made, **fields})


def learn(
    data: TrainingSet,
    models: Models = LDA,
    task: Any = "classification",
    fuse: Chosen | None = None,
    progress: Callable[[str], None] | None = None,
) -> Trained:
    """Choose what is left open in a strategy, then train with it."""
    with judging(data, models, task, progress) as heads:
        return train(heads, choose(heads, fuse or Concatenate()).fuse)


def make(
    n: int = 150,
    widths: tuple[int, ...] = (5, 7),
    folds: int = 4,
    task: str = "classification",
    classes: tuple[str, ...] = ("ant", "bee", "cat"),
    seed: int = 0,
    **fields: Any,
) -> TrainingSet:
    """A set that can be learnt: the first modality tells more than the others."""
    rng = np.random.default_rng(seed)
    k = len(classes)
    code = rng.integers(0, k, n)
    names = ("image", "audio", "text")
    blocks = {
        name: rng.normal(size=(n, d)) + strength * rng.normal(size=(k, d))[code]
        for name, d, strength in zip(names, widths, (1.5, 0.5, 0.7), strict=False)
    }
    labels: np.ndarray = np.array(classes)[code]
    if task == "regression":
        labels = blocks["image"] @ rng.normal(size=widths[0]) + 0.1 * rng.normal(size=n)
    return training_set(blocks, fields.pop("labels", labels), folds, **fields)
