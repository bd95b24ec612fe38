"""Fitted nodes: what was learnt for each part of a strategy's tree, applied, saved and loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Blocks = Mapping[str, np.ndarray | None]
"""Features by modality, float32[n, d], or None where no row has the modality."""
Here = Mapping[str, np.ndarray]
"""Modality -> bool[n], the rows that have it."""

ROWS = 128
"""Rows that are centred and projected at a time; a recurring shape keeps BLAS on one path."""


@dataclass(frozen=True, eq=False)
class Node:
    """What was learnt for one part: of a modality's features, or of what its parts became.

    Attributes:
        name, modalities, method, shares: as of the `Part`.
        parts: the nodes below; none for a modality.
        dimension: d, of what comes in.
        width: k, of what goes out.
        fill: float32[k], for keys that lack all its modalities; None where nothing is learnt
            here and the parts see to it themselves.
        mean: float64[d] to subtract, or None where numbers are left raw.
        factor: float64[d] to multiply by after that, where there are no components.
        weights: float64[d, k], factors and loadings in one, where there are.
    """

    name: str
    modalities: tuple[str, ...]
    parts: tuple[Node, ...]
    method: Literal["concatenate", "average"]
    shares: tuple[float, ...] | None
    dimension: int
    width: int
    fill: np.ndarray | None = None
    mean: np.ndarray | None = None
    factor: np.ndarray | None = None
    weights: np.ndarray | None = None

    @property
    def dimensions(self) -> dict[str, int]:
        """Number of features of each modality in it."""
        return {n.name: n.dimension for n in self.everything() if not n.parts}

    def everything(self) -> Iterator[Node]:
        """All nodes below, then this one."""
        for part in self.parts:
            yield from part.everything()
        yield self

    def here(self, here: Here) -> np.ndarray:
        """bool[n]: the rows that have any of its modalities."""
        return np.logical_or.reduce([here[m] for m in self.modalities])

    def write(self, blocks: Blocks, here: Here, out: np.ndarray) -> None:
        """Write the k values of every row to `out` [n, k]."""
        if self.fill is None:
            self._join(blocks, here, out)
            return
        block = self.incoming(blocks, here)
        if block is None:
            out[...] = self.fill
            return
        if self.mean is None:
            out[...] = block
        else:
            self._transform(block, out)
        absent = np.flatnonzero(~self.here(here))
        if len(absent):
            out[absent] = self.fill

    def incoming(self, blocks: Blocks, here: Here) -> np.ndarray | None:
        """float[n, d] of what comes in; None where no row has it."""
        if not self.parts:
            return blocks[self.name]
        joined = np.empty((len(here[self.modalities[0]]), self.dimension))
        self._join(blocks, here, joined)
        return joined

    def _join(self, blocks: Blocks, here: Here, out: np.ndarray) -> None:
        if self.method == "concatenate":
            start = 0
            for part in self.parts:
                part.write(blocks, here, out[:, start : start + part.width])
                start += part.width
            return
        shares = self.shares or (1.0,) * len(self.parts)
        total, share = np.zeros(out.shape), np.zeros(len(out))
        values = np.empty_like(total)
        for part, own in zip(self.parts, shares, strict=True):
            part.write(blocks, here, values)
            weight = own * part.here(here)
            values *= weight[:, None]
            total += values
            share += weight
        out[...] = total / np.where(share > 0, share, 1)[:, None]

    def _transform(self, block: np.ndarray, out: np.ndarray) -> None:
        assert self.mean is not None
        scratch = np.empty((ROWS, self.dimension))
        product = np.empty((ROWS, self.width))
        # Rows that lack the modality may hold anything; what comes of them is thrown away.
        with np.errstate(invalid="ignore", over="ignore"):
            for start in range(0, len(block), ROWS):
                rows = min(ROWS, len(block) - start)
                scratch[:rows] = block[start : start + rows]
                scratch[rows:] = self.mean
                scratch -= self.mean
                if self.weights is not None:
                    np.matmul(scratch, self.weights, out=product)
                    out[start : start + rows] = product[:rows]
                elif self.factor is not None:
                    scratch *= self.factor
                    out[start : start + rows] = scratch[:rows]

    def arrays(self) -> dict[str, np.ndarray]:
        """What was learnt here, by name."""
        found = {a: getattr(self, a) for a in ("fill", "mean", "factor", "weights")}
        return {name: array for name, array in found.items() if array is not None}


def presence(blocks: Blocks, present: np.ndarray) -> dict[str, np.ndarray]:
    """bool[n] of each modality, from bool[n, m]; checks the shape."""
    if present.ndim != 2 or present.shape[1] != len(blocks) or present.dtype != np.bool_:
        raise ValueError(
            f"present must be bool[n, {len(blocks)}], a column a modality, "
            f"not {present.dtype}{list(present.shape)}"
        )
    return {name: present[:, i] for i, name in enumerate(blocks)}


def arrays_of(nodes: tuple[Node, ...]) -> dict[str, np.ndarray]:
    """The arrays of some nodes and all below them, such as `image/mean`."""
    return {
        f"{node.name}/{name}": array
        for top in nodes
        for node in top.everything()
        for name, array in node.arrays().items()
    }


def json_of(nodes: tuple[Node, ...]) -> list[dict[str, Any]]:
    """The rest of them, ready for JSON."""
    return [
        {
            "name": node.name,
            "modalities": list(node.modalities),
            "method": node.method,
            "shares": None if node.shares is None else list(node.shares),
            "dimension": node.dimension,
            "width": node.width,
            "arrays": sorted(node.arrays()),
            "parts": json_of(node.parts),
        }
        for node in nodes
    ]


def nodes_of(arrays: Mapping[str, np.ndarray], meta: list[dict[str, Any]]) -> tuple[Node, ...]:
    """The nodes of which these are `arrays_of` and `json_of`.

    Raises:
        ValueError: an array is lacking.
    """
    nodes = []
    for m in meta:
        lacking = [a for a in m["arrays"] if f"{m['name']}/{a}" not in arrays]
        if lacking:
            raise ValueError(
                f"the fitted fusion has no array {m['name']}/{lacking[0]}: its files do not "
                "belong together; run the fusion again"
            )
        learnt = {a: arrays[f"{m['name']}/{a}"] for a in m["arrays"]}
        shares = None if m["shares"] is None else tuple(m["shares"])
        parts = nodes_of(arrays, m["parts"])
        nodes.append(
            Node(
                m["name"],
                tuple(m["modalities"]),
                parts,
                m["method"],
                shares,
                m["dimension"],
                m["width"],
                **learnt,
            )
        )
    return tuple(nodes)


def side_by_side(node: Node) -> Iterator[Node]:
    """The parts of a head that stand by themselves in its vector."""
    if node.fill is None and node.method == "concatenate":
        for part in node.parts:
            yield from side_by_side(part)
    else:
        yield node


def check_block(name: str, dimension: int, blocks: Blocks, present: np.ndarray) -> None:
    """Raise a ValueError unless a modality has one row a key and the right dimensions."""
    if name not in blocks:
        raise ValueError(f"{name}: the fusion needs this modality, but it is not there")
    block = blocks[name]
    if block is None:
        if present[:, list(blocks).index(name)].any():
            raise ValueError(f"{name}: present in some rows, but it has no features")
    elif block.shape != (len(present), dimension):
        raise ValueError(
            f"{name}: features are {list(block.shape)}, the fusion needs "
            f"{[len(present), dimension]}; extract them with the same recipe"
        )


def in_blocks(X: np.ndarray, width: int, apply: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A function of rows in blocks of one shape, so that no row's result depends on the others.

    Args:
        X: float[n, D].
        width: k.
        apply: float64[ROWS, D] -> float64[ROWS, k].
    """
    out = np.empty((len(X), width))
    block = np.zeros((ROWS, X.shape[1]))
    for start in range(0, len(X), ROWS):
        rows = min(ROWS, len(X) - start)
        block[:rows] = X[start : start + rows]
        block[rows:] = 0
        out[start : start + rows] = apply(block)[:rows]
    return out
