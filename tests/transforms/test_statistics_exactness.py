"""Statistics: digits that are kept, bits that are the same, and memory that is as said."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patterned import cut, make, matrix, pick

from transforms.fusion.cells import Second
from transforms.fusion.collecting import Rows, collect
from transforms.fusion.moments import add_products, no_products, pack, unpack
from transforms.fusion.projecting import LARGEST, project, projection, size, widths
from transforms.fusion.statistics import merge_all


def test_a_mean_of_a_million_costs_no_digits() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(1e6, 1, (300, 4)).astype(np.float32)
    y, fold = rng.integers(0, 3, 300), rng.integers(0, 3, 300)
    blocks = {"a": x[:, :2], "b": x[:, 2:]}
    rows = Rows(blocks, np.ones((300, 2), bool), fold, y, ("p", "q", "r"))
    known = merge_all(collect([cut(rows, a, a + 50)]) for a in range(0, 300, 50))
    within, total = known.by_class().within, known.moments().scatter
    exact = [[Fraction(float(v)) for v in column] for column in x.T]

    def about(i: int, rows: np.ndarray) -> list[Fraction]:
        mean = sum((exact[i][r] for r in rows), Fraction(0)) / len(rows)
        return [exact[i][r] - mean for r in rows]

    def product(i: int, j: int, rows: np.ndarray) -> Fraction:
        pairs = zip(about(i, rows), about(j, rows), strict=True)
        return sum((a * b for a, b in pairs), Fraction(0))

    for i in range(4):
        for j in range(4):
            of_class = [product(i, j, np.flatnonzero(y == c)) for c in range(3)]
            every = product(i, j, np.arange(300))
            # Off the diagonal sums nearly cancel; their terms are about 300.
            assert within[i, j] == pytest.approx(float(sum(of_class)), rel=1e-6, abs=3e-6)
            assert total[i, j] == pytest.approx(float(every), rel=1e-6, abs=3e-6)
            assert i != j or total[i, i] == pytest.approx(float(every), rel=1e-9)
    _, rest, _ = next(known.leave_out())
    expected = product(0, 0, np.flatnonzero(fold != 0))
    assert rest.moments().scatter[0, 0] == pytest.approx(float(expected), rel=1e-9)


def test_bits_do_not_depend_on_the_number_of_blas_threads() -> None:
    program = (
        "import hashlib, json, numpy as np\n"
        "from transforms.fusion.collecting import Rows, collect\n"
        "rng = np.random.default_rng(0)\n"
        "blocks = {n: rng.normal(size=(900, 200)).astype(np.float32) for n in 'ab'}\n"
        "rows = Rows(blocks, rng.random((900, 2)) > 0.2, rng.integers(0, 2, 900))\n"
        "arrays = collect([rows, rows]).to_arrays('s')\n"
        "bits = b''.join(arrays[n].tobytes() for n in sorted(arrays))\n"
        "print(json.dumps(hashlib.sha256(bits).hexdigest()))\n"
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


@pytest.mark.parametrize("d", [0, 1, 2, 5, 12, 33])
def test_packed_matrices(d: int) -> None:
    rng = np.random.default_rng(d)
    rows, more = rng.normal(size=(20, d)), rng.normal(size=(3, d))
    packed = no_products(d)
    add_products(packed, rows)
    add_products(packed, rows[:0])
    add_products(packed, more)
    whole = unpack(packed, d)
    np.testing.assert_allclose(whole, rows.T @ rows + more.T @ more, rtol=1e-12, atol=1e-12)
    assert np.array_equal(whole, whole.T)
    assert packed.nbytes == 4 * d * (d + 1)
    for same in (whole, np.asfortranarray(whole)):
        assert pack(same).tobytes() == packed.tobytes()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    second=st.sampled_from(["diagonal", "pooled", "class"]),
    missing=st.sampled_from([0.0, 0.4]),
)
def test_memory_is_at_most_what_is_said_before(seed: int, second: Second, missing: float) -> None:
    rows = make(seed, 2000, domains=("x", "y"), missing=missing, unlabelled=False)
    known = collect([rows], second)
    every = size(known.dims, groups=8, classes=3, second=second)
    own = size(known.dims, groups=8, classes=3, second=second, patterns=list(known.cells))
    assert known.nbytes <= own <= every
    # With so many rows every cell occurs.
    if not missing:
        assert known.nbytes == own


def test_widths_are_as_large_as_fits() -> None:
    dims = {"image": 5000, "text": 900, "table": 12}
    free = widths(dims, 1 << 40, groups=5)
    assert free == {"image": LARGEST, "text": 900, "table": 12}
    bound = 200 << 20
    found = widths(dims, bound, groups=5, classes=10)
    cap = found["image"]
    assert found == {name: min(d, cap) for name, d in dims.items()}
    assert size(found, groups=5, classes=10) <= bound
    wider = {name: min(d, cap + 1) for name, d in dims.items()}
    assert size(wider, groups=5, classes=10) > bound
    # Where nothing is missing there is one pattern, and more room.
    assert widths(dims, bound, groups=5, classes=10, patterns=[7])["image"] > cap
    with pytest.raises(ValueError, match="however narrow"):
        widths({f"m{i}": 9 for i in range(40)}, bound, groups=5)


def test_projections_keep_lengths_and_products() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 3000)) + rng.normal(size=3000)
    y = project({"a": x}, {"a": 400}, seed=0)["a"]
    scale = np.linalg.norm(x, axis=1)
    error = (y @ y.T - x @ x.T) / np.outer(scale, scale)
    # Deviation sqrt(2 / k) of a length and at most that of a product.
    assert np.abs(error).max() < 5 * np.sqrt(2 / 400)
    assert error.std() < 1.2 * np.sqrt(2 / 400)
    weights = projection("a", 3000, 400, 0)
    assert weights.nnz == pytest.approx(np.sqrt(3000) * 400, rel=0.02)
    assert len(np.unique(np.abs(weights.data))) == 1
    assert abs(np.sign(weights.data).mean()) < 0.03


def test_a_projection_is_a_function_of_seed_name_and_dimensions() -> None:
    first = projection("a", 300, 20, 0)
    projection.cache_clear()
    assert (projection("a", 300, 20, 0) != first).nnz == 0
    for other in (("b", 300, 20, 0), ("a", 300, 20, 1)):
        assert (projection(*other) != first).nnz > 0
    # Fixed values: models that were saved need the projection that they were fitted with.
    assert first.nnz == 337
    assert first.indices[:5].tolist() == [12, 2, 17, 8, 0]


def test_projected_rows_do_not_depend_on_each_other() -> None:
    x = np.random.default_rng(2).normal(size=(50, 700)).astype(np.float32)
    whole = project({"a": x, "b": x[:, :30]}, {"a": 64, "b": 30}, seed=3)
    assert np.array_equal(whole["b"], x[:, :30])
    for part in (slice(0, 1), slice(7, 20), slice(49, 50)):
        again = project({"a": x[part]}, {"a": 64}, seed=3)["a"]
        assert again.tobytes() == np.ascontiguousarray(whole["a"][part]).tobytes()


def test_projected_modalities_have_the_statistics_of_their_projection() -> None:
    rows = make(3, 200, missing=0.2)
    narrow = {"image": 2, "audio": 3, "text": 2}
    fewer = replace(rows, blocks=project(rows.blocks, narrow, seed=0))
    own = pick(rows, rows.present.all(axis=1) & (rows.fold >= 0))
    x = matrix(own)
    x = np.hstack([x[:, :4] @ projection("image", 4, 2, 0).toarray(), x[:, 4:]])
    found = collect([fewer]).moments()
    np.testing.assert_allclose(found.covariance(), np.cov(x.T, bias=True), atol=1e-12)
