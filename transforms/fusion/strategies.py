"""How modalities become one vector: fitted nodes, one a part of a strategy's tree.

All of it is learnt from the training rows in which a part is present; see `components`.

A modality that a key lacks:
    side by side: its slice of the vector is filled. Where features are centred, both `mean` and
        `zero` are zeros. Where they are raw (scale `none`, no components), `mean` is the
        training mean and `zero` is zeros.
    averaged: it is left out of the mean; with no modality present the vector is zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from transforms.fusion.components import axes_of_covariance, axes_of_rows, scaling
from transforms.fusion.correlation import shared_variables
from transforms.fusion.moments import Moments
from transforms.fusion.network import Network
from transforms.fusion.nodes import (
    Blocks,
    Here,
    Node,
    arrays_of,
    check_block,
    json_of,
    nodes_of,
    presence,
    side_by_side,
)
from transforms.fusion.trees import Part, Tree

Missing = Literal["mean", "zero"]
Need = Literal["nothing", "means", "diagonal", "full"]

SHRINKAGE = 0.1
"""Of each part's covariance, where variables that parts have in common are looked for."""


@dataclass(frozen=True, eq=False)
class Fusion:
    """A fitted strategy: a value that is saved, and the very same at prediction.

    Attributes:
        names: of the fused vector's dimensions, such as `image.hog.y0x0b1` or `audio.pc0`.
        heads: side by side in the fused vector.
    """

    names: list[str]
    heads: tuple[Node | Network, ...]

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
            for part in side_by_side(head) if isinstance(head, Node) else [head]:
                found[part.name] = (start, start + part.width)
                start += part.width
        return found

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
            head.write(blocks, here, fused[:, start:stop])
        return fused

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All that was fitted, as arrays of numbers by name, such as `image/mean`."""
        return arrays_of(self._nodes)

    def to_json(self) -> dict[str, Any]:
        """The rest: names, slices and what arrays there are, ready for JSON."""
        return {
            "names": self.names,
            "slices": {name: list(ends) for name, ends in self.slices.items()},
            "heads": json_of(self._nodes),
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
        return cls(list(meta["names"]), nodes_of(arrays, meta["heads"]))


def fusion_of(network: Network) -> Fusion:
    """A fusion whose vector is a network's."""
    return Fusion([f"{network.name}.deep{i}" for i in range(network.width)], (network,))


# --- fitting ---------------------------------------------------------------------------------


def needs(part: Part, missing: Missing) -> Need:
    """What `learn` must know of what comes into a part, over the training rows that have it: the
    least of nothing, means, the diagonal of the second moments, or all of them.
    """
    if part.scale is None:
        return "nothing"
    if part.components is not None:
        return "full"
    if part.scale != "none":
        return "diagonal"
    return "means" if missing == "mean" else "nothing"


def parts_at(tree: Tree, level: int) -> list[Part]:
    """The parts of a tree that are fitted in one pass over the training rows."""
    return [p for h in tree.heads for p in h.everything() if p.learns and p.level == level]


def fit_level(
    tree: Tree,
    level: int,
    missing: Missing,
    moments: Mapping[str, Moments],
    dims: Mapping[str, int],
    fitted: Mapping[str, Node],
) -> dict[str, Node]:
    """Fit the parts of one level on the moments of what comes into them.

    Args:
        tree: the strategy.
        level: from 0; that of the modalities themselves.
        missing: what stands in for a missing modality.
        moments: of the training rows in which a part is present, as `needs` says; a part that
            needs nothing may be left out.
        dims: number of feature dimensions of each modality.
        fitted: the nodes of the levels before.

    Returns:
        The nodes so far, by name.

    Raises:
        ValueError: moments are lacking, or do not agree with `dims`.
    """
    nodes = dict(fitted)
    for part in parts_at(tree, level):
        below = tuple(node_of(p, nodes) for p in part.parts)
        d = incoming_width(part, below, dims)
        need = needs(part, missing)
        if need == "nothing":
            known = Moments.empty(d, full=False)
        elif part.name not in moments:
            raise ValueError(f"{part.name}: fusion needs the moments ({need}) of its training rows")
        else:
            known = moments[part.name]
        if len(known.mean) != d:
            raise ValueError(f"{part.name}: {d} dimensions, but moments of {len(known.mean)}")
        if need == "full" and not known.full:
            raise ValueError(f"{part.name}: principal components need the full second moments")
        nodes[part.name] = _learn(part, below, known, None)
    return nodes


def fit_rows(
    tree: Tree,
    missing: Missing,
    blocks: Blocks,
    present: np.ndarray,
    rows: np.ndarray,
    names: Mapping[str, list[str]],
) -> Fusion:
    """Fit on rows in memory, such as those of one fold, as `fit_level` does on their moments.

    Where a part has fewer rows than dimensions, its components come from the Gram matrix of
    the rows, which takes 8 bytes a value of these rows and is much faster; both ways agree up to
    rounding.

    Args:
        tree: the strategy.
        missing: what stands in for a missing modality.
        blocks: features of each modality, at least those of the tree.
        present: bool[n, len(blocks)], a column a modality, in the order of `blocks`.
        rows: bool[n], the training rows; no other row is looked at.
        names: of each modality's dimensions.

    Raises:
        ValueError: a modality is lacking, or its dimensions do not agree with `names`.
    """
    here = presence(blocks, present)
    dims = {name: len(own) for name, own in names.items()}
    nodes: dict[str, Node] = {}
    chosen = _chosen(blocks, here, rows)
    for level in range(tree.levels):
        for part in parts_at(tree, level):
            if not part.parts:
                check_block(part.name, dims[part.name], blocks, present)
            below = tuple(node_of(p, nodes) for p in part.parts)
            d = incoming_width(part, below, dims)
            need = needs(part, missing)
            seen = incoming_rows(part, below, d, *chosen) if need != "nothing" else None
            if seen is None:
                nodes[part.name] = _learn(part, below, Moments.empty(d, full=False), None)
                continue
            few = len(seen) < d and part.shared == "pca"
            known = Moments.of(seen, full=need == "full" and not few)
            nodes[part.name] = _learn(part, below, known, seen if few else None)
    return assemble(tree, nodes, names)


def assemble(tree: Tree, nodes: Mapping[str, Node], names: Mapping[str, list[str]]) -> Fusion:
    """The fusion of fitted nodes.

    Args:
        tree: the strategy.
        nodes: by name, of all parts that learn.
        names: of each modality's dimensions.

    Raises:
        ValueError: a node does not agree with `names`.
    """
    heads = tuple(node_of(head, nodes) for head in tree.heads)
    labels: list[str] = []
    for head in heads:
        for part in side_by_side(head):
            own = names.get(part.name, []) if not part.parts and part.weights is None else None
            if own is not None and len(own) != part.width:
                raise ValueError(f"{part.name}: {part.width} dimensions, but {len(own)} names")
            own = own if own is not None else [f"pc{i}" for i in range(part.width)]
            labels += [f"{part.name}.{label}" for label in own]
    return Fusion(labels, heads)


def node_of(part: Part, nodes: Mapping[str, Node]) -> Node:
    """A part's node: the fitted one, or one that only joins the fitted nodes below it."""
    if part.learns:
        return nodes[part.name]
    below = tuple(node_of(p, nodes) for p in part.parts)
    width = incoming_width(part, below, {})
    return Node(part.name, part.modalities, below, part.method, part.shares, width, width)


def incoming_width(part: Part, below: tuple[Node, ...], dims: Mapping[str, int]) -> int:
    """d, the number of dimensions of what comes into a part."""
    if not below:
        return dims[part.name]
    if part.method == "average" and part.shared == "pca":
        return below[0].width
    return sum(node.width for node in below)


def incoming_rows(
    part: Part, below: tuple[Node, ...], d: int, blocks: Blocks, here: Here
) -> np.ndarray | None:
    """float[k, d] of what comes into a part, in the k rows that have it; None if none ever has."""
    # What parts have in common shows side by side, in the rows that have them all.
    together = part.shared == "cca"
    method = "concatenate" if together else part.method
    joiner = Node(part.name, part.modalities, below, method, part.shares, d, d)
    block = joiner.incoming(blocks, here)
    if block is None:
        return None
    there = joiner.here(here)
    if together:
        there = np.logical_and.reduce([node.here(here) for node in below])
    return block if there.all() else block[there]


def _chosen(blocks: Blocks, here: Here, rows: np.ndarray) -> tuple[Blocks, Here]:
    if rows.all():
        return blocks, here
    return (
        {name: None if block is None else block[rows] for name, block in blocks.items()},
        {name: there[rows] for name, there in here.items()},
    )


def _learn(part: Part, below: tuple[Node, ...], known: Moments, rows: np.ndarray | None) -> Node:
    """The node of a part that learns; `rows` if they are to be used for the components."""
    d, wanted = len(known.mean), part.components
    common = (part.name, part.modalities, below, part.method, part.shares, d)
    assert part.scale is not None
    if part.scale == "none" and wanted is None:
        # With `zero` no moments are known, and their mean is zeros.
        return Node(*common, d, known.mean.astype(np.float32))
    if part.shared == "cca":
        return _in_common(part, below, known)
    mean, factor = scaling(part.scale, known)
    if wanted is None:
        return Node(*common, d, np.zeros(d, np.float32), mean, factor)
    axes = np.zeros((0, d))
    if known.count >= 2 and rows is not None:
        axes = axes_of_rows(rows, mean, factor, wanted)
    elif known.count >= 2:
        axes = axes_of_covariance(known.covariance(), factor, wanted)
    # A part without any variation keeps one dimension, of zeros, so that it has a slice.
    width = wanted if part.whole else max(1, len(axes))
    weights = np.zeros((d, width))
    weights[:, : len(axes)] = (axes * factor).T
    return Node(*common, width, np.zeros(width, np.float32), mean, weights=weights)


def _in_common(part: Part, below: tuple[Node, ...], known: Moments) -> Node:
    """An average in the space of the variables that all parts together explain best.

    What each part knows of them takes the place of its principal components.
    """
    assert part.components is not None
    dims = {node.name: node.width for node in below}
    # Where no two rows have all parts, nothing is known to be in common: their own components.
    found = {name: np.eye(part.components, width) for name, width in dims.items()}
    if known.count >= 2:
        found = shared_variables(known.covariance(), dims, part.components, SHRINKAGE).axes
    nodes, start = [], 0
    for node in below:
        axes = found[node.name]
        assert node.weights is not None
        assert node.mean is not None
        weights = np.zeros((node.dimension, part.components))
        weights[:, : len(axes)] = node.weights @ axes.T
        # Rows that have all parts may have another mean than those that have this one.
        centre = known.mean[start : start + node.width] @ np.linalg.pinv(node.weights)
        start += node.width
        fill = np.zeros(part.components, np.float32)
        nodes.append(
            replace(
                node, width=part.components, fill=fill, mean=node.mean + centre, weights=weights
            )
        )
    k = part.components
    return Node(part.name, part.modalities, tuple(nodes), "average", part.shares, k, k)
