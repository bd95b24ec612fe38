"""What a strategy is made of: parts that become one vector, and decisions on several vectors.

    concatenate              one head, modalities side by side
    deep                     one head, all modalities; a trained network makes its vector
    average, weighted        of features: one head, modalities in a shared space; of decisions: a
                             head a modality, and a decision above them
    hierarchical             the recipe's tree: below its decisions, every part of features is a
                             head

The fused vector is all heads side by side. Each head gets a model; where there are several, a
decision puts together what their models say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from schemas.options.fuse import (
    Average,
    Concatenate,
    Deep,
    Hierarchical,
    Learned,
    Node,
    Rule,
    Scale,
    Weighted,
)

AHEAD = 4
"""Canonical variables are looked for among this many times as many principal components."""

Fuse = Concatenate | Average | Weighted | Hierarchical | Deep
"""A strategy whose shape is known; see `schemas.options.fuse.needs_choice`."""


@dataclass(frozen=True)
class Part:
    """Features of one or several modalities, as one vector.

    Attributes:
        name: the modalities' names, joined by `+`.
        modalities: in the order of the fused vector.
        parts: what it is made of; empty for a modality by itself.
        method: how its parts become one: `concatenate`, or `average` over those present.
        scale: of the features, or of what the parts became; None: as they are.
        components: principal components kept; None: no rotation.
        whole: whether there are `components` dimensions even where there are fewer to be had.
        shares: weights of the parts in an average; None: all the same.
        shared: in which space parts are averaged: `pca`, that of their own components, or `cca`,
            that of the variables which all parts together explain best.
        network: the strategy whose network makes the vector, from features as they are.
    """

    name: str
    modalities: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    method: Literal["concatenate", "average"] = "concatenate"
    scale: Scale | None = None
    components: int | None = None
    whole: bool = False
    shares: tuple[float, ...] | None = None
    shared: Literal["pca", "cca"] = "pca"
    network: Deep | None = None

    @property
    def learns(self) -> bool:
        """Whether the part itself, without those below it, is fitted."""
        return self.scale is not None

    @property
    def level(self) -> int:
        """How many parts below it, one below the other, must be fitted before it can be."""
        return max((p.level + p.learns for p in self.parts), default=0)

    def everything(self) -> list[Part]:
        """The part and all below it, those below first."""
        return [*(one for p in self.parts for one in p.everything()), self]


@dataclass(frozen=True)
class Decision:
    """What several models say becomes one.

    Attributes:
        parts: heads, or decisions of their own.
        rule: `mean` or `product`.
        weights: of the parts, by name; a way to learn them; or None: all the same.
    """

    parts: tuple[Part | Decision, ...]
    rule: Rule
    weights: Mapping[str, float] | Learned | None = None

    @property
    def name(self) -> str:
        """The names of its parts."""
        return "+".join(part.name for part in self.parts)


@dataclass(frozen=True)
class Tree:
    """A strategy: the heads that make the fused vector, and the decision above them, if any."""

    heads: tuple[Part, ...]
    decision: Decision | None = None

    @property
    def levels(self) -> int:
        """Passes over the training rows that the fit of the heads takes."""
        every = [part for head in self.heads for part in head.everything()]
        return 1 + max((part.level for part in every if part.learns), default=0)


def tree_of(fuse: Fuse, modalities: Sequence[str]) -> Tree:
    """The strategy on some or all of a recipe's modalities.

    Args:
        fuse: the strategy, with nothing left open.
        modalities: those to fuse, in the recipe's order; at least one.
    """
    if isinstance(fuse, Hierarchical):
        assert isinstance(fuse.tree, Node)
        found = _of_node(fuse.tree, fuse.scale, frozenset(modalities))
        assert found is not None, "at least one modality is in the tree"
        return Tree(tuple(_heads(found)), found if isinstance(found, Decision) else None)
    if isinstance(fuse, Deep):
        return Tree((Part("+".join(modalities), tuple(modalities), network=fuse),))
    if isinstance(fuse, Concatenate):
        return Tree((_join([_leaf(fuse.scale, m, _components(fuse, m)) for m in modalities]),))
    weights = fuse.weights if isinstance(fuse, Weighted) else None
    if isinstance(weights, dict):
        weights = {m: weights[m] for m in modalities}
        if not any(weights.values()):  # then they count the same, as where only these are present
            weights = None
    if fuse.of == "decisions":
        heads = tuple(_leaf(fuse.scale, m, None) for m in modalities)
        decision = Decision(heads, fuse.rule, weights) if len(heads) > 1 else None
        return Tree(heads, decision)
    cca = fuse.shared == "cca" and len(modalities) > 1
    leaves = [
        _leaf(fuse.scale, m, fuse.dimension * (AHEAD if cca else 1), whole=not cca)
        for m in modalities
    ]
    shares = None
    if weights is not None:
        assert not isinstance(weights, str)
        shares = tuple(float(weights[m]) for m in modalities)
    head = replace(_join(leaves, "average"), shares=shares)
    if cca:
        head = replace(head, scale="none", components=fuse.dimension, shared="cca", whole=True)
    return Tree((head,))


def _leaf(scale: Scale, name: str, components: int | None, whole: bool = False) -> Part:
    return Part(name, (name,), scale=scale, components=components, whole=whole)


def _components(fuse: Concatenate, modality: str) -> int | None:
    return fuse.pca.get(modality) if isinstance(fuse.pca, dict) else fuse.pca


def _join(parts: list[Part], method: Literal["concatenate", "average"] = "concatenate") -> Part:
    if len(parts) == 1:
        return parts[0]
    names = tuple(m for part in parts for m in part.modalities)
    return Part("+".join(names), names, tuple(parts), method)


def _of_node(node: Node | str, scale: Scale, wanted: frozenset[str]) -> Part | Decision | None:
    if isinstance(node, str):
        return _leaf(scale, node, None) if node in wanted else None
    below = [_of_node(part, scale, wanted) for part in node.parts]
    parts = [part for part in below if part is not None]
    if len(parts) < 2:
        return parts[0] if parts else None
    if node.of == "decisions":
        return Decision(tuple(parts), node.rule)
    features = [part for part in parts if isinstance(part, Part)]
    if node.method == "average":
        # What is averaged has one number of dimensions, whatever it is made of.
        return _join([_rotated(p, node.dimension, whole=True) for p in features], "average")
    joined = _join(features)
    return joined if node.dimension is None else _rotated(joined, node.dimension)


def _rotated(part: Part, components: int | None, whole: bool = False) -> Part:
    """A part to be brought to its principal components.

    Only modalities are scaled. Components of components, scaled anew, would all have the same
    variance, so that rounding alone would say which of them come first.
    """
    scale = "none" if part.parts else part.scale
    return replace(part, scale=scale, components=components, whole=whole)


def _heads(found: Part | Decision) -> list[Part]:
    if isinstance(found, Part):
        return [found]
    return [head for part in found.parts for head in _heads(part)]
