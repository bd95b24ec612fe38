"""Choosing: what a strategy looks like, where that is left to cross-validation.

    compare                 strategies judged on the same folds; the simplest of the best is taken
    hierarchical, auto/cka  modalities are merged as long as that makes predictions better
    weighted features       weights from how good each modality is alone

The choice is made on out-of-fold outputs, in which nothing has seen the rows it is judged on; but
among many strategies the best is a little better by luck. The test rows have no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

from schemas.options.fuse import (
    Average,
    Compare,
    Hierarchical,
    Node,
    Weighted,
    needs_choice,
)
from transforms.fusion.decisions import weights_by_score
from transforms.fusion.trees import Fuse, tree_of
from transforms.learning.comparing import compare_folds, simplest_of_the_best
from transforms.learning.judging import judge
from transforms.learning.nested import Heads
from transforms.learning.similarity import linear_cka

Chosen = Compare | Fuse


@dataclass
class Choice:
    """A strategy whose shape is known, and how it was found: JSON-ready."""

    fuse: Fuse
    report: dict[str, Any]


def choose(heads: Heads, fuse: Chosen) -> Choice:
    """Find what is left open in a strategy.

    Args:
        heads: where strategies are judged.
        fuse: the recipe's.
    """
    if isinstance(fuse, Compare):
        return _compare(heads, fuse)
    if isinstance(fuse, Hierarchical) and isinstance(fuse.tree, str):
        return _grow(heads, fuse)
    if isinstance(fuse, Weighted) and needs_choice(fuse):
        return _weigh(heads, fuse)
    return Choice(fuse, {})


def _compare(heads: Heads, fuse: Compare) -> Choice:
    problem = heads.problem
    settled = {name: choose(heads, one) for name, one in fuse.strategies.items()}
    judged = {
        name: judge(heads, tree_of(choice.fuse, problem.data.modalities))
        for name, choice in settled.items()
    }
    scores = {
        name: [fold[problem.score] for fold in problem.per_fold(one.output)["per_fold"]]
        for name, one in judged.items()
    }
    found = simplest_of_the_best(scores, problem.score)
    chosen = found["chosen"]
    report = {
        "chosen": chosen,
        "best": found["best"],
        "reason": found["reason"],
        "strategies": [
            {
                **problem.summary(judged[line["name"]].output),
                **line,
                "per_fold": scores[line["name"]],
                "against_chosen": compare_folds(scores[line["name"]], scores[chosen]),
                "settled": settled[line["name"]].report,
            }
            for line in found["contenders"]
        ],
    }
    taken = settled[chosen].fuse
    kept = {"keep_modalities": fuse.keep_modalities or taken.keep_modalities}
    return Choice(taken.model_copy(update=kept), report)


def _weigh(heads: Heads, fuse: Weighted) -> Choice:
    """Weights in proportion to what each modality's score is above that of saying nothing."""
    problem = heads.problem
    names = problem.data.modalities
    alone = Average(method="average", scale=fuse.scale, dimension=fuse.dimension)
    outputs = {name: judge(heads, tree_of(alone, [name])).output for name in names}
    train = problem.train
    found = weights_by_score(
        {name: output[train] for name, output in outputs.items()},
        problem.data.present[train],
        problem.y[train],
    )
    weights = dict(zip(names, found.tolist(), strict=True))
    return Choice(fuse.model_copy(update={"weights": weights}), {"weights": weights})


def _grow(heads: Heads, fuse: Hierarchical) -> Choice:
    """Merge modalities, two groups at a time, into one vector each, as long as that is a gain.

    What the groups say is put together by the product rule (numbers: the mean). With `auto` all
    pairs are tried at each step and the best is taken; with `cka` only the two groups whose
    features are the most alike.
    """
    problem = heads.problem
    groups: list[tuple[str, ...]] = [(name,) for name in problem.data.modalities]
    score = _score(heads, fuse, groups)
    steps = [{"groups": ["+".join(g) for g in groups], "score": score}]
    while len(groups) > 1:
        pairs = list(combinations(range(len(groups)), 2))
        if fuse.tree == "cka":
            pairs = [max(pairs, key=lambda p: _alike(heads, groups[p[0]], groups[p[1]]))]
        tried = []
        for i, j in pairs:
            # In the recipe's order, so that the same modalities are the same head.
            both = tuple(m for m in problem.data.modalities if m in groups[i] + groups[j])
            merged = [both if k == i else g for k, g in enumerate(groups) if k != j]
            tried.append((_score(heads, fuse, merged), merged))
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


def _score(heads: Heads, fuse: Hierarchical, groups: list[tuple[str, ...]]) -> float:
    judged = judge(heads, tree_of(_of_groups(fuse, groups), heads.problem.data.modalities))
    found = heads.problem.summary(judged.output)["score"]
    return float("-inf") if found is None else float(found)


def _alike(heads: Heads, one: tuple[str, ...], other: tuple[str, ...]) -> float:
    """Mean linear CKA of the modalities of two groups, over the training rows that have both."""
    data, train = heads.problem.data, heads.problem.train
    found = []
    for a in one:
        for b in other:
            i, j = data.modalities.index(a), data.modalities.index(b)
            both = train & data.present[:, i] & data.present[:, j]
            found.append(linear_cka(data.blocks[a][both], data.blocks[b][both]) or 0.0)
    return sum(found) / len(found)
