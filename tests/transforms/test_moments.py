"""Moments: exact enough, mergeable in any split, and the same bits twice."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import DataError
from transforms.fusion import moments
from transforms.fusion.moments import Moments, merge, merge_all


def reference(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scatter in two passes."""
    wide = rows.astype(np.float64)
    centred = wide - wide.mean(axis=0)
    return wide.mean(axis=0), centred.T @ centred


def assert_moments(actual: Moments, rows: np.ndarray, relative: float) -> None:
    mean, scatter = reference(rows)
    spread = np.sqrt(np.diagonal(scatter))
    assert actual.count == len(rows)
    np.testing.assert_allclose(actual.mean, mean, rtol=relative, atol=relative)
    # An entry of the scatter is measured against the lengths of its two columns.
    bound = relative * np.outer(spread, spread) + 1e-12
    expected, bound = (scatter, bound) if actual.full else (spread**2, np.diagonal(bound))
    assert (np.abs(actual.scatter - expected) <= bound).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("full", [True, False])
def test_moments_are_those_of_two_passes(dtype: type, full: bool) -> None:
    rows: np.ndarray = np.random.default_rng(1).normal(3, 2, (50, 7)).astype(dtype)
    known = Moments.of(rows, full)
    assert_moments(known, rows, 1e-12)
    np.testing.assert_allclose(known.variance(), rows.astype(np.float64).var(axis=0), rtol=1e-12)


def test_covariance_is_divided_by_the_count() -> None:
    rows = np.random.default_rng(1).normal(size=(50, 7))
    expected = np.cov(rows.T, bias=True)
    np.testing.assert_allclose(Moments.of(rows, True).covariance(), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="only the diagonal"):
        Moments.of(rows, False).covariance()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 60),
    d=st.integers(1, 6),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    offset=st.sampled_from([0.0, -5.0, 1e6]),
    full=st.booleans(),
)
def test_any_split_agrees(
    seed: int, n: int, d: int, cuts: list[int], offset: float, full: bool
) -> None:
    rows = (np.random.default_rng(seed).normal(size=(n, d)) + offset).astype(np.float32)
    bounds = [0, *sorted(min(c, n) for c in cuts), n]
    parts = [Moments.of(rows[a:b], full) for a, b in itertools.pairwise(bounds)]
    merged = merge_all(parts)
    whole = Moments.of(rows, full)
    assert merged.count == whole.count == n
    if n:
        assert_moments(merged, rows, 1e-9)
        assert_moments(whole, rows, 1e-9)
    assert np.array_equal(merged.scatter, merged.scatter.T)


@pytest.mark.parametrize("pieces", [1, 8])
def test_a_large_mean_costs_no_digits(pieces: int) -> None:
    rows = np.random.default_rng(2).normal(1e6, 1, (400, 3)).astype(np.float32)
    known = merge_all(Moments.of(part, True) for part in np.array_split(rows, pieces))
    columns = [[Fraction(float(x)) for x in column] for column in rows.T]
    means = [sum(c, Fraction(0)) / len(c) for c in columns]
    for i in range(3):
        assert known.mean[i] == pytest.approx(float(means[i]), rel=1e-14)
        for j in range(3):
            exact = sum(
                (x - means[i]) * (y - means[j]) for x, y in zip(columns[i], columns[j], strict=True)
            )
            # Off the diagonal the sum nearly cancels; its terms are about 400.
            assert known.scatter[i, j] == pytest.approx(float(exact), rel=1e-6, abs=4e-6)
            assert i != j or known.scatter[i, i] == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize("full", [True, False])
def test_bits_are_the_same_for_any_memory_layout(full: bool) -> None:
    rows = np.random.default_rng(3).normal(size=(300, 20)).astype(np.float32)
    wide = np.zeros((600, 45), np.float32)
    wide[::2, 1:41:2] = rows
    once = Moments.of(rows, full)
    for same in (rows.copy(), np.asfortranarray(rows), wide[::2, 1:41:2]):
        again = Moments.of(same, full)
        assert again.mean.tobytes() == once.mean.tobytes()
        assert again.scatter.tobytes() == once.scatter.tobytes()


def test_bits_do_not_depend_on_the_number_of_blas_threads() -> None:
    program = (
        "import hashlib, json, numpy as np\n"
        "from transforms.fusion.moments import Moments\n"
        "rows = np.random.default_rng(0).normal(size=(700, 400)).astype(np.float32)\n"
        "print(json.dumps(hashlib.sha256(Moments.of(rows, True).scatter.tobytes()).hexdigest()))\n"
    )
    root = Path(__file__).resolve().parents[2]
    digests = {
        json.loads(
            subprocess.run(
                [sys.executable, "-c", program],
                cwd=root,
                env={"OPENBLAS_NUM_THREADS": threads, "PYTHONPATH": str(root)},
                check=True,
                capture_output=True,
            ).stdout
        )
        for threads in ("1", "2")
    }
    assert len(digests) == 1


def test_rows_in_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(4).normal(1e3, 1, (101, 9)).astype(np.float32)
    whole = {full: Moments.of(rows, full) for full in (True, False)}
    monkeypatch.setattr(moments, "BATCH_VALUES", 40)
    for full, expected in whole.items():
        batched = Moments.of(rows, full)
        np.testing.assert_allclose(batched.mean, expected.mean, rtol=1e-13)
        np.testing.assert_allclose(batched.scatter, expected.scatter, rtol=1e-10, atol=1e-10)
    monkeypatch.setattr(moments, "BATCH_VALUES", 1)
    assert_moments(Moments.of(rows, True), rows, 1e-12)


@pytest.mark.parametrize("full", [True, False])
def test_no_rows(full: bool) -> None:
    rows = np.random.default_rng(5).normal(size=(4, 3))
    nothing, some = Moments.of(rows[:0], full), Moments.of(rows, full)
    assert nothing.count == 0
    assert not nothing.mean.any()
    assert not nothing.variance().any()
    for merged in (merge(nothing, some), merge(some, nothing)):
        assert merged.mean.tobytes() == some.mean.tobytes()
        assert merged.scatter.tobytes() == some.scatter.tobytes()
    assert merge(nothing, Moments.empty(3, full)).count == 0


def test_one_row_has_no_scatter() -> None:
    one = Moments.of(np.array([[1.5, -2.0]], np.float32), True)
    assert one.count == 1
    assert one.mean.tolist() == [1.5, -2.0]
    assert not one.scatter.any()


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("d", [1, 2, 13])
def test_round_trip_through_a_file(tmp_path: Path, full: bool, d: int) -> None:
    rows = np.random.default_rng(6).normal(size=(30, d)).astype(np.float32)
    known = merge_all([Moments.of(rows[:11], full), Moments.of(rows[11:], full)])
    arrays = known.to_arrays("image")
    assert all(not a.dtype.hasobject for a in arrays.values())
    np.savez(tmp_path / "m.npz", allow_pickle=False, **arrays)
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        loaded = Moments.from_arrays("image", file)
    assert loaded.count == 30
    assert loaded.full is full
    assert loaded.mean.tobytes() == known.mean.tobytes()
    assert loaded.scatter.tobytes() == known.scatter.tobytes()


def test_what_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match=r"\[2\] and \[3\]"):
        merge(Moments.empty(2, False), Moments.empty(3, False))
    with pytest.raises(ValueError, match="different shapes"):
        merge(Moments.empty(2, False), Moments.empty(2, True))
    with pytest.raises(ValueError, match="no moments"):
        merge_all([])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_must_be_finite(bad: float) -> None:
    rows = np.zeros((5, 3), np.float32)
    rows[2, 1] = bad
    with pytest.raises(ValueError, match="dimension 1 "):
        Moments.of(rows, False)


def test_a_matrix_that_is_too_large_is_refused() -> None:
    with pytest.raises(DataError, match="65,536 dimensions need a matrix of 32 GiB"):
        Moments.of(np.zeros((1, 65_536), np.float32), True)
    assert Moments.of(np.zeros((1, 65_536), np.float32), False).count == 1
