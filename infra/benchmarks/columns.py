"""A table's columns against scikit-learn: rows a second of one core's time.

    python -m infra.benchmarks.columns [ROWS]

Four columns of numbers (one with gaps), two of categories and one of times; fitted and transformed
in batches of 4,096 rows. Beside it a ColumnTransformer that does the same as nearly as it can,
on whole columns where it fits, in batches where it transforms. Processor time, not the clock's:
it means something on a shared machine too.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    QuantileTransformer,
    StandardScaler,
)

from transforms.extractors.base import Batch, Context, State
from transforms.extractors.batches import BATCH
from transforms.extractors.extracting import MERGE
from transforms.extractors.table.columns import Columns

NUMBERS, CATEGORIES, TIMES = list("abcd"), list("ef"), ["t"]
KINDS = {
    **dict.fromkeys(NUMBERS, "number"),
    **dict.fromkeys(CATEGORIES, "category"),
    **dict.fromkeys(TIMES, "time"),
}
SIZE = BATCH["table"]


def make(rows: int) -> pa.Table:
    """Columns of several distributions."""
    random = np.random.default_rng(0)
    seconds = random.integers(1_500_000_000, 1_700_000_000, rows)
    return pa.table(
        {
            "a": pa.array(random.normal(size=rows), mask=random.random(rows) < 0.05),
            "b": random.lognormal(size=rows),
            "c": random.integers(0, 100, rows).astype(float),
            "d": random.normal(1e6, 1, rows),
            "e": [f"kind{i}" for i in random.integers(0, 20, rows)],
            "f": [f"city{i}" for i in random.zipf(1.5, rows) % 5000],
            "t": pa.array(seconds * 10**6, pa.timestamp("us", "UTC")),
        }
    )


def ours(table: pa.Table, **options: object) -> None:
    """Fit and transform as the framework does."""
    extractor = Columns(**options)
    extractor.context = Context(columns=KINDS)
    start = time.process_time()
    states: list[State] = []
    for at in range(0, len(table), SIZE):
        states.append(extractor.partial(Batch(table.slice(at, SIZE))))
        if len(states) == MERGE:
            states = [extractor.merge(states)]
    extractor.load(extractor.finish(extractor.merge(states)))
    middle = time.process_time()
    for at in range(0, len(table), SIZE):
        extractor.transform(Batch(table.slice(at, SIZE)))
    show(f"Columns({options or ''})", len(table), start, middle)


def theirs(frame: pd.DataFrame, name: str, scaler: object) -> None:
    """Fit on the whole and transform in batches."""
    transformer = ColumnTransformer(
        [
            (
                "n",
                make_pipeline(SimpleImputer(strategy="median", add_indicator=True), scaler),
                NUMBERS,
            ),
            (
                "c",
                OneHotEncoder(max_categories=65, handle_unknown="ignore", sparse_output=False),
                CATEGORIES,
            ),
            ("p", FunctionTransformer(parts), TIMES),
            ("e", make_pipeline(FunctionTransformer(days), StandardScaler()), TIMES),
        ]
    )
    start = time.process_time()
    transformer.fit(frame)
    middle = time.process_time()
    for at in range(0, len(frame), SIZE):
        transformer.transform(frame.iloc[at : at + SIZE]).astype(np.float32)
    show(f"ColumnTransformer({name})", len(frame), start, middle)


def parts(frame: pd.DataFrame) -> np.ndarray:
    """Sine and cosine of the parts that recur."""
    times = frame.iloc[:, 0].dt
    turns = [
        (times.hour * 60 + times.minute) / 1440,
        times.day_of_week / 7,
        (times.day - 1) / times.days_in_month,
        (times.month - 1) / 12,
    ]
    angles = 2 * np.pi * np.stack(turns, axis=1)
    return np.hstack([np.sin(angles), np.cos(angles)])


def days(frame: pd.DataFrame) -> np.ndarray:
    """Days since 1970."""
    return frame.astype("int64").to_numpy(float) / 86_400e6


def show(name: str, rows: int, start: float, middle: float) -> None:
    """A line of figures."""
    end = time.process_time()
    print(
        f"{name:<28} fit {rows / (middle - start):>9,.0f} rows a second, "
        f"transform {rows / (end - middle):>9,.0f}, both {rows / (end - start):>9,.0f}",
        flush=True,
    )


def main(rows: int) -> None:
    """Print the figures."""
    pa.set_cpu_count(1)
    table = make(rows)
    frame = table.to_pandas()
    for options in ({}, {"scale": "rank"}, {"hash": 256}):
        ours(table, **options)
    theirs(frame, "standard", StandardScaler())
    theirs(frame, "rank", QuantileTransformer(n_quantiles=1001, subsample=None))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
