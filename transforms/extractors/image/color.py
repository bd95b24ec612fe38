"""Histograms of colours."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np

from schemas.options.image import ColorOptions
from transforms.extractors.base import Batch, Extractor
from transforms.extractors.image.cells import cell_names, edges, shares


class Color(Extractor):
    """Joint histogram of the colours of all pixels, or of those of each cell of a grid.

    References:
        Swain, Ballard: Color indexing. International Journal of Computer Vision 7, 1991.
    """

    kind: ClassVar[str] = "image"

    def __init__(self, **options: Any) -> None:
        self.options = ColorOptions(**options)

    def names(self) -> list[str]:
        """Cell row by row, where there are several, and bins of hue, saturation, value, or of
        lightness, green to red, blue to yellow.
        """
        first, second, third = self.options.space
        n = self.options.bins
        bins = [
            f"{first}{i}_{second}{j}_{third}{k}"
            for i in range(n[0])
            for j in range(n[1])
            for k in range(n[2])
        ]
        return cell_names(self.options.cells, bins)

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, cells * cells * product of bins], from 0 to 1; empty cells are zero."""
        o = self.options
        if o.space == "hsv":
            code, ranges = cv2.COLOR_RGB2HSV, [0, 180, 0, 256, 0, 256]
        else:
            code, ranges = cv2.COLOR_RGB2LAB, [0, 256, 0, 256, 0, 256]
        out = np.zeros((len(batch), o.cells, o.cells, np.prod(o.bins)), np.float32)
        for row, image in enumerate(batch.items):
            colors = cv2.cvtColor(image, code)
            for y, (top, bottom) in enumerate(edges(image.shape[0], o.cells)):
                for x, (left, right) in enumerate(edges(image.shape[1], o.cells)):
                    cell = colors[top:bottom, left:right]
                    if cell.size:
                        counts = cv2.calcHist([cell], [0, 1, 2], None, o.bins, ranges)
                        out[row, y, x] = counts.ravel()
        return shares(out, o.root).reshape(len(batch), o.cells**2 * out.shape[-1])
