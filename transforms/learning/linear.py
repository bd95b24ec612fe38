"""Linear models by their loss: logistic regression, support vector machine, ridge."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_sample_weight

from transforms.learning.calibration import best_scale
from transforms.learning.fitting import Family, Fitted, Rows, inner_folds

# Of the gradient. scikit-learn's default of 1e-4 leaves probabilities wrong by several hundredths
# where the penalty is weak.
TOLERANCE = 1e-6
MAX_ITERATIONS = 1000  # some dozen are usual
SVM_TOLERANCE = 1e-4  # of the gradient, liblinear's default; probabilities come out to 1e-3


def fit_logistic(options: list[dict[str, Any]], rows: Rows) -> list[Fitted]:
    """Multinomial (two classes: binomial) logistic regression.

    By Newton's method with conjugate gradients: L-BFGS takes hundreds of rounds where rows are
    few, dimensions as many and the penalty is weak, and ends farther from the minimum.
    """
    found = []
    for chosen in options:
        model = LogisticRegression(
            C=chosen["C"],
            class_weight=chosen.get("class_weight"),
            solver="newton-cg",
            tol=TOLERANCE,
            max_iter=MAX_ITERATIONS,
        )
        model.fit(rows.values, rows.y)
        found.append(Fitted(model, _has_arrived(model, rows)))
    return found


def _has_arrived(model: LogisticRegression, rows: Rows) -> bool:
    """Whether the slope of what is minimised is as small as was asked for.

    Of a line search that fails, as with huge features, scikit-learn keeps nothing but a warning.
    """
    weight = compute_sample_weight(model.class_weight, rows.y)
    error = model.predict_proba(rows.values)
    error[np.arange(len(error)), np.searchsorted(model.classes_, rows.y)] -= 1
    error = error[:, -len(model.coef_) :] * weight[:, None]
    slope = np.hstack([error.T @ rows.values + model.coef_ / model.C, error.sum(axis=0)[:, None]])
    return bool(np.abs(slope).max() <= 2 * TOLERANCE * weight.sum())  # rounding is no matter


def fit_svm(options: list[dict[str, Any]], rows: Rows) -> list[Fitted]:
    """Linear support vector machines, squared hinge loss, each class against the rest.

    Its probabilities are the softmax (two classes: the logistic function) of its decision values
    times one factor: temperature scaling, fitted on decision values from a cross-validation
    within the rows. It keeps the machine's decisions, where one logistic function a class (Platt
    1999) could turn them round. That is a logistic regression's formula, so a
    `LogisticRegression` that holds the scaled coefficients is what is returned.
    """
    found = []
    for chosen in options:
        machine = _machine(chosen, rows.values, rows.y)
        scale = _decision_scale(chosen, rows)
        model = LogisticRegression(C=chosen["C"], class_weight=chosen.get("class_weight"))
        model.coef_, model.intercept_ = scale * machine.coef_, scale * machine.intercept_
        model.classes_, model.n_features_in_ = machine.classes_, machine.n_features_in_
        found.append(Fitted(model, bool(machine.n_iter_ < MAX_ITERATIONS)))
    return found


def _machine(chosen: dict[str, Any], values: np.ndarray, y: np.ndarray) -> LinearSVC:
    machine = LinearSVC(
        C=chosen["C"],
        class_weight=chosen.get("class_weight"),
        # Where rows are no more than dimensions, the primal solver crawls once all are on their
        # side of the margin: it was far from the end after 1000 rounds, the dual one there in 150.
        dual=values.shape[0] <= values.shape[1],
        tol=SVM_TOLERANCE,
        max_iter=MAX_ITERATIONS,
        random_state=0,  # the dual solver takes the rows in random order
    )
    return machine.fit(values, y)


def _decision_scale(chosen: dict[str, Any], rows: Rows) -> float:
    """The factor of the decision values that gives the least log loss out of fold."""
    classes, codes = np.unique(rows.y, return_inverse=True)
    fold = inner_folds(rows.fold, codes)
    # What a machine is trained to say of a row that is not of its class; it stands here for
    # classes that are missing from the other folds.
    decisions = np.full((len(codes), len(classes)), -1.0)
    judged = np.zeros(len(codes), bool)
    for k in np.unique(fold):
        held = fold == k
        known = np.unique(codes[~held])
        if len(known) < 2:
            continue
        machine = _machine(chosen, rows.values[~held], codes[~held])
        found = machine.decision_function(rows.values[held])
        if len(known) == 2:
            # Half the distance on either side, so that their difference is the decision value.
            found = np.stack([-found / 2, found / 2], axis=1)
        decisions[np.ix_(held, known)] = found
        judged |= held
    return best_scale(decisions[judged], codes[judged]) if judged.any() else 1.0


def fit_ridge(options: list[dict[str, Any]], rows: Rows) -> list[Fitted]:
    """Ridge regression for each penalty, from one eigendecomposition."""
    T, y = rows.values, rows.y
    mean = float(y.mean())
    variances, vectors = np.linalg.eigh(T.T @ T)
    projected = vectors.T @ (T.T @ (y - mean))
    smallest = np.finfo(np.float64).eps * len(T) * max(float(variances[-1]), 0.0)
    found = []
    for alpha in (chosen["alpha"] for chosen in options):
        scale = variances + alpha
        usable = scale > smallest  # alpha = 0 may leave directions without any say
        model = Ridge(alpha=alpha)
        model.coef_ = vectors @ np.divide(
            projected, scale, out=np.zeros_like(projected), where=usable
        )
        model.intercept_ = mean
        model.n_features_in_ = T.shape[1]
        found.append(Fitted(model))
    return found


def estimator_of(coef: np.ndarray, intercept: np.ndarray, classes: bool) -> Any:
    """The scikit-learn estimator of given coefficients.

    Args:
        coef: float64[k, D]: scores of k classes 0 to k - 1, whose softmax are the probabilities;
            or of one number.
        intercept: float64[k].
        classes: whether there are classes.
    """
    if not classes:
        found = Ridge()
        found.coef_, found.intercept_ = coef[0], float(intercept[0])
    else:
        found = LogisticRegression()
        found.classes_ = np.arange(len(coef))
        if len(coef) == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        found.coef_, found.intercept_ = coef, intercept
    found.n_features_in_ = coef.shape[1]
    return found


LOGISTIC = Family(fit_logistic)
SVM = Family(fit_svm)
RIDGE = Family(fit_ridge, tasks=("regression",))
