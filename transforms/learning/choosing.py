"""Choosing: what a strategy looks like, where that is left to cross-validation.

    compare                 strategies judged on the same folds; the simplest of the best is taken
    deep                    nothing: its networks are trained beforehand
    hierarchical, auto/cka  modalities are merged as long as that makes predictions better
    weighted features       weights from how good each modality is alone

The choice is made on out-of-fold outputs, in which nothing has seen the rows it is judged on; but
among many strategies the best is a little better by luck, and so are its scores. What the choice
itself is worth is found by making it again for each block of folds, on what that block sees of
the others. The test rows have no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from schemas.options.fuse import (
    Average,
    Compare,
    Deep,
    Hierarchical,
    Node,
    Weighted,
    needs_choice,
)
from transforms.fusion.decisions import weights_by_score
from transforms.fusion.trees import Fuse, tree_of
from transforms.learning.comparing import compare_folds, simplest_of_the_best
from transforms.learning.judging import judge, seen_from
from transforms.learning.nested import Heads
from transforms.learning.problem import Problem
from transforms.learning.similarity import linear_cka

Chosen = Compare | Fuse


@dataclass
class Choice:
    """A strategy whose shape is known, and how it was found: JSON-ready."""

    fuse: Fuse
    report: dict[str, Any]


@dataclass(frozen=True)
class _View:
    """What a choice is made on: the outputs of all training rows, or those that a block sees.

    Attributes:
        heads: where strategies are judged.
        alike: CKA of two modalities over all training rows, the same in all views: it knows
            nothing of labels.
        block: that sees the rows outside it; None: all rows are seen.
    """

    heads: Heads
    alike: dict[tuple[str, str], float] = field(default_factory=dict)
    block: int | None = None

    def output(self, fuse: Fuse, modalities: Sequence[str] = ()) -> np.ndarray:
        """What a strategy says of the rows seen, on some modalities or on all."""
        tree = tree_of(fuse, modalities or self.heads.problem.data.modalities)
        if self.block is None:
            return judge(self.heads, tree).output
        return seen_from(self.heads, tree, self.block)

    @property
    def rows(self) -> np.ndarray:
        """bool[n], the rows seen."""
        train = self.heads.problem.train
        return train if self.block is None else train & (self.heads.block != self.block)

    def score(self, output: np.ndarray) -> float | None:
        """Of all rows seen together."""
        problem = self.heads.problem
        found: float | None = problem.in_short(output, self.rows)[problem.score]
        return found

    def scores(self, output: np.ndarray) -> list[float | None]:
        """Of each fold seen."""
        problem = self.heads.problem
        held = [problem.held(fold) & self.rows for fold in problem.folds]
        return [problem.in_short(output, rows)[problem.score] for rows in held if rows.any()]


def choose(heads: Heads, fuse: Chosen) -> Choice:
    """Find what is left open in a strategy.

    Where there is something open, the report holds `cross_validation`: the score of
    `choose_out_of_fold`; null with less than three blocks.

    Args:
        heads: where strategies are judged.
        fuse: the recipe's.
    """
    whole = _View(heads)
    choice = _settle(whole, fuse)
    if not needs_choice(fuse) or isinstance(fuse, Deep):
        return choice
    nested = None
    if heads.blocks > 2:
        nested = heads.problem.summary(_out_of_fold(whole, fuse))
    return Choice(choice.fuse, {**choice.report, "cross_validation": nested})


def choose_out_of_fold(heads: Heads, fuse: Chosen) -> np.ndarray:
    """Output of all training rows, the choice being made anew for each block, without its rows.

    Args:
        heads: where strategies are judged, in 3 blocks or more.
        fuse: the recipe's.
    """
    return _out_of_fold(_View(heads), fuse)


def _out_of_fold(whole: _View, fuse: Chosen) -> np.ndarray:
    heads, output = whole.heads, whole.heads.problem.empty()
    for block in range(heads.blocks):
        again = _settle(replace(whole, block=block), fuse)
        mine = heads.block == block
        tree = tree_of(again.fuse, heads.problem.data.modalities)
        output[mine] = seen_from(heads, tree, block)[mine]
    return output


def _settle(view: _View, fuse: Chosen) -> Choice:
    if isinstance(fuse, Compare):
        return _compare(view, fuse)
    if isinstance(fuse, Hierarchical) and isinstance(fuse.tree, str):
        return _grow(view, fuse)
    if isinstance(fuse, Weighted) and needs_choice(fuse):
        return _weigh(view, fuse)
    return Choice(fuse, {})


def _compare(view: _View, fuse: Compare) -> Choice:
    problem = view.heads.problem
    settled = {name: _settle(view, one) for name, one in fuse.strategies.items()}
    outputs = {name: view.output(choice.fuse) for name, choice in settled.items()}
    scores = {name: view.scores(output) for name, output in outputs.items()}
    found = simplest_of_the_best(scores, problem.score)
    report: dict[str, Any] = {}
    if view.block is None:
        report = _compared(problem, found, outputs, scores, settled)
    taken = settled[found["chosen"]].fuse
    kept = {"keep_modalities": fuse.keep_modalities or taken.keep_modalities}
    return Choice(taken.model_copy(update=kept), report)


def _compared(
    problem: Problem,
    found: dict[str, Any],
    outputs: dict[str, np.ndarray],
    scores: dict[str, list[float | None]],
    settled: dict[str, Choice],
) -> dict[str, Any]:
    chosen = found["chosen"]
    return {
        "chosen": chosen,
        "best": found["best"],
        "reason": found["reason"],
        "strategies": [
            {
                **problem.summary(outputs[line["name"]]),
                **line,
                "per_fold": scores[line["name"]],
                "against_chosen": compare_folds(scores[line["name"]], scores[chosen]),
                "settled": settled[line["name"]].report,
            }
            for line in found["contenders"]
        ],
    }


def _weigh(view: _View, fuse: Weighted) -> Choice:
    """Weights in proportion to what each modality's score is above that of saying nothing."""
    problem, rows = view.heads.problem, view.rows
    names = problem.data.modalities
    alone = Average(method="average", scale=fuse.scale, dimension=fuse.dimension)
    outputs = {name: view.output(alone, [name])[rows] for name in names}
    found = weights_by_score(outputs, problem.data.present[rows], problem.y[rows])
    weights = dict(zip(names, found.tolist(), strict=True))
    return Choice(fuse.model_copy(update={"weights": weights}), {"weights": weights})


def _grow(view: _View, fuse: Hierarchical) -> Choice:
    """Merge modalities, two groups at a time, into one vector each, as long as that is a gain.

    What the groups say is put together by the product rule (numbers: the mean). With `auto` all
    pairs are tried at each step and the best is taken; with `cka` only the two groups whose
    features are the most alike.
    """
    names = view.heads.problem.data.modalities
    groups: list[tuple[str, ...]] = [(name,) for name in names]
    score = _score(view, fuse, groups)
    steps = [{"groups": ["+".join(g) for g in groups], "score": score}]
    while len(groups) > 1:
        pairs = list(combinations(range(len(groups)), 2))
        if fuse.tree == "cka":
            pairs = [max(pairs, key=lambda pair: _alike(view, *(groups[k] for k in pair)))]
        tried = []
        for i, j in pairs:
            # In the recipe's order, so that the same modalities are the same head.
            both = tuple(m for m in names if m in groups[i] + groups[j])
            merged = [both if k == i else g for k, g in enumerate(groups) if k != j]
            tried.append((_score(view, fuse, merged), merged))
        best, merged = max(tried, key=lambda one: one[0])
        if best <= score:
            break
        score, groups = best, merged
        steps.append({"groups": ["+".join(g) for g in groups], "score": score})
    return Choice(_of_groups(fuse, groups), {"steps": steps})


def _of_groups(fuse: Hierarchical, groups: list[tuple[str, ...]]) -> Hierarchical:
    parts: list[str | Node] = [g[0] if len(g) == 1 else Node(parts=list(g)) for g in groups]
    if len(parts) == 1:
        only = parts[0]
        assert isinstance(only, Node), "a recipe's tree has at least two modalities"
        return fuse.model_copy(update={"tree": only})
    return fuse.model_copy(update={"tree": Node(parts=parts, of="decisions", rule="product")})


def _score(view: _View, fuse: Hierarchical, groups: list[tuple[str, ...]]) -> float:
    found = view.score(view.output(_of_groups(fuse, groups)))
    return float("-inf") if found is None else found


def _alike(view: _View, one: tuple[str, ...], other: tuple[str, ...]) -> float:
    """Mean linear CKA of the modalities of two groups, over the training rows that have both."""
    pairs = [(a, b) for a in one for b in other]
    data = view.heads.problem.data
    for a, b in pairs:
        if (a, b) not in view.alike:
            has = data.present[:, [data.modalities.index(a), data.modalities.index(b)]]
            both = view.heads.problem.train & has.all(axis=1)
            found = linear_cka(data.blocks[a][both], data.blocks[b][both])
            view.alike[a, b] = view.alike[b, a] = found or 0.0
    return sum(view.alike[pair] for pair in pairs) / len(pairs)
