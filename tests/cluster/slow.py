"""An extractor that takes its time, so that a test can kill something in the middle."""

from __future__ import annotations

import time

import numpy as np

from transforms.extractors.base import Batch, Extractor


class Slow(Extractor):
    """The length of each text, after a hundredth of a second."""

    kind = "text"

    def names(self) -> list[str]:
        return ["length"]

    def transform(self, batch: Batch) -> np.ndarray:
        time.sleep(len(batch.items) / 100)
        return np.array([[len(text)] for text in batch.items], np.float32)
