"""A strategy judged by nested cross-validation: its choices, and its out-of-fold outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from transforms.fusion.decisions import DecisionRule, fit_rule
from transforms.fusion.trees import Decision, Part, Tree
from transforms.learning.calibration import Temperature, fit_temperature
from transforms.learning.candidates import Candidate
from transforms.learning.nested import Heads, Outputs
from transforms.learning.problem import Problem

Said = Mapping[str, np.ndarray]
"""Name of a head or decision -> its output, or bool[n], the rows that have it."""


@dataclass(frozen=True)
class Pick:
    """What was chosen for a head: the position of a candidate, and its temperature."""

    candidate: int
    temperature: Temperature


@dataclass(frozen=True)
class FittedDecision:
    """A decision with its rule, above heads or further decisions.

    Attributes:
        name: of the decision.
        rule: how what its parts say becomes one.
        temperature: that the result is brought to: a mean of posteriors is less sure than it may
            be, a product surer.
        parts: further decisions among its parts.
    """

    name: str
    rule: DecisionRule
    temperature: Temperature
    parts: tuple[FittedDecision, ...] = ()

    def apply(self, outputs: Said, here: Said) -> np.ndarray:
        """The output of the decision, from those of the heads and where they have a say."""
        outputs, here = dict(outputs), dict(here)
        for part in self.parts:
            outputs[part.name] = part.apply(outputs, here)
            here[part.name] = np.asarray(_stacked(here, part.rule.modalities).any(axis=1))
        names = self.rule.modalities
        present = _stacked(here, names)
        said = self.rule.apply({name: outputs[name] for name in names}, present)
        return calibrated(said, self.temperature, np.asarray(present.any(axis=1)))

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        parts = [part.to_json() for part in self.parts]
        return {
            "name": self.name,
            "rule": self.rule.to_json(),
            **self.temperature.to_json(),
            "parts": parts,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FittedDecision:
        """What `to_json` was called on."""
        parts = tuple(cls.from_json(part) for part in data["parts"])
        rule = DecisionRule.from_json(data["rule"])
        return cls(data["name"], rule, Temperature.from_json(data), parts)


@dataclass
class Judged:
    """What is known of a strategy.

    Attributes:
        tree: the strategy.
        output: of all training rows, out of fold; everything that was chosen or learnt for the
            rows of a fold was chosen without them. Zeros for test rows.
        heads: what the candidates of each head said.
        picks: what is chosen for each head in the end, on all training rows.
        decision: what is learnt in the end, where there are several heads.
        converged: whether all solvers that count arrived.
    """

    tree: Tree
    output: np.ndarray
    heads: dict[str, Outputs]
    picks: dict[str, Pick]
    decision: FittedDecision | None
    converged: bool


def judge(heads: Heads, tree: Tree) -> Judged:
    """Judge a strategy; the heads' outputs are found where they are not known yet.

    Where there are fewer than three folds nothing is left to choose on, so the choice is made
    on the rows that it is judged on.
    """
    problem = heads.problem
    several = any(len(heads.candidates_of(head)) > 1 for head in tree.heads)
    learns = problem.classes is not None or several or tree.decision is not None
    nested = learns and heads.blocks > 2
    found = {head.name: heads.of(head, nested=learns) for head in tree.heads}
    picks, decision = _choose(
        problem, tree, {name: head.once for name, head in found.items()}, problem.train
    )
    if nested:
        output = problem.empty()
        for view in range(heads.blocks):
            mine = heads.block == view
            output[mine] = seen_from(heads, tree, view)[mine]
    else:
        once = {name: found[name].once[pick.candidate] for name, pick in picks.items()}
        output = combine(problem, tree.heads, once, picks, decision)
        output[problem.data.test] = 0
    converged = all(found[name].converged[pick.candidate] for name, pick in picks.items())
    return Judged(tree, output, found, picks, decision, converged)


def seen_from(heads: Heads, tree: Tree, view: int) -> np.ndarray:
    """A strategy's output of all training rows, nothing that is in it having seen a block's.

    Of the block's own rows that is what `judge` says. Of the others it is a little better than
    true, as candidates, temperatures and weights are chosen on these same outputs.

    Args:
        heads: where strategies are judged, in 3 blocks or more.
        tree: the strategy.
        view: the block.
    """
    problem = heads.problem
    seen = {part.name: heads.seen_from(part, view) for part in tree.heads}
    picks, decision = _choose(problem, tree, seen, problem.train & (heads.block != view))
    outputs = {name: seen[name][pick.candidate] for name, pick in picks.items()}
    return combine(problem, tree.heads, outputs, picks, decision)


def judge_one(heads: Heads, tree: Tree, picks: Mapping[str, Candidate]) -> np.ndarray:
    """Out-of-fold output of a strategy whose candidates are given, from one fit a fold.

    Temperatures and weights are learnt on the same outputs: a little better than `judge`.

    Args:
        heads: where strategies are judged.
        tree: the strategy.
        picks: the candidate of each head.
    """
    once = {part.name: [heads.once(part, picks[part.name])] for part in tree.heads}
    chosen, decision = _choose(heads.problem, tree, once, heads.problem.train)
    outputs = {name: output[0] for name, output in once.items()}
    return combine(heads.problem, tree.heads, outputs, chosen, decision)


def calibrated(output: np.ndarray, temperature: Temperature, here: np.ndarray) -> np.ndarray:
    """Probabilities at a temperature; as they are where nobody has a say, and numbers."""
    return (
        np.where(here[:, None], temperature.apply(output), output) if output.ndim == 2 else output
    )


def _choose(
    problem: Problem, tree: Tree, seen: Mapping[str, list[np.ndarray]], rows: np.ndarray
) -> tuple[dict[str, Pick], FittedDecision | None]:
    """Candidates, temperatures and weights from outputs on some training rows."""
    picks: dict[str, Pick] = {}
    outputs: dict[str, np.ndarray] = {}
    here: dict[str, np.ndarray] = {}
    prior = None if tree.decision is None else problem.prior(rows)
    for head in tree.heads:
        here[head.name] = problem.data.has(head)
        mine = rows & here[head.name]
        best = problem.best(seen[head.name], mine if mine.any() else rows)
        heat = _temperature(problem, seen[head.name][best], mine, prior)
        picks[head.name] = Pick(best, heat)
        outputs[head.name] = calibrated(seen[head.name][best], heat, here[head.name])
    if tree.decision is None:
        return picks, None
    return picks, _learn_decision(problem, tree.decision, outputs, here, rows)[0]


def _learn_decision(
    problem: Problem,
    decision: Decision,
    outputs: Said,
    here: Said,
    rows: np.ndarray,
    inner: bool = False,
) -> tuple[FittedDecision, np.ndarray, np.ndarray]:
    """A decision fitted on some rows, its output of all rows, and where it has a say."""
    outputs, here, prior = dict(outputs), dict(here), problem.prior(rows)
    parts = []
    for part in decision.parts:
        if isinstance(part, Decision):
            fitted, outputs[part.name], here[part.name] = _learn_decision(
                problem, part, outputs, here, rows, inner=True
            )
            parts.append(fitted)
    own = {part.name: outputs[part.name] for part in decision.parts}
    present = _stacked(here, own)
    rule = fit_rule(
        decision.rule if problem.classes is not None else "mean",
        "equal" if decision.weights is None else decision.weights,
        {name: output[rows] for name, output in own.items()},
        present[rows],
        problem.y[rows],
        prior,
    )
    said, spoken = rule.apply(own, present), np.asarray(present.any(axis=1))
    heat = _temperature(problem, said, rows & spoken, prior if inner else None)
    fitted = FittedDecision(decision.name, rule, heat, tuple(parts))
    return fitted, calibrated(said, heat, spoken), spoken


def _temperature(
    problem: Problem, output: np.ndarray, rows: np.ndarray, prior: np.ndarray | None
) -> Temperature:
    """Of what is said of some rows; `prior` where a decision is made of it."""
    if problem.classes is None or not rows.any():
        return Temperature(1.0)
    return fit_temperature(output[rows], problem.y[rows], prior)


def _stacked(here: Said, names: Iterable[str]) -> np.ndarray:
    """bool[n, m] of some heads or decisions."""
    return np.stack([here[name] for name in names], axis=1)


def combine(
    problem: Problem,
    heads: tuple[Part, ...],
    outputs: Said,
    picks: Mapping[str, Pick],
    decision: FittedDecision | None,
    present: np.ndarray | None = None,
) -> np.ndarray:
    """The output of a strategy from those of its heads, of all rows; `present` as in `has`."""
    here = {head.name: problem.data.has(head, present) for head in heads}
    said = {
        name: calibrated(output, picks[name].temperature, here[name])
        for name, output in outputs.items()
    }
    return next(iter(said.values())) if decision is None else decision.apply(said, here)
