"""Keys: what counts as one, and a stable hash of it for buckets, splits and folds.

The hash is MurmurHash64A (Austin Appleby, 2008, https://github.com/aappleby/smhasher), finished
by `fmix64` of MurmurHash3 for better avalanche. Bytes are read as little-endian words on every
platform, so a key's bucket is the same everywhere and for ever: it is part of the output.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Column: TypeAlias = pa.Array | pa.ChunkedArray

NULL_KEY = "the key is null"
EMPTY_KEY = "the key is empty"
FLOAT_KEY = "a floating-point key is not exact: write it as text or as an integer"
NOT_UTF8_KEY = "the key is not UTF-8 text"

_M = np.uint64(0xC6A4A7935BD1E995)  # constants of MurmurHash64A
_R = np.uint64(47)
_F1 = np.uint64(0xFF51AFD7ED558CCD)  # constants of fmix64
_F2 = np.uint64(0xC4CEB9FE1A85EC53)
_F3 = np.uint64(33)
_TAIL = np.array([(1 << 8 * n) - 1 for n in range(8)], np.uint64)  # keeps the first n bytes
_WORD = np.int64(8)
_AT_ONCE = 1 << 14  # keys hashed together: their words stay in the processor's cache


def hash64(keys: Column, seed: int = 0) -> np.ndarray:
    """A 64-bit hash of each key.

    Args:
        keys: text (string, large_string or string_view), in one array or chunks; a null is
            hashed as "".
        seed: any integer, taken modulo 2**64.

    Returns:
        uint64[n]; each depends on its key's UTF-8 bytes and the seed alone.
    """
    start = np.uint64(_splitmix64(seed))
    hashes = [_hash_array(array, start) for array in _chunks(keys)]
    return np.concatenate(hashes) if hashes else np.empty(0, np.uint64)


def buckets(keys: Column, n: int) -> np.ndarray:
    """The bucket of each key, 0 to n - 1: the lowest bits of `hash64` with seed 0.

    Args:
        keys: text; a null counts as "".
        n: number of buckets, a power of two.

    Returns:
        int32[len(keys)].

    Raises:
        ValueError: if n is not a power of two from 1 to 2**31.
    """
    if not 1 <= n <= 1 << 31 or n & (n - 1):
        raise ValueError(f"the number of buckets must be a power of two up to 2**31, not {n}")
    return (hash64(keys) & np.uint64(n - 1)).astype(np.int32)


def uniform(keys: Column, seed: int) -> np.ndarray:
    """A number in [0, 1) for each key, to draw splits and folds by.

    Draws of different seeds are independent of each other and of the keys' buckets.

    Args:
        keys: text; a null counts as "".
        seed: any integer, taken modulo 2**63.

    Returns:
        float64[n], multiples of 2**-53.
    """
    # The highest bit sets these seeds apart from seed 0, which buckets are made with.
    hashes = hash64(keys, seed | 1 << 63)
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def canonical_keys(column: Column) -> tuple[pa.Array, pa.Array]:
    """Keys as text, and what is wrong with those that cannot be one.

    Text is taken as it is, integers are written in decimal, booleans as `true` and `false`,
    UUIDs in their usual notation, and binary values must be UTF-8. Dictionaries are decoded.

    Returns:
        string[n], null where unusable, and string[n], the problem or null.
    """
    array = one_array(column)
    kind = array.type
    if is_text(kind) or is_binary(kind):
        keys, broken = decode_utf8(array)
        message = NOT_UTF8_KEY
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        keys, broken = array.cast(pa.string()), None
        message = ""
    else:
        keys = pa.nulls(len(array), pa.string())
        broken = array.is_valid()
        message = f"a key of type {kind} cannot be used: write it as text or as an integer"
        if pa.types.is_floating(kind):
            message = FLOAT_KEY
    empty = pc.fill_null(pc.equal(keys, ""), False)
    problems = pa.nulls(len(array), pa.string())
    if array.null_count:
        problems = pc.if_else(array.is_null(), NULL_KEY, problems)
    if broken is not None:
        problems = pc.if_else(broken, message, problems)
    if pc.any(empty).as_py():
        problems = pc.if_else(empty, EMPTY_KEY, problems)
        keys = pc.if_else(empty, pa.scalar(None, pa.string()), keys)
    return keys, problems


def one_array(column: Column) -> pa.Array:
    """A column as one array: dictionaries decoded, UUIDs as text, other types as stored."""
    if isinstance(column, pa.ChunkedArray):
        chunks = column.chunks or [pa.array([], column.type)]
        column = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
    if isinstance(column, pa.ExtensionArray):
        uuids = column.type.extension_name == "arrow.uuid"
        column = _uuid_text(column.storage) if uuids else column.storage
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _uuid_text(stored: pa.Array) -> pa.Array:
    """UUIDs, binary(16)[n], as in 8f14e45f-ceea-467f-9a3b-1c2d3e4f5a6b: string[n]."""
    n, bytes_of = len(stored), stored.buffers()[1]
    digits = bytes(memoryview(bytes_of)[16 * stored.offset :][: 16 * n]).hex().encode()
    out = np.full((n, 36), ord("-"), np.uint8)
    for dashes, (start, stop) in enumerate(pairwise((0, 8, 12, 16, 20, 32))):
        part = np.frombuffer(digits, np.uint8).reshape(n, 32)[:, start:stop]
        out[:, start + dashes : stop + dashes] = part
    missing = stored.is_null().to_numpy(zero_copy_only=False)
    return pa.array(out.view("S36").reshape(n), mask=missing).cast(pa.string())


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type holds text."""
    t = pa.types
    return t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind)


def is_binary(kind: pa.DataType) -> bool:
    """Whether an Arrow type holds bytes."""
    t = pa.types
    return (
        t.is_binary(kind)
        or t.is_large_binary(kind)
        or t.is_binary_view(kind)
        or t.is_fixed_size_binary(kind)
    )


def decode_utf8(array: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """Text of an array of text or bytes.

    Text is checked too: a Parquet file may call any bytes a string.

    Returns:
        string[n], null where the bytes are not UTF-8, and bool[n], where that is, or None if
        nowhere.
    """
    try:
        text = array.cast(pa.string())
        text.validate(full=True)
        return text, None
    except pa.ArrowInvalid:
        decoded = [_decode(value) for value in array.cast(pa.binary()).to_pylist()]
        text = pa.array(decoded, pa.string())
        return text, pc.and_(text.is_null(), array.is_valid())


def _decode(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _chunks(keys: Column) -> Iterable[pa.Array]:
    chunks = keys.chunks if isinstance(keys, pa.ChunkedArray) else [keys]
    for array in chunks:
        if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            yield array
        elif is_text(array.type) or pa.types.is_null(array.type):
            yield array.cast(pa.large_string())
        else:
            raise TypeError(f"keys are text, not {array.type}: see canonical_keys")


def _hash_array(array: pa.Array, start: np.uint64) -> np.ndarray:
    n = len(array)
    out = np.empty(n, np.uint64)
    if n == 0:
        return out
    _, offset_buffer, data = array.buffers()
    width = "<i4" if pa.types.is_string(array.type) else "<i8"
    offsets = np.frombuffer(offset_buffer, width, n + 1, array.offset * int(width[2]))
    first, last = int(offsets[0]), int(offsets[-1])
    # Whole words are read, so the last key needs some bytes after it.
    padded = np.zeros(last - first + 8, np.uint8)
    if last > first:
        padded[:-8] = np.frombuffer(data, np.uint8, last - first, first)
    words = np.ndarray((last - first + 1,), "<u8", padded, strides=(1,))
    lengths = np.diff(offsets).astype(np.int64)
    if array.null_count:
        lengths[array.is_null().to_numpy(zero_copy_only=False)] = 0
    for at in range(0, n, _AT_ONCE):
        part = slice(at, min(at + _AT_ONCE, n))
        starts = offsets[part].astype(np.int64) - first
        out[part] = _murmur64a(words, starts, lengths[part], start)
    return out


def _murmur64a(
    words: np.ndarray, starts: np.ndarray, lengths: np.ndarray, start: np.uint64
) -> np.ndarray:
    """Hash of the bytes at `starts`; words[i] is the little-endian word that starts at byte i."""
    h = lengths.astype(np.uint64) * _M
    h ^= start
    whole = lengths >> 3
    for step in range(int(whole.max(initial=0))):
        long = np.flatnonzero(whole > step) if step >= whole.min() else slice(None)
        k = words[starts[long] + _WORD * step].astype(np.uint64, copy=False)
        k *= _M
        k ^= k >> _R
        k *= _M
        k ^= h[long]
        k *= _M
        h[long] = k
    tail = lengths & 7
    k = words[starts + (whole << 3)].astype(np.uint64, copy=False)
    k &= _TAIL[tail]
    k ^= h
    k *= _M
    np.copyto(h, k, where=tail > 0)
    h ^= h >> _R
    h *= _M
    h ^= h >> _R
    h ^= h >> _F3
    h *= _F1
    h ^= h >> _F3
    h *= _F2
    h ^= h >> _F3
    return h


def _splitmix64(seed: int) -> int:
    """Steele et al. 2014: spreads a small seed over 64 bits, so that no two act like two keys."""
    mask = (1 << 64) - 1
    z = (seed + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
    return z ^ z >> 31
