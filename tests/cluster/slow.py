"""An extractor that takes its time, so that a test can kill something in the middle."""

from __future__ import annotations

import os
import time

import numpy as np

from transforms.extractors.base import Batch, Extractor


class Slow(Extractor):
    """The length of each text, after some seconds each that do not belong to the recipe."""

    kind = "text"

    def names(self) -> list[str]:
        return ["length"]

    def transform(self, batch: Batch) -> np.ndarray:
        time.sleep(len(batch.items) * float(os.environ.get("SECONDS_A_TEXT", "0")))
        return np.array([[len(text)] for text in batch.items], np.float32)
