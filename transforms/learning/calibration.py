"""Calibration: probabilities that mean what they say, and how far they are from it.

Temperature scaling (Guo, Pleiss, Sun & Weinberger 2017, "On calibration of modern neural
networks") divides the logs of all probabilities by one number, the temperature, and normalises
again: above 1 it makes them less sure, below 1 surer. The order of a record's classes stays, and
so does every prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

from transforms.learning.metrics import SMALLEST_PROBABILITY

HIGHEST = 1000.0
"""The temperature of a model that is worse than saying nothing: all but equal probabilities."""


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature.

    Attributes:
        value: more than 0; 1 changes nothing.
    """

    value: float

    def apply(self, output: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of float64[n, k]; each row's depend on that row alone."""
        return softmax(_logs(output) / self.value, axis=1)

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"temperature": self.value}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Temperature:
        """What `to_json` was called on."""
        return cls(float(found["temperature"]))


def fit_temperature(output: np.ndarray, y: np.ndarray) -> Temperature:
    """The temperature of the least log loss.

    Args:
        output: float64[n, k] probabilities of rows that the model has not seen: out of fold. On
            rows it was fitted on it looks surer than it may be.
        y: int64[n], the classes' numbers, 0 to k - 1.

    Raises:
        ValueError: there are no rows, or a number is that of no class.
    """
    if not len(y) or y.min() < 0 or y.max() >= output.shape[1]:
        raise ValueError(
            f"a temperature needs rows of known classes, 0 to {output.shape[1] - 1}: "
            f"{len(y)} rows given" + (f", classes {y.min()} to {y.max()}" if len(y) else "")
        )
    return Temperature(1 / best_scale(_logs(output), y))


def best_scale(logits: np.ndarray, y: np.ndarray) -> float:
    """The factor s for which softmax(s * logits) has the least log loss: 1 / temperature.

    The mean log loss is convex in s. To it (s - 1)^2 / 2n is added, as if one record more spoke
    for s = 1: where classes are told apart without an error, the log loss alone would ask for a
    temperature of 0.

    Args:
        logits: float64[n, k], n > 0.
        y: int64[n], 0 to k - 1.
    """
    n = len(y)
    z = logits - logits.max(axis=1, keepdims=True)
    of_label = z[np.arange(n), y]

    def slope(s: float) -> float:
        return float(((softmax(s * z, axis=1) * z).sum(axis=1) - of_label).mean() + (s - 1) / n)

    low, high = 1 / HIGHEST, 1.0
    if slope(low) >= 0:
        return low
    while slope(high) < 0:
        high *= 2
    return float(brentq(slope, low, high, xtol=1e-12, rtol=1e-12))


def calibrate_out_of_fold(output: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Out-of-fold probabilities, each fold's by the temperature of the other folds.

    With these, a score of calibrated probabilities has not seen the rows it is judged on.

    Args:
        output: float64[n, k], out of fold.
        y: int64[n], 0 to k - 1.
        fold: int32[n], of at least two folds.
    """
    calibrated = np.empty_like(output)
    for k in np.unique(fold):
        held = fold == k
        calibrated[held] = fit_temperature(output[~held], y[~held]).apply(output[held])
    return calibrated


def reliability(output: np.ndarray, y: np.ndarray, bins: int = 15) -> dict[str, Any]:
    """How often predictions are right, by how sure they are.

    Args:
        output: float64[n, k] probabilities.
        y: int64[n]; -1 for a label that is no class: always wrong.
        bins: equal intervals of the largest probability, from 0 to 1.

    Returns:
        bins: of each interval with rows in it: its ends `low` (included) and `high` (left out,
            but 1 is in the last), `rows`, `confidence` (mean largest probability) and `accuracy`
            (share of rows that are right).
        expected_calibration_error: mean over rows of the distance between confidence and accuracy
            of the row's interval, 0 to 1 (Naeini, Cooper & Hauskrecht 2015).
        largest_calibration_error: the largest such distance.
    """
    confidence = output.max(axis=1)
    right = output.argmax(axis=1) == y
    at = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    rows = np.bincount(at, minlength=bins)
    sure = np.bincount(at, weights=confidence, minlength=bins)
    hits = np.bincount(at, weights=right, minlength=bins)
    used = np.flatnonzero(rows)
    distance = np.abs(sure[used] - hits[used])
    return {
        "bins": [
            {
                "low": i / bins,
                "high": (i + 1) / bins,
                "rows": int(rows[i]),
                "confidence": float(sure[i] / rows[i]),
                "accuracy": float(hits[i] / rows[i]),
            }
            for i in used.tolist()
        ],
        "expected_calibration_error": float(distance.sum() / len(y)),
        "largest_calibration_error": float((distance / rows[used]).max()),
    }


def _logs(output: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(output, SMALLEST_PROBABILITY))
