"""MurmurHash3 of many short pieces of a buffer at once."""

from __future__ import annotations

import numpy as np

_ADDED = 0xE6546B64
_MASK = 0xFFFFFFFF
_WORTH_A_VECTOR = 16  # with fewer pieces left, a loop over their blocks is faster than NumPy


def murmur3_32(data: bytes, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """MurmurHash3, x86, 32 bit, seed 0, of each piece data[start:stop].

    The same numbers as `sklearn.utils.murmurhash3_32(piece)`. Each step hashes one block of four
    bytes of all pieces that have one left.

    Args:
        data: the buffer; in text, the UTF-8 bytes.
        starts: int64[n]; pieces may overlap, and may be empty.
        stops: int64[n].

    Returns:
        int32[n].

    References:
        Appleby: MurmurHash3 (public domain), 2011.
    """
    # The block that begins at each byte; four bytes more, so that every tail has one.
    data += bytes(4)
    blocks = np.ascontiguousarray(np.ndarray((len(data) - 3,), "<u4", data, strides=(1,)))
    lengths = stops - starts
    counts = lengths >> 2

    h = np.zeros(len(starts), np.uint32)
    left = np.flatnonzero(counts)
    for step in range(int(counts.max(initial=0))):
        if len(left) < _WORTH_A_VECTOR:
            for i in left.tolist():
                rest = blocks[starts[i] + 4 * step : starts[i] + 4 * counts[i] : 4]
                h[i] = _absorb_one_by_one(int(h[i]), _mixed(rest))
            break
        mixed = _rotated(h[left] ^ _mixed(blocks[starts[left] + 4 * step]), 13)
        h[left] = mixed * np.uint32(5) + np.uint32(_ADDED)
        left = left[counts[left] > step + 1]

    tails = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF], np.uint32)[lengths & 3]
    h ^= _mixed(blocks[starts + 4 * counts] & tails)  # an empty tail is 0, and stays 0
    h ^= lengths.astype(np.uint32)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return h.view(np.int32)


def _rotated(x: np.ndarray, bits: int) -> np.ndarray:
    return (x << np.uint32(bits)) | (x >> np.uint32(32 - bits))


def _mixed(blocks: np.ndarray) -> np.ndarray:
    return _rotated(blocks * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)


def _absorb_one_by_one(h: int, mixed: np.ndarray) -> int:
    """Take in the blocks of one piece, each of which needs the hash of those before."""
    for block in mixed.tolist():
        h ^= block
        h = (((h << 13) | (h >> 19)) * 5 + _ADDED) & _MASK
    return h
