"""Nested cross-validation of the heads of strategies, and of the decisions above them.

Two sets of outputs of each head and candidate tell all there is to know, whatever is chosen or
learnt from them later:

    once     rows of fold f, by a model fitted without f
    twice    rows of block c as block b sees them: by a model fitted without b and c

A block is a fold, or several where there are many. What is chosen or learnt for the rows of a
fold (the candidate, a temperature, weights) is chosen on `twice` as its block sees it, from
which these rows are absent altogether; then it is judged on `once`. One model fitted without b
and c serves both blocks, so that nesting takes half the fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from transforms.fusion.fitted import Sides
from transforms.fusion.trees import Part
from transforms.learning.candidates import NETWORK, Candidate, fit_rows, reads_gaps
from transforms.learning.fitting import Gaps
from transforms.learning.linear import estimator_of
from transforms.learning.network.jobs import BLOCKS, block_of
from transforms.learning.problem import Problem


@dataclass
class Outputs:
    """What the candidates of one head say of rows that they have not seen.

    Attributes:
        part: the head.
        candidates: in order.
        once: of each candidate, an output of all training rows.
        twice: block -> of each candidate, an output of the training rows of the other blocks.
        converged: of each candidate.
    """

    part: Part
    candidates: list[Candidate]
    once: list[np.ndarray]
    twice: dict[int, list[np.ndarray]]
    converged: list[bool]


@dataclass
class FittedHead:
    """A candidate fitted on some rows, for fused vectors.

    Attributes:
        part: the head.
        estimator: a scikit-learn estimator.
        converged: whether its solver arrived.
        prior: float64[k] or float64[], said of rows without any of the part.
        sides: of the vector, if the estimator reads gaps; else empty.
    """

    part: Part
    estimator: Any
    converged: bool
    prior: np.ndarray
    sides: Sides = ()

    def outputs(self, problem: Problem, X: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Output float64[n, k] or float64[n] of the rows X, float[n, D], that have the modalities
        `present`, bool[n, m].
        """
        columns = None if problem.classes is None else self.estimator.classes_
        here = problem.data.has(self.part, present)
        X = with_gaps(X, self.sides, problem.data.modalities, present)
        return head_output(columns, self.estimator, X, here, self.prior)


def with_gaps(
    X: np.ndarray, sides: Sides, modalities: Sequence[str], present: np.ndarray
) -> np.ndarray:
    """The vectors, with NaN in the sides that a row lacks; without sides as they are."""
    return Gaps.of(sides, modalities, present).mark(X) if sides else X


def head_output(
    columns: np.ndarray | None,
    estimator: Any,
    X: np.ndarray,
    here: np.ndarray,
    prior: np.ndarray,
) -> np.ndarray:
    """What an estimator says of rows; where `here` is false, the prior.

    Args:
        columns: int[j], which of the problem's classes the estimator's are; None for numbers. A
            class absent from the rows fitted on has probability 0.
        estimator: a scikit-learn estimator.
        X: float[n, D].
        here: bool[n].
        prior: float64[k], or float64[] for numbers.
    """
    output = np.empty((len(X), *prior.shape))
    output[...] = prior
    if not here.any():  # scikit-learn refuses to predict nothing
        return output
    asked = (X if here.all() else X[here]).astype(np.float64)
    if columns is None:
        output[here] = estimator.predict(asked)
        return output
    found = np.zeros((len(asked), len(prior)))
    found[:, columns] = estimator.predict_proba(asked)
    output[here] = found
    return output


class Heads:
    """The outputs of heads, each found once and kept.

    Args:
        problem: what is learnt.
        candidates: that every head chooses from.
        pool: where fits run side by side.
        progress: told in a few words after each fit.
    """

    def __init__(
        self,
        problem: Problem,
        candidates: list[Candidate],
        pool: Executor,
        progress: Callable[[str], None] | None,
    ) -> None:
        self.problem, self.candidates, self.pool = problem, candidates, pool
        self.progress = progress
        self._known: dict[Part, Outputs] = {}
        self._views: dict[tuple[Part, int], Outputs] = {}

    @property
    def block(self) -> np.ndarray:
        """int[n]: the block of each training row; -1 of test rows."""
        position = block_of(self.problem.folds, self.problem.data.fold)
        return np.where(self.problem.train, position, -1)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return min(len(self.problem.folds), BLOCKS)

    def candidates_of(self, part: Part) -> list[Candidate]:
        """What a head chooses from.

        Of a network it is its joint head alone: other models would be fitted to vectors of rows
        whose labels have made these vectors what they are, and be far too sure.
        """
        return self.candidates if part.network is None else [NETWORK]

    def fit(
        self, part: Part, candidates: Sequence[Candidate], rows: np.ndarray
    ) -> tuple[list[FittedHead], np.ndarray]:
        """Candidates fitted on `rows` that have the part, and the vectors of all, float32[n, k].

        Raises:
            ValueError: the vectors have no dimensions, or values that are not finite.
        """
        problem, data = self.problem, self.problem.data
        (X, sides), here = data.vectors(rows, part), data.has(part)
        prior = problem.prior(rows)
        if part.network is not None:
            head = estimator_of(*data.joint_head(rows, part), problem.classes is not None)
            return [FittedHead(part, head, True, prior)], X
        if X.shape[1] == 0:
            raise ValueError(f"the fused vector of {part.name} has no dimensions")
        if not np.isfinite(X).all():
            row = int(np.flatnonzero(~np.isfinite(X).all(axis=1))[0])
            raise ValueError(
                f"the fused vector of key {str(data.keys[row])!r} from {part.name} "
                "has values that are not finite; an extractor or the scaling gave them"
            )
        chosen = rows & here
        if not chosen.any():
            # What stands in for the part is the same in all rows, so that models say the prior.
            chosen = rows
        gaps = Gaps.of(sides, data.modalities, data.present).take(chosen)
        fits = fit_rows(candidates, X[chosen], problem.y[chosen], data.fold[chosen], gaps)
        return [
            FittedHead(part, f.estimator, f.converged, prior, sides if reads_gaps(c) else ())
            for f, c in zip(fits, candidates, strict=True)
        ], X

    def of(self, part: Part, nested: bool = True) -> Outputs:
        """The outputs of a head; with `nested` false, or less than 3 blocks, no `twice`."""
        known = self._known.get(part)
        nested = nested and self.blocks > 2
        if known is None or (nested and not known.twice):
            known = self._known[part] = self._find(part, nested)
        return known

    def seen_from(self, part: Part, view: int) -> list[np.ndarray]:
        """Of each candidate, an output of all training rows, no model having seen a block's.

        The block's own rows are by models fitted without their fold, others by models fitted
        without their block and this one.

        Args:
            part: the head.
            view: the block, one of 3 or more.
        """
        known = self._known.get(part)
        if known is None or not known.twice:
            known = self._views.get((part, view))
        if known is None:
            known = self._views[part, view] = self._find(part, True, view)
        mine = self.block == view
        found = [output.copy() for output in known.twice[view]]
        for output, once in zip(found, known.once, strict=True):
            output[mine] = once[mine]
        return found

    def once(self, part: Part, candidate: Candidate) -> np.ndarray:
        """Out-of-fold output of one candidate, which need not be one of those compared."""
        known = self._known.get(part)
        if known is not None and candidate in known.candidates:
            return known.once[known.candidates.index(candidate)]
        problem, output = self.problem, self.problem.empty()

        def work(fold: int) -> np.ndarray:
            held = problem.held(fold)
            fits, X = self.fit(part, [candidate], problem.train & ~held)
            return fits[0].outputs(problem, X[held], problem.data.present[held])

        for fold, found in zip(problem.folds, self.pool.map(work, problem.folds), strict=True):
            output[problem.held(fold)] = found
        return output

    def _find(self, part: Part, nested: bool, view: int | None = None) -> Outputs:
        """The outputs of a head; with a view, only what `seen_from` needs of them."""
        problem, data, block = self.problem, self.problem.data, self.block
        candidates = self.candidates_of(part)
        views = list(range(self.blocks)) if view is None else [view]
        held = [problem.held(fold) for fold in problem.folds]
        jobs: list[tuple[np.ndarray, tuple[int, ...]]] = [
            (rows, ()) for rows in held if view is None or block[rows][0] == view
        ]
        if nested:
            pairs = [p for p in combinations(range(self.blocks), 2) if set(p) & set(views)]
            jobs += [(np.isin(block, pair), pair) for pair in pairs]

        def work(job: tuple[np.ndarray, tuple[int, ...]]) -> list[tuple[np.ndarray, bool]]:
            rows = job[0]
            fits, X = self.fit(part, candidates, problem.train & ~rows)
            present = data.present[rows]
            return [(f.outputs(problem, X[rows], present), f.converged) for f in fits]

        n = len(candidates)
        found = Outputs(part, candidates, [problem.empty() for _ in range(n)], {}, [True] * n)
        if nested:
            found.twice = {b: [problem.empty() for _ in range(n)] for b in views}
        for done, (job, results) in enumerate(zip(jobs, self.pool.map(work, jobs), strict=True), 1):
            rows, pair = job
            for i, (output, converged) in enumerate(results):
                found.converged[i] &= converged
                if not pair:
                    found.once[i][rows] = output
                for b, other in (pair, pair[::-1]) if pair else ():
                    if b in found.twice:  # it sees the rows of the other one
                        found.twice[b][i][block == other] = output[block[rows] == other]
            if self.progress is not None:
                self.progress(f"{part.name}: {done} of {len(jobs)} fits")
        return found
