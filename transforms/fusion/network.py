"""The network of the strategy `deep`: what it computes, in NumPy, and its weights as a file.

    token    of a modality: scaled features, a linear map to d numbers, LayerNorm, a hidden layer,
             and the modality's embedding; of one that is missing: a vector that is learnt instead
    pooling  gated:     a share of each dimension for each modality, from all tokens together
                        (Arevalo et al. 2017, "Gated multimodal units")
             attention: tokens look at each other first (Vaswani et al. 2017), then their mean
             either way over the modalities present alone
    vector   what was pooled, and a hidden layer on it
    heads    linear: the joint one on the vector; one a modality on its token
    fused    the vector and, of k classes, k numbers more: the mean of what the heads of the
             modalities present say. The network's posterior is the geometric mean of the joint
             head's and theirs (late fusion; Kittler et al. 1998), a linear model of all these
             numbers. A head that knows nothing says the prior and moves nobody; of numbers it
             would draw to the mean, so there the joint head alone is asked

A hidden layer of 2 d numbers adds to what it reads (He et al. 2016, "Deep residual learning"),
with LayerNorm before and after. LayerNorm comes after the linear map, as of features with one or
two dimensions it would leave nothing but their sign.

Workers run this, without JAX; `transforms.learning.network.steps` is the same in JAX, to train
it, and both agree to 1e-5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from transforms.fusion.nodes import ROWS, Blocks, Here

Pooling = Literal["gated", "attention"]
EPSILON = 1e-6
"""Added to variances by LayerNorm."""
ATTENTION_HEADS = 4


@dataclass(frozen=True, eq=False)
class Network:
    """A trained network: a head of a fusion, in the place of a `Node`.

    Attributes:
        name: the modalities' names, joined by `+`.
        modalities: in the order of the tokens.
        pooling: see above.
        weights: arrays by name, float32; see `steps.initial`. Of each modality also `shift` and
            `factor`, by which features are scaled.
        used: those of the modalities that count; others are taken for missing.
    """

    name: str
    modalities: tuple[str, ...]
    pooling: Pooling
    weights: Mapping[str, np.ndarray]
    used: tuple[str, ...] = ()

    # What a fusion asks of its heads: see `nodes.Node`.
    parts: tuple[()] = ()
    method: str = "network"
    fill: None = None

    @property
    def width(self) -> int:
        """The length of the fused vector: d, and one more for each class."""
        d, outputs = self.weights["head/weights"].shape
        return d + (outputs if self._late else 0)

    @property
    def dimensions(self) -> dict[str, int]:
        """Number of features of each modality that counts."""
        used = self.used or self.modalities
        return {m: self._features(m) for m in self.modalities if m in used}

    def everything(self) -> Iterator[Network]:
        """Itself: it has no parts."""
        yield self

    def of(self, modalities: tuple[str, ...]) -> Network:
        """The network for which only some modalities are ever there."""
        return replace(self, name="+".join(modalities), used=modalities)

    def write(self, blocks: Blocks, here: Here, out: np.ndarray) -> None:
        """Write the fused vector of every row to `out`, float32[n, width].

        Rows go through in blocks of one shape and in float64, so that none depends on others.
        """
        used = self.used or self.modalities
        n = len(out)
        for start in range(0, n, ROWS):
            rows = slice(start, min(start + ROWS, n))
            count = rows.stop - start
            values, there = {}, np.zeros((ROWS, len(self.modalities)), bool)
            for i, name in enumerate(self.modalities):
                block = blocks.get(name)
                values[name] = np.zeros((ROWS, self._features(name)))
                if block is not None and name in used:
                    there[:count, i] = here[name][rows]
                    values[name][:count] = np.where(there[:count, i, None], block[rows], 0)
            out[rows] = self._vectors(values, there)[:count]

    def arrays(self) -> dict[str, np.ndarray]:
        """What was learnt, by name."""
        return dict(self.weights)

    def joint_head(self) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients float64[k, width] and intercepts float64[k] on the fused vector."""
        coef = self.weights["head/weights"].T.astype(np.float64)
        bias = self.weights["head/bias"].astype(np.float64)
        if not self._late:
            return coef, bias
        return np.hstack([coef, np.eye(len(coef))]) / 2, bias / 2

    @property
    def _late(self) -> bool:
        """Whether the modalities' heads are asked, too: of classes, if they were trained."""
        return f"{own(self.modalities[0])}/head/weights" in self.weights

    def _features(self, modality: str) -> int:
        return len(self.weights[f"{own(modality)}/shift"])

    def _vectors(self, values: Mapping[str, np.ndarray], there: np.ndarray) -> np.ndarray:
        """float64[n, width] of features float64[n, d_m], with bool[n, m] of who has which."""
        w = self.weights
        tokens = np.empty((len(there), len(self.modalities), len(w["head/weights"])))
        for i, modality in enumerate(self.modalities):
            m = own(modality)
            scaled = (values[modality] - w[f"{m}/shift"]) * w[f"{m}/factor"]
            token = _hidden(w, f"{m}/", normalised(_linear(w, m, scaled)))
            token = token * w[f"{m}/gain"] + w[f"{m}/embedding"]
            tokens[:, i] = np.where(there[:, i, None], token, w[f"{m}/missing"])
        pooled = (
            _attended(w, tokens, there) if self.pooling == "attention" else _gated(w, tokens, there)
        )
        vector = _hidden(w, "", pooled)
        if not self._late:
            return vector
        said = [_linear(w, f"{own(m)}/head", tokens[:, i]) for i, m in enumerate(self.modalities)]
        shares = there / np.maximum(there.sum(axis=1, keepdims=True), 1)
        return np.hstack([vector, (np.stack(said, axis=1) * shares[:, :, None]).sum(axis=1)])


def own(modality: str) -> str:
    """What the names of a modality's arrays begin with."""
    return f"modalities/{modality}"


def normalised(x: np.ndarray) -> np.ndarray:
    """LayerNorm over the last axis, without gain (Ba, Kiros & Hinton 2016)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + EPSILON)


def _linear(w: Mapping[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return np.asarray(x @ w[f"{name}/weights"] + w[f"{name}/bias"])


def _hidden(w: Mapping[str, np.ndarray], prefix: str, x: np.ndarray) -> np.ndarray:
    """`x`, float64[n, d], and what a hidden layer adds to it."""
    hidden = _linear(w, f"{prefix}hidden", normalised(x))
    hidden /= 1 + np.exp(-hidden)
    return normalised(x + _linear(w, f"{prefix}out", hidden))


def _gated(w: Mapping[str, np.ndarray], tokens: np.ndarray, there: np.ndarray) -> np.ndarray:
    n, m, d = tokens.shape
    asked = _linear(w, "gate", tokens.reshape(n, m * d))
    return (_shares(asked.reshape(n, m, d), there[:, :, None]) * tokens).sum(axis=1)


def _attended(w: Mapping[str, np.ndarray], tokens: np.ndarray, there: np.ndarray) -> np.ndarray:
    n, m, d = tokens.shape

    def of_heads(name: str) -> np.ndarray:
        found = tokens @ w[f"attention/{name}"]
        return found.reshape(n, m, ATTENTION_HEADS, -1).transpose(0, 2, 1, 3)

    query, key, value = (of_heads(name) for name in ("query", "key", "value"))
    alike = query @ key.transpose(0, 1, 3, 2) / np.sqrt(query.shape[-1])
    alike = np.exp(alike - alike.max(axis=-1, keepdims=True))
    seen = (alike / alike.sum(axis=-1, keepdims=True)) @ value
    tokens = tokens + seen.transpose(0, 2, 1, 3).reshape(n, m, d) @ w["attention/output"]
    return (_shares(np.zeros_like(tokens), there[:, :, None]) * tokens).sum(axis=1)


def _shares(asked: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Softmax over the modalities present, axis 1; zeros where none is."""
    asked = np.where(there, asked, -np.inf)
    highest = asked.max(axis=1, keepdims=True)
    shares = np.exp(asked - np.where(np.isfinite(highest), highest, 0))
    return shares / np.maximum(shares.sum(axis=1, keepdims=True), EPSILON)


# --- files -----------------------------------------------------------------------------------


def network_bytes(network: Network) -> bytes:
    """A network as a safetensors file: same network, same bytes."""
    from safetensors.numpy import save

    # In one entry, as the library writes several in any order.
    about = {"modalities": network.modalities, "pooling": network.pooling}
    meta = {"network": json.dumps(about)}
    arrays = {name: np.ascontiguousarray(array) for name, array in network.weights.items()}
    return save(arrays, meta)


def network_from(data: bytes) -> Network:
    """The network of which these are `network_bytes`, bit for bit.

    Raises:
        ValueError: it is no such file, a damaged one, or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
        size = int.from_bytes(data[:8], "little")
        meta = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["network"])
        modalities = tuple(meta["modalities"])
        network = Network("+".join(modalities), modalities, meta["pooling"], arrays)
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"not a network of Sensorium, or a damaged file: {error}") from error
    lacking = sorted({f"{own(m)}/hidden/weights" for m in modalities} - arrays.keys())
    if lacking:
        raise ValueError(
            f"the network has no array {lacking[0]}: another version of Sensorium wrote it; run "
            "the fusion again"
        )
    return network
