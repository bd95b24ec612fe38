"""The candidates for a model: what a recipe asks for, and all of them fitted on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from sklearn.dummy import DummyClassifier

from schemas.options.base import Options
from schemas.options.models import LdaOptions, LogisticOptions, Models, RidgeOptions
from transforms.learning.boosting import BOOSTING
from transforms.learning.fitting import Family, Fitted, Gaps, Rows, Task, find_basis
from transforms.learning.gaussian import GAUSSIAN, LDA, NAIVE_BAYES, QDA
from transforms.learning.kernel import KERNEL
from transforms.learning.linear import LOGISTIC, RIDGE, SVM

Name = Literal[
    "logistic",
    "lda",
    "naive_bayes",
    "qda",
    "gaussian",
    "svm",
    "kernel",
    "boosting",
    "ridge",
    "network",
]

_FAMILIES: dict[str, Family] = {
    "logistic": LOGISTIC,
    "lda": LDA,
    "naive_bayes": NAIVE_BAYES,
    "qda": QDA,
    "gaussian": GAUSSIAN,
    "svm": SVM,
    "kernel": KERNEL,
    "boosting": BOOSTING,
    "ridge": RIDGE,
}
_DEFAULTS: dict[str, Models] = {
    "classification": Models(logistic=LogisticOptions(), lda=LdaOptions()),
    "regression": Models(ridge=RidgeOptions()),
}


@dataclass(frozen=True)
class Candidate:
    """A model and one value of each of its options, such as `logistic`, `{"C": 0.1}`."""

    model: Name
    options: dict[str, Any]


NETWORK = Candidate("network", {})
"""The joint head of a trained network, on the vector that this network makes."""


def candidates_of(models: Models, task: Task) -> list[Candidate]:
    """The candidates a recipe asks for, in its order; the defaults of the task if it names none.

    Raises:
        ValueError: a model is named that is not for this task.
    """
    if models == Models():
        models = _DEFAULTS[task]
    found: list[Candidate] = []
    for name, family in _FAMILIES.items():
        options = getattr(models, name)
        if options is None:
            continue
        if task not in family.tasks:
            raise ValueError(f"train.models.{name} is not for {task}")
        found += [Candidate(name, chosen) for chosen in _combinations(options)]  # type: ignore[arg-type]
    return found


def _combinations(options: Options) -> list[dict[str, Any]]:
    """One value of each option that names several, in all combinations, the last varying fastest.

    Options that are null are left out.
    """
    given = {name: value for name, value in options if value is not None}
    several = [value if isinstance(value, tuple) else (value,) for value in given.values()]
    return [dict(zip(given, values, strict=True)) for values in product(*several)]


def fit_rows(
    candidates: Sequence[Candidate],
    X: np.ndarray,
    y: np.ndarray,
    fold: np.ndarray | None = None,
    gaps: Gaps | None = None,
) -> list[Fitted]:
    """Every candidate fitted on the same fused vectors.

    Families that do not depend on the basis are fitted in the span of the rows, which is found
    once for all of them, the others on the vectors as they are.

    Args:
        candidates: of one task.
        X: float[n, D], finite.
        y: int64[n] numbers of classes, not necessarily all of them, or float64[n].
        fold: int32[n], folds of these rows, for candidates that have something to cross-validate
            within them (`svm`, `kernel`); None: rows are dealt out by class.
        gaps: what the rows lack, for candidates that want to know (`gaussian`); None: nothing.

    Returns:
        The fits in the order of the candidates; their estimators take float64[m, D].
    """
    families = [_FAMILIES[c.model] for c in candidates]
    turned = [i for i, family in enumerate(families) if family.rotation_invariant]
    gapped = [i for i, family in enumerate(families) if family.reads_gaps]
    plain = [i for i in range(len(families)) if i not in turned and i not in gapped]
    found: dict[int, Fitted] = {}
    if turned:
        basis, T = find_basis(X)
        rows = Rows(T, y, basis.dimensions, fold)
        fits = _fit([candidates[i] for i in turned], rows)
        for i, fitted in zip(turned, fits, strict=True):
            if isinstance(fitted.estimator, DummyClassifier):
                found[i] = fitted
            else:
                found[i] = Fitted(basis.expand(fitted.estimator), fitted.converged)
    if plain:
        rows = Rows(X.astype(np.float64), y, X.shape[1], fold)
        found.update(zip(plain, _fit([candidates[i] for i in plain], rows), strict=True))
    if gapped:
        gaps = gaps or Gaps((X.shape[1],), np.ones((len(X), 1), bool))
        rows = Rows(gaps.mark(X), y, X.shape[1], fold, gaps.ends)
        found.update(zip(gapped, _fit([candidates[i] for i in gapped], rows), strict=True))
    return [found[i] for i in range(len(candidates))]


def reads_gaps(candidate: Candidate) -> bool:
    """Whether a candidate wants to know what a row lacks."""
    return candidate != NETWORK and _FAMILIES[candidate.model].reads_gaps


def _fit(candidates: Sequence[Candidate], rows: Rows) -> list[Fitted]:
    """The candidates by family, so that each does its common work once."""
    y = rows.y
    if np.issubdtype(y.dtype, np.integer) and (y == y[0]).all():
        only = DummyClassifier(strategy="prior").fit(rows.values, y)
        return [Fitted(only) for _ in candidates]
    found: dict[int, Fitted] = {}
    for name, family in _FAMILIES.items():
        own = [i for i, c in enumerate(candidates) if c.model == name]
        if own:
            fits = family.fit([candidates[i].options for i in own], rows)
            found.update(zip(own, fits, strict=True))
    return [found[i] for i in range(len(candidates))]
