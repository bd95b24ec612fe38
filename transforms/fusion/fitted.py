"""A fitted strategy: how modalities become one vector.

A modality that a key lacks:
    side by side: its slice of the vector is filled. Where features are centred, both `mean` and
        `zero` are zeros. Where they are raw (scale `none`, no components), `mean` is the
        training mean and `zero` is zeros.
    averaged: it is left out of the mean; with no modality present the vector is zeros.
    with `conditional`, in a head of several modalities: keys that have any of them have features
        of all from there on; see `filling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from transforms.fusion.filling import Conditional, arrays_of_conditional, conditional_of
from transforms.fusion.network import Network
from transforms.fusion.nodes import (
    Blocks,
    Node,
    arrays_of,
    check_block,
    json_of,
    nodes_of,
    presence,
    side_by_side,
)

Sides = tuple[tuple[tuple[str, ...], int], ...]
"""Of each part of a vector that stands by itself: its modalities, and where it ends."""


@dataclass(frozen=True, eq=False)
class Fusion:
    """A fitted strategy: a value that is saved, and the very same at prediction.

    Attributes:
        names: of the fused vector's dimensions, such as `image.hog.y0x0b1` or `audio.pc0`.
        heads: side by side in the fused vector.
        conditional: name of a head -> what stands in for its missing modalities, where that is
            not up to its nodes.
    """

    names: list[str]
    heads: tuple[Node | Network, ...]
    conditional: Mapping[str, Conditional] = field(default_factory=dict)

    @property
    def dimension(self) -> int:
        """D, the length of the fused vector."""
        return len(self.names)

    @property
    def slices(self) -> dict[str, tuple[int, int]]:
        """First and past-the-last dimension of each part that stands by itself in the vector."""
        found: dict[str, tuple[int, int]] = {}
        start = 0
        for head in self.heads:
            for part in _standing(head):
                found[part.name] = (start, start + part.width)
                start += part.width
        return found

    def sides(self, name: str) -> Sides:
        """Of the vector of a head."""
        parts = _standing(next(head for head in self.heads if head.name == name))
        ends = np.cumsum([part.width for part in parts]).tolist()
        return tuple((tuple(p.modalities), end) for p, end in zip(parts, ends, strict=True))

    def of_heads(self) -> dict[str, tuple[int, int]]:
        """First and past-the-last dimension of each head."""
        ends = np.cumsum([head.width for head in self.heads]).tolist()
        return {h.name: (end - h.width, end) for h, end in zip(self.heads, ends, strict=True)}

    def apply(self, blocks: Blocks, present: np.ndarray) -> np.ndarray:
        """Fuse n rows.

        A row's result does not depend on the rows it comes with: each is computed in float64, in
        blocks of one fixed shape, and rounded once. Without components that holds bit for bit
        on every machine; with components on one machine, while another BLAS kernel may differ
        in the last bit of float32.

        Args:
            blocks: features of each modality. Other modalities than the fitted ones are ignored.
                What is in rows where a modality is absent does not matter, even NaN.
            present: bool[n, len(blocks)], a column a modality, in the order of `blocks`.

        Returns:
            float32[n, D].

        Raises:
            ValueError: a modality is lacking, or has other dimensions than at the fit.
        """
        here = presence(blocks, present)
        for head in self.heads:
            for name, dimension in head.dimensions.items():
                check_block(name, dimension, blocks, present)
        fused = np.empty((len(present), self.dimension), dtype=np.float32)
        for head, (start, stop) in zip(self.heads, self.of_heads().values(), strict=True):
            known = self.conditional.get(head.name)
            filled = (blocks, here) if known is None else known.fill(blocks, here)
            head.write(*filled, fused[:, start:stop])
        return fused

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All that was fitted, as arrays of numbers by name, such as `image/mean`."""
        return arrays_of(self._nodes) | arrays_of_conditional(self.conditional)

    def to_json(self) -> dict[str, Any]:
        """The rest: names, slices and what arrays there are, ready for JSON."""
        return {
            "names": self.names,
            "slices": {name: list(ends) for name, ends in self.slices.items()},
            "heads": json_of(self._nodes),
            "conditional": list(self.conditional),
        }

    @property
    def _nodes(self) -> tuple[Node, ...]:
        """The heads; a network is in a file of its own."""
        return tuple(head for head in self.heads if isinstance(head, Node))

    @classmethod
    def load(cls, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Fusion:
        """The fusion of which `arrays` and `meta` are `to_arrays` and `to_json`, bit for bit.

        Raises:
            ValueError: an array is lacking.
        """
        conditional = conditional_of(arrays, meta["conditional"])
        return cls(list(meta["names"]), nodes_of(arrays, meta["heads"]), conditional)


def _standing(head: Node | Network) -> list[Node | Network]:
    """The parts of a head that stand by themselves in its vector."""
    return list(side_by_side(head)) if isinstance(head, Node) else [head]


def fusion_of(network: Network) -> Fusion:
    """A fusion whose vector is a network's."""
    return Fusion([f"{network.name}.deep{i}" for i in range(network.width)], (network,))
