"""The network in JAX: initial weights, losses, a step of training.

Several networks are trained side by side: every array has one axis more, in front, and all see
the same batches, each with its own weights for the rows, zero for those that it must not see.
`transforms.fusion.network` says what a network computes.

Only for processes that train: JAX has threads of its own, which do not survive a fork.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from transforms.fusion.network import ATTENTION_HEADS, EPSILON, Pooling, own

Weights = dict[str, Any]
DECAY = 0.99
"""Share of the average of weights that stays at a step, once there were some hundred."""


class Batch(NamedTuple):
    """Rows, as many in every batch.

    Attributes:
        blocks: features of each modality, float32[n, d_m], zeros where it is missing.
        there: bool[n, m].
        y: int32[n] classes or float32[n] numbers.
        counts: float32[networks, n], how much a row counts for each network.
        noise: float32[n, m + 1, 4 d] or none: factors of hidden values, 0 or what makes up for
            those that are dropped (Srivastava et al. 2014): of each modality and of all together,
            of what a hidden layer reads (d), of its values (2 d), of what a head reads (d); the
            same for all networks. JAX's own random numbers take a second to compile.
    """

    blocks: tuple[Any, ...]
    there: Any
    y: Any
    counts: Any
    noise: Any = None


class Scaling(NamedTuple):
    """What each network does to features and numbers: constants, not trained.

    Attributes:
        shift, factor: of each modality, float32[networks, d_m].
        mean, deviation: float32[networks] of the numbers to predict; 0 and 1 for classes.
    """

    shift: tuple[Any, ...]
    factor: tuple[Any, ...]
    mean: Any
    deviation: Any


class State(NamedTuple):
    """Where training stands, of all networks.

    Attributes:
        weights: as they are.
        average: of the weights over the steps, which is what is used (Polyak & Juditsky 1992).
        optimiser: of Optax.
    """

    weights: Weights
    average: Weights
    optimiser: Any


@dataclass(frozen=True)
class Settings:
    """What training depends on besides the rows.

    Attributes:
        dimension, pooling, auxiliary, learning_rate, weight_decay, seed: see
            `schemas.options.fuse.Deep`.
        widths: number of features of each modality.
        outputs: number of classes; 0 for a number.
        networks: how many are trained side by side.
        steps: in all epochs, at most.
    """

    dimension: int
    pooling: Pooling
    auxiliary: float
    learning_rate: float
    weight_decay: float
    seed: int
    widths: tuple[int, ...]
    outputs: int
    networks: int
    steps: int


def initial(settings: Settings) -> Weights:
    """Random weights of one network, drawn from the seed: float32, by name.

    Modalities are numbered here.
    """
    rng = np.random.Generator(np.random.PCG64(settings.seed))
    d, k = settings.dimension, max(settings.outputs, 1)

    def drawn(rows: int, columns: int, size: float = 1.0) -> np.ndarray:
        return rng.normal(0, size / np.sqrt(rows), (rows, columns)).astype(np.float32)

    found: Weights = {}

    def linear(name: str, rows: int, columns: int, size: float = 1.0) -> None:
        found[f"{name}/weights"] = drawn(rows, columns, size)
        found[f"{name}/bias"] = np.zeros(columns, np.float32)

    def hidden(prefix: str) -> None:
        linear(f"{prefix}hidden", d, 2 * d)
        linear(f"{prefix}out", 2 * d, d, 0.1)

    for i, width in enumerate(settings.widths):
        m = own(str(i))
        linear(m, width, d)
        found[f"{m}/bias"] = drawn(1, d)[0]
        found[f"{m}/gain"] = np.ones(d, np.float32)
        found[f"{m}/embedding"] = drawn(d, d)[0] * np.float32(0.1)
        found[f"{m}/missing"] = np.zeros(d, np.float32)
        hidden(f"{m}/")
        linear(f"{m}/head", d, k, 0.1)
    if settings.pooling == "gated":
        wide = len(settings.widths) * d
        linear("gate", wide, wide, 0.1)
    else:
        for name in ("query", "key", "value", "output"):
            found[f"attention/{name}"] = drawn(d, d)
    hidden("")
    linear("head", d, k, 0.1)
    return found


def noise(settings: Settings, rng: np.random.Generator, rows: int, share: float) -> np.ndarray:
    """Factors of hidden values for a batch, of which a share is dropped; see `Batch`."""
    shape = (rows, len(settings.widths) + 1, 4 * settings.dimension)
    kept = rng.random(shape, np.float32) >= share
    return kept.astype(np.float32) / np.float32(1 - share)


def _linear(w: Weights, name: str, x: Any) -> Any:
    return x @ w[f"{name}/weights"] + w[f"{name}/bias"]


def _dropped(x: Any, noise: Any, start: int) -> Any:
    """`x` with its part of the noise, which starts there."""
    return x if noise is None else x * noise[:, start : start + x.shape[1]]


def _hidden(w: Weights, prefix: str, x: Any, noise: Any) -> Any:
    """`x`, float32[n, d], and what a hidden layer adds to it; `noise` from its first column on."""
    d = x.shape[1]
    hidden = jax.nn.silu(_linear(w, f"{prefix}hidden", _dropped(_normalised(x), noise, 0)))
    return _normalised(x + _linear(w, f"{prefix}out", _dropped(hidden, noise, d)))


def _normalised(x: Any) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + EPSILON)


def tokens_of(
    w: Weights,
    shift: tuple[Any, ...],
    factor: tuple[Any, ...],
    blocks: tuple[Any, ...],
    there: Any,
    noise: Any = None,
) -> Any:
    """float32[n, m, d] of one network."""
    found = []
    for i, block in enumerate(blocks):
        m = own(str(i))
        # All networks' products with a block are one product of matrices.
        scaled = w[f"{m}/weights"] * factor[i][:, None]
        token = _normalised(block @ scaled - shift[i] @ scaled + w[f"{m}/bias"])
        token = _hidden(w, f"{m}/", token, None if noise is None else noise[:, i])
        token = token * w[f"{m}/gain"] + w[f"{m}/embedding"]
        found.append(jnp.where(there[:, i, None], token, w[f"{m}/missing"]))
    return jnp.stack(found, axis=1)


def vector_of(w: Weights, pooling: Pooling, tokens: Any, there: Any, noise: Any = None) -> Any:
    """float32[n, d], the fused vectors; `noise`, float32[n, 4 d], on what leads to them."""
    n, m, d = tokens.shape
    if pooling == "attention":

        def of_heads(name: str) -> Any:
            found = tokens @ w[f"attention/{name}"]
            return found.reshape(n, m, ATTENTION_HEADS, -1).transpose(0, 2, 1, 3)

        query, key_, value = (of_heads(name) for name in ("query", "key", "value"))
        alike = query @ key_.transpose(0, 1, 3, 2) / np.sqrt(d // ATTENTION_HEADS)
        seen = jax.nn.softmax(alike, axis=-1) @ value
        tokens = tokens + seen.transpose(0, 2, 1, 3).reshape(n, m, d) @ w["attention/output"]
        asked = jnp.zeros_like(tokens)
    else:
        asked = _linear(w, "gate", tokens.reshape(n, m * d)).reshape(n, m, d)
    mask = there[:, :, None]
    asked = jnp.where(mask, asked, -1e30)
    shares = jnp.exp(asked - asked.max(axis=1, keepdims=True)) * mask
    shares = shares / jnp.maximum(shares.sum(axis=1, keepdims=True), EPSILON)
    pooled = (shares * tokens).sum(axis=1)
    return _hidden(w, "", pooled, noise)


def _losses(said: Any, y: Any, outputs: int) -> Any:
    """float32[n]: the log loss, or half the squared error."""
    if outputs:
        return optax.softmax_cross_entropy_with_integer_labels(said, y)
    return 0.5 * jnp.square(said[:, 0] - y)


def _loss(w: Weights, s: Settings, scaling: Scaling, batch: Batch) -> Any:
    """Of one network: the joint head's, and those of the modalities' heads."""
    d, y = s.dimension, batch.y
    if not s.outputs:
        y = (y - scaling.mean) / scaling.deviation
    of_all, start = batch.noise[:, -1], 3 * d
    tokens = tokens_of(w, scaling.shift, scaling.factor, batch.blocks, batch.there, batch.noise)
    vector = vector_of(w, s.pooling, tokens, batch.there, of_all)
    said = _linear(w, "head", _dropped(vector, of_all, start))
    total = jnp.maximum(batch.counts.sum(), 1)
    loss = (_losses(said, y, s.outputs) * batch.counts).sum() / total
    for i in range(len(s.widths)):
        said = _linear(w, f"{own(str(i))}/head", _dropped(tokens[:, i], batch.noise[:, i], start))
        own_losses = _losses(said, y, s.outputs) * batch.there[:, i]
        loss += s.auxiliary * (own_losses * batch.counts).sum() / total / len(s.widths)
    return loss


def _optimiser(s: Settings) -> Any:
    warm = max(1, min(s.steps // 10, 200))
    rate = optax.warmup_cosine_decay_schedule(
        0.0, s.learning_rate, warm, s.steps, 0.1 * s.learning_rate
    )

    def decays(weights: Weights) -> dict[str, bool]:
        return {name: array.ndim > 1 for name, array in weights.items()}

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        _adam(len(s.widths)),
        optax.add_decayed_weights(s.weight_decay, decays),
        optax.scale_by_learning_rate(rate),
    )


class _Moments(NamedTuple):
    """What `_adam` remembers: the number of steps, averages of slopes and of their squares."""

    count: Any
    slope: Weights
    square: Weights


def _adam(modalities: int) -> Any:
    """Adam (Kingma & Ba 2015) with one mean square for each modality's linear map.

    With one for each weight, a word that two rows have moves as far as one that half of them
    have, and rows are learnt by heart by what is rare in them (Wilson et al. 2017, "The marginal
    value of adaptive gradient methods"). With one for a matrix (as in Zhang et al. 2024,
    "Adam-mini") steps follow the slope there.
    """
    maps = {f"{own(str(i))}/weights" for i in range(modalities)}

    def squared(name: str, slope: Any) -> Any:
        return jnp.square(slope).mean() if name in maps else jnp.square(slope)

    def init(weights: Weights) -> _Moments:
        nothing = {name: jnp.zeros_like(array) for name, array in weights.items()}
        return _Moments(jnp.int32(0), nothing, {n: squared(n, a) for n, a in nothing.items()})

    def update(slopes: Weights, known: _Moments, _: Any) -> tuple[Weights, _Moments]:
        count = known.count + 1
        slope = {n: 0.9 * known.slope[n] + 0.1 * g for n, g in slopes.items()}
        square = {n: 0.999 * known.square[n] + 0.001 * squared(n, g) for n, g in slopes.items()}
        # Both start from 0, and this makes up for it.
        first, second = 1 - 0.9**count, 1 - 0.999**count
        change = {n: slope[n] / first / (jnp.sqrt(square[n] / second) + 1e-8) for n in slopes}
        return change, _Moments(count, slope, square)

    return optax.GradientTransformation(init, update)


def start(settings: Settings) -> State:
    """All networks before the first step; all the same."""
    several = {n: np.stack([a] * settings.networks) for n, a in initial(settings).items()}
    # Two copies, as a step reuses the memory of both.
    weights, average = ({n: jnp.array(a) for n, a in several.items()} for _ in range(2))
    return State(weights, average, jax.jit(jax.vmap(_optimiser(settings).init))(weights))


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def step(s: Settings, state: State, scaling: Scaling, batch: Batch, number: Any) -> State:
    """One step of all networks (AdamW: Loshchilov & Hutter 2019; see `_adam`)."""
    optimiser = _optimiser(s)

    def one(
        weights: Weights, average: Weights, inner: Any, scales: Scaling, counts: Any
    ) -> tuple[Weights, Weights, Any]:
        mine = batch._replace(counts=counts)
        slope = jax.grad(_loss)(weights, s, scales, mine)
        change, inner = optimiser.update(slope, inner, weights)
        weights = optax.apply_updates(weights, change)
        decay = jnp.minimum(DECAY, (1.0 + number) / (10.0 + number))
        average = jax.tree.map(lambda a, w: a + (1 - decay) * (w - a), average, weights)
        return weights, average, inner

    return State(*jax.vmap(one)(*state, scaling, batch.counts))


@partial(jax.jit, static_argnums=0)
def validation(s: Settings, average: Weights, scaling: Scaling, batch: Batch) -> Any:
    """float32[networks]: sum of the joint head's losses over the rows, with averaged weights."""

    def one(w: Weights, scales: Scaling, counts: Any) -> Any:
        y = (batch.y - scales.mean) / scales.deviation if not s.outputs else batch.y
        tokens = tokens_of(w, scales.shift, scales.factor, batch.blocks, batch.there)
        said = _linear(w, "head", vector_of(w, s.pooling, tokens, batch.there))
        return (_losses(said, y, s.outputs) * counts).sum()

    return jax.vmap(one)(average, scaling, batch.counts)


@jax.jit
def keep(kept: Weights, average: Weights, better: Any) -> Weights:
    """The averaged weights of those networks that are `better`, bool[networks], else the kept."""

    def one(a: Any, b: Any) -> Any:
        return jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), b, a)

    return jax.tree.map(one, kept, average)
