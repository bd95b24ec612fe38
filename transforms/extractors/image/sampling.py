"""A bounded sample of what many images are made of, the same for any order and any split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SEED = 0
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: odd, without a pattern in its bits


def sample(found: Sequence[np.ndarray], most: int, width: int) -> np.ndarray:
    """Those of smallest hash among all different rows: a sample of samples is that of the whole.

    Args:
        found: uint8[n, width] each.
        most: rows in the sample.
        width: bytes a row, a multiple of 8.

    Returns:
        uint8[m, width], m <= `most`, in the order of their hashes.
    """
    together = np.concatenate([np.zeros((0, width), np.uint8), *found])
    _, first = np.unique(_hashes(together), return_index=True)
    return together[first[:most]]


def _hashes(rows: np.ndarray) -> np.ndarray:
    """A hash of each row, uint8[n, d] -> uint64[n]."""
    blocks = np.ascontiguousarray(rows).view("<u8")
    found = np.full(len(blocks), _SEED, np.uint64)
    for column in range(blocks.shape[1]):
        found = (found ^ blocks[:, column]) * _MIX
        found ^= found >> np.uint64(32)
    return found
