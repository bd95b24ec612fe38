"""Training some networks side by side, in a process of its own.

JAX has threads, so it is never imported where processes are forked; and with one thread in a
process, the same seed gives the same bytes on the same machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from schemas.options.fuse import Deep
from schemas.plan import Plan
from transforms.fusion.moments import Moments
from transforms.fusion.network import Network, own
from transforms.learning.dataset import labelled_rows
from transforms.learning.network.batches import Read, Rows, Stream, scales_of
from transforms.learning.network.jobs import Job
from transforms.learning.network.survey import Sight, Survey

PATIENCE = 10
"""Epochs without a better loss after which training ends."""
STEPS = 64
"""At least about half as many steps an epoch, as long as batches do not get too small."""
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network.

    Attributes:
        network: with all that it needs to be used.
        epochs: after how many its weights were taken.
        loss: of its twin then, on the rows that it had not seen; None where there were none.
    """

    network: Network
    epochs: int
    loss: float | None


def fit_jobs(
    read: Read,
    buckets: int,
    found: Survey,
    deep: Deep,
    jobs: Sequence[Job],
    told: Callable[[int], None] = lambda _: None,
) -> list[Fitted]:
    """Train the networks of some jobs.

    Call it in a process that has not forked and will not: see `training`.

    Args:
        read: gives the labelled rows of buckets.
        buckets: how many there are.
        found: what the first pass told.
        deep: the strategy.
        jobs: each gives a network.
        told: called with the number of epochs done, after each.
    """
    os.environ.update(_ENVIRONMENT)
    import jax

    from transforms.learning.network import steps

    sight = Sight.of(jobs, found)
    size = batch_size(sum(found.rows.values()))
    stream = Stream(read, buckets, found, sight, size, deep.modality_dropout, deep.seed)
    n = len(jobs)
    # Twins first: see `Sight`.
    inner = [found.inner(job) for job in jobs] + [None] * n
    known = [found.known(job, i) for job, i in zip([*jobs, *jobs], inner, strict=True)]
    scales = [scales_of(deep.scale, one[:-1]) for one in known]
    scaling = steps.Scaling(*_relative(stream, scales, known, found.classes is None))
    per_epoch = -(-sum(found.rows.values()) // size)
    settings = steps.Settings(
        dimension=deep.dimension,
        pooling=deep.pooling,
        auxiliary=deep.auxiliary,
        learning_rate=deep.learning_rate,
        weight_decay=deep.weight_decay,
        seed=deep.seed,
        widths=tuple(len(kept) for kept in stream.columns.kept),
        outputs=0 if found.classes is None else len(found.classes),
        networks=2 * n,
        steps=per_epoch * deep.epochs,
    )
    state = steps.start(settings)
    twins = jax.tree.map(lambda array: array[:n], scaling)
    best, taken = np.full(n, np.inf), np.zeros(n, int)
    kept: Any = None
    number = 0
    for epoch in range(deep.epochs):
        rng = np.random.Generator(np.random.PCG64([deep.seed, epoch, 1]))
        for rows in stream.epoch(epoch):
            noise = steps.noise(settings, rng, size, deep.dropout)
            batch = _batch(steps, rows, rows.there, rows.training, noise)
            state = steps.step(settings, state, scaling, batch, number)
            number += 1
        average = {name: array[:n] for name, array in state.average.items()}
        loss, count = np.zeros(n), np.zeros(n)
        for rows in stream.validation():
            batch = _batch(steps, rows, rows.rows.present, rows.validation, None)
            loss += np.asarray(steps.validation(settings, average, twins, batch), np.float64)
            count += rows.validation.sum(axis=1, dtype=np.float64)
        # Without rows to stop by, the last epoch is the best.
        loss = np.where(count > 0, loss / np.maximum(count, 1), -epoch)
        better = loss < best
        best, taken = np.where(better, loss, best), np.where(better, epoch + 1, taken)
        whole = {name: array[n:] for name, array in state.average.items()}
        kept = whole if kept is None else steps.keep(kept, whole, better)
        told(epoch + 1)
        if (epoch + 1 - taken >= PATIENCE).all():
            break
    arrays = {name: np.asarray(array) for name, array in kept.items()}
    fitted = []
    for j in range(n):
        one = {name: array[j] for name, array in arrays.items()}
        if found.classes is None or not deep.auxiliary:  # only training asks these heads
            one = {m: a for m, a in one.items() if "/head/" not in m}
        weights = _weights(stream, found, one, scales[n + j], known[n + j])
        name = "+".join(found.modalities)
        network = Network(name, found.modalities, deep.pooling, weights)
        loss_j = float(best[j]) if np.isfinite(best[j]) and count[j] else None
        fitted.append(Fitted(network, int(taken[j]), loss_j))
    return fitted


def batch_size(rows: int) -> int:
    """Rows a step: a power of two, so that few rows make enough steps an epoch: 16 to 256."""
    return min(max(1 << (rows // STEPS).bit_length(), 16), 256)


def _batch(steps: Any, rows: Rows, there: np.ndarray, counts: np.ndarray, noise: Any) -> Any:
    return steps.Batch(tuple(rows.rows.blocks), there, rows.rows.y, counts, noise)


def _relative(
    stream: Stream,
    scales: list[list[np.ndarray]],
    known: Sequence[Sequence[Moments]],
    numbers: bool,
) -> tuple[Any, ...]:
    """What each network does to features and numbers in the stream's scale; see `Scaling`."""
    shifts, factors = [], []
    for i in range(len(stream.columns.kept)):
        pairs = [stream.columns.relative(i, one[i]) for one in scales]
        shifts.append(np.stack([shift for shift, _ in pairs]))
        factors.append(np.stack([factor for _, factor in pairs]))
    y = [stream.columns.numbers(one[-1]) if numbers else (0.0, 1.0) for one in known]
    mean, deviation = np.array(y, np.float32).T
    return tuple(shifts), tuple(factors), mean, deviation


def _weights(
    stream: Stream,
    found: Survey,
    trained: dict[str, np.ndarray],
    scales: list[np.ndarray],
    known: Sequence[Moments],
) -> dict[str, np.ndarray]:
    """The weights of one network for features as they are, by the modalities' names."""
    weights: dict[str, np.ndarray] = {}
    for name, array in trained.items():
        if not name.startswith(own("")):
            weights[name] = array
    for i, modality in enumerate(found.modalities):
        numbered, m = own(str(i)), own(modality)
        for name, array in trained.items():
            if name.startswith(f"{numbered}/"):
                weights[m + name.removeprefix(numbered)] = array
        weights[f"{m}/shift"], weights[f"{m}/factor"] = scales[i]
        whole = np.zeros((scales[i].shape[1], weights[f"{m}/weights"].shape[1]), np.float32)
        whole[stream.columns.kept[i]] = weights[f"{m}/weights"]
        weights[f"{m}/weights"] = whole
    if found.classes is None:
        mean = known[-1].mean[0]
        deviation = np.sqrt(known[-1].variance()[0]) or 1.0
        weights["head/weights"] = weights["head/weights"] * np.float32(deviation)
        weights["head/bias"] = weights["head/bias"].astype(np.float64) * deviation + mean
    return weights


def fit_for_plan(
    plan: Plan, found: Survey, deep: Deep, jobs: Sequence[Job], told: Callable[[int], None]
) -> list[Fitted]:
    """The same from the files of an output."""
    return fit_jobs(partial(labelled_rows, plan), plan.buckets, found, deep, jobs, told)
