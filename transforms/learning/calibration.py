"""Calibration: probabilities that mean what they say, and how far they are from it.

Temperature scaling (Guo, Pleiss, Sun & Weinberger 2017, "On calibration of modern neural
networks") divides the logs of all probabilities by one number, the temperature, and normalises
again: above 1 it makes them less sure, below 1 surer. The order of a record's classes stays, and
so does every prediction.

What becomes part of a product is brought nearer to the prior instead, as the product divides by
it: of a model that knows nothing, probabilities that are all alike would speak for rare classes.
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
        prior: k probabilities, what is left at a high temperature; None: all the same.
    """

    value: float
    prior: tuple[float, ...] | None = None

    def apply(self, output: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of float64[n, k]; each row's depend on that row alone."""
        base = 0.0 if self.prior is None else _logs(np.array(self.prior))
        return softmax(base + (_logs(output) - base) / self.value, axis=1)

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        prior = None if self.prior is None else list(self.prior)
        return {"temperature": self.value, "temperature_prior": prior}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Temperature:
        """What `to_json` was called on."""
        prior = found["temperature_prior"]
        return cls(float(found["temperature"]), None if prior is None else tuple(prior))


def fit_temperature(
    output: np.ndarray, y: np.ndarray, prior: np.ndarray | None = None
) -> Temperature:
    """The temperature of the least log loss.

    Args:
        output: float64[n, k] probabilities of rows that the model has not seen: out of fold. On
            rows it was fitted on it looks surer than it may be.
        y: int64[n], the classes' numbers, 0 to k - 1.
        prior: float64[k], see `Temperature`.

    Raises:
        ValueError: there are no rows, or a number is that of no class.
    """
    if not len(y) or y.min() < 0 or y.max() >= output.shape[1]:
        raise ValueError(
            f"a temperature needs rows of known classes, 0 to {output.shape[1] - 1}: "
            f"{len(y)} rows given" + (f", classes {y.min()} to {y.max()}" if len(y) else "")
        )
    if prior is None:
        return Temperature(1 / best_scale(_logs(output), y))
    base = _logs(prior)
    return Temperature(1 / best_scale(_logs(output) - base, y, base), tuple(prior.tolist()))


def best_scale(logits: np.ndarray, y: np.ndarray, base: np.ndarray | float = 0.0) -> float:
    """The factor s for which softmax(base + s * logits) has the least log loss: 1 / temperature.

    The mean log loss is convex in s. To it (s - 1)^2 / 2n is added, as if one record more spoke
    for s = 1: where classes are told apart without an error, the log loss alone would ask for a
    temperature of 0.

    Args:
        logits: float64[n, k], n > 0.
        y: int64[n], 0 to k - 1.
        base: float64[k], logits that are not scaled.
    """
    n = len(y)
    z = logits - logits.max(axis=1, keepdims=True)
    of_label = z[np.arange(n), y]

    def slope(s: float) -> float:
        p = softmax(base + s * z, axis=1)
        return float(((p * z).sum(axis=1) - of_label).mean() + (s - 1) / n)

    low, high = 1 / HIGHEST, 1.0
    if slope(low) >= 0:
        return low
    while slope(high) < 0:
        high *= 2
    return float(brentq(slope, low, high, xtol=1e-12, rtol=1e-12))


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
