"""Hu's moments."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np

from schemas.options.image import HuOptions
from transforms.extractors.base import Batch, Extractor

# Halving the brightness, which is mass, multiplies each moment by 2 to the power of this.
_DEGREES = np.array([1, 2, 3, 3, 6, 4, 6])
_SCALE = 1e10  # of moments: what is far below 1 / _SCALE is as good as 0


class Hu(Extractor):
    """The seven moments of the grey image that shifts, turns and sizes do not change.

    They are OpenCV's for brightness from 0 to 1, h, as sign(h) log10(1 + 10^10 |h|). The usual
    -sign(h) log10 |h| jumps from one end to the other where a moment crosses zero, as those
    of symmetric shapes do by rounding alone.

    An image without any brightness is all zeros.

    References:
        Hu: Visual pattern recognition by moment invariants. IRE Transactions on Information
        Theory 8(2), 1962.
    """

    kind: ClassVar[str] = "image"

    def __init__(self, **options: Any) -> None:
        self.options = HuOptions(**options)

    def names(self) -> list[str]:
        """h1 to h7, in Hu's order."""
        return [f"h{i}" for i in range(1, 8)]

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, 7]."""
        moments = np.empty((len(batch), 7))
        for row, image in enumerate(batch.items):
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            if self.options.invert:
                cv2.bitwise_not(grey, dst=grey)
            moments[row] = cv2.HuMoments(cv2.moments(grey)).ravel()
        moments *= 255.0**_DEGREES
        return (np.sign(moments) * np.log10(1 + _SCALE * np.abs(moments))).astype(np.float32)
