"""Images of one size, which most extractors start from."""

from __future__ import annotations

import cv2
import numpy as np


def resize(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resize to size x size, or (height, width): averages where it shrinks, straight lines where
    it grows.
    """
    height, width = image.shape[:2]
    rows, columns = (size, size) if isinstance(size, int) else size
    small = (min(width, columns), min(height, rows))
    if small != (width, height):
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    if small != (columns, rows):
        image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return image


def grey(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Grey (ITU-R BT.601), resized: uint8[size, size], or uint8[height, width]."""
    return resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size)


def scaled(image: np.ndarray, size: int) -> np.ndarray:
    """Scaled so that the longer side has `size` pixels; the shorter at least one."""
    height, width = image.shape[:2]
    longer = max(height, width)
    if longer == size:
        return image
    shape = (max(1, round(width * size / longer)), max(1, round(height * size / longer)))
    way = cv2.INTER_AREA if size < longer else cv2.INTER_LINEAR
    return cv2.resize(image, shape, interpolation=way)


def scaled_grey(image: np.ndarray, size: int) -> np.ndarray:
    """Grey, scaled so that the longer side has `size` pixels; the shorter at least one."""
    return scaled(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size)
