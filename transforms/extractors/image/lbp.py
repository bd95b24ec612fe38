"""Histograms of local binary patterns."""

from __future__ import annotations

import functools
import math
from typing import Any, ClassVar

import numpy as np

from schemas.options.image import LbpOptions
from transforms.extractors.base import Batch, Extractor
from transforms.extractors.image.cells import cell_names, edges, shares
from transforms.extractors.image.resizing import grey


class Lbp(Extractor):
    """Histograms of uniform local binary patterns of the grey image, over a grid of cells.

    A pixel's pattern says which of the points on a circle around it are at least as bright as it
    is. A pattern with at most one run of ones has a bin of its own, all others share the last.
    The patterns are those of scikit-image's `local_binary_pattern(method="nri_uniform")`: points
    between pixels are interpolated, and outside of the image it is black.

    References:
        Ojala, Pietikäinen, Mäenpää: Multiresolution gray-scale and rotation invariant texture
        classification with local binary patterns. IEEE PAMI 24(7), 2002.
        Ahonen, Hadid, Pietikäinen: Face description with local binary patterns. IEEE PAMI
        28(12), 2006 (the grid).
    """

    kind: ClassVar[str] = "image"

    def __init__(self, **options: Any) -> None:
        self.options = LbpOptions(**options)
        self._bins = self.options.points * (self.options.points - 1) + 3

    def names(self) -> list[str]:
        """Cell row by row, where there are several, and bin.

        b0: no ones; then runs of 1 ones by where they start, runs of 2, ...; all ones; others.
        """
        return cell_names(self.options.cells, [f"b{b}" for b in range(self._bins)])

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, cells * cells * (points * (points - 1) + 3)], from 0 to 1."""
        o = self.options
        bins = _bins_of_patterns(o.points)
        cell = np.repeat(range(o.cells), [stop - start for start, stop in edges(o.size, o.cells)])
        first_bin = (cell[:, None] * o.cells + cell) * self._bins
        out = np.empty((len(batch), o.cells**2, self._bins), np.float32)
        for row, image in enumerate(batch.items):
            where = bins[patterns(grey(image, o.size), o.points, o.radius)] + first_bin
            counts = np.bincount(where.ravel(), minlength=o.cells**2 * self._bins)
            out[row] = counts.reshape(o.cells**2, self._bins)
        return shares(out, o.root).reshape(len(batch), o.cells**2 * out.shape[-1])


def patterns(grey: np.ndarray, points: int, radius: float) -> np.ndarray:
    """Bit p of a pixel is set where point p, counter-clockwise from the right, is as bright.

    The arithmetic is scikit-image's, step by step: where brightness is even, a comparison turns
    on the last bit of what is interpolated.

    Args:
        grey: uint8[height, width].
        points: at most 16.
        radius: in pixels.

    Returns:
        uint16[height, width].
    """
    height, width = grey.shape
    margin = math.ceil(radius)
    padded = np.pad(grey.astype(np.float64), margin)  # black around it
    angles = 2 * np.pi * np.arange(points) / points
    centre = padded[margin : margin + height, margin : margin + width]
    found = np.zeros(grey.shape, np.uint16)
    for point, angle in enumerate(angles.tolist()):
        dy, dx = round(-radius * math.sin(angle), 5), round(radius * math.cos(angle), 5)
        top, bottom, down = _between(dy, height, margin)
        left, right, across = _between(dx, width, margin)
        if (top, left) == (bottom, right):
            value = padded[top, left]
        else:
            above = (1 - across) * padded[top, left] + across * padded[top, right]
            below = (1 - across) * padded[bottom, left] + across * padded[bottom, right]
            value = (1 - down)[:, None] * above + down[:, None] * below
        found |= (value >= centre) * np.uint16(1 << point)
    return found


def _between(offset: float, length: int, margin: int) -> tuple[slice, slice, np.ndarray]:
    """The lines before and after each line moved by an offset, and how far between they are.

    Returns:
        Two slices of the padded lines, the same where the offset is whole, and float64[length],
        0 to 1, counted from the first. These differ from line to line, by rounding.
    """
    places = np.arange(length) + offset
    before = np.floor(places)
    first, last = margin + math.floor(offset), margin + math.ceil(offset)
    return slice(first, first + length), slice(last, last + length), places - before


@functools.lru_cache(maxsize=4)
def _bins_of_patterns(points: int) -> np.ndarray:
    """Bin of each of the 2^points patterns, intp[2^points]."""
    bits = (np.arange(2**points)[:, None] >> np.arange(points)) & 1
    ones = bits.sum(axis=1)
    starts = (bits == 1) & (np.roll(bits, 1, axis=1) == 0)  # of runs of ones
    bins = 1 + points * (ones - 1) + -starts.argmax(axis=1) % points
    bins[ones == 0] = 0
    bins[ones == points] = points * (points - 1) + 1
    bins[starts.sum(axis=1) > 1] = points * (points - 1) + 2
    return bins.astype(np.intp)
