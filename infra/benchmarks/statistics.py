"""Statistics and closed-form training of a large set in one pass, against reading it.

    python -m infra.benchmarks.statistics                   1,000,000 rows x 3 x 64 dimensions
    python -m infra.benchmarks.statistics --missing 0.3     ... of which 30 % lack
    python -m infra.benchmarks.statistics --cost            a row at 192 and 2,000 dimensions

The set is 64 Parquet files. One process reads them, another reads them once and trains on what it
has counted, each on one thread; they take turns, and the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from infra.benchmarks.whole_job import Run, median, show, timed
from schemas.tables import matrix, read_table, vector_type, vectors, write_table
from transforms.fusion.collecting import Rows, collect
from transforms.learning.closed_form import lda, normal_equations, ridge
from transforms.learning.curves import lda_curve, ridge_curve, standardiser

MODALITIES = ("image", "audio", "text")
CLASSES = tuple("abcdefghij")
DIMENSION = 64
FOLDS = 5
FILES = 64
SHRINKAGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
ALPHAS = tuple(10.0**e for e in range(-2, 8))


def make(folder: Path, rows: int, missing: float) -> None:
    """Write the set unless it is there."""
    if (folder / "done").exists():
        return
    print(f"making a set of {rows:,} rows", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    counts = [rows // FILES + (i < rows % FILES) for i in range(FILES)]
    with ProcessPoolExecutor() as pool:
        list(pool.map(_write, [folder] * FILES, range(FILES), counts, [missing] * FILES))
    (folder / "done").touch()


def _write(folder: Path, number: int, rows: int, missing: float) -> None:
    """One file: correlated values whose means depend on the class."""
    D = len(MODALITIES) * DIMENSION
    same = np.random.default_rng(0)
    mix = (np.eye(D) + same.normal(size=(D, D)) / np.sqrt(D)).astype(np.float32)
    means = (0.08 * same.normal(size=(len(CLASSES), D))).astype(np.float32)
    rng = np.random.default_rng([1, number])
    y = rng.integers(0, len(CLASSES), rows)
    x = rng.normal(size=(rows, D)).astype(np.float32) @ mix + means[y]
    present = rng.random((rows, len(MODALITIES))) >= missing
    fields = [pa.field(name, vector_type(DIMENSION), nullable=False) for name in MODALITIES]
    others = [("present", pa.uint8()), ("label", pa.int8()), ("fold", pa.int8())]
    schema = pa.schema([*fields, *others])
    columns = [
        *(vectors(part) for part in np.split(x, len(MODALITIES), axis=1)),
        pa.array(present @ [1, 2, 4], pa.uint8()),
        pa.array(y, pa.int8()),
        pa.array(rng.integers(0, FOLDS, rows), pa.int8()),
    ]
    path = str(folder / f"part-{number:02d}.parquet")
    write_table(path, [pa.table(columns, schema=schema)], schema)


def parts(paths: list[Path]) -> Iterator[Rows]:
    """The rows of each file."""
    for path in paths:
        table = read_table(str(path))
        bits = table.column("present").to_numpy()
        yield Rows(
            {name: matrix(table.column(name)) for name in MODALITIES},
            (bits[:, None] >> np.arange(len(MODALITIES)) & 1).astype(bool),
            table.column("fold").to_numpy(),
            table.column("label").to_numpy().astype(np.int64),
            CLASSES,
        )


def read(paths: list[Path]) -> None:
    """What cannot be avoided: read the files."""
    start = time.process_time()
    rows = sum(len(part.fold) for part in parts(paths))
    print(f"{rows:,} rows read in {time.process_time() - start:.2f} s of CPU")


def learn(paths: list[Path]) -> None:
    """Read the files once; cross-validate LDA and ridge regression of classes, and train them."""
    clock = [time.process_time()]
    known = collect(parts(paths))
    clock.append(time.process_time())
    shrinkage = lda_curve(known, SHRINKAGES).best
    penalty = ridge_curve(known, ALPHAS).best
    fill, shift, factor = standardiser(known, "standard", "mean")
    whole = known.filled(fill).scaled(shift, factor)
    models = lda(whole.by_class(), shrinkage), ridge(normal_equations(whole), penalty)
    clock.append(time.process_time())
    # A look at what was learnt, which is no part of the work: rows of the last file.
    last = next(parts(paths[-1:]))
    x = np.hstack(list(last.blocks.values())).astype(np.float64)
    has = np.repeat(last.present, DIMENSION, axis=1)
    x = (np.where(has, x, fill) - shift) * factor
    right = [float((m.decision(x).argmax(axis=1) == last.y).mean()) for m in models]
    print(
        f"read and count {clock[1] - clock[0]:.2f} s, cross-validate and fit "
        f"{clock[2] - clock[1]:.2f} s of CPU; {len(known.cells)} patterns, "
        f"{known.nbytes / 2**20:.1f} MiB"
    )
    print(f"shrinkage {shrinkage}, {right[0]:.3f} right; penalty {penalty:g}, {right[1]:.3f} right")


def cost(missing: float) -> None:
    """Cost a row of counting alone: buckets of 2,000 rows in memory, 5 folds, 10 classes."""
    rng = np.random.default_rng(0)
    for dims in (dict.fromkeys(MODALITIES, 64), {"image": 1000, "audio": 500, "text": 500}):
        buckets = []
        for _ in range(8):
            n = 2000
            blocks = {m: rng.normal(size=(n, d)).astype(np.float32) for m, d in dims.items()}
            present = rng.random((n, len(dims))) >= missing
            fold, y = rng.integers(0, FOLDS, n), rng.integers(0, len(CLASSES), n)
            buckets.append(Rows(blocks, present, fold, y, CLASSES))
        for second in ("diagonal", "pooled"):
            times = []
            for _ in range(4):
                start = time.process_time()
                found = collect(buckets, second)
                times.append(time.process_time() - start)
            each = min(times) / sum(len(b.fold) for b in buckets) * 1e6
            print(
                f"{sum(dims.values()):>5,} dimensions, {second:<8} {each:7.2f} us of CPU a row, "
                f"{found.nbytes / 2**20:6.1f} MiB"
            )


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--missing", type=float, default=0.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(".benchmarks"))
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--only", choices=["read", "learn"], help="the work of one process")
    args = parser.parse_args()
    folder = args.folder / f"vectors-{args.rows}-{args.missing:g}"
    if args.cost:
        cost(args.missing)
        return
    if args.only:
        pa.set_cpu_count(1)
        paths = sorted(folder.glob("*.parquet"))
        read(paths) if args.only == "read" else learn(paths)
        return
    make(folder, args.rows, args.missing)
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # of the processes below
    own = [sys.executable, "-m", "infra.benchmarks.statistics", "--folder", str(args.folder)]
    own += ["--rows", str(args.rows), "--missing", str(args.missing), "--only"]

    def once(what: str) -> Run:
        return timed([*own, what], args.folder / "unused")

    once("read"), once("learn")  # warm the page cache
    pairs = [(once("read"), once("learn")) for _ in range(args.runs)]
    reading = [r for r, _ in pairs]
    show("read", reading)
    show("read and learn", [w for _, w in pairs], median(reading))
    for what in ("read", "learn"):
        subprocess.run([*own, what], check=True)


if __name__ == "__main__":
    main()
