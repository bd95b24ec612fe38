"""The image itself, small."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from schemas.options.image import PixelsOptions
from transforms.extractors.base import Batch, Extractor
from transforms.extractors.image.resizing import grey, resize


class Pixels(Extractor):
    """The resized image itself."""

    kind: ClassVar[str] = "image"

    def __init__(self, **options: Any) -> None:
        self.options = PixelsOptions(**options)

    def names(self) -> list[str]:
        """Row, column and, of colour images, red, green or blue."""
        side = range(self.options.size)
        channels = ("_r", "_g", "_b") if self.options.color else ("",)
        return [f"y{y}_x{x}{c}" for y in side for x in side for c in channels]

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, size * size] of grey or float32[n, size * size * 3], from 0 to 1."""
        size, color = self.options.size, self.options.color
        out = np.empty((len(batch), size * size * (3 if color else 1)), np.float32)
        for row, image in enumerate(batch.items):
            out[row] = (resize(image, size) if color else grey(image, size)).ravel()
        out /= 255
        return out
