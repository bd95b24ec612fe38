"""What the tests of tables share: typed tables from rows, and extractors fitted to them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from schemas.tables import ARROW
from transforms.extractors.base import Batch, Context, State
from transforms.extractors.table.columns import Columns

NUMBERS = st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, 0.1, 1e6, 3.0]))
TEXTS = st.one_of(
    st.none(),
    st.sampled_from(["a", "b", "ä", "a\0", "😀", "\uffff"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3),
)
TIMES = st.one_of(
    st.none(),
    st.datetimes(datetime(1, 1, 1), timezones=st.just(UTC)),
    st.sampled_from([datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 29, 5, tzinfo=UTC)]),
)
BOOLEANS = st.one_of(st.none(), st.booleans())
VALUES = {"number": NUMBERS, "category": TEXTS, "time": TIMES, "boolean": BOOLEANS}


def columns(kinds: dict[str, str], **options: object) -> Columns:
    extractor = Columns(**options)
    extractor.context = Context(columns=kinds)
    return extractor


def table(kinds: dict[str, str], *rows: tuple) -> pa.Table:
    schema = pa.schema([(name, ARROW[kind]) for name, kind in kinds.items()])
    return pa.table(
        [pa.array([row[i] for row in rows], schema[i].type) for i in range(len(kinds))],
        schema=schema,
    )


def column(kind: str, *values: object) -> pa.Table:
    """A table with one column, x."""
    return table({"x": kind}, *((value,) for value in values))


def fit(extractor: Columns, *parts: pa.Table) -> Columns:
    extractor.load(extractor.finish(merged(extractor, parts)))
    return extractor


def merged(extractor: Columns, parts: Sequence[pa.Table]) -> State:
    return extractor.merge([extractor.partial(Batch(part)) for part in parts])


def transformed(extractor: Columns, rows: pa.Table) -> dict[str, list[float]]:
    """Values by name of the dimension; no row may fail."""
    batch = Batch(rows)
    out = extractor.transform(batch)
    assert batch.failures == {}
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    names = extractor.names()
    assert out.shape == (len(rows), len(names))
    assert len(set(names)) == len(names)
    return {name: out[:, i].tolist() for i, name in enumerate(names)}


def cut(rows: pa.Table, cuts: Sequence[int]) -> list[pa.Table]:
    """The rows in parts, some of them empty."""
    edges = [0, *sorted(min(at, len(rows)) for at in cuts), len(rows)]
    return [rows.slice(a, b - a) for a, b in itertools.pairwise(edges)]
