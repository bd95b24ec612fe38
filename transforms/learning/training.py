"""Training: strategies judged by nested cross-validation, the best refitted and scored on the test.

    for each fold (and pair of folds), each head of a strategy
        fuse, fitted on the training rows outside -> fit the candidates -> predict the rows inside

so that nothing, not even a mean or a principal component, has seen the rows it is judged on. What
an extractor has learnt (document frequencies, codebooks of visual words) comes from all training
rows, without their labels.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from schemas.options.fuse import Concatenate, Deep
from schemas.options.models import Models
from transforms.fusion.trees import Fuse, tree_of
from transforms.learning.candidates import candidates_of
from transforms.learning.explaining import explain
from transforms.learning.fitting import Task
from transforms.learning.judging import Judged, combine, judge
from transforms.learning.model import HeadModel, Model
from transforms.learning.nested import Heads
from transforms.learning.problem import Problem, TrainingSet

_MOST_THREADS = 8  # each holds a few copies of the fused vectors


@dataclass
class Trained:
    """What training gives.

    Attributes:
        metrics: JSON-ready; see `train`.
        predictions: one row a row of the training set, in its order: key, split, fold, label,
            prediction and, of a classification, probabilities, in the order of the classes that
            the schema's metadata names (`classes`, JSON). Those of training rows are out of fold.
        model: on the fused vector.
    """

    metrics: dict[str, Any]
    predictions: pa.Table
    model: Model


def threads() -> int:
    """Fits that run side by side."""
    return min(os.cpu_count() or 1, _MOST_THREADS)


@contextmanager
def judging(
    data: TrainingSet,
    models: Models,
    task: Task,
    progress: Callable[[str], None] | None = None,
) -> Iterator[Heads]:
    """Where strategies are judged: fits run side by side, and each is done once.

    Args:
        data: the rows.
        models: candidates; if it names none, those of the task with default options.
        task: what the labels are.
        progress: told in a few words after each fit.

    Raises:
        ValueError: there is nothing to learn, or no way to cross-validate; the message says why.
    """
    candidates = candidates_of(models, task)
    problem = Problem(data, task)
    # Fits run side by side, each on one thread. The sums of BLAS depend on its number of threads,
    # and so would the model; and on matrices of this size its threads mostly wait for each other.
    with (
        warnings.catch_warnings(),
        threadpool_limits(limits=1, user_api="blas"),
        ThreadPoolExecutor(threads()) as pool,
    ):
        # `converged` in the metrics says it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "(?i).*line search")
        yield Heads(problem, candidates, pool, progress)


def train(heads: Heads, fuse: Fuse) -> Trained:
    """Choose, fit and judge a model on all modalities and, for comparison, on each alone.

    Of each head the candidate with the best accuracy (R2) over all out-of-fold predictions together
    is chosen, at a tie the one with the lower log loss (mean absolute error), then the one named
    first; its probabilities are brought to the temperature that fits them best.

    Metrics: `task`, `score` (name of what is compared), `classes`, `rows`, `folds`, `nested`
    (whether what was chosen for a fold was chosen without it; not with two folds), `chosen`,
    `fused` (`cross_validation`, `test` or null, `converged`), `modalities` (the same of each
    alone, with its own `chosen`), `candidates` (of each head of the fused vector), `heads` (what
    was chosen for each), `understanding`
    (see `explaining`). See `metrics` for the numbers themselves; `standard_deviation` is that of
    the score over the folds.

    Args:
        heads: of `judging`; the rows of the test are predicted at the end and not otherwise
            looked at.
        fuse: the strategy.

    Raises:
        ValueError: a fused vector has no dimensions, or values that are not finite.
    """
    problem, data = heads.problem, heads.problem.data
    fused = judge(heads, tree_of(fuse, data.modalities))
    plain = Concatenate(scale=fuse.scale_alone) if isinstance(fuse, Deep) else fuse
    alone = {m: judge(heads, tree_of(plain, [m])) for m in data.modalities}
    model, output, converged = finish(heads, fused)
    reports = {"": _report(problem, fused, output, converged)}
    for name, judged in alone.items():
        if data.test.any():
            _, tested, arrived = finish(heads, judged)
            reports[name] = _report(problem, judged, tested, arrived)
        else:
            reports[name] = _report(problem, judged, judged.output, True)

    found: dict[str, Any] = {
        "task": problem.task,
        "score": problem.score,
        "classes": None if problem.classes is None else problem.classes.tolist(),
        "rows": {"train": int((~data.test).sum()), "test": int(data.test.sum())},
        "folds": len(problem.folds),
        "nested": heads.blocks > 2,
        "chosen": _chosen(fused),
        "fused": reports[""],
        "heads": {
            name: {"chosen": _candidate(fused, name), "temperature": pick.temperature.value}
            for name, pick in fused.picks.items()
        },
        "decision": None if fused.decision is None else fused.decision.to_json(),
        "modalities": {m: {"chosen": _chosen(judged), **reports[m]} for m, judged in alone.items()},
        "candidates": [
            {
                "head": name,
                **asdict(c),
                **problem.summary(head.once[i]),
                "converged": head.converged[i],
                "chosen": i == fused.picks[name].candidate,
            }
            for name, head in fused.heads.items()
            for i, c in enumerate(head.candidates)
        ],
    }
    if heads.progress is not None:
        heads.progress("what the score is made of")
    found["understanding"] = explain(heads, fuse, fused, output)
    return Trained(found, problem.table(output), model)


def finish(heads: Heads, judged: Judged) -> tuple[Model, np.ndarray, bool]:
    """The model fitted on all training rows, the output of all rows, and whether it converged.

    Test rows are predicted by the model; the output of training rows is out of fold.
    """
    problem, data = heads.problem, heads.problem.data
    parts = list(judged.tree.heads)
    said: dict[str, np.ndarray] = {}
    models: list[HeadModel] = []
    start, converged = 0, True

    def fit(name: str) -> Any:
        head = judged.heads[name]
        fits, X = heads.fit(
            head.part, [head.candidates[judged.picks[name].candidate]], problem.train
        )
        return fits[0], X

    for part, (fitted, X) in zip(parts, heads.pool.map(fit, judged.picks), strict=True):
        said[part.name] = fitted.outputs(problem, X, data.present)
        converged &= fitted.converged
        stop = start + X.shape[1]
        estimator = fitted.estimator
        if problem.classes is not None:
            estimator.classes_ = problem.classes[estimator.classes_]
        models.append(
            HeadModel(
                part.name,
                part.modalities,
                start,
                stop,
                estimator,
                fitted.prior,
                judged.picks[part.name].temperature,
                fitted.sides,
            )
        )
        start = stop
    output = judged.output.copy()
    if data.test.any():
        final = combine(problem, judged.tree.heads, said, judged.picks, judged.decision)
        output[data.test] = final[data.test]
    model = Model(data.modalities, problem.classes, tuple(models), judged.decision)
    return model, output, converged


def _report(
    problem: Problem, judged: Judged, output: np.ndarray, converged: bool
) -> dict[str, Any]:
    test = problem.data.test
    return {
        "cross_validation": {
            **problem.measure(output, problem.train),
            **problem.per_fold(output),
        },
        "test": problem.measure(output, test) if test.any() else None,
        "converged": judged.converged and converged,
    }


def _candidate(judged: Judged, name: str) -> dict[str, Any]:
    return asdict(judged.heads[name].candidates[judged.picks[name].candidate])


def _chosen(judged: Judged) -> dict[str, Any]:
    """The model in short: the one candidate, or the rule and how many models are under it."""
    if judged.decision is None:
        return _candidate(judged, judged.tree.heads[0].name)
    rule = judged.decision.rule.how
    return {"model": f"{rule} rule", "options": {"models": len(judged.tree.heads)}}
