"""What is learnt: the labelled rows, their folds, and how good an output is.

An output is what a model says of rows: float64[n, k] probabilities of all classes of the training
rows, or float64[n] numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.problems import counted
from transforms.fusion.decisions import prior_of
from transforms.fusion.fitted import Fusion, Sides
from transforms.fusion.network import Network
from transforms.fusion.trees import Part
from transforms.learning import metrics
from transforms.learning.fitting import Task

Fuse = Callable[[np.ndarray, Part], Fusion]


@dataclass
class TrainingSet:
    """The labelled rows of a data set.

    Attributes:
        keys: str[n].
        labels: str[n], or float64[n] for a regression; rows without a label are left out.
        fold: int32[n], 0 or more; -1 for test rows.
        test: bool[n].
        blocks: features of each modality, float32[n, d], in the recipe's order; rows that lack
            the modality hold arbitrary numbers.
        present: bool[n, m].
        fit: (bool[n] rows, part) -> a fusion whose only head is the part, fitted on `rows` alone.
            It may be called from several threads at once.
        groups: str[n], empty where a row has none; None where rows are not grouped.
        domain: str[n], empty where a row has none; None without domains.
        final: the vector of each head as it stands in the data set, float32[n, k], and its parts:
            what is fitted on all training rows. None before there is one.
    """

    keys: np.ndarray
    labels: np.ndarray
    fold: np.ndarray
    test: np.ndarray
    blocks: dict[str, np.ndarray]
    present: np.ndarray
    fit: Fuse
    groups: np.ndarray | None = None
    domain: np.ndarray | None = None
    final: dict[str, tuple[np.ndarray, Sides]] | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self.blocks)

    def has(self, part: Part, present: np.ndarray | None = None) -> np.ndarray:
        """bool[n]: the rows that have any modality of a part; `present` stands for their own."""
        columns = [self.modalities.index(m) for m in part.modalities]
        return np.asarray((self.present if present is None else present)[:, columns].any(axis=1))

    def vectors(self, rows: np.ndarray, part: Part) -> tuple[np.ndarray, Sides]:
        """float32[n, k] of all rows, with whatever is fitted being fitted on `rows` alone, and
        what parts these are made of.
        """
        if self.final is not None and self._is_final(rows, part):
            return self.final[part.name]  # that is what the workers fitted and wrote
        fusion = self.fit(rows, part)
        return fusion.apply(self.blocks, self.present), fusion.sides(part.name)

    def joint_head(self, rows: np.ndarray, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients and intercepts of the joint head of the network trained on `rows`."""
        network = self.fit(rows, part).heads[0]
        assert isinstance(network, Network)
        return network.joint_head()

    def _is_final(self, rows: np.ndarray, part: Part) -> bool:
        assert self.final is not None
        return part.name in self.final and bool((rows == ~self.test).all())


class Problem:
    """A training set and its task.

    Attributes:
        data: the rows.
        task: classification or regression.
        classes: str[k], sorted; None for a regression.
        y: int64[n] positions in `classes`, -1 for test rows; or float64[n].
        score, tie: names of the metrics that decide, and that decide where those are equal.
        prior: float64[k] shares of the classes, or float64 mean, over the training rows.

    Raises:
        ValueError: there is nothing to learn, or no way to cross-validate; the message says why.
    """

    def __init__(self, data: TrainingSet, task: Task) -> None:
        self.data, self.task = data, task
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
                f"nothing to learn: {counted(int(train.sum()), 'labelled row')} for training, "
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
        for name, block in data.blocks.items():
            wrong = data.present[:, data.modalities.index(name)] & ~np.isfinite(block).all(axis=1)
            if wrong.any():
                key = str(data.keys[np.flatnonzero(wrong)[0]])
                raise ValueError(
                    f"the features of key {key!r} from {name} are not finite: what extracted them "
                    "must give numbers"
                )
        self.folds: list[int] = np.unique(data.fold[train]).tolist()

    @property
    def train(self) -> np.ndarray:
        """bool[n], the training rows."""
        return ~self.data.test

    def held(self, fold: int) -> np.ndarray:
        """bool[n], the training rows of one fold."""
        return ~self.data.test & (self.data.fold == fold)

    def prior(self, rows: np.ndarray) -> np.ndarray:
        """Shares of the classes, float64[k], or the mean, float64[], over some training rows."""
        return prior_of(self.y[rows], None if self.classes is None else len(self.classes))

    def empty(self) -> np.ndarray:
        """An output of all rows, to be filled."""
        n = len(self.data.keys)
        return np.zeros(n if self.classes is None else (n, len(self.classes)))

    def measure(self, output: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
        """All metrics of some rows."""
        found = self.in_short(output, rows)
        if self.classes is not None:
            found.update(metrics.confusion(self.labels[rows], output[rows], self.classes))
        return found

    def in_short(self, output: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
        """The same without the confusion matrix."""
        if self.classes is None:
            return metrics.regression(self.labels[rows], output[rows])
        return metrics.classification(self.labels[rows], output[rows], self.classes)

    def per_fold(self, output: np.ndarray) -> dict[str, Any]:
        """Metrics of each fold, and the deviation of the score over them."""
        each = [{"fold": k, **self.in_short(output, self.held(k))} for k in self.folds]
        spread = metrics.deviation([e[self.score] for e in each])
        return {"per_fold": each, "standard_deviation": spread}

    def summary(self, output: np.ndarray) -> dict[str, Any]:
        """The score of out-of-fold outputs in short."""
        found = self.in_short(output, self.train)
        return {
            "score": found[self.score],
            "standard_deviation": self.per_fold(output)["standard_deviation"],
            self.tie: found[self.tie],
        }

    def best(self, outputs: list[np.ndarray], rows: np.ndarray) -> int:
        """Position of the best of several outputs on some training rows; at a tie the first."""
        if len(outputs) == 1:
            return 0
        found = [self.in_short(o, rows) for o in outputs]

        def rank(i: int) -> tuple[float, float, int]:
            score = found[i][self.score]
            return (-np.inf if score is None else score, -found[i][self.tie], -i)

        return max(range(len(found)), key=rank)

    def table(self, output: np.ndarray) -> pa.Table:
        """Predictions of all rows; see `training.Trained`."""
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
