"""Histograms of oriented gradients."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import numpy as np

from schemas.options.image import HogOptions
from transforms.extractors.base import Batch, Extractor
from transforms.extractors.image.resizing import grey


@functools.lru_cache(maxsize=8)
def _gradient_tables(orientations: int) -> tuple[np.ndarray, np.ndarray]:
    """Bin and length of each possible gradient of 8-bit pixels, at (dy + 255) * 511 + dx + 255.

    Returns intp[511 * 511], and float64[511 * 511] for pixels scaled to 0 to 1.
    """
    step = np.arange(-255, 256)
    dy, dx = (d.ravel() for d in np.meshgrid(step, step, indexing="ij"))
    angle = np.rad2deg(np.arctan2(dy, dx)) % 180
    bins = np.minimum(angle // (180 / orientations), orientations - 1).astype(np.intp)
    return bins, np.hypot(dy, dx) / 255


class Hog(Extractor):
    """Histograms of oriented gradients of the grey image.

    The numbers are those of scikit-image's `hog` with `block_norm="L2-Hys"` on the resized grey
    image: unsigned gradients, hard bins, blocks of cells normalised with clipping at 0.2. Grey
    levels are whole numbers, so gradients are looked up, not computed.

    References:
        Dalal, Triggs: Histograms of oriented gradients for human detection. CVPR 2005.
    """

    kind: ClassVar[str] = "image"

    def __init__(self, **options: Any) -> None:
        self.options = HogOptions(**options)
        self._cells = self.options.size // self.options.cell
        self._blocks = self._cells - self.options.block + 1

    def names(self) -> list[str]:
        """Block row and column, cell within the block row by row, orientation bin."""
        blocks, cells = range(self._blocks), range(self.options.block**2)
        return [
            f"y{y}_x{x}_c{c}_b{b}"
            for y in blocks
            for x in blocks
            for c in cells
            for b in range(self.options.orientations)
        ]

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, blocks * blocks * block * block * orientations], from 0 to 1."""
        o, side = self.options, self._blocks
        out = np.empty((len(batch), side, side, o.block, o.block, o.orientations), np.float32)
        for row, image in enumerate(batch.items):
            cells = self._cell_histograms(grey(image, o.size))
            for y in range(o.block):
                for x in range(o.block):
                    out[row, :, :, y, x] = cells[y : y + side, x : x + side]
        blocks = out.reshape(-1, o.block**2 * o.orientations)
        _normalise(blocks)
        np.minimum(blocks, 0.2, out=blocks)
        _normalise(blocks)
        return out.reshape(len(batch), side**2 * blocks.shape[1])

    def _cell_histograms(self, grey: np.ndarray) -> np.ndarray:
        """float64[cells, cells, orientations]: mean length of gradient in each bin."""
        o, used = self.options, self._cells * self.options.cell
        levels = grey.astype(np.intp)
        place = np.full(levels.shape, 255 * 511 + 255)  # no gradient at the image's border
        place[1:-1] += 511 * (levels[2:] - levels[:-2])
        place[:, 1:-1] += levels[:, 2:] - levels[:, :-2]
        place = place[:used, :used]
        bins, lengths = _gradient_tables(o.orientations)
        cell = np.arange(used) // o.cell
        first_bin = (cell[:, None] * self._cells + cell) * o.orientations
        totals = np.bincount(
            (bins[place] + first_bin).ravel(),
            weights=lengths[place].ravel(),
            minlength=self._cells**2 * o.orientations,
        )
        return (totals / o.cell**2).reshape(self._cells, self._cells, o.orientations)


def _normalise(rows: np.ndarray) -> None:
    """Scale rows to length 1, in place; rows of zeros stay."""
    rows /= np.sqrt(np.square(rows).sum(axis=1, keepdims=True) + 1e-5**2)
