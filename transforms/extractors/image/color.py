"""Histograms of colours."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np

from schemas.options.image import ColorOptions
from transforms.extractors.base import Batch, Extractor


class Color(Extractor):
    """Joint histogram of the colours of all pixels, normalised to sum 1.

    References:
        Swain, Ballard: Color indexing. International Journal of Computer Vision 7, 1991.
    """

    kind: ClassVar[str] = "image"

    def __init__(self, **options: Any) -> None:
        self.options = ColorOptions(**options)

    def names(self) -> list[str]:
        """Bins of hue, saturation, value, or of lightness, green to red, blue to yellow."""
        first, second, third = self.options.space
        n = self.options.bins
        return [
            f"{first}{i}_{second}{j}_{third}{k}"
            for i in range(n[0])
            for j in range(n[1])
            for k in range(n[2])
        ]

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, product of bins]."""
        bins = self.options.bins
        if self.options.space == "hsv":
            code, ranges = cv2.COLOR_RGB2HSV, [0, 180, 0, 256, 0, 256]
        else:
            code, ranges = cv2.COLOR_RGB2LAB, [0, 256, 0, 256, 0, 256]
        out = np.empty((len(batch), bins[0] * bins[1] * bins[2]), np.float32)
        for row, image in enumerate(batch.items):
            counts = cv2.calcHist([cv2.cvtColor(image, code)], [0, 1, 2], None, bins, ranges)
            out[row] = counts.ravel() / (image.shape[0] * image.shape[1])
        return out
