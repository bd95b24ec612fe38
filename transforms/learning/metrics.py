"""How good predictions are: numbers ready for JSON, null where one is not defined."""

from __future__ import annotations

from typing import Any

import numpy as np

SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)  # keeps the log loss finite: 36 at most


def classification(labels: np.ndarray, probabilities: np.ndarray, classes: np.ndarray) -> dict:
    """Metrics of predicted classes, the most probable ones.

    Args:
        labels: str[n], the truth; labels that are no class count as wrong everywhere.
        probabilities: float64[n, k].
        classes: str[k], sorted.

    Returns:
        rows: n.
        accuracy: share of rows that are right.
        balanced_accuracy: mean over the labels that occur of the share that is right.
        log_loss: mean of -log of the label's probability, clipped at 2.2e-16 from below.
        brier: mean over rows of the sum over classes of the squared difference between
            probability and truth, from 0 to 2 (Brier 1950).
    """
    codes, known = _codes(labels, classes)
    n = len(labels)
    right = known & (probabilities.argmax(axis=1) == codes)
    of_label = np.where(known, probabilities[np.arange(n), codes], 0.0)
    _, group = np.unique(labels, return_inverse=True)
    recall = np.bincount(group, weights=right) / np.bincount(group)
    # sum_c (p_c - t_c)^2 = sum_c p_c^2 - 2 p_label + 1
    squared = (probabilities**2).sum(axis=1) - 2 * of_label + 1
    return {
        "rows": n,
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(recall.mean()),
        "log_loss": float(-np.log(np.maximum(of_label, SMALLEST_PROBABILITY)).mean()),
        "brier": float(squared.mean()),
    }


def confusion(labels: np.ndarray, probabilities: np.ndarray, classes: np.ndarray) -> dict:
    """The confusion matrix, and labels that no model could have predicted.

    Returns:
        confusion: `labels` names both its axes, the classes and then the unseen labels; `matrix`
            counts rows by label (first axis) and prediction (second).
        unseen_labels: rows of each label that is none of the classes.
    """
    codes, known = _codes(labels, classes)
    unseen, unseen_codes = np.unique(labels[~known], return_inverse=True)
    codes = codes.copy()
    codes[~known] = len(classes) + unseen_codes
    size = len(classes) + len(unseen)
    cells = np.bincount(codes * size + probabilities.argmax(axis=1), minlength=size * size)
    return {
        "confusion": {
            "labels": [str(c) for c in [*classes, *unseen]],
            "matrix": cells.reshape(size, size).tolist(),
        },
        "unseen_labels": {
            str(c): int(n) for c, n in zip(unseen, np.bincount(unseen_codes), strict=True)
        },
    }


def regression(labels: np.ndarray, predictions: np.ndarray) -> dict:
    """Metrics of predicted numbers, both float64[n].

    Returns:
        rows: n.
        r2: 1 - squared error / squared distance from the labels' own mean; null if all are equal.
        mae: mean absolute error, in units of the label.
        rmse: root of the mean squared error, in units of the label.
    """
    error = predictions - labels
    total = float(((labels - labels.mean()) ** 2).sum())
    constant = bool((labels == labels[0]).all())
    return {
        "rows": len(labels),
        "r2": None if constant else 1 - float((error**2).sum()) / total,
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
    }


def deviation(values: list[Any]) -> float | None:
    """Standard deviation (divisor n - 1) of the values that are not null; null of less than two."""
    defined = [v for v in values if v is not None]
    return float(np.std(defined, ddof=1)) if len(defined) > 1 else None


def _codes(labels: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64[n] position of each label in the sorted classes, and bool[n] whether it is there."""
    codes = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    return codes, classes[codes] == labels
