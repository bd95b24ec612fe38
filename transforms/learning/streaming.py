"""Training on a data set larger than memory: from its statistics, and a bucket at a time.

    statistics of all rows, by fold  ->  closed-form models of each fold and of all
    stochastic gradient descent over the buckets  ->  logistic regression
    every bucket once more  ->  out-of-fold and test predictions

The statistics are made here, from the features of all buckets, and not by the pass of the join that
fits the fusion. There each group of buckets would write 4 D^2 bytes for each fold and pattern of
modalities: of 8,000 rows that is more than their features are, 4 D bytes a row, from D = 230 with 5
folds and 7 patterns. To make them takes one process less than three times as long as reading the
features (`infra.benchmarks.statistics`), which have to be read again for the predictions anyway.

What is held is the statistics, the models and, of each row, its key, label and outputs. Models are
those of `streamed`, on modalities side by side, or on the vectors of networks that are trained
before; what is fitted for a fold has not seen its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from sklearn.linear_model import SGDClassifier

from schemas.options.fuse import Concatenate, Deep, Scale
from schemas.plan import Plan
from schemas.recipe import TARGET, Recipe
from transforms.fusion.collecting import Rows, collect
from transforms.fusion.fitted import Fusion, fusion_of
from transforms.fusion.fusing import load_fusion, load_network
from transforms.fusion.statistics import Statistics
from transforms.learning.calibration import Temperature, fit_temperature
from transforms.learning.candidates import NETWORK, Candidate, candidates_of
from transforms.learning.closed_form import Linear
from transforms.learning.curves import lda_curve, standardiser
from transforms.learning.dataset import LabelledRows, labelled_rows, nothing_to_learn
from transforms.learning.model import HeadModel, Model
from transforms.learning.network.jobs import Job
from transforms.learning.problem import Problem, TrainingSet
from transforms.learning.streamed import Streamed, closed, estimator_for, fit_statistics
from transforms.learning.training import Trained

SHRINKAGES = (0.0, 0.001, 0.01, 0.03, 0.1, 0.3)
"""Tried where a recipe leaves the shrinkage of LDA open: Ledoit and Wolf's needs fourth moments."""
EPOCHS = 5
BATCH = 4096


class CannotStream(ValueError):
    """The recipe asks for what needs all rows in memory."""


@dataclass
class _Scaler:
    """What fusion by concatenation makes of rows, as some statistics say; see `standardiser`."""

    fill: np.ndarray
    shift: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, fusion: Fusion, names: tuple[str, ...]) -> _Scaler:
        """What a fitted fusion makes of rows."""
        nodes = {node.name: node for head in fusion.heads for node in head.everything()}
        parts = []
        for node in (nodes[name] for name in names):
            assert node.fill is not None
            d = node.dimension
            if node.mean is None or node.factor is None:
                parts.append((node.fill, np.zeros(d), np.ones(d)))
            else:
                parts.append((node.mean, node.mean, node.factor))
        return cls(*(np.concatenate(several) for several in zip(*parts, strict=True)))

    def __call__(self, rows: LabelledRows, names: tuple[str, ...]) -> np.ndarray:
        """float64[n, D] of some modalities."""
        parts, start = [], 0
        for name in names:
            block = rows.blocks[name]
            here = rows.present[:, list(rows.blocks).index(name)]
            own = slice(start, start + block.shape[1])
            values = np.where(here[:, None], block, self.fill[own]).astype(np.float64)
            parts.append((values - self.shift[own]) * self.factor[own])
            start = own.stop
        return np.hstack(parts)


def check_recipe(recipe: Recipe) -> None:
    """Raise CannotStream unless training can be done a bucket at a time."""
    assert recipe.train is not None
    fuse = recipe.fuse
    if not isinstance(fuse, Concatenate | Deep) or getattr(fuse, "pca", None) is not None:
        raise CannotStream("fuse must be `concatenate` without `pca`, or `deep`")
    if recipe.join.missing == "conditional":
        raise CannotStream("join.missing must be `mean` or `zero`")
    models = {"logistic", "lda", "naive_bayes", "qda", "ridge"}
    named = {name for name, _ in recipe.train.models if getattr(recipe.train.models, name)}
    if named - models:
        raise CannotStream(
            f"train.models may be {', '.join(sorted(models))}, not {', '.join(named - models)}"
        )
    if recipe.train.domain is not None:
        raise CannotStream("train.domain needs all rows in memory")


def train_streaming(plan: Plan, progress: Callable[[str], None]) -> Trained:
    """What `training.train` does, with memory that does not grow with the features.

    Candidates are chosen on the out-of-fold outputs of all rows (`nested` is false in the
    metrics), and `understanding` is left out.

    Raises:
        ValueError: there is nothing to learn.
        CannotStream: see `check_recipe`.
    """
    recipe = plan.recipe
    check_recipe(recipe)
    assert recipe.target is not None
    assert recipe.train is not None
    task = recipe.target.task
    progress("statistics")
    known: list[LabelledRows] = []

    def parts() -> Iterator[Rows]:
        for rows in labelled_rows(plan):
            known.append(LabelledRows(**{**vars(rows), "blocks": {}}))
            yield _counted(rows, task)

    candidates = candidates_of(recipe.train.models, task)
    statistics = collect(
        parts(), "class" if any(c.model == "qda" for c in candidates) else "pooled"
    )
    problem = _problem(known, task)
    names = tuple(m.name for m in plan.modalities)
    deep = isinstance(recipe.fuse, Deep)
    sets = list(dict.fromkeys([names, *((name,) for name in names)]))
    fusion = None if deep else load_fusion(plan.output)
    jobs = [_of_networks(plan, problem)] if deep else []
    jobs += [
        _linear(recipe, problem, _subset(statistics, chosen), chosen, candidates, fusion)
        for chosen in (sets[1:] if deep else sets)
    ]
    for epoch in range(EPOCHS if any(c.model == "logistic" for c in candidates) else 0):
        progress(f"gradient descent, pass {epoch + 1} of {EPOCHS}")
        for rows in labelled_rows(plan):
            for job in jobs:
                job.descend(rows)
    progress("predictions")
    start = 0
    for rows in labelled_rows(plan):
        here = slice(start, start + len(rows.keys))
        for job in jobs:
            job.predict(rows, here)
        start = here.stop
    return _report(problem, names, jobs)


def _subset(statistics: Statistics, names: tuple[str, ...]) -> Statistics:
    return statistics.subset((*names, TARGET) if TARGET in statistics.dims else names)


def _counted(rows: LabelledRows, task: str) -> Rows:
    common = (rows.blocks, rows.present, rows.fold)
    if task == "regression":
        return Rows(*common, y=np.asarray(rows.labels, np.float64))
    classes, y = np.unique(rows.labels, return_inverse=True)
    return Rows(*common, y=y, classes=tuple(classes.tolist()))


def _problem(known: list[LabelledRows], task: Any) -> Problem:
    fold = np.concatenate([rows.fold for rows in known])
    if not len(fold):
        raise nothing_to_learn()
    present = np.concatenate([rows.present for rows in known])
    keys, labels = (np.concatenate([getattr(r, n) for r in known]) for n in ("keys", "labels"))

    def fit(*_: Any) -> Any:
        raise AssertionError("nothing is fitted in memory")

    return Problem(TrainingSet(keys, labels, fold, fold < 0, {}, present, fit), task)


Vectors = Callable[[LabelledRows, tuple[str, ...]], np.ndarray]
"""float64[n, D] of some modalities of rows."""


@dataclass(eq=False)
class _Job:
    """The models of one set of modalities: of each fold, and at last (-1) of all rows.

    Attributes:
        problem: what is learnt.
        names: the modalities.
        candidates: in order.
        vectors: of each fold, what rows become.
        models: of each fold, those of the candidates.
    """

    problem: Problem
    names: tuple[str, ...]
    candidates: list[Candidate]
    vectors: dict[int, Vectors] = field(default_factory=dict)
    models: dict[int, list[Streamed]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.outputs = [self.problem.empty() for _ in self.candidates]

    def descend(self, rows: LabelledRows) -> None:
        """One pass of gradient descent over the training rows of a bucket."""
        problem = self.problem
        if problem.classes is None:
            return
        order = np.random.default_rng(len(rows.keys)).permutation(len(rows.keys))
        y = np.searchsorted(problem.classes, rows.labels).clip(max=len(problem.classes) - 1)
        for fold, models in self.models.items():
            learners = [m for m in models if isinstance(m, SGDClassifier)]
            chosen = order[(rows.fold[order] >= 0) & (rows.fold[order] != fold)]
            for start in range(0, len(chosen) if learners else 0, BATCH):
                some = chosen[start : start + BATCH]
                X = self.vectors[fold](rows.take(some), self.names)
                for model in learners:
                    model.partial_fit(X, y[some], classes=np.arange(len(problem.classes)))

    def predict(self, rows: LabelledRows, here: slice) -> None:
        """Outputs of the rows of a bucket, each by a model that has not seen it."""
        for fold in self.models:
            chosen = np.flatnonzero(rows.fold == fold)
            for start in range(0, len(chosen), BATCH):
                some = chosen[start : start + BATCH]
                X = self.vectors[fold](rows.take(some), self.names)
                for output, model in zip(self.outputs, self.models[fold], strict=True):
                    made, numbers = closed(model), self.problem.classes is None
                    output[here][some] = made.decision(X) if numbers else made.predict_proba(X)

    def best(self) -> tuple[int, Temperature, np.ndarray]:
        """Position of the candidate chosen, its temperature, and its calibrated output."""
        problem = self.problem
        best = problem.best(self.outputs, problem.train)
        output, heat = self.outputs[best], Temperature(1.0)
        if problem.classes is not None:
            heat = fit_temperature(output[problem.train], problem.y[problem.train])
            output = heat.apply(output)
        return best, heat, output


def _linear(
    recipe: Recipe,
    problem: Problem,
    statistics: Statistics,
    names: tuple[str, ...],
    candidates: list[Candidate],
    fusion: Fusion | None,
) -> _Job:
    """Linear models on modalities side by side; `fusion` made the data set's vectors, if so."""
    fuse = recipe.fuse
    assert isinstance(fuse, Concatenate | Deep)
    scale: Scale = fuse.scale_alone if isinstance(fuse, Deep) else fuse.scale
    missing, job = recipe.join.missing, _Job(problem, names, candidates)
    assert missing != "conditional"
    shrinkage = None
    if any(c.options.get("shrinkage") == "auto" for c in candidates):
        shrinkage = lda_curve(statistics, SHRINKAGES, scale, missing).best
    for fold, rest in [*((k, r) for k, r, _ in statistics.leave_out()), (-1, statistics)]:
        scaler = _Scaler(*standardiser(rest, scale, missing))
        if fold < 0 and fusion is not None:
            # The final model reads the data set's vectors, so it is fitted to these: what
            # scales them has seen rows without a label, too.
            scaler = _Scaler.of(fusion, names)
        job.vectors[fold] = scaler
        made = rest.filled(scaler.fill).scaled(scaler.shift, scaler.factor)
        job.models[fold] = fit_statistics(candidates, made, problem.classes, shrinkage)
    return job


def _of_networks(plan: Plan, problem: Problem) -> _Job:
    """The networks of the folds with their joint heads, trained beforehand."""
    deep = plan.recipe.fuse
    assert isinstance(deep, Deep)
    job = _Job(problem, tuple(m.name for m in plan.modalities), [NETWORK])
    for fold in (*problem.folds, -1):
        network = load_network(plan.output, deep, Job(() if fold < 0 else (fold,)).name)
        fusion = fusion_of(network)

        def vectors(rows: LabelledRows, _: tuple[str, ...], made: Fusion = fusion) -> np.ndarray:
            return made.apply(rows.blocks, rows.present).astype(np.float64)

        job.vectors[fold] = vectors
        coef, intercept = network.joint_head()
        output = Linear(coef, intercept, "number" if problem.classes is None else "logits")
        job.models[fold] = [output]
    return job


def _report(problem: Problem, names: tuple[str, ...], jobs: list[_Job]) -> Trained:
    test = problem.data.test
    reports: list[dict[str, Any]] = []
    chosen: list[tuple[int, Temperature, np.ndarray]] = []
    for job in jobs:
        best, heat, output = job.best()
        chosen.append((best, heat, output))
        cross = {**problem.measure(output, problem.train), **problem.per_fold(output)}
        reports.append(
            {
                "chosen": asdict(job.candidates[best]),
                "cross_validation": cross,
                "test": problem.measure(output, test) if test.any() else None,
                "converged": True,
            }
        )
    (best, heat, output), whole = chosen[0], jobs[0]
    prior = problem.prior(problem.train)
    estimator = estimator_for(whole.models[-1][best], whole.candidates[best], problem.classes)
    head = "+".join(names)
    part = HeadModel(head, names, 0, estimator.n_features_in_, estimator, prior, heat)
    metrics: dict[str, Any] = {
        "task": problem.task,
        "score": problem.score,
        "classes": None if problem.classes is None else problem.classes.tolist(),
        "rows": {"train": int(problem.train.sum()), "test": int(test.sum())},
        "folds": len(problem.folds),
        "nested": False,
        "chosen": reports[0]["chosen"],
        "fused": {n: v for n, v in reports[0].items() if n != "chosen"},
        "heads": {head: {"chosen": reports[0]["chosen"], "temperature": heat.value}},
        "decision": None,
        "modalities": dict(zip(names, reports[1:] or reports, strict=True)),
        "candidates": [
            {
                "head": head,
                **asdict(c),
                **problem.summary(o),
                "converged": True,
                "chosen": i == best,
            }
            for i, (c, o) in enumerate(zip(whole.candidates, whole.outputs, strict=True))
        ],
    }
    model = Model(names, problem.classes, (part,), None)
    return Trained(metrics, problem.table(output), model)
