"""Statistics: digits that are kept, bits that are the same, and memory that is as said."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from patterned import cut, make

from transforms.fusion.collecting import Rows, collect
from transforms.fusion.moments import add_products, no_products, pack, unpack
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


def test_memory_is_what_is_said() -> None:
    """16 d + 32 bytes a cell, 4 d (d + 1) a fold and domain of each pattern."""
    rows = make(0, 2000, domains=("x", "y"), missing=0.4, unlabelled=False)
    known = collect([rows], "pooled")
    said = 0
    for pattern, cells in known.cells.items():
        d = sum(d for i, d in enumerate(known.dims.values()) if pattern >> i & 1)
        assert len(cells.groups()) == 4 * 2
        said += len(cells.keys) * (16 * d + 32) + 4 * 2 * 4 * d * (d + 1)
    assert known.nbytes == said
