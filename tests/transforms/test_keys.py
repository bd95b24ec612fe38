"""Keys and their hash."""

import itertools
import uuid

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.records.keys import buckets, canonical_keys, hash64, uniform

MASK = (1 << 64) - 1
NAMES = [f"user-{i}" for i in range(100_000)]


def reference(key: bytes, seed: int) -> int:
    """MurmurHash64A with a splitmix64 seed and fmix64, byte by byte, as published."""
    z = (seed + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    h = (z ^ (z >> 31)) ^ (len(key) * 0xC6A4A7935BD1E995 & MASK)
    m = 0xC6A4A7935BD1E995
    whole = len(key) // 8 * 8
    for at in range(0, whole, 8):
        k = int.from_bytes(key[at : at + 8], "little") * m & MASK
        k = (k ^ (k >> 47)) * m & MASK
        h = (h ^ k) * m & MASK
    if len(key) > whole:
        h = (h ^ int.from_bytes(key[whole:], "little")) * m & MASK
    h = (h ^ (h >> 47)) * m & MASK
    h ^= h >> 47
    h = (h ^ (h >> 33)) * 0xFF51AFD7ED558CCD & MASK
    h = (h ^ (h >> 33)) * 0xC4CEB9FE1A85EC53 & MASK
    return h ^ (h >> 33)


def test_the_hash_never_changes():
    keys = pa.array(["", "a", "key", "12345678", "d0001", "user-00000042", "ключ", None])
    assert [f"{h:016x}" for h in hash64(keys).tolist()] == GOLDEN_0
    assert [f"{h:016x}" for h in hash64(keys, 7).tolist()] == GOLDEN_7
    assert buckets(keys, 16).tolist() == [int(h, 16) & 15 for h in GOLDEN_0]


GOLDEN_0 = [
    "61717311a7e86af5",
    "0519b06c1855ab46",
    "a55722b33b1337c4",
    "6efa5470169b39a5",
    "eee7ea1824efd6be",
    "08a82d3b1de2dfb4",
    "054ded0ba65f030b",
    "61717311a7e86af5",
]
GOLDEN_7 = [
    "13bc855b99e588e1",
    "0996570f5a0b92e4",
    "82902b8d20c56dfc",
    "1984dc44a7e3d0e3",
    "c0defa368f2012d7",
    "b761e394f4a6f79f",
    "3f379a144f015b12",
    "13bc855b99e588e1",
]


@given(st.lists(st.none() | st.text(max_size=40)), st.integers(-(2**70), 2**70))
def test_the_hash_is_the_published_one(keys, seed):
    expected = [reference((key or "").encode(), seed) for key in keys]
    assert hash64(pa.array(keys, pa.string()), seed).tolist() == expected


@given(
    st.lists(st.none() | st.text(max_size=20), max_size=30),
    st.integers(0, 30),
    st.integers(0, 30),
    st.sampled_from([pa.string(), pa.large_string(), pa.string_view()]),
)
def test_the_hash_is_blind_to_slices_chunks_and_types(keys, a, b, kind):
    array = pa.array(keys, kind)
    whole = hash64(pa.array(keys, pa.string()))
    first, last = sorted((a, b))
    assert hash64(array[first:last]).tolist() == whole[first:last].tolist()
    chunks = pa.chunked_array([array[:first], array[first:last], array[last:]], kind)
    assert hash64(chunks).tolist() == whole.tolist()


def test_the_hash_of_many_keys_is_that_of_each_alone():
    keys = [("x" * (i % 37)) + str(i) for i in range(40_000)]
    array = pa.array(keys)
    hashes = hash64(array)
    assert len(set(hashes.tolist())) == len(keys)
    for i in range(0, len(keys), 997):
        assert hash64(array[i : i + 1])[0] == hashes[i]


@pytest.mark.parametrize("length", [4, 8, 13, 24])
def test_each_bit_of_a_key_changes_each_bit_of_the_hash_half_the_time(length):
    rng = np.random.default_rng(length)
    raw = rng.integers(0, 128, (5000, length), dtype=np.uint8)

    def hashed(data: np.ndarray) -> np.ndarray:
        offsets = pa.py_buffer(np.arange(0, data.size + 1, length, dtype=np.int32))
        return hash64(pa.StringArray.from_buffers(len(data), offsets, pa.py_buffer(data.tobytes())))

    before = hashed(raw)
    for at, bit in itertools.product(range(length), (0, 3, 6)):
        changed = raw.copy()
        changed[:, at] ^= 1 << bit
        flips = np.unpackbits((before ^ hashed(changed)).view(np.uint8).reshape(-1, 8), axis=1)
        assert np.all(np.abs(flips.mean(axis=0) - 0.5) < 0.05)  # 7 standard deviations


def test_keys_that_are_no_text_are_an_error():
    with pytest.raises(TypeError, match="keys are text, not int64"):
        hash64(pa.array([1, 2]))


def test_buckets_are_even():
    counts = np.bincount(buckets(pa.array(NAMES), 64), minlength=64)
    expected = len(NAMES) / 64
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert 20 < chi2 < 130  # 63 degrees of freedom: mean 63, deviation 11
    assert buckets(pa.array(NAMES[:9]), 1).tolist() == [0] * 9


@pytest.mark.parametrize("n", [0, -1, 3, 2**32])
def test_the_number_of_buckets_must_be_a_power_of_two(n):
    with pytest.raises(ValueError, match="power of two"):
        buckets(pa.array(["a"]), n)


def test_draws_are_uniform_and_independent_of_buckets_and_other_seeds():
    keys = pa.array(NAMES)
    grids = [np.floor(uniform(keys, seed) * 8).astype(int) for seed in (0, 1, 2**63 - 1)]
    grids.append(buckets(keys, 8))
    for a, b in itertools.combinations(grids, 2):
        counts = np.bincount(a * 8 + b, minlength=64)
        expected = len(NAMES) / 64
        assert 20 < ((counts - expected) ** 2 / expected).sum() < 130
    draws = uniform(keys, 3)
    assert draws.dtype == np.float64
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(np.corrcoef(draws, hash64(keys).astype(float))[0, 1]) < 0.02


def keys_of(values, kind=None):
    keys, problems = canonical_keys(pa.array(values, kind))
    assert keys.type == problems.type == pa.string()
    return keys.to_pylist(), problems.to_pylist()


def test_canonical_text_and_integers():
    assert keys_of(["a", "ä ", "01"]) == (["a", "ä ", "01"], [None] * 3)
    assert keys_of([1, -2], pa.int8()) == (["1", "-2"], [None] * 2)
    assert keys_of([2**64 - 1], pa.uint64()) == (["18446744073709551615"], [None])
    assert keys_of([True, False]) == (["true", "false"], [None] * 2)
    assert keys_of(["a", "b"], pa.large_string()) == (["a", "b"], [None] * 2)
    assert keys_of([b"ab"], pa.binary(2)) == (["ab"], [None])
    assert keys_of([], pa.string()) == ([], [])


def test_canonical_problems():
    assert keys_of(["a", None, ""]) == (
        ["a", None, None],
        [None, "the key is null", "the key is empty"],
    )
    assert keys_of([None, 3], pa.int64()) == ([None, "3"], ["the key is null", None])
    assert keys_of([None, None]) == ([None] * 2, ["the key is null"] * 2)
    assert keys_of([b"ok", b"\xff", b"", None]) == (
        ["ok", None, None, None],
        [None, "the key is not UTF-8 text", "the key is empty", "the key is null"],
    )
    keys, problems = keys_of([1.0, None])
    assert keys == [None, None]
    assert "floating-point key is not exact" in problems[0]
    assert problems[1] == "the key is null"
    assert "of type struct<a: int64>" in keys_of([{"a": 1}])[1][0]


def test_canonical_text_that_only_claims_to_be_utf8():
    claimed = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"\xff"]).buffers())
    keys, problems = canonical_keys(claimed)
    assert keys.to_pylist() == ["a", None]
    assert problems.to_pylist() == [None, "the key is not UTF-8 text"]


def test_canonical_uuids():
    ids = [None, *(uuid.UUID(int=i << 120 | i) for i in (0, 1, 0xAB, 0xFF)), None]
    stored = pa.array([one and one.bytes for one in ids], pa.binary(16))
    column = pa.ExtensionArray.from_storage(pa.uuid(), stored)
    chunks = pa.chunked_array([column.slice(2), column[:0], column])
    for found in (column, column.slice(1, 3), column[:0], chunks):
        keys, problems = canonical_keys(found)
        expected = found.to_pylist()
        assert keys.to_pylist() == [one and str(one) for one in expected]
        assert problems.to_pylist() == [None if one else "the key is null" for one in expected]


def test_canonical_dictionaries_chunks_and_slices():
    column = pa.chunked_array([pa.array(["b", "a", "b", None]).dictionary_encode()[1:], []])
    keys, problems = canonical_keys(column)
    assert keys.to_pylist() == ["a", "b", None]
    assert problems.to_pylist() == [None, None, "the key is null"]
    assert canonical_keys(pa.chunked_array([], pa.int32()))[0].to_pylist() == []
