"""Pooling: the same result however the rows come, one row a key."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.extractors.pooling import Pooled


def pooled(policy: str, keys: list[str], values: np.ndarray, cuts: list[int]) -> Pooled:
    """Keys and values given batch by batch."""
    out = Pooled(policy, values.shape[1], len(keys))
    bounds = [0, *sorted(cuts), len(keys)]
    for start, stop in itertools.pairwise(bounds):
        room = out.room(stop - start)
        room[...] = values[start:stop]
        out.add(pa.chunked_array([pa.array(keys[start:stop], pa.string())]), room)
    return out


@pytest.mark.parametrize("policy", ["mean", "max"])
@given(st.lists(st.integers(0, 6), max_size=30), st.data())
def test_pooling_is_that_of_whole_keys(
    policy: str, numbers: list[int], data: st.DataObject
) -> None:
    keys = [f"k{i}" for i in sorted(numbers)]
    values = np.random.default_rng(len(keys)).normal(size=(len(keys), 3)).astype(np.float32)
    cuts = data.draw(st.lists(st.integers(0, len(keys)), max_size=5))
    found, matrix, merged = pooled(policy, keys, values, cuts).result()
    unique = sorted(set(keys))
    assert found.to_pylist() == unique
    assert merged == len(keys) - len(unique)
    for row, key in zip(matrix, unique, strict=True):
        own = values[[k == key for k in keys]].astype(np.float64)
        expected = own.mean(axis=0) if policy == "mean" else own.max(axis=0)
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-7)


def test_rows_that_failed_leave_no_gap() -> None:
    out = Pooled("error", 2, 5)
    first = out.room(3)
    first[...] = [[1, 1], [np.nan, 0], [3, 3]]
    out.add(pa.chunked_array([["a", "c"]]), first[[True, False, True]])
    second = out.room(2)
    second[...] = [[4, 4], [5, 5]]
    out.add(pa.chunked_array([["d", "e"]]), second)
    keys, matrix, merged = out.result()
    assert keys.to_pylist() == ["a", "c", "d", "e"]
    assert matrix.tolist() == [[1, 1], [3, 3], [4, 4], [5, 5]]
    assert merged == 0
