"""Count, mean and second moments of rows, in float64, merged without a second look at the rows.

Chan, Golub & LeVeque (1979), Updating formulae and a pairwise algorithm for computing sample
variances. Rows are centred before they are squared, so values with a mean of 1e6 and a
deviation of 1 lose nothing.

Means and diagonals are the same bits everywhere. A full matrix comes from BLAS: the same bits
wherever the same BLAS picks the same kernel for the processor, and equal up to the rounding
of float64 elsewhere.

Here are the moments of one set of rows; `cells` has those of many at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from schemas.errors import DataError

BATCH_VALUES = 1 << 20
"""Values that are held as float64 at a time: 8 MiB, or one row where that is longer."""

LARGEST_FULL = 16_384
"""Most dimensions of a full matrix, which then takes 2 GiB."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What is remembered of `count` rows of d values.

    Attributes:
        count: number of rows.
        mean: float64[d]; zeros if there are no rows.
        scatter: sum over rows of the products of centred values: float64[d, d], symmetric to the
            bit, or float64[d], its diagonal only.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def empty(cls, d: int, full: bool) -> Moments:
        """The moments of no rows, which change nothing when merged.

        Raises:
            DataError: a full matrix of that many dimensions is out of reach.
        """
        if full and d > LARGEST_FULL:
            raise DataError(
                f"principal components of {d:,} dimensions need a matrix of "
                f"{8 * d * d / 2**30:,.0f} GiB; the most is {LARGEST_FULL:,} dimensions: give the "
                "extractor a smaller dimension, or do without principal components, which "
                "`missing: conditional` takes, too"
            )
        return cls(0, np.zeros(d), np.zeros((d, d) if full else d))

    @classmethod
    def of(cls, rows: np.ndarray, full: bool) -> Moments:
        """The moments of the rows of float32 or float64 [n, d]; n may be 0.

        Rows are read twice, in batches of `BATCH_VALUES` values, so besides the result (8 d^2
        bytes if full) no more than 8 MiB, or two rows, are held.

        Args:
            rows: one record a row.
            full: the whole matrix, rather than its diagonal.

        Raises:
            ValueError: a value is infinite or not a number.
            DataError: d is too large for `full`.
        """
        n, d = rows.shape
        nothing = cls.empty(d, full)
        if n == 0:
            return nothing
        mean = np.zeros(d)
        for batch in _batches(rows):
            mean += batch.sum(axis=0)
        mean /= n
        if not np.isfinite(mean).all():
            column = int(np.flatnonzero(~np.isfinite(mean))[0])
            raise ValueError(f"dimension {column} has values that are infinite or not a number")
        scatter = nothing.scatter
        if full:
            # Imported here: linear algebra takes a tenth of a second, and few recipes need it.
            from scipy.linalg.blas import dsyrk
        for batch in _batches(rows):
            batch -= mean
            if full:
                # The lower triangle of a column-major view is the upper one of `scatter`.
                dsyrk(1.0, batch.T, beta=1.0, c=scatter.T, lower=1, overwrite_c=1)
            else:
                scatter += np.square(batch, out=batch).sum(axis=0)
        if full:
            _mirror(scatter)
        return cls(n, mean, scatter)

    @property
    def full(self) -> bool:
        """Whether the scatter is a matrix, rather than its diagonal."""
        return self.scatter.ndim == 2

    def variance(self) -> np.ndarray:
        """float64[d], divided by the count; zeros if there are no rows."""
        diagonal = np.diagonal(self.scatter) if self.full else self.scatter
        return diagonal / max(self.count, 1)

    def covariance(self) -> np.ndarray:
        """float64[d, d], divided by the count; zeros if there are no rows.

        Raises:
            ValueError: only the diagonal was collected.
        """
        if not self.full:
            raise ValueError("only the diagonal of these moments was collected: no covariance")
        return self.scatter / max(self.count, 1)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays of numbers for `np.savez`, named `<prefix>/count` and so on.

        Of a full matrix one triangle is kept, packed: d (d + 1) / 2 values.
        """
        scatter = pack(self.scatter) if self.full else self.scatter
        return {
            f"{prefix}/count": np.array(self.count, dtype=np.int64),
            f"{prefix}/mean": self.mean,
            f"{prefix}/full": np.array(self.full),
            f"{prefix}/scatter": scatter,
        }

    @classmethod
    def from_arrays(cls, prefix: str, arrays: Mapping[str, np.ndarray]) -> Moments:
        """What `to_arrays` was called on, bit for bit."""
        mean, scatter = arrays[f"{prefix}/mean"], arrays[f"{prefix}/scatter"]
        if arrays[f"{prefix}/full"]:
            scatter = unpack(scatter, len(mean))
        return cls(int(arrays[f"{prefix}/count"]), mean, scatter)


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of a's rows and b's rows together.

    Raises:
        ValueError: they differ in dimensions, or one is full and the other is not.
    """
    if a.scatter.shape != b.scatter.shape:
        raise ValueError(
            "moments of different shapes cannot be merged: "
            f"{list(a.scatter.shape)} and {list(b.scatter.shape)}"
        )
    if a.count == 0 or b.count == 0:
        return b if a.count == 0 else a
    count = a.count + b.count
    step = b.mean - a.mean
    # The root is on both factors, so that the outer product is symmetric to the bit.
    root = step * np.sqrt(a.count * b.count / count)
    scatter = np.outer(root, root) if a.full else root * root
    scatter += a.scatter
    scatter += b.scatter
    return Moments(count, a.mean + step * (b.count / count), scatter)


def merge_all(parts: Iterable[Moments]) -> Moments:
    """All parts merged in their order, one at a time, so they may be loaded as they are asked for.

    Raises:
        ValueError: there are no parts, or they do not fit together.
    """
    merged: Moments | None = None
    for part in parts:
        merged = part if merged is None else merge(merged, part)
    if merged is None:
        raise ValueError("there are no moments to merge")
    return merged


# --- packed matrices -------------------------------------------------------------------------
#
# A symmetric matrix [d, d] as the d (d + 1) / 2 values of one triangle, in LAPACK's rectangular
# full packed format: half the memory, at the speed of BLAS on whole matrices (Gustavson et al.
# 2010, Rectangular full packed format for Cholesky's algorithm). Where in it a value stands
# matters to nobody: packed matrices are added, multiplied by a number, and unpacked.


def no_products(d: int) -> np.ndarray:
    """A packed matrix of zeros: float64[d (d + 1) / 2]."""
    return np.zeros(d * (d + 1) // 2)


def add_products(packed: np.ndarray, rows: np.ndarray) -> None:
    """Add rows' rows, of C-contiguous float64[n, d], to a packed matrix, in place."""
    from scipy.linalg.lapack import dsfrk

    n, d = rows.shape
    if n and d:
        # Unlike a whole matrix, halves of one come out different by the number of threads.
        with _blas().limit(limits=1, user_api="blas"):
            dsfrk(d, n, 1.0, rows.T, 1.0, packed, overwrite_c=1)


@cache
def _blas() -> ThreadpoolController:
    """What limits the threads of the BLAS that is loaded by now; to make it takes 3 ms."""
    return ThreadpoolController()


def pack(matrix: np.ndarray) -> np.ndarray:
    """The packed form of a symmetric float64[d, d]."""
    from scipy.linalg.lapack import dtrttf

    return dtrttf(matrix.T)[0] if len(matrix) else np.zeros(0)


def unpack(packed: np.ndarray, d: int) -> np.ndarray:
    """The symmetric float64[d, d] of a packed matrix, the same bits in both triangles."""
    from scipy.linalg.lapack import dtfttr

    if not d:
        return np.zeros((0, 0))
    matrix = dtfttr(d, packed)[0]
    _mirror(matrix)
    return matrix.T  # column-major until here


def _batches(rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows in order as float64[m, d], all in one buffer that the next batch overwrites."""
    n, d = rows.shape
    size = min(n, max(1, BATCH_VALUES // max(d, 1)))
    buffer = np.empty((size, d))
    for start in range(0, n, size):
        batch = buffer[: min(size, n - start)]
        batch[...] = rows[start : start + size]
        yield batch


def _mirror(matrix: np.ndarray) -> None:
    """Copy the upper triangle of a square matrix to the lower one, in place."""
    for i in range(1, len(matrix)):
        matrix[i, :i] = matrix[:i, i]
