"""Trained networks of an output, by the rows that they have not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.options.fuse import Deep
from transforms.fusion.fusing import load_network
from transforms.fusion.network import Network
from transforms.learning.network.jobs import Job


@dataclass(eq=False)
class Bank:
    """The networks of an output, by the rows that they have not seen.

    Attributes:
        output: where they are.
        fold: int32[n], of the labelled rows; -1 of the test.
        domain: str[n], or None.
    """

    output: str
    fold: np.ndarray
    domain: np.ndarray | None

    def of(self, deep: Deep, rows: np.ndarray) -> Network:
        """The network trained on some rows, bool[n]: all but those of some folds or of a domain.

        Raises:
            ValueError: there is no such network.
        """
        train = self.fold >= 0
        job = None
        out = tuple(np.unique(self.fold[train & ~rows]).tolist())
        if (rows == (train & ~np.isin(self.fold, out))).all():
            job = Job(out)
        elif self.domain is not None:
            gone = set(np.unique(self.domain[train & ~rows]).tolist()) - {""}
            if len(gone) == 1:
                job = Job((), gone.pop())
        if job is None:
            raise ValueError("no network was trained on exactly these rows")
        return load_network(self.output, deep, job.name)
