"""What a trained strategy's score is made of: for metrics.json and the report."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from transforms.fusion.trees import Fuse, tree_of
from transforms.learning.calibration import reliability
from transforms.learning.candidates import Candidate
from transforms.learning.comparing import bootstrap, classification_metric, regression_metric
from transforms.learning.domains import leave_domains_out
from transforms.learning.judging import Judged, combine, judge_one
from transforms.learning.nested import Heads
from transforms.learning.problem import Problem
from transforms.learning.similarity import canonical_correlations, linear_cka
from transforms.learning.understanding import (
    MOST_MODALITIES,
    removal_curve,
    shapley_values,
    subsets,
)


def explain(heads: Heads, fuse: Fuse, fused: Judged, output: np.ndarray) -> dict[str, Any]:
    """Everything that helps to understand a score.

    Args:
        heads: where the strategy was judged.
        fuse: the strategy.
        fused: what is known of it.
        output: of all rows; that of training rows is out of fold.

    Returns:
        intervals: of the metrics in cross-validation and on the test; see `comparing.bootstrap`.
        reliability: of a classification, out of fold; see `calibration.reliability`.
        subsets: score of each set of modalities, with the candidates chosen for all of them;
            of `deep`, what its networks say where the others are missing; null with more than 6.
        shapley: what each modality adds; see `understanding.shapley_values`; null likewise.
        removal: score as modalities are removed from the rows that are predicted; see
            `understanding.removal_curve`; null with one modality.
        similarity: of each two modalities, over the training rows that have both: `linear_cka`
            and `canonical_correlations`.
        domains: where the recipe names them: see `domains.leave_domains_out`; else null.
    """
    problem = heads.problem
    train, test = problem.train, problem.data.test
    found: dict[str, Any] = {
        "intervals": {
            part: _intervals(problem, output, rows) if rows.any() else None
            for part, rows in (("cross_validation", train), ("test", test))
        },
        "reliability": None,
        "subsets": None,
        "shapley": None,
        "removal": None,
        "similarity": _similarities(problem),
        "domains": leave_domains_out(heads, fused) if problem.data.domain is not None else None,
    }
    if problem.classes is not None:
        found["reliability"] = reliability(output[train], problem.y[train])
    names = problem.data.modalities
    if len(names) == 1:
        return found
    if len(names) <= MOST_MODALITIES:
        scores = _subsets(heads, fuse, fused)
        nothing = 0.0
        if problem.classes is not None:
            nothing = float(problem.prior(train).max())
        found["subsets"] = [
            {"modalities": list(chosen), "score": score} for chosen, score in scores.items()
        ]
        if None not in scores.values():
            known = {chosen: score for chosen, score in scores.items() if score is not None}
            found["shapley"] = shapley_values(names, known, nothing)
    found["removal"] = _removal(heads, fused)
    return found


def _intervals(problem: Problem, output: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    groups = problem.data.groups
    if groups is not None:
        # A row without a group is a group of its own, as in the split.
        groups = np.where(groups == "", problem.data.keys, groups)[rows]
    if problem.classes is None:
        metric = regression_metric(problem.y[rows], output[rows])
    else:
        metric = classification_metric(problem.labels[rows], output[rows], problem.classes)
    return bootstrap(metric, int(rows.sum()), groups)


def _subsets(heads: Heads, fuse: Fuse, fused: Judged) -> dict[tuple[str, ...], float | None]:
    problem = heads.problem
    chosen = _candidates(fused)
    scores: dict[tuple[str, ...], float | None] = {}
    for subset in subsets(problem.data.modalities):
        tree = tree_of(fuse, subset)
        picks = {part.name: _nearest(chosen, part.modalities) for part in tree.heads}
        scores[subset] = problem.summary(judge_one(heads, tree, picks))["score"]
    return scores


def _candidates(fused: Judged) -> dict[tuple[str, ...], Candidate]:
    return {
        head.part.modalities: head.candidates[fused.picks[name].candidate]
        for name, head in fused.heads.items()
    }


def _nearest(chosen: Mapping[tuple[str, ...], Candidate], modalities: tuple[str, ...]) -> Candidate:
    """The candidate of the head that has most of some modalities in it."""
    return chosen[max(chosen, key=lambda own: len(set(own) & set(modalities)))]


def _removal(heads: Heads, fused: Judged) -> list[dict[str, Any]]:
    """The models of the folds, asked about rows that have lost modalities."""
    problem, data = heads.problem, heads.problem.data
    chosen = _candidates(fused)

    def models(fold: int) -> list[Any]:
        rows = problem.train & ~problem.held(fold)
        found = []
        for part in fused.tree.heads:
            fits, _ = heads.fit(part, [chosen[part.modalities]], rows)
            found.append((part, data.fit(rows, part), fits[0]))
        return found

    of_fold = dict(zip(problem.folds, heads.pool.map(models, problem.folds), strict=True))

    def score(present: np.ndarray) -> float | None:
        said = {part.name: problem.empty() for part in fused.tree.heads}
        for fold, parts in of_fold.items():
            held = problem.held(fold)
            blocks = {name: block[held] for name, block in data.blocks.items()}
            for part, fusion, model in parts:
                X = fusion.apply(blocks, present[held])
                said[part.name][held] = model.outputs(problem, X, present[held])
        output = combine(problem, fused.tree.heads, said, fused.picks, fused.decision, present)
        found = problem.in_short(output, problem.train)[problem.score]
        return None if found is None else float(found)

    return removal_curve(data.keys, data.present, data.modalities, score)


def _similarities(problem: Problem) -> list[dict[str, Any]]:
    data, train = problem.data, problem.train
    found = []
    for (i, one), (j, other) in combinations(enumerate(data.modalities), 2):
        both = train & data.present[:, i] & data.present[:, j]
        X, Y = data.blocks[one][both], data.blocks[other][both]
        found.append(
            {
                "modalities": [one, other],
                "rows": int(both.sum()),
                "linear_cka": linear_cka(X, Y),
                "canonical_correlations": canonical_correlations(X, Y),
            }
        )
    return found
