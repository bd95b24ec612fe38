"""Extractors of images on the frames of videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np

from transforms.extractors.base import Batch, Extractor, State


class OnFrames(Extractor):
    """Any extractor of images on each frame of a video, pooled over the frames.

    What the extractor learns, it learns from all frames of the training rows.

    Args:
        extractor: reads images, and knows nothing of videos.
        pool: `mean` or `max`.
    """

    kind: ClassVar[str] = "video"

    def __init__(self, extractor: Extractor, pool: Literal["mean", "max"]) -> None:
        self.extractor, self.pool = extractor, pool
        self.context = extractor.context
        self.rounds = extractor.rounds

    def check(self) -> None:
        """As the extractor of images."""
        self.extractor.check()

    def uses(self) -> Sequence[Callable]:
        """The extractor of images, and what that uses."""
        return [type(self.extractor), *self.extractor.uses()]

    def names(self) -> list[str]:
        """As the extractor of images."""
        return self.extractor.names()

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, d]; a video fails with the first of its frames that does."""
        frames, starts = _side_by_side(batch)
        values = self.extractor.transform(frames)
        if not len(batch):
            return values
        for at in sorted(frames.failures):
            row = int(np.searchsorted(starts, at, side="right")) - 1
            bad = frames.failures[at]
            batch.fail(row, bad.kind, f"frame {at - starts[row]}: {bad.message}")
        if self.pool == "max":
            return np.maximum.reduceat(values, starts, axis=0)
        counts = np.diff(np.append(starts, len(values)))
        sums = np.add.reduceat(values, starts, axis=0, dtype=np.float64)
        return (sums / counts[:, None]).astype(np.float32)

    def partial(self, batch: Batch) -> State:
        """As the extractor of images, of all frames."""
        return self.extractor.partial(_side_by_side(batch)[0])

    def merge(self, states: Sequence[State]) -> State:
        """As the extractor of images."""
        return self.extractor.merge(states)

    def finish(self, state: State) -> State:
        """As the extractor of images."""
        return self.extractor.finish(state)

    def load(self, fitted: State) -> None:
        """As the extractor of images."""
        self.extractor.load(fitted)


def _side_by_side(batch: Batch) -> tuple[Batch, np.ndarray]:
    """All frames of all videos, and where those of each begin: int64[n]."""
    frames = [frame for video in batch.items for frame in video]
    counts = [len(video) for video in batch.items]
    return Batch(frames), np.cumsum([0, *counts[:-1]]) if counts else np.zeros(0, np.int64)
