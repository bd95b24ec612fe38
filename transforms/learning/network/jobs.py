"""Which networks are trained, each without some rows.

Cross-validation needs a network without each fold and, to choose anything honestly, without each
two blocks of folds; see `nested`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

BLOCKS = 8
"""Most blocks of folds that are left out in pairs: 28 fits of each candidate."""


@dataclass(frozen=True)
class Job:
    """A network to be trained.

    Attributes:
        folds: left out.
        domain: left out, with all rows whose domain is not known; None: of no domain.
    """

    folds: tuple[int, ...] = ()
    domain: str | None = None

    @property
    def name(self) -> str:
        """Of its file."""
        if self.domain is not None:
            return "without-domain-" + self.domain.encode().hex()
        return "whole" if not self.folds else "without-" + "-".join(map(str, self.folds))


def block_of(folds: Sequence[int], fold: np.ndarray) -> np.ndarray:
    """The block of each fold: int[n]."""
    return np.searchsorted(folds, fold) % BLOCKS


def jobs_of(folds: Sequence[int], domains: Sequence[str]) -> list[Job]:
    """All networks that judging a strategy asks for.

    Args:
        folds: with labelled training rows, ascending.
        domains: the names of domains; empty without any.
    """
    block = block_of(folds, np.asarray(folds))
    several = min(len(folds), BLOCKS)
    jobs = [Job(), *(Job((fold,)) for fold in folds)]
    if several > 2:
        for pair in combinations(range(several), 2):
            jobs.append(Job(tuple(f for f, b in zip(folds, block, strict=True) if b in pair)))
    if len(domains) > 1:
        jobs += [Job((), name) for name in domains]
    return jobs
