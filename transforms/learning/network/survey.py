"""What the first pass over the rows tells, and who sees which rows.

All networks are trained side by side on one stream of rows. Each has a twin that sees fewer rows
still, without an inner fold, or without a fifth of the keys where no fold can be spared. The
twin's loss there says after how many epochs to stop; the network itself sees all rows that it may.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas.errors import DataError
from transforms.learning.dataset import LabelledRows, nothing_to_learn
from transforms.learning.network.jobs import Job
from transforms.learning.network.tails import Tailed, merge_tails
from transforms.records.keys import uniform

FIFTHS = 5
TWIN_SEED = 20


@dataclass(frozen=True, eq=False)
class Survey:
    """What one pass over the labelled training rows tells.

    Attributes:
        modalities: their names.
        classes: str[k], sorted; None for a regression.
        folds: of training rows, ascending.
        domains: named ones, sorted; empty without any.
        rows: (fold, domain) -> number of rows.
        moments: (fold, domain) -> of each modality, and last of the numbers to predict.
    """

    modalities: tuple[str, ...]
    classes: np.ndarray | None
    folds: tuple[int, ...]
    domains: tuple[str, ...]
    rows: dict[tuple[int, str], int]
    moments: dict[tuple[int, str], list[Tailed]]

    def allowed(self, job: Job, inner: int | None = None) -> list[tuple[int, str]]:
        """The cells that a job sees, without an inner fold."""
        out = ("", job.domain) if job.domain is not None else ()
        return [
            (fold, domain)
            for fold, domain in self.rows
            if fold not in job.folds and fold != inner and domain not in out
        ]

    def known(self, job: Job, inner: int | None = None) -> list[Tailed]:
        """Moments of the rows that a job sees."""
        cells = self.allowed(job, inner) or list(self.rows)
        return [merge_tails(parts) for parts in zip(*(self.moments[c] for c in cells), strict=True)]

    def inner(self, job: Job) -> int | None:
        """The fold that a job's twin does not see: the next one after those left out."""
        seen = {fold for fold, _ in self.allowed(job)}
        if len(seen) < 2:
            return None
        after = max(job.folds, default=-1)
        return min(seen, key=lambda fold: (fold <= after, fold))


def survey(modalities: tuple[str, ...], parts: Iterable[LabelledRows], numbers: bool) -> Survey:
    """Look at all rows once.

    Args:
        modalities: their names.
        parts: the labelled rows, such as those of each bucket.
        numbers: whether labels are numbers to predict.

    Raises:
        DataError: no row has a label, or features or labels are not finite.
    """
    rows: dict[tuple[int, str], int] = {}
    moments: dict[tuple[int, str], list[Tailed]] = {}
    classes: set[str] = set()
    for part in parts:
        train = part.fold >= 0
        if not numbers:
            classes.update(np.unique(part.labels[train]).tolist())
        for fold in np.unique(part.fold[train]).tolist():
            of_fold = train & (part.fold == fold)
            for domain in np.unique(part.domain[of_fold]).tolist():
                own = of_fold & (part.domain == domain)
                cell = (fold, domain)
                found = [_moments(part, i, name, own) for i, name in enumerate(modalities)]
                y = part.labels[own, None] if numbers else np.zeros((int(own.sum()), 1))
                found.append(_of(part, y, own, "the label"))
                if cell in moments:
                    found = [merge_tails(p) for p in zip(moments[cell], found, strict=True)]
                moments[cell] = found
                rows[cell] = rows.get(cell, 0) + int(own.sum())
    if not rows:
        raise nothing_to_learn()
    rows, moments = dict(sorted(rows.items())), dict(sorted(moments.items()))
    return Survey(
        modalities,
        None if numbers else np.array(sorted(classes), dtype=str),
        tuple(sorted({fold for fold, _ in rows})),
        tuple(sorted({domain for _, domain in rows} - {""})),
        rows,
        moments,
    )


def _moments(part: LabelledRows, i: int, name: str, own: np.ndarray) -> Tailed:
    here = own & part.present[:, i]
    return _of(part, part.blocks[name][here], here, f"the features from {name}")


def _of(part: LabelledRows, values: np.ndarray, rows: np.ndarray, what: str) -> Tailed:
    wrong = ~np.isfinite(values).all(axis=1)
    if wrong.any():
        key = str(part.keys[rows][wrong][0])
        raise DataError(f"{what} of key {key!r} are not finite: they must be numbers")
    return Tailed.of_rows(values)


@dataclass(frozen=True, eq=False)
class Sight:
    """Who sees which rows: of several jobs.

    Attributes:
        out_fold: bool[jobs, folds], the folds that a job must not see.
        out_domain: bool[jobs, 1 + domains], domains likewise; first: of rows without one.
        inner: int[jobs], position of the fold that the twin does not see; -1: a fifth of the keys.
    """

    out_fold: np.ndarray
    out_domain: np.ndarray
    inner: np.ndarray

    @classmethod
    def of(cls, jobs: Sequence[Job], found: Survey) -> Sight:
        """What is known of some jobs."""
        names = ("", *found.domains)
        return cls(
            np.array([[f in job.folds for f in found.folds] for job in jobs]),
            np.array(
                [[job.domain is not None and n in ("", job.domain) for n in names] for job in jobs]
            ),
            np.array([_position(found.folds, found.inner(job)) for job in jobs]),
        )

    def __call__(
        self, fold: np.ndarray, domain: np.ndarray, fifth: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Counts of rows in training, float32[2 jobs, n], and in validation, float32[jobs, n].

        Twins come first, then the networks themselves.

        Args:
            fold: int[n], positions.
            domain: int[n], positions, 0 for none.
            fifth: bool[n], whether a row's key is in the fifth set aside by its hash.
        """
        sees = ~self.out_fold[:, fold] & ~self.out_domain[:, domain]
        inner = self.inner[:, None]
        aside = np.where(inner >= 0, fold == inner, fifth)
        training = np.concatenate([sees & ~aside, sees])
        return training.astype(np.float32), (sees & aside).astype(np.float32)


def fifth_of(keys: np.ndarray) -> np.ndarray:
    """bool[n], the fifth of the keys that is set aside where no fold can be."""
    return np.asarray(uniform(pa.array(keys.tolist(), pa.string()), TWIN_SEED) * FIFTHS < 1)


def _position(folds: tuple[int, ...], fold: int | None) -> int:
    return -1 if fold is None else folds.index(fold)
