"""Images of one size, which most extractors start from."""

from __future__ import annotations

import cv2
import numpy as np


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize to size x size: averages where it shrinks, straight lines where it grows."""
    height, width = image.shape[:2]
    small = (min(width, size), min(height, size))
    if small != (width, height):
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    if small != (size, size):
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    return image


def grey(image: np.ndarray, size: int) -> np.ndarray:
    """Grey (ITU-R BT.601), resized: uint8[size, size]."""
    return resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size)
