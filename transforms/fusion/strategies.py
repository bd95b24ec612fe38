"""Fitting a strategy of fusion: of its tree, part by part, from below.

All of it is learnt from the training rows in which a part is present; see `components`. A pass
over these rows gives what the parts of one level are fitted to; what is `Learnt` goes into the
next. A run merges what the passes tell of its buckets, `fit_rows` has the rows in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from transforms.fusion import moments, statistics
from transforms.fusion.collecting import Rows, collect
from transforms.fusion.filling import (
    Conditional,
    Missing,
    arrays_of_conditional,
    conditional_of,
    filled_heads,
)
from transforms.fusion.fitted import Fusion
from transforms.fusion.moments import Moments
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
from transforms.fusion.parts import in_common, incoming_width, learn, node_of, rows_of_parts
from transforms.fusion.statistics import Statistics
from transforms.fusion.trees import Part, Tree

Need = Literal["nothing", "means", "diagonal", "full", "patterns"]
"""What a part learns from: of what comes into it, moments, with the diagonal or all of the second
ones; or statistics of what it is made of, by what of this a row has."""

Known = Moments | Statistics


@dataclass(frozen=True)
class Wanted:
    """What a pass has to tell.

    Attributes:
        part: that learns from it; a head, if it is for the conditional means of that.
        need: what of it.
        conditional: whether it is for conditional means.
    """

    part: Part
    need: Need
    conditional: bool = False

    @property
    def name(self) -> str:
        """Of what is told; no part has that of conditional means."""
        return f"{self.part.name}/conditional" if self.conditional else self.part.name


@dataclass(frozen=True, eq=False)
class Learnt:
    """What some passes have taught.

    Attributes:
        nodes: by name, of parts that learn.
        conditional: name of a head -> what stands in for its missing modalities.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    conditional: dict[str, Conditional] = field(default_factory=dict)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All that was learnt, as arrays by name."""
        return arrays_of(tuple(self.nodes.values())) | arrays_of_conditional(self.conditional)

    def to_json(self) -> dict[str, Any]:
        """The rest, ready for JSON."""
        nodes = json_of(tuple(self.nodes.values()))
        return {"nodes": nodes, "conditional": list(self.conditional)}

    @classmethod
    def load(cls, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Learnt:
        """Of which these are `to_arrays` and `to_json`, bit for bit."""
        nodes = {node.name: node for node in nodes_of(arrays, meta["nodes"])}
        return cls(nodes, conditional_of(arrays, meta["conditional"]))


# --- passes ----------------------------------------------------------------------------------


def passes(tree: Tree, missing: Missing) -> int:
    """Number of passes over the training rows: one a level, one for conditional means."""
    return tree.levels + bool(filled_heads(tree, missing))


def parts_in(tree: Tree, missing: Missing, number: int) -> list[Part]:
    """The parts that are fitted after a pass, from 0. Conditional means have the one after
    the modalities'.
    """
    level = number
    if number and filled_heads(tree, missing):
        if number == 1:
            return []
        level = number - 1
    return [p for h in tree.heads for p in h.everything() if p.learns and p.level == level]


def needs(part: Part, missing: Missing, filled: bool = False) -> Need:
    """What a part learns from, over the training rows that have it: the least that will do.

    Args:
        part: of a strategy.
        missing: what stands in for a missing modality.
        filled: whether it is a modality of a head that has conditional means.
    """
    if part.scale is None:
        return "nothing"
    if part.shared == "cca":
        return "patterns"
    if part.components is not None or filled:
        return "full"
    if part.scale != "none":
        return "diagonal"
    return "nothing" if missing == "zero" else "means"


def wanted(tree: Tree, missing: Missing, number: int) -> list[Wanted]:
    """What a pass has to tell; nothing of parts that need nothing."""
    heads = filled_heads(tree, missing)
    filled = {name for head in heads for name in head.modalities}
    parts = parts_in(tree, missing, number)
    found = [Wanted(part, needs(part, missing, part.name in filled)) for part in parts]
    if number == 1:
        found += [Wanted(head, "patterns", conditional=True) for head in heads]
    return [one for one in found if one.need != "nothing"]


def head_of(tree: Tree, part: Part) -> Part:
    """The head that a part is in."""
    return next(head for head in tree.heads if part in head.everything())


def rows_for(
    tree: Tree, want: Wanted, learnt: Learnt, blocks: Blocks, here: Here
) -> np.ndarray | Rows | None:
    """What some rows have of what is wanted.

    Args:
        tree: the strategy.
        want: what is wanted.
        learnt: in the passes before.
        blocks: features of the modalities, at least those of the part's head.
        here: who has which.

    Returns:
        float[k, d] of what comes into the part, in the k rows that have it; None if no row ever
        has it; for `patterns`, rows of several parts.
    """
    part = want.part
    if want.conditional:
        return learnt.conditional[part.name].rows(blocks, here)
    below = tuple(node_of(p, learnt.nodes) for p in part.parts)
    if want.need == "patterns":
        return rows_of_parts(below, blocks, here)
    if not below:
        block, there = blocks[part.name], here[part.name]
        return block if block is None or there.all() else block[there]
    known = learnt.conditional.get(head_of(tree, part).name)
    filled = (blocks, here) if known is None else known.fill(blocks, here)
    width = incoming_width(part, below, {})
    joiner = Node(part.name, part.modalities, below, part.method, part.shares, width, width)
    block, there = joiner.incoming(*filled), joiner.here(here)
    assert block is not None, "what is made of parts has rows"
    return block if there.all() else block[there]


def known_of(rows: np.ndarray | Rows, need: Need) -> Known:
    """What is remembered of some rows."""
    return collect([rows]) if isinstance(rows, Rows) else Moments.of(rows, need == "full")


def merged(one: Known, other: Known) -> Known:
    """Both together."""
    if isinstance(one, Statistics) and isinstance(other, Statistics):
        return statistics.merge_all([one, other])
    assert isinstance(one, Moments)
    assert isinstance(other, Moments)
    return moments.merge(one, other)


def load_known(want: Wanted, arrays: Mapping[str, np.ndarray]) -> Known:
    """What is known under the name of what is wanted, of which these are `to_arrays`."""
    kind: type[Known] = Statistics if want.need == "patterns" else Moments
    return kind.from_arrays(want.name, arrays)


# --- fitting ---------------------------------------------------------------------------------


def fit_pass(
    tree: Tree,
    missing: Missing,
    number: int,
    known: Mapping[str, Known],
    dims: Mapping[str, int],
    learnt: Learnt,
    rows: Mapping[str, np.ndarray] | None = None,
) -> Learnt:
    """Fit what is fitted after a pass.

    Args:
        tree: the strategy.
        missing: what stands in for a missing modality.
        number: of the pass, from 0.
        known: what it told, of all that is `wanted`.
        dims: number of feature dimensions of each modality.
        learnt: in the passes before.
        rows: of parts that have fewer rows than dimensions, these rows: then their moments
            need not be full.

    Raises:
        ValueError: moments are lacking, or do not agree with `dims`.
    """
    rows = rows or {}
    nodes, conditional = dict(learnt.nodes), dict(learnt.conditional)
    needed = {want.name: want.need for want in wanted(tree, missing, number)}
    for name, need in needed.items():
        if name not in known:
            raise ValueError(f"{name}: fusion needs the moments ({need}) of its training rows")
    for part in parts_in(tree, missing, number):
        below = tuple(node_of(p, nodes) for p in part.parts)
        d = incoming_width(part, below, dims)
        own = known[part.name] if part.name in needed else Moments.empty(d, full=False)
        if isinstance(own, Statistics):
            nodes[part.name] = in_common(part, below, own)
            continue
        if len(own.mean) != d:
            raise ValueError(f"{part.name}: {d} dimensions, but moments of {len(own.mean)}")
        full = needed.get(part.name) == "full"
        if full and not own.full and part.name not in rows:
            raise ValueError(f"{part.name}: principal components need the full second moments")
        nodes[part.name] = learn(part, below, own, rows.get(part.name))
    for head in filled_heads(tree, missing):
        if number == 0:
            of = {m: own for m in head.modalities if isinstance(own := known[m], Moments)}
            conditional[head.name] = Conditional.of(of, rows)
        elif number == 1:
            told = known[Wanted(head, "patterns", conditional=True).name]
            assert isinstance(told, Statistics)
            conditional[head.name] = conditional[head.name].fitted(told)
    return Learnt(nodes, conditional)


def fit_rows(
    tree: Tree,
    missing: Missing,
    blocks: Blocks,
    present: np.ndarray,
    rows: np.ndarray,
    names: Mapping[str, list[str]],
) -> Fusion:
    """Fit on rows in memory, such as those of one fold, as `fit_pass` does on their moments.

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
    for head in tree.heads:
        for name in head.modalities:
            check_block(name, dims[name], blocks, present)
    if not rows.all():
        blocks = {name: None if block is None else block[rows] for name, block in blocks.items()}
        here = {name: there[rows] for name, there in here.items()}
    learnt = Learnt()
    for number in range(passes(tree, missing)):
        known: dict[str, Known] = {}
        few: dict[str, np.ndarray] = {}
        for want in wanted(tree, missing, number):
            seen, need = rows_for(tree, want, learnt, blocks, here), want.need
            if seen is None:
                seen = np.zeros((0, dims[want.name]))
            if need == "full" and isinstance(seen, np.ndarray) and len(seen) < seen.shape[1]:
                few[want.name], need = seen, "diagonal"
            known[want.name] = known_of(seen, need)
        learnt = fit_pass(tree, missing, number, known, dims, learnt, few)
    return assemble(tree, learnt, names)


def assemble(tree: Tree, learnt: Learnt, names: Mapping[str, list[str]]) -> Fusion:
    """The fusion of all that was learnt.

    Args:
        tree: the strategy.
        learnt: in all passes.
        names: of each modality's dimensions.

    Raises:
        ValueError: a node does not agree with `names`.
    """
    heads = tuple(node_of(head, learnt.nodes) for head in tree.heads)
    labels: list[str] = []
    for head in heads:
        for part in side_by_side(head):
            own = names.get(part.name, []) if not part.parts and part.weights is None else None
            if own is not None and len(own) != part.width:
                raise ValueError(f"{part.name}: {part.width} dimensions, but {len(own)} names")
            own = own if own is not None else [f"pc{i}" for i in range(part.width)]
            labels += [f"{part.name}.{label}" for label in own]
    return Fusion(labels, heads, learnt.conditional)
