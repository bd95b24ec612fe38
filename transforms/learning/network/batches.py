"""The training rows of an output as a stream of batches, in another order in each epoch.

Memory holds the buckets that are kept, up to a bound, one bucket that is read, and some batches
to be shuffled; never all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.options.fuse import NetworkScale
from transforms.fusion.components import scaling
from transforms.fusion.moments import Moments
from transforms.learning.dataset import LabelledRows
from transforms.learning.network.jobs import Job
from transforms.learning.network.survey import Sight, Survey, fifth_of
from transforms.learning.network.tails import Tailed, scaling_by_tails
from transforms.learning.understanding import removal_masks

KEPT_BYTES = 256 << 20
"""Of buckets that are kept in memory between epochs."""
SHUFFLED_BYTES = 32 << 20
"""Of rows that are put into a random order together."""

Read = Callable[[Sequence[int]], Iterator[LabelledRows]]
"""The labelled rows of some buckets, in the order in which they are asked for."""


@dataclass(frozen=True, eq=False)
class Columns:
    """Which features take part, brought to a common scale for the sake of 32 bits.

    That scale is undone by what each network does to features, and so is what it has seen.

    Attributes:
        kept: of each modality, int[k], the dimensions that vary at all.
        mean, factor: of each modality, float64[k].
        number: mean and deviation of the numbers to predict.
    """

    kept: list[np.ndarray]
    mean: list[np.ndarray]
    factor: list[np.ndarray]
    number: tuple[float, float]

    @classmethod
    def of(cls, found: Survey) -> Columns:
        """Of all training rows."""
        *features, number = found.known(Job())
        known = [scaling("standard", m) for m in features]
        # One dimension at least, so that there is something to multiply.
        kept = [np.flatnonzero(f) if f.any() else np.arange(1) for _, f in known]
        mean = [m[k] for (m, _), k in zip(known, kept, strict=True)]
        factor = [np.where(f[k] > 0, f[k], 1) for (_, f), k in zip(known, kept, strict=True)]
        return cls(kept, mean, factor, _mean_and_deviation(number))

    def numbers(self, known: Moments) -> tuple[float, float]:
        """Mean and deviation of some rows' numbers, in this scale."""
        mean, deviation = _mean_and_deviation(known)
        return (mean - self.number[0]) / self.number[1], deviation / self.number[1]

    def relative(self, i: int, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same for features of this scale: float32[k] each."""
        shift, factor = scales[:, self.kept[i]]
        return (
            ((shift - self.mean[i]) * self.factor[i]).astype(np.float32),
            (factor / self.factor[i]).astype(np.float32),
        )


def _mean_and_deviation(known: Moments) -> tuple[float, float]:
    return float(known.mean[0]), float(np.sqrt(known.variance()[0])) or 1.0


def scales_of(scale: NetworkScale, known: Sequence[Tailed]) -> list[np.ndarray]:
    """What is subtracted from the features of each modality, and multiplied by: float64[2, d]."""
    if scale == "tails":
        return [np.stack(scaling_by_tails(one)) for one in known]
    found = [np.stack(scaling(scale, one)) for one in known]
    for one in found if scale == "none" else ():
        one[0] = 0
    return found


@dataclass(eq=False)
class Prepared:
    """Training rows as networks take them: n of them.

    Attributes:
        keys: str[n].
        blocks: of each modality float32[n, k], zeros where it is missing.
        present: bool[n, m].
        y: int32[n] or float32[n].
        fold, domain: int32[n], positions.
        fifth: bool[n].
    """

    keys: np.ndarray
    blocks: list[np.ndarray]
    present: np.ndarray
    y: np.ndarray
    fold: np.ndarray
    domain: np.ndarray
    fifth: np.ndarray

    def take(self, rows: np.ndarray) -> Prepared:
        """Some of the rows."""
        rest = {n: a[rows] for n, a in vars(self).items() if n != "blocks"}
        return Prepared(blocks=[block[rows] for block in self.blocks], **rest)

    @staticmethod
    def joined(parts: Sequence[Prepared]) -> Prepared:
        """The rows of all parts."""
        if len(parts) == 1:
            return parts[0]
        names = [name for name in vars(parts[0]) if name != "blocks"]
        blocks = [
            np.concatenate(several) for several in zip(*(p.blocks for p in parts), strict=True)
        ]
        rest = {n: np.concatenate([getattr(p, n) for p in parts]) for n in names}
        return Prepared(blocks=blocks, **rest)

    @property
    def nbytes(self) -> int:
        """Of the features."""
        return sum(block.nbytes for block in self.blocks)


@dataclass(eq=False)
class Rows:
    """A batch.

    Attributes:
        rows: as many in every batch; those after the last are repeated and count nothing.
        there: bool[n, m], who has which modality after some were dropped.
        training, validation: float32[networks, n], how much each row counts.
    """

    rows: Prepared
    there: np.ndarray
    training: np.ndarray
    validation: np.ndarray


class Stream:
    """Batches of an output's training rows.

    Args:
        read: gives labelled rows.
        buckets: how many there are.
        found: what the first pass told.
        sight: who sees which rows.
        size: rows a batch.
        share: of modalities that are dropped in training.
        seed: of the order and of what is dropped.
    """

    def __init__(
        self,
        read: Read,
        buckets: int,
        found: Survey,
        sight: Sight,
        size: int,
        share: float,
        seed: int,
    ) -> None:
        self.read, self.buckets, self.found, self.sight = read, buckets, found, sight
        self.size, self.share, self.seed = size, share, seed
        self.columns = Columns.of(found)
        self._kept: dict[int, Prepared] = {}
        self._bytes = 0

    def epoch(self, number: int) -> Iterator[Rows]:
        """All rows once, shuffled, with modalities dropped."""
        rng = np.random.Generator(np.random.PCG64([self.seed, number]))
        order = rng.permutation(self.buckets).tolist()
        held: list[Prepared] = []
        wanted = 0
        for rows in self._prepared(order):
            held.append(rows)
            wanted = wanted or self._shuffled(rows)
            if sum(len(part.y) for part in held) >= wanted:
                whole = Prepared.joined(held)
                mixed = rng.permutation(len(whole.y))
                stop = len(mixed) - len(mixed) % self.size
                for start in range(0, stop, self.size):
                    yield self._batch(whole.take(mixed[start : start + self.size]), number)
                held = [whole.take(mixed[stop:])]
        whole = Prepared.joined(held)
        mixed = rng.permutation(len(whole.y))
        for start in range(0, len(mixed), self.size):
            yield self._batch(whole.take(mixed[start : start + self.size]), number)

    def validation(self) -> Iterator[Rows]:
        """All rows once, as they are."""
        for rows in self._prepared(list(range(self.buckets))):
            for start in range(0, len(rows.y), self.size):
                some = np.arange(start, min(start + self.size, len(rows.y)))
                yield self._batch(rows.take(some), None)

    def _shuffled(self, rows: Prepared) -> int:
        """Rows that are put into a random order together: four batches at least."""
        each = max(rows.nbytes // max(len(rows.y), 1), 1)
        return max(SHUFFLED_BYTES // each, 4 * self.size)

    def _batch(self, rows: Prepared, epoch: int | None) -> Rows:
        n = len(rows.y)
        training, validation = self.sight(rows.fold, rows.domain, rows.fifth)
        there = rows.present
        if epoch is not None and self.share:
            seed = (self.seed << 24) + epoch
            names = self.found.modalities
            there = removal_masks(rows.keys, there, names, [self.share], seed)[0]
        if n < self.size:
            again = np.resize(np.arange(n), self.size)
            rows, there = rows.take(again), there[again]
            training, validation = training[:, again], validation[:, again]
            training[:, n:] = 0
            validation[:, n:] = 0
        return Rows(rows, there, training, validation)

    def _prepared(self, order: Sequence[int]) -> Iterator[Prepared]:
        read = iter(self.read([b for b in order if b not in self._kept]))
        for bucket in order:
            rows = self._kept.get(bucket)
            if rows is None:
                rows = self._prepare(next(read))
                if self._bytes + rows.nbytes <= KEPT_BYTES:
                    self._kept[bucket] = rows
                    self._bytes += rows.nbytes
            if len(rows.y):
                yield rows

    def _prepare(self, found: LabelledRows) -> Prepared:
        rows = found.take(found.fold >= 0)
        survey, columns = self.found, self.columns
        blocks = []
        for i, name in enumerate(survey.modalities):
            values = rows.blocks[name][:, columns.kept[i]].astype(np.float64)
            values = (values - columns.mean[i]) * columns.factor[i]
            blocks.append(np.where(rows.present[:, i, None], values, 0).astype(np.float32))
        if survey.classes is None:
            y = ((rows.labels - columns.number[0]) / columns.number[1]).astype(np.float32)
        else:
            y = np.searchsorted(survey.classes, rows.labels).astype(np.int32)
        domains = np.array(survey.domains, dtype=str)
        at = np.searchsorted(domains, rows.domain) + 1
        return Prepared(
            rows.keys,
            blocks,
            rows.present,
            y,
            np.searchsorted(survey.folds, rows.fold).astype(np.int32),
            np.where(rows.domain == "", 0, at).astype(np.int32),
            fifth_of(rows.keys),
        )
