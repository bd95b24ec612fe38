"""Latent semantic analysis: sparse rows projected onto the axes that keep most of them.

That is the truncated singular value decomposition X = U S V^T of the rows without centring, by
way of the second moments X^T X, whose eigenvectors are V. What is learnt of rows is kept as these
rows while they are few, and as their moments from then on, so that it is small on small data and
bounded on any.

References:
    Deerwester, Dumais, Furnas, Landauer, Harshman: Indexing by latent semantic analysis. Journal
    of the American Society for Information Science 41(6), 1990.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from transforms.extractors.base import State
from transforms.fusion.components import axes_of_covariance, axes_of_rows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_DENSE = 0.05  # share of values that are not zero from which BLAS is faster than sparse products
_ROWS = 256  # made dense at a time


def remembered(where: np.ndarray, values: np.ndarray, n: int, d: int) -> State:
    """The state of n sparse rows.

    Args:
        where: int64[m], row * d + column of each value, ascending.
        values: float64[m].
        n: number of rows.
        d: number of columns.

    Returns:
        lengths: int64[n], values in each row;
        columns: int32[m];
        values: float64[m];
        moments: float64[0, 0]: no rows are in there yet. Later float64[d, d], X^T X of the rows
            that are no longer kept, of which the upper triangle counts.
    """
    return {
        "lengths": np.bincount(where // d, minlength=n),
        "columns": (where % d).astype(np.int32),
        "values": values,
        "moments": np.zeros((0, 0)),
    }


def merged(states: Sequence[State], d: int) -> State:
    """One state for the rows of several: moments once the rows would take more memory."""
    nothing = remembered(np.zeros(0, np.int64), np.zeros(0), 0, d)
    rows = {
        name: np.concatenate([nothing[name], *(state[name] for state in states)])
        for name in ("lengths", "columns", "values")
    }
    moments = [state["moments"] for state in states if len(state["moments"])]
    state = rows | {"moments": sum(moments[1:], moments[0]) if moments else nothing["moments"]}
    if sum(array.nbytes for array in rows.values()) <= 8 * d * d:
        return state
    return nothing | {"moments": second_moments(state, d)}


def second_moments(state: State, d: int) -> np.ndarray:
    """X^T X of all rows of a state, float64[d, d], of which the upper triangle counts.

    Takes 8 d^2 bytes, and up to 20 d^2 more on the way.
    """
    moments = np.zeros((d, d))
    if len(state["moments"]):
        moments += state["moments"]
    rows = _sparse(state["lengths"], state["columns"], state["values"], d)
    if rows.nnz < _DENSE * rows.shape[0] * d:
        moments += (rows.T @ rows).toarray()
        return moments
    from scipy.linalg.blas import dsyrk

    for start in range(0, rows.shape[0], _ROWS):
        dense = rows[start : start + _ROWS].toarray()
        # The lower triangle of a column-major view is the upper one of `moments`.
        dsyrk(1.0, dense.T, beta=1.0, c=moments.T, lower=1, overwrite_c=1)
    return moments


def axes(state: State, d: int, components: int) -> np.ndarray:
    """Axes float64[d, components] of length 1, largest singular value first.

    The loading of largest size of each is positive. Where the rows have fewer dimensions than
    components are asked for, the others are zeros. Fewer rows than columns are taken by way of
    the products of all pairs of rows, which is much faster, and the same up to rounding.
    """
    if not len(state["moments"]) and 0 < len(state["lengths"]) < d:
        rows = _sparse(state["lengths"], state["columns"], state["values"], d)
        found = axes_of_rows(rows.toarray(), np.zeros(d), np.ones(d), components)
    else:
        found = axes_of_covariance(second_moments(state, d), np.ones(d), components)
    out = np.zeros((d, components))
    out[:, : len(found)] = found.T
    return out


def projected(where: np.ndarray, values: np.ndarray, n: int, axes: np.ndarray) -> np.ndarray:
    """Sparse rows, given as to `remembered`, times axes: float64[n, components].

    The sparse product adds up the values of each row in their order, so the bits of a row do not
    depend on the others, nor on the processor as those of BLAS do.
    """
    d = len(axes)
    rows = _sparse(np.bincount(where // d, minlength=n), where % d, values, d)
    return rows @ axes


def _sparse(lengths: np.ndarray, columns: np.ndarray, values: np.ndarray, d: int) -> csr_array:
    from scipy.sparse import csr_array  # takes a while to import, and few recipes need it

    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return csr_array((values, columns, ends), shape=(len(lengths), d))
