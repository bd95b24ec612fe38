"""Networks trained for tests, in processes of their own: JAX must not be where others fork."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from schemas.options.fuse import Deep
from transforms.fusion.network import Network, own
from transforms.learning.dataset import LabelledRows
from transforms.learning.network import batches
from transforms.learning.network.fitting import Fitted, fit_jobs
from transforms.learning.network.jobs import Job
from transforms.learning.network.survey import survey

FOLDS = 3


def processes(count: int) -> ProcessPoolExecutor:
    """Processes that are started anew, each for one thing to do."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, max_tasks_per_child=1)


def rows_of(blocks: dict[str, np.ndarray], labels: np.ndarray, **fields: Any) -> LabelledRows:
    """Labelled rows in three folds, none in the test."""
    n = len(labels)
    made: dict[str, Any] = {
        "keys": np.array([f"k{i:05d}" for i in range(n)]),
        "labels": labels,
        "group": np.full(n, ""),
        "domain": np.full(n, ""),
        "fold": (np.arange(n) % FOLDS).astype(np.int32),
        "present": np.ones((n, len(blocks)), bool),
        "blocks": {name: block.astype(np.float32) for name, block in blocks.items()},
        "rows": np.ones(n, bool),
    }
    return LabelledRows(**{**made, **fields})


def reader(rows: LabelledRows, buckets: int) -> Callable[[Sequence[int]], Iterator[LabelledRows]]:
    """Gives rows in buckets, as an output does."""

    def read(wanted: Sequence[int]) -> Iterator[LabelledRows]:
        for bucket in wanted:
            yield rows.take(np.arange(bucket, len(rows.keys), buckets))

    return read


def fit(rows: LabelledRows, deep: Deep, jobs: list[Job], buckets: int = 4) -> list[Fitted]:
    """Train networks on rows in memory."""
    read = reader(rows, buckets)
    numbers = rows.labels.dtype.kind == "f"
    found = survey(tuple(rows.blocks), read(range(buckets)), numbers)
    return fit_jobs(read, buckets, found, deep, jobs)


def vectors(network: Network, rows: LabelledRows) -> np.ndarray:
    """float64[n, d] of all rows."""
    out = np.zeros((len(rows.keys), network.width))
    here = {name: rows.present[:, i] for i, name in enumerate(rows.blocks)}
    network.write(rows.blocks, here, out)
    return out


def outputs(network: Network, rows: LabelledRows) -> np.ndarray:
    """float64[n, k], what the network says."""
    coef, intercept = network.joint_head()
    return vectors(network, rows) @ coef.T + intercept


def out_of_fold(rows: LabelledRows, fitted: list[Fitted]) -> np.ndarray:
    """float64[n, k] of networks without each fold in turn."""
    found = [outputs(one.network, rows) for one in fitted]
    return np.stack(found)[rows.fold, np.arange(len(rows.keys))]


def both(work: Callable[..., Any], one: Any, two: Any, *rest: Any) -> tuple[Any, Any]:
    """The same done for two things in one process, which compiles once."""
    return work(one, *rest), work(two, *rest)


def agreement(pooling: Any, seed: int = 0) -> float:
    """The largest difference between the fused vectors of both passes, on random weights."""
    import os

    os.environ["JAX_PLATFORMS"] = "cpu"
    from transforms.learning.network import steps

    rng = np.random.default_rng(seed)
    settings = steps.Settings(16, pooling, 0.3, 1e-3, 0.0, seed, (5, 1, 40), 3, 1, 10)
    weights = {
        n: a + rng.normal(0, 0.3, a.shape).astype(np.float32)
        for n, a in steps.initial(settings).items()
    }
    n, names = 300, ("0", "1", "2")
    blocks = [rng.normal(3, 2, (n, d)).astype(np.float32) for d in settings.widths]
    there = rng.random((n, 3)) < 0.6  # some rows have nothing
    shift = tuple(np.full(d, 3, np.float32) for d in settings.widths)
    factor = tuple(rng.random(d).astype(np.float32) for d in settings.widths)
    tokens = steps.tokens_of(weights, shift, factor, tuple(blocks), there)
    vector = np.asarray(steps.vector_of(weights, pooling, tokens, there))
    said = [
        np.asarray(tokens[:, i] @ weights[f"{m}/head/weights"] + weights[f"{m}/head/bias"])
        * there[:, [i]]
        for i, m in enumerate(map(own, names))
    ]
    theirs = np.hstack([vector, sum(said) / np.maximum(there.sum(axis=1, keepdims=True), 1)])
    for name, a, b in zip(names, shift, factor, strict=True):
        weights[f"{own(name)}/shift"], weights[f"{own(name)}/factor"] = a, b
    ours = np.zeros((n, 16 + 3))
    values = {
        name: np.where(there[:, [i]], b, np.nan)
        for i, (name, b) in enumerate(zip(names, blocks, strict=True))
    }
    Network("all", names, pooling, weights).write(
        values, {name: there[:, i] for i, name in enumerate(names)}, ours
    )
    return float(np.abs(ours - theirs).max())


def moved() -> tuple[float, float]:
    """How far ten steps move a map's weights: of what half the rows have, and what one in 64 has.

    Both tell the same of the label of the rows that have them.
    """
    import os

    os.environ["JAX_PLATFORMS"] = "cpu"
    from transforms.learning.network import steps

    settings = steps.Settings(16, "gated", 1.0, 1e-3, 0.0, 0, (2,), 2, 1, 100)
    block = np.zeros((64, 2), np.float32)
    block[:32, 0] = block[32, 1] = 1
    y = (np.arange(64) > 32).astype(np.int32)
    noise = np.ones((64, 2, 4 * 16), np.float32)
    counts = np.ones((1, 64), np.float32)
    batch = steps.Batch((block,), np.ones((64, 1), bool), y, counts, noise)
    one = np.ones((1, 2), np.float32)
    scaling = steps.Scaling((0 * one,), (one,), one[:, 0] * 0, one[:, 0])
    state = steps.start(settings)
    before = np.asarray(state.weights["modalities/0/weights"][0])
    for number in range(10):
        state = steps.step(settings, state, scaling, batch, number)
    far = np.abs(np.asarray(state.weights["modalities/0/weights"][0]) - before).mean(axis=1)
    return float(far[0]), float(far[1])


def peak(rows: int) -> int:
    """Largest memory, in bytes, of a process that trains on so many rows for two epochs.

    It keeps no buckets, so that what it does with many rows shows with few.
    """
    batches.KEPT_BYTES, batches.SHUFFLED_BYTES = 0, 4 << 20  # full with the fewest rows, too
    buckets = rows // 2000

    def read(wanted: Sequence[int]) -> Iterator[LabelledRows]:
        for bucket in wanted:
            rng = np.random.default_rng(bucket)
            blocks = {name: rng.normal(size=(2000, 128)) for name in ("a", "b")}
            labels = np.where(blocks["a"][:, 0] > 0, "x", "y")
            yield rows_of(blocks, labels)

    found = survey(("a", "b"), read(range(buckets)), numbers=False)
    deep = Deep(method="deep", dimension=16, epochs=2)
    fit_jobs(read, buckets, found, deep, [Job(), Job((0,))])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def xor(n: int = 900) -> LabelledRows:
    """The label is whether the first numbers of two modalities have the same sign.

    One of them has the name of a part of the network.
    """
    rng = np.random.default_rng(1)
    blocks = {name: rng.normal(size=(n, 4)) for name in ("a", "head")}
    return rows_of(blocks, np.where((blocks["a"] * blocks["head"])[:, 0] > 0, "same", "other"))
