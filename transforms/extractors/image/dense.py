"""Local descriptors on a dense grid."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from transforms.extractors.image.resizing import scaled

SIFT, COLOR, PLACE = slice(0, 128), slice(128, 224), slice(224, 226)
"""Columns of the parts of a descriptor."""
WIDTH = 232  # bytes of a descriptor, the last 6 of which are zero: a multiple of 8
_CELLS = 4  # along a patch's side, as in SIFT


def describe(image: np.ndarray, size: int, step: int, patches: Sequence[int]) -> np.ndarray:
    """Descriptors of patches around the points of a grid, of all sides at each.

    A descriptor is SIFT of the grey levels, upright (128 numbers), means and standard deviations
    of the colours in the patch's 4 x 4 cells, in 8-bit Lab (96), and where the patch's centre is,
    from 0 at the image's top and left to 255 (2).

    Args:
        image: uint8[height, width, 3].
        size: pixels of the longer side that the image is scaled to.
        step: pixels between the grid's points.
        patches: sides of the patches, in pixels.

    Returns:
        uint8[n, 232], n >= 1.

    References:
        Lowe: Distinctive image features from scale-invariant keypoints. IJCV 60(2), 2004.
        Clinchant, Csurka, Perronnin, Renders: XRCE's participation to ImagEval. 2007 (colours).
        Sánchez, Perronnin, de Campos: Modeling the spatial layout of images beyond spatial
        pyramids. Pattern Recognition Letters 33, 2012 (the place as part of a descriptor).
    """
    image = scaled(image, size)
    height, width = image.shape[:2]
    y, x = (
        values.ravel()
        for values in np.meshgrid(_points(height, step), _points(width, step), indexing="ij")
    )
    out = np.zeros((len(patches), len(y), WIDTH), np.uint8)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    colors = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    out[..., PLACE] = np.stack([y * 255 // max(1, height - 1), x * 255 // max(1, width - 1)], 1)
    # OpenCV's patches have sides of six times the keypoint's size: 4 cells of 3 x size / 2.
    points = [
        cv2.KeyPoint(float(px), float(py), side / 6, 0.0)
        for side in patches
        for px, py in zip(x.tolist(), y.tolist(), strict=True)
    ]
    kept, found = cv2.SIFT.create().compute(grey, points)
    assert len(kept) == len(points), "OpenCV left out a given keypoint"
    out[..., SIFT] = found.reshape(len(patches), len(y), 128).astype(np.uint8)
    for number, side in enumerate(patches):
        out[number, :, COLOR] = _colors(colors, y, x, side)
    return out.reshape(-1, WIDTH)


def _points(length: int, step: int) -> np.ndarray:
    """Of a grid line, its outer ones as far from either end."""
    count = max(1, length // step)
    return np.arange(count) * step + (length - 1 - (count - 1) * step) // 2


def _colors(colors: np.ndarray, y: np.ndarray, x: np.ndarray, side: int) -> np.ndarray:
    """uint8[n, 96]: of each cell row by row, three means and three standard deviations."""
    cell = max(1, round(side / _CELLS))
    values = colors.astype(np.float64)  # whose sums of squares are exact
    means = cv2.blur(values, (cell, cell), borderType=cv2.BORDER_REPLICATE)
    squares = cv2.blur(np.square(values), (cell, cell), borderType=cv2.BORDER_REPLICATE)
    variances = squares - np.square(means)
    both = np.concatenate([means, np.sqrt(np.maximum(variances, 0))], axis=2)
    offsets = np.rint((np.arange(_CELLS) - (_CELLS - 1) / 2) * cell).astype(int)
    rows = np.clip(y[:, None] + offsets, 0, len(both) - 1)
    columns = np.clip(x[:, None] + offsets, 0, both.shape[1] - 1)
    cells = both[rows[:, :, None], columns[:, None, :]]
    return np.rint(cells).astype(np.uint8).reshape(len(y), -1)
