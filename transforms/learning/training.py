"""Training: candidates compared by cross-validation, the best refitted and scored on the test.

    for each fold k and each set of modalities
        fuse, fitted on the training rows outside k  ->  fit the candidates  ->  predict rows of k

so that nothing, not even a mean or a principal component, has seen the rows it is judged on.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from schemas.recipe import Models
from transforms.learning import metrics
from transforms.learning.candidates import (
    Basis,
    Candidate,
    Fitted,
    Task,
    candidates_of,
    find_basis,
    fit,
)

_MOST_THREADS = 8  # each holds a few copies of the fused vectors


@dataclass
class TrainingSet:
    """The labelled rows of a data set.

    Attributes:
        keys: str[n].
        labels: str[n], or float64[n] for a regression; rows without a label are left out.
        fold: int32[n], 0 or more; -1 for test rows.
        test: bool[n].
        modalities: their names, in order.
        fuse: (bool[n] rows, modalities) -> float32[n, D]: fused vectors of all rows, from these
            modalities alone, with whatever is fitted being fitted on `rows` alone. It may be
            called from several threads at once.
    """

    keys: np.ndarray
    labels: np.ndarray
    fold: np.ndarray
    test: np.ndarray
    modalities: tuple[str, ...]
    fuse: Callable[[np.ndarray, tuple[str, ...]], np.ndarray]


@dataclass
class Trained:
    """What training gives.

    Attributes:
        metrics: JSON-ready; see `train`.
        predictions: one row a row of the training set, in its order: key, split, fold, label,
            prediction and, of a classification, probabilities, in the order of the classes that
            the schema's metadata names (`classes`, JSON). Those of training rows are out of fold.
        model: a linear scikit-learn estimator on the fused vector of all modalities.
        classes: the labels it can predict, sorted; None for a regression.
    """

    metrics: dict[str, Any]
    predictions: pa.Table
    model: Any
    classes: list[str] | None


def train(
    data: TrainingSet,
    models: Models,
    task: Task,
    progress: Callable[[str], None] | None = None,
) -> Trained:
    """Choose, fit and judge a model on all modalities and, for comparison, on each alone.

    The candidate with the best accuracy (R2) over all out-of-fold predictions together is chosen,
    at a tie the one with the lower log loss (mean absolute error), then the one named first.

    Metrics: `task`, `score` (name of what is compared), `classes`, `rows`, `folds`, `chosen`,
    `fused` (`cross_validation`, `test` or null, `converged`), `modalities` (the same of each
    alone, with its own `chosen`), `candidates` (of the fused vector). See `metrics` for the
    numbers themselves; `standard_deviation` is that of the score over the folds.

    Args:
        data: the rows; those of the test are predicted at the end and not otherwise looked at.
        models: candidates; if it names none, those of the task with default options.
        task: what the labels are.
        progress: told in a few words after each fold.

    Raises:
        ValueError: there is nothing to learn, or no way to cross-validate; the message says why.
    """
    candidates = candidates_of(models, task)
    problem = _Problem(data, task)
    subsets = list(dict.fromkeys([data.modalities, *((m,) for m in data.modalities)]))
    folds = np.unique(data.fold[~data.test]).tolist()
    jobs = [(subset, fold) for subset in subsets for fold in folds]

    def held_out(job: tuple[tuple[str, ...], int]) -> list[tuple[np.ndarray, bool]]:
        subset, fold = job
        held = ~data.test & (data.fold == fold)
        _, fits, outputs = problem.fit_and_predict(subset, candidates, ~data.test & ~held, held)
        return [(o, f.converged) for f, o in zip(fits, outputs, strict=True)]

    def final(job: tuple[tuple[str, ...], Candidate]) -> tuple[Any, np.ndarray, bool]:
        subset, candidate = job
        basis, fits, outputs = problem.fit_and_predict(subset, [candidate], ~data.test, data.test)
        return basis.expand(fits[0].estimator), outputs[0], fits[0].converged

    out_of_fold = {s: [problem.empty() for _ in candidates] for s in subsets}
    arrived = {s: [True for _ in candidates] for s in subsets}
    # Fits run side by side, each on one thread. The sums of BLAS depend on its number of threads,
    # and so would the model; and on matrices of this size its threads mostly wait for each other.
    workers = min(os.cpu_count() or 1, _MOST_THREADS)
    with (
        warnings.catch_warnings(),
        threadpool_limits(limits=1, user_api="blas"),
        ThreadPoolExecutor(workers) as pool,
    ):
        warnings.simplefilter("ignore", ConvergenceWarning)  # `converged` in the metrics says it
        for done, (job, results) in enumerate(zip(jobs, pool.map(held_out, jobs), strict=True), 1):
            subset, fold = job
            held = ~data.test & (data.fold == fold)
            for i, (output, converged) in enumerate(results):
                out_of_fold[subset][i][held] = output
                arrived[subset][i] &= converged
            if progress is not None:
                progress(f"fold {fold} of {' + '.join(subset)} ({done} of {len(jobs)})")
        best = {s: problem.best(out_of_fold[s]) for s in subsets}
        # A single modality's own model is refitted only to be judged.
        refit = [s for s in subsets if s == data.modalities or data.test.any()]
        finals = dict(
            zip(refit, pool.map(final, [(s, candidates[best[s]]) for s in refit]), strict=True)
        )

    reports = {}
    for s in subsets:
        outputs = out_of_fold[s][best[s]]
        report: dict[str, Any] = {
            "cross_validation": {**problem.measure(outputs, ~data.test), **problem.folds(outputs)},
            "test": None,
            "converged": arrived[s][best[s]],
        }
        if s in finals:
            _, tested, converged = finals[s]
            report["converged"] &= converged
            if data.test.any():
                outputs[data.test] = tested
                report["test"] = problem.measure(outputs, data.test)
        reports[s] = report

    whole = data.modalities
    model = finals[whole][0]
    if problem.classes is not None:
        model.classes_ = problem.classes
    found: dict[str, Any] = {
        "task": task,
        "score": problem.score,
        "classes": None if problem.classes is None else problem.classes.tolist(),
        "rows": {"train": int((~data.test).sum()), "test": int(data.test.sum())},
        "folds": len(folds),
        "chosen": asdict(candidates[best[whole]]),
        "fused": reports[whole],
        "modalities": {
            m: {"chosen": asdict(candidates[best[(m,)]]), **reports[(m,)]} for m in data.modalities
        },
        "candidates": [
            {**asdict(c), **problem.summary(o), "converged": a}
            for c, o, a in zip(candidates, out_of_fold[whole], arrived[whole], strict=True)
        ],
    }
    return Trained(
        metrics=found,
        predictions=problem.table(out_of_fold[whole][best[whole]]),
        model=model,
        classes=found["classes"],
    )


def predict(model: Any, X: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """What a trained model says of fused vectors.

    Args:
        model: of `train`, or loaded.
        X: float32[n, D].

    Returns:
        The predictions, str[n] or float64[n], and the probabilities, float64[n, k] in the order
        of `model.classes_`; None for a regression.
    """
    X = np.asarray(X, dtype=np.float64)
    if not hasattr(model, "classes_"):
        return model.predict(X), None
    probabilities = model.predict_proba(X)
    return model.classes_[probabilities.argmax(axis=1)], probabilities


class _Problem:
    """A training set and its task: what a fold, a model's output and a score are.

    An output is what a model says of rows: float64[n, k] probabilities of all classes of the
    training rows, or float64[n].
    """

    def __init__(self, data: TrainingSet, task: Task) -> None:
        self.data = data
        train = ~data.test
        self.classes: np.ndarray | None = None
        self.labels: np.ndarray
        if task == "classification":
            self.score, self.tie = "accuracy", "log_loss"
            self.labels = np.asarray(data.labels, dtype=str)
            self.classes, codes = np.unique(self.labels[train], return_inverse=True)
            self.y = np.full(len(train), -1, dtype=np.int64)
            self.y[train] = codes
        else:
            self.score, self.tie = "r2", "mae"
            self.y = self.labels = np.asarray(data.labels, dtype=np.float64)
            if not np.isfinite(self.y).all():
                row = int(np.flatnonzero(~np.isfinite(self.y))[0])
                raise ValueError(f"the label of key {str(data.keys[row])!r} is {self.y[row]}")
        if train.sum() < 2:
            raise ValueError(
                f"nothing to learn: {int(train.sum())} labelled rows for training, "
                "at least 2 are needed; check the target, or lower split.test_share"
            )
        if (self.y[train] == self.y[train][0]).all():
            raise ValueError(
                f"nothing to learn: every label of the {int(train.sum())} training rows is "
                f"{self.labels[train][0].item()!r}"
            )
        if (data.fold[train] < 0).any():
            row = int(np.flatnonzero(train & (data.fold < 0))[0])
            raise ValueError(f"key {str(data.keys[row])!r} is for training but is in no fold")
        if len(np.unique(data.fold[train])) < 2:
            raise ValueError(
                "cross-validation needs labelled training rows in at least 2 folds, all are in "
                f"fold {data.fold[train][0]}; check split.folds and split.group"
            )

    def empty(self) -> np.ndarray:
        """An output of all rows, to be filled."""
        n = len(self.data.keys)
        return np.zeros(n if self.classes is None else (n, len(self.classes)))

    def fit_and_predict(
        self,
        subset: tuple[str, ...],
        candidates: list[Candidate],
        rows: np.ndarray,
        others: np.ndarray,
    ) -> tuple[Basis, list[Fitted], list[np.ndarray]]:
        """Each candidate fitted on `rows`, in the basis returned, and its output for `others`."""
        X = self.data.fuse(rows, subset)
        if X.shape[1] == 0:
            raise ValueError(f"the fused vector of {' + '.join(subset)} has no dimensions")
        if not np.isfinite(X).all():
            row = int(np.flatnonzero(~np.isfinite(X).all(axis=1))[0])
            raise ValueError(
                f"the fused vector of key {str(self.data.keys[row])!r} from {' + '.join(subset)} "
                "has values that are not finite; an extractor or the scaling gave them"
            )
        basis, T = find_basis(X[rows])
        fits = fit(candidates, T, self.y[rows], basis.dimensions)
        asked = basis.coordinates(X[others])
        outputs = [self._output(f.estimator, asked) for f in fits]
        return basis, fits, outputs

    def _output(self, estimator: Any, T: np.ndarray) -> np.ndarray:
        if not len(T):  # scikit-learn refuses to predict nothing
            return self.empty()[:0]
        if self.classes is None:
            return estimator.predict(T)
        # A class absent from the rows fitted on has probability 0.
        output = np.zeros((len(T), len(self.classes)))
        output[:, estimator.classes_] = estimator.predict_proba(T)
        return output

    def measure(self, output: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
        """All metrics of some rows."""
        found = self._measure(output, rows)
        if self.classes is not None:
            found.update(metrics.confusion(self.labels[rows], output[rows], self.classes))
        return found

    def _measure(self, output: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
        if self.classes is None:
            return metrics.regression(self.labels[rows], output[rows])
        return metrics.classification(self.labels[rows], output[rows], self.classes)

    def folds(self, output: np.ndarray) -> dict[str, Any]:
        """Metrics of each fold, and the deviation of the score over them."""
        train, fold = ~self.data.test, self.data.fold
        each = [
            {"fold": k, **self._measure(output, train & (fold == k))}
            for k in np.unique(fold[train]).tolist()
        ]
        spread = metrics.deviation([e[self.score] for e in each])
        return {"per_fold": each, "standard_deviation": spread}

    def summary(self, output: np.ndarray) -> dict[str, Any]:
        """The score of a candidate in short."""
        found = self._measure(output, ~self.data.test)
        return {
            "score": found[self.score],
            "standard_deviation": self.folds(output)["standard_deviation"],
            self.tie: found[self.tie],
        }

    def best(self, outputs: list[np.ndarray]) -> int:
        """Position of the best of several candidates, by their out-of-fold outputs."""
        found = [self._measure(o, ~self.data.test) for o in outputs]
        return max(range(len(found)), key=lambda i: (found[i][self.score], -found[i][self.tie], -i))

    def table(self, output: np.ndarray) -> pa.Table:
        """Predictions of all rows; see `Trained`."""
        data = self.data
        text = self.classes is not None
        predicted = self.classes[output.argmax(axis=1)] if self.classes is not None else output
        kind = pa.string() if text else pa.float64()
        table = pa.table(
            {
                "key": pa.array(data.keys.tolist(), pa.string()),
                "split": pa.array(np.where(data.test, "test", "train").tolist(), pa.string()),
                "fold": pa.array(data.fold, pa.int32()),
                "label": pa.array(self.labels.tolist(), kind),
                "prediction": pa.array(predicted.tolist(), kind),
            }
        )
        if self.classes is None:
            return table
        k = len(self.classes)
        flat = pa.array(output.ravel(), pa.float64())
        table = table.append_column("probabilities", pa.FixedSizeListArray.from_arrays(flat, k))
        return table.replace_schema_metadata({"classes": json.dumps(self.classes.tolist())})
