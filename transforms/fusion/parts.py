"""The node of one part of a strategy, and what it is learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from transforms.fusion.collecting import Rows
from transforms.fusion.components import axes_of_covariance, axes_of_rows, scaling
from transforms.fusion.correlation import pairwise_covariance, shared_variables
from transforms.fusion.moments import Moments
from transforms.fusion.nodes import Blocks, Here, Node
from transforms.fusion.statistics import Statistics
from transforms.fusion.trees import Part

SHRINKAGE = 0.1
"""Of each part's covariance, where variables that parts have in common are looked for."""


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


def learn(part: Part, below: tuple[Node, ...], known: Moments, rows: np.ndarray | None) -> Node:
    """The node of a part that learns; `rows` if they are to be used for the components."""
    d, wanted = len(known.mean), part.components
    common = (part.name, part.modalities, below, part.method, part.shares, d)
    assert part.scale is not None
    if part.scale == "none" and wanted is None:
        # With `zero` no moments are known, and their mean is zeros.
        return Node(*common, d, known.mean.astype(np.float32))
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


def in_common(part: Part, below: tuple[Node, ...], known: Statistics) -> Node:
    """An average in the space of the variables that all parts together explain best.

    What each part knows of them takes the place of its principal components. How two parts
    covary is seen in all rows that have both: few may have them all.
    """
    assert part.components is not None
    dims = {node.name: node.width for node in below}
    # Where no two rows have two parts, nothing is known to be in common: their own components.
    found = {name: np.eye(part.components, width) for name, width in dims.items()}
    pairs = combinations(dims, 2)
    if any(known.moments(pair, full=False).count > 1 for pair in pairs):
        covariance = pairwise_covariance(known)
        found = shared_variables(covariance, dims, part.components, SHRINKAGE).axes
    k = part.components
    nodes = []
    for node in below:
        axes = found[node.name]
        assert node.weights is not None
        weights = np.zeros((node.dimension, k))
        weights[:, : len(axes)] = node.weights @ axes.T
        fill = np.zeros(k, np.float32)
        nodes.append(replace(node, width=k, fill=fill, weights=weights))
    return Node(part.name, part.modalities, tuple(nodes), "average", part.shares, k, k)


def rows_of_parts(below: tuple[Node, ...], blocks: Blocks, here: Here) -> Rows:
    """What parts became of rows, each for itself."""
    n = len(next(iter(here.values())))
    found = {node.name: np.empty((n, node.width)) for node in below}
    for node in below:
        node.write(blocks, here, found[node.name])
    present = np.stack([node.here(here) for node in below], axis=1)
    return Rows(found, present, np.zeros(n, np.int64))
