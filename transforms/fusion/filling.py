"""Conditional means: what a missing modality's features are expected to be, given those present.

    pass 1   each modality, by the moments of rows that have it -> its principal components
    pass 2   these side by side, by pattern of modalities -> one normal distribution, by EM
    a row    components of what it has -> mean of the others given these -> their features

That is regression on what is present, fitted to all training rows, whatever these lack (Little &
Rubin 2019, Statistical Analysis with Missing Data, 3rd edition, chapters 4 and 11; `em`). Labels
are not looked at. The fusion then takes these features as if they had been there. Rows that have
none of a head's modalities are not filled; for them the nodes have the training mean.

Components are of standardised features, at most `DIMENSIONS` of all modalities of a head
together, as many of each; of fewer rows for that less is believed (`em.approximated_shrinkage`).
So memory is bounded: as for any principal components 8 d^2 bytes for the moments of each modality
(more than `moments.LARGEST_FULL` dimensions are refused), and for each pattern that occurs up to
12 D^2 bytes, or 192 KiB of 128 components. Patterns may be many where modalities are: more than
take `statistics.LARGEST_BYTES` are refused. A random projection would take less than principal
components, but there is no way back from it to the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from transforms.fusion.collecting import Rows
from transforms.fusion.components import axes_of_covariance, axes_of_rows, scaling
from transforms.fusion.moments import Moments
from transforms.fusion.nodes import Blocks, Here, in_blocks
from transforms.fusion.statistics import Statistics
from transforms.fusion.trees import Part, Tree

if TYPE_CHECKING:
    from transforms.fusion.missing import Gaussian

Missing = Literal["mean", "zero", "conditional"]

DIMENSIONS = 128
"""Most components of all modalities of a head together."""

TOLERANCE = 0.01
"""EM ends when a step adds less than that a row to the log likelihood."""


def filled_heads(tree: Tree, missing: Missing) -> list[Part]:
    """The heads in which conditional means stand in for what is missing; networks have tokens."""
    if missing != "conditional":
        return []
    return [h for h in tree.heads if len(h.modalities) > 1 and h.network is None]


def shares(dims: Mapping[str, int]) -> int:
    """Most components of each modality, so that all together have no more than `DIMENSIONS`."""
    most = DIMENSIONS
    while most > 1 and sum(min(d, most) for d in dims.values()) > DIMENSIONS:
        most -= 1
    return most


@dataclass(frozen=True, eq=False)
class Space:
    """Principal components of a modality, there and back.

    Attributes:
        mean: float64[d].
        factor: float64[d], to deviation 1; 0 for dimensions that are constant.
        axes: float64[k, d].
    """

    mean: np.ndarray
    factor: np.ndarray
    axes: np.ndarray

    @classmethod
    def of(cls, known: Moments, most: int, rows: np.ndarray | None = None) -> Space:
        """The first components, at most so many.

        Args:
            known: moments of the rows that have the modality, full unless there are `rows`.
            most: components.
            rows: float[n, d], these rows, if they are fewer than dimensions.
        """
        mean, factor = scaling("standard", known)
        if known.count < 2:
            return cls(mean, factor, np.zeros((0, len(mean))))
        if rows is not None:
            return cls(mean, factor, axes_of_rows(rows, mean, factor, most))
        return cls(mean, factor, axes_of_covariance(known.covariance(), factor, most))

    def components(self, rows: np.ndarray) -> np.ndarray:
        """float64[n, k] of float[n, d]."""
        weights = (self.axes * self.factor).T
        return in_blocks(rows, len(self.axes), lambda x: (x - self.mean) @ weights)

    def features(self, components: np.ndarray) -> np.ndarray:
        """float64[n, d] of float[n, k]; dimensions that are constant have their mean."""
        varies = self.factor > 0
        weights = self.axes / np.where(varies, self.factor, np.inf)
        return in_blocks(components, len(self.mean), lambda x: x @ weights + self.mean)


@dataclass(frozen=True, eq=False)
class Conditional:
    """What stands in for the missing modalities of a head.

    Attributes:
        spaces: modality -> its components, in the order of the head.
        gaussian: their joint distribution; None before the second pass.
    """

    spaces: dict[str, Space]
    gaussian: Gaussian | None = None

    @classmethod
    def of(cls, known: Mapping[str, Moments], rows: Mapping[str, np.ndarray]) -> Conditional:
        """The components of each modality of a head; arguments as of `Space.of`."""
        most = shares({name: len(own.mean) for name, own in known.items()})
        return cls({name: Space.of(own, most, rows.get(name)) for name, own in known.items()})

    def rows(self, blocks: Blocks, here: Here) -> Rows:
        """Components of rows, for `collecting.collect`."""
        found = {}
        for name, space in self.spaces.items():
            block, has = blocks[name], here[name]
            found[name] = np.zeros((len(has), len(space.axes)))
            if block is not None:
                found[name][has] = space.components(block[has])
        present = np.stack([here[name] for name in self.spaces], axis=1)
        return Rows(found, present, np.zeros(len(present), np.int64))

    def fitted(self, statistics: Statistics) -> Conditional:
        """With the distribution of training rows' components."""
        # Imported here: linear algebra takes a tenth of a second, and few recipes need it.
        from transforms.fusion.em import approximated_shrinkage, fit_gaussian
        from transforms.fusion.missing import Gaussian

        d = statistics.dimension
        if not d or not any(statistics.cells):  # nothing varies, or no row has anything
            nothing = (np.ones(1), np.zeros((1, d)), np.eye(d))
            return replace(self, gaussian=Gaussian(dict(statistics.dims), (), *nothing))
        shrinkage = approximated_shrinkage(statistics)
        return replace(self, gaussian=fit_gaussian(statistics, shrinkage, TOLERANCE)[0])

    def fill(self, blocks: Blocks, here: Here) -> tuple[Blocks, Here]:
        """The same rows with their missing modalities filled, and who then has which.

        A row's values do not depend on the rows it comes with.
        """
        assert self.gaussian is not None
        own = {name: here[name] for name in self.spaces}
        found: dict[str, np.ndarray | None] = dict(blocks)
        anything: np.ndarray = np.logical_or.reduce(list(own.values()))
        lacking = np.flatnonzero(anything & ~np.logical_and.reduce(list(own.values())))
        if not len(lacking):
            return blocks, here
        some = self.rows(
            {name: None if (b := blocks[name]) is None else b[lacking] for name in own},
            {name: has[lacking] for name, has in own.items()},
        )
        expected = self.gaussian.fill(some.blocks, some.present)
        for name, space in self.spaces.items():
            rows = lacking[~own[name][lacking]]
            if not len(rows):
                continue
            known = blocks[name]
            block = (
                np.empty((len(anything), len(space.mean)), np.float32)
                if known is None
                else known.copy()
            )
            block[rows] = space.features(expected[name][~own[name][lacking]])
            found[name] = block
        return found, {**here, **dict.fromkeys(own, anything)}

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays of numbers and text, named `<prefix>/...`."""
        found = {} if self.gaussian is None else self.gaussian.to_arrays(f"{prefix}/gaussian")
        found[f"{prefix}/modalities"] = np.array(list(self.spaces), dtype=str)
        for name, space in self.spaces.items():
            found |= {f"{prefix}/spaces/{name}/{a}": v for a, v in vars(space).items()}
        return found

    @classmethod
    def from_arrays(cls, prefix: str, arrays: Mapping[str, np.ndarray]) -> Conditional:
        """What `to_arrays` was called on, bit for bit."""
        from transforms.fusion.missing import Gaussian

        spaces = {}
        for name in arrays[f"{prefix}/modalities"].tolist():
            own = f"{prefix}/spaces/{name}"
            spaces[name] = Space(*(arrays[f"{own}/{a}"] for a in ("mean", "factor", "axes")))
        known = f"{prefix}/gaussian/mean" in arrays
        return cls(spaces, Gaussian.from_arrays(f"{prefix}/gaussian", arrays) if known else None)


def arrays_of_conditional(known: Mapping[str, Conditional]) -> dict[str, np.ndarray]:
    """The arrays of those of some heads, by names that no node's can have."""
    return {
        name: array
        for head, own in known.items()
        for name, array in own.to_arrays(f"conditional/{head}").items()
    }


def conditional_of(arrays: Mapping[str, np.ndarray], heads: list[str]) -> dict[str, Conditional]:
    """Those of some heads, of which these are `arrays_of_conditional`."""
    return {head: Conditional.from_arrays(f"conditional/{head}", arrays) for head in heads}
