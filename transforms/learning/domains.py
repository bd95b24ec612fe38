"""How a strategy does in a domain of which it has seen no labels, as it is and with CORAL."""

from __future__ import annotations

from typing import Any

import numpy as np

from transforms.fusion.decisions import fit_rule
from transforms.fusion.moments import Moments
from transforms.fusion.trees import Decision, Part
from transforms.learning.candidates import NETWORK, Candidate, fit_rows, reads_gaps
from transforms.learning.coral import fit_coral, leave_one_domain_out
from transforms.learning.judging import Judged
from transforms.learning.nested import FittedHead, Heads

MOST_DIMENSIONS = 2048
"""Features are aligned up to this number of dimensions: it takes three decompositions each time."""


def leave_domains_out(heads: Heads, fused: Judged) -> list[dict[str, Any]]:
    """Each domain of the training rows predicted by what the other domains teach.

    Fusion and candidates are fitted on the other domains' rows; the candidates are those chosen
    for all. CORAL brings the features of these rows to the means and covariance of the domain's,
    whose labels are not looked at. Where there are several heads, what they say is put together
    with equal weights.

    Args:
        heads: where the strategy was judged.
        fused: what is known of it.

    Returns:
        Of each domain its name, `rows`, the `score` and, with CORAL, `aligned`, null if a head has
        too many dimensions or no rows to align, or its model is a network's or reads gaps.

    Raises:
        ValueError: there are less than two domains.
    """
    data = heads.problem.data
    assert data.domain is not None
    found = []
    for name, rows, asked in leave_one_domain_out(data.domain, data.test):
        plain: dict[str, np.ndarray] = {}
        aligned: dict[str, np.ndarray] | None = {}
        for part in fused.tree.heads:
            output = fused.heads[part.name]
            candidate = output.candidates[fused.picks[part.name].candidate]
            one, two = _both(heads, part, candidate, rows, asked)
            plain[part.name] = one
            if two is None or aligned is None:
                aligned = None
            else:
                aligned[part.name] = two
        line: dict[str, Any] = {"domain": name, "rows": int(asked.sum()), "aligned": None}
        line["score"] = _score(heads, fused, plain, rows, asked)
        if aligned is not None:
            line["aligned"] = _score(heads, fused, aligned, rows, asked)
        found.append(line)
    return found


def _both(
    heads: Heads, part: Part, candidate: Candidate, rows: np.ndarray, asked: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Outputs of the rows that are asked about, without and with alignment."""
    problem, data = heads.problem, heads.problem.data
    if candidate == NETWORK or reads_gaps(candidate):
        # Alignment mixes what a row has with what stands in for the rest.
        fits, X = heads.fit(part, [candidate], rows)
        return fits[0].outputs(problem, X[asked], data.present[asked]), None
    X, here = data.fit(rows, part).apply(data.blocks, data.present), data.has(part)
    known, wanted = rows & here, asked & here
    prior = problem.prior(rows)
    if not known.any():
        nothing = np.broadcast_to(prior, (int(asked.sum()), *prior.shape))
        return nothing, None

    def outputs(source: np.ndarray) -> np.ndarray:
        fitted = fit_rows([candidate], source, problem.y[known], data.fold[known])[0]
        head = FittedHead(part, fitted.estimator, fitted.converged, prior)
        return head.outputs(problem, X[asked], data.present[asked])

    plain = outputs(X[known])
    if X.shape[1] > MOST_DIMENSIONS or not wanted.any():
        return plain, None
    coral = fit_coral(Moments.of(X[known], True), Moments.of(X[wanted], True))
    return plain, outputs(coral.apply(X[known]))


def _score(
    heads: Heads,
    fused: Judged,
    said: dict[str, np.ndarray],
    rows: np.ndarray,
    asked: np.ndarray,
) -> float | None:
    problem = heads.problem
    output = problem.empty()
    if fused.tree.decision is None:
        output[asked] = next(iter(said.values()))
    else:
        here = {part.name: problem.data.has(part)[asked] for part in fused.tree.heads}
        prior = problem.prior(rows)
        output[asked] = _decide(fused.tree.decision, said, here, prior)[0]
    score = problem.in_short(output, asked)[problem.score]
    return None if score is None else float(score)


def _decide(
    decision: Decision, said: dict[str, np.ndarray], here: dict[str, np.ndarray], prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    outputs, there = {}, {}
    for part in decision.parts:
        if isinstance(part, Decision):
            outputs[part.name], there[part.name] = _decide(part, said, here, prior)
        else:
            outputs[part.name], there[part.name] = said[part.name], here[part.name]
    present = np.stack(list(there.values()), axis=1)
    how = decision.rule if prior.ndim else "mean"
    rule = fit_rule(how, "equal", outputs, present, np.zeros(0), prior)
    return rule.apply(outputs, present), np.asarray(present.any(axis=1))
