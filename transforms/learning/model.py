"""The trained model: an estimator a head of the fused vector, and the decision above them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from transforms.fusion.fitted import Sides
from transforms.learning.calibration import Temperature
from transforms.learning.judging import FittedDecision, calibrated
from transforms.learning.nested import head_output, with_gaps


@dataclass(frozen=True, eq=False)
class HeadModel:
    """The model of one head.

    Attributes:
        name: of the head.
        modalities: that the head is made of.
        start, stop: its slice of the fused vector.
        estimator: a scikit-learn estimator; its `classes_` are some or all of the model's classes.
        prior: float64[k] or float64[], said of rows without any of the modalities.
        temperature: that the estimator's probabilities are brought to.
        sides: of its slice, if the estimator reads gaps; else empty.
    """

    name: str
    modalities: tuple[str, ...]
    start: int
    stop: int
    estimator: Any
    prior: np.ndarray
    temperature: Temperature
    sides: Sides = ()


@dataclass(frozen=True, eq=False)
class Model:
    """What predicts from fused vectors.

    Attributes:
        modalities: of the data set, in the order of its flags.
        classes: str[k], or None for numbers.
        heads: one model each.
        decision: what becomes of several.
    """

    modalities: tuple[str, ...]
    classes: np.ndarray | None
    heads: tuple[HeadModel, ...]
    decision: FittedDecision | None = None

    def outputs(self, X: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Probabilities float64[n, k] in the order of `classes`, or numbers float64[n].

        Args:
            X: fused vectors, float32[n, D].
            present: bool[n, m], which modalities each row has.
        """
        said: dict[str, np.ndarray] = {}
        here: dict[str, np.ndarray] = {}
        for head in self.heads:
            own = [self.modalities.index(m) for m in head.modalities]
            here[head.name] = np.asarray(present[:, own].any(axis=1))
            x = X[:, head.start : head.stop]
            x = with_gaps(x, head.sides, self.modalities, present)
            columns: np.ndarray | None = None
            if self.classes is not None:
                columns = np.asarray(np.searchsorted(self.classes, head.estimator.classes_))
            output = head_output(columns, head.estimator, x, here[head.name], head.prior)
            said[head.name] = calibrated(output, head.temperature, here[head.name])
        if self.decision is None:
            return said[self.heads[0].name]
        return self.decision.apply(said, here)

    def predict(self, X: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The predictions, str[n] or float64[n], and of classes the probabilities float64[n, k]."""
        output = self.outputs(X, present)
        if self.classes is None:
            return output, None
        return self.classes[output.argmax(axis=1)], output

    def to_json(self, files: Mapping[str, str]) -> dict[str, Any]:
        """All but the estimators, which are in files of their own, ready for JSON."""
        return {
            "modalities": list(self.modalities),
            "classes": None if self.classes is None else self.classes.tolist(),
            "heads": [
                {
                    "name": head.name,
                    "modalities": list(head.modalities),
                    "slice": [head.start, head.stop],
                    "sides": [[list(names), stop] for names, stop in head.sides],
                    "prior": head.prior.tolist(),
                    **head.temperature.to_json(),
                    "file": files[head.name],
                }
                for head in self.heads
            ],
            "decision": None if self.decision is None else self.decision.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], estimators: Mapping[str, Any]) -> Model:
        """The model of which this is `to_json`.

        Args:
            data: of `to_json`.
            estimators: by name of the file.
        """
        heads = tuple(
            HeadModel(
                head["name"],
                tuple(head["modalities"]),
                head["slice"][0],
                head["slice"][1],
                estimators[head["file"]],
                np.asarray(head["prior"], np.float64),
                Temperature.from_json(head),
                tuple((tuple(names), stop) for names, stop in head["sides"]),
            )
            for head in data["heads"]
        )
        classes = None if data["classes"] is None else np.array(data["classes"], dtype=str)
        decision = None
        if data["decision"] is not None:
            decision = FittedDecision.from_json(data["decision"])
        return cls(tuple(data["modalities"]), classes, heads, decision)
