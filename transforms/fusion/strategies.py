"""Fusion strategies: how the features of all modalities become one vector a key.

Each modality is centred, scaled and, where asked, projected onto its principal components;
then the modalities are put side by side (`concatenate`) or averaged (`average`).

All of it is learnt from the training rows in which the modality is present; see `components`.

A modality that a key lacks:
    concatenate: its slice of the fused vector is filled. Where features are centred, both
        `mean` and `zero` are zeros. Where they are raw (scale `none`, no components), `mean` is
        the training mean and `zero` is zeros, always of the fused vector's slice.
    average: it is left out of the mean; with no modality present the vector is zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from schemas.recipe import Average, Concatenate
from transforms.fusion.components import axes_of_covariance, axes_of_rows, scaling
from transforms.fusion.moments import Moments

Missing = Literal["mean", "zero"]
Need = Literal["nothing", "means", "diagonal", "full"]
Blocks = Mapping[str, np.ndarray | None]
"""Features by modality, float32[n, d], or None where no row has the modality."""

ROWS = 128
"""Rows that are centred and projected at a time; a recurring shape keeps BLAS on one path."""


@dataclass(frozen=True, eq=False)
class Branch:
    """What was learnt for one modality.

    Attributes:
        name: the modality.
        dimension: d, of its features.
        start, stop: its slice of the fused vector, of width k.
        fill: float32[k], for keys that lack the modality.
        mean: float64[d] to subtract, or None where features are left raw.
        factor: float64[d] to multiply by after that, where there are no components.
        weights: float64[d, k], factors and loadings in one, where there are.
    """

    name: str
    dimension: int
    start: int
    stop: int
    fill: np.ndarray
    mean: np.ndarray | None = None
    factor: np.ndarray | None = None
    weights: np.ndarray | None = None

    def write(self, block: np.ndarray, out: np.ndarray) -> None:
        """Write the k values of every row of `block` [n, d] to `out` [n, k]."""
        if self.mean is None:
            out[...] = block
            return
        scratch = np.empty((ROWS, self.dimension))
        product = np.empty((ROWS, out.shape[1]))
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


@dataclass(frozen=True, eq=False)
class Fusion:
    """A fitted strategy: a value that is saved, and the very same at prediction.

    Attributes:
        method: `concatenate` or `average`.
        names: of the fused vector's dimensions, such as `image.hog.y0x0b1` or `audio.pc0`.
        branches: one a modality, in the recipe's order.
    """

    method: Literal["concatenate", "average"]
    names: list[str]
    branches: tuple[Branch, ...]

    @property
    def dimension(self) -> int:
        """D, the length of the fused vector."""
        return len(self.names)

    @property
    def slices(self) -> dict[str, tuple[int, int]]:
        """First and past-the-last dimension of each modality; one for all, called `average`."""
        if self.method == "average":
            return {"average": (0, self.dimension)}
        return {b.name: (b.start, b.stop) for b in self.branches}

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
        columns = _columns(blocks, present)
        n = len(present)
        for branch in self.branches:
            _check_block(branch.name, branch.dimension, blocks, present)
        if self.method == "concatenate":
            fused = np.empty((n, self.dimension), dtype=np.float32)
            for b in self.branches:
                part = fused[:, b.start : b.stop]
                _write_present(b, blocks[b.name], present[:, columns[b.name]], part)
            return fused
        total = np.zeros((n, self.dimension))
        part = np.empty_like(total)
        for b in self.branches:
            _write_present(b, blocks[b.name], present[:, columns[b.name]], part)
            total += part
        counts = present[:, [columns[b.name] for b in self.branches]].sum(axis=1)
        total /= np.maximum(counts, 1)[:, None]
        return total.astype(np.float32)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All that was fitted, as arrays of numbers by name, such as `image/mean`."""
        return {f"{b.name}/{part}": getattr(b, part) for b in self.branches for part in _parts(b)}

    def to_json(self) -> dict[str, Any]:
        """The rest: method, names, slices and what arrays there are, ready for JSON."""
        return {
            "method": self.method,
            "names": self.names,
            "slices": {name: list(ends) for name, ends in self.slices.items()},
            "modalities": [
                {
                    "name": b.name,
                    "dimension": b.dimension,
                    "slice": [b.start, b.stop],
                    "arrays": _parts(b),
                }
                for b in self.branches
            ],
        }

    @classmethod
    def load(cls, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Fusion:
        """The fusion of which `arrays` and `meta` are `to_arrays` and `to_json`, bit for bit.

        Raises:
            ValueError: an array is lacking.
        """
        branches = []
        for m in meta["modalities"]:
            lacking = [a for a in m["arrays"] if f"{m['name']}/{a}" not in arrays]
            if lacking:
                raise ValueError(
                    f"the fitted fusion has no array {m['name']}/{lacking[0]}: its files do not "
                    "belong together; run the fusion again"
                )
            learnt = {a: arrays[f"{m['name']}/{a}"] for a in m["arrays"]}
            start, stop = m["slice"]
            branches.append(Branch(m["name"], m["dimension"], start, stop, **learnt))
        return cls(meta["method"], list(meta["names"]), tuple(branches))


def needs(fuse: Concatenate | Average, missing: Missing, modality: str) -> Need:
    """What `fit` must know of a modality's training rows, the least of: nothing, means, the
    diagonal of the second moments, or all of them.
    """
    if _components(fuse, modality) is not None:
        return "full"
    if fuse.scale != "none":
        return "diagonal"
    return "means" if missing == "mean" else "nothing"


def fit(
    fuse: Concatenate | Average,
    missing: Missing,
    moments: Mapping[str, Moments],
    dims: Mapping[str, int],
    names: Mapping[str, list[str]],
) -> Fusion:
    """Fit on the moments of the training rows.

    Args:
        fuse: the strategy, as in the recipe.
        missing: what stands in for a missing modality.
        moments: of the training rows in which a modality is present, as `needs` says; a
            modality that needs nothing may be left out.
        dims: number of feature dimensions of each modality, in the recipe's order.
        names: of these dimensions.

    Raises:
        ValueError: moments are lacking, or do not agree with `dims` and `names`.
    """
    learnt = []
    for name, d in dims.items():
        need = needs(fuse, missing, name)
        if need == "nothing":
            known = Moments.empty(d, full=False)
        elif name not in moments:
            raise ValueError(f"{name}: fusion needs the moments ({need}) of its training rows")
        else:
            known = moments[name]
        if len(known.mean) != d:
            raise ValueError(f"{name}: {d} dimensions, but moments of {len(known.mean)}")
        if need == "full" and not known.full:
            raise ValueError(f"{name}: principal components need the full second moments")
        learnt.append(_learn(fuse, name, known, None))
    return _assemble(fuse, learnt, names)


def fit_rows(
    fuse: Concatenate | Average,
    missing: Missing,
    blocks: Blocks,
    present: np.ndarray,
    rows: np.ndarray,
    modalities: Iterable[str],
    names: Mapping[str, list[str]],
) -> Fusion:
    """Fit on rows in memory, such as those of one fold, as `fit` does on their moments.

    Where a modality has fewer rows than dimensions, its components come from the Gram matrix of
    the rows, which takes 8 bytes a value of these rows and is much faster; both ways agree up to
    rounding.

    Args:
        fuse: the strategy, as in the recipe.
        missing: what stands in for a missing modality.
        blocks: features of each modality.
        present: bool[n, len(blocks)], a column a modality, in the order of `blocks`.
        rows: bool[n], the training rows; no other row is looked at.
        modalities: those to fuse, in order; some or all of `blocks`.
        names: of each modality's dimensions.

    Raises:
        ValueError: a modality is lacking, or its dimensions do not agree with `names`.
    """
    columns = _columns(blocks, present)
    learnt = []
    for name in modalities:
        need = needs(fuse, missing, name)
        d = len(names[name])
        _check_block(name, d, blocks, present)
        block = blocks[name]
        seen = np.flatnonzero(present[:, columns[name]] & rows)
        if block is None or need == "nothing":
            learnt.append(_learn(fuse, name, Moments.empty(d, full=False), None))
            continue
        chosen = block if len(seen) == len(block) else block[seen]
        few = len(chosen) < d
        known = Moments.of(chosen, full=need == "full" and not few)
        learnt.append(_learn(fuse, name, known, chosen if few else None))
    return _assemble(fuse, learnt, names)


def _components(fuse: Concatenate | Average, modality: str) -> int | None:
    """Principal components asked for, or None."""
    if isinstance(fuse, Average):
        return fuse.dimension
    return fuse.pca.get(modality) if isinstance(fuse.pca, dict) else fuse.pca


def _learn(
    fuse: Concatenate | Average,
    name: str,
    known: Moments,
    rows: np.ndarray | None,
) -> Branch:
    """One modality's branch, its slice starting at 0; `rows` if they are to be used for the PCA."""
    d = len(known.mean)
    wanted = _components(fuse, name)
    if fuse.scale == "none" and wanted is None:
        # With `zero` no moments are known, and their mean is zeros.
        return Branch(name, d, 0, d, known.mean.astype(np.float32))
    mean, factor = scaling(fuse.scale, known)
    if wanted is None:
        return Branch(name, d, 0, d, np.zeros(d, np.float32), mean, factor)
    axes = np.zeros((0, d))
    if known.count >= 2 and rows is not None:
        axes = axes_of_rows(rows, mean, factor, wanted)
    elif known.count >= 2:
        axes = axes_of_covariance(known.covariance(), factor, wanted)
    # A modality without any variation keeps one dimension, of zeros, so that it has a slice.
    width = wanted if isinstance(fuse, Average) else max(1, len(axes))
    weights = np.zeros((d, width))
    weights[:, : len(axes)] = (axes * factor).T
    return Branch(name, d, 0, width, np.zeros(width, np.float32), mean, weights=weights)


def _assemble(
    fuse: Concatenate | Average, learnt: list[Branch], names: Mapping[str, list[str]]
) -> Fusion:
    """The branches with their slices and names."""
    for b in learnt:
        if len(names[b.name]) != b.dimension:
            raise ValueError(f"{b.name}: {b.dimension} dimensions, but {len(names[b.name])} names")
    if isinstance(fuse, Average):
        return Fusion("average", [f"average.pc{i}" for i in range(fuse.dimension)], tuple(learnt))
    placed, labels = [], list[str]()
    for b in learnt:
        kept = names[b.name] if b.weights is None else [f"pc{i}" for i in range(b.stop)]
        placed.append(replace(b, start=len(labels), stop=len(labels) + b.stop))
        labels += [f"{b.name}.{label}" for label in kept]
    return Fusion("concatenate", labels, tuple(placed))


def _parts(branch: Branch) -> list[str]:
    """The arrays that a branch has."""
    return [a for a in ("fill", "mean", "factor", "weights") if getattr(branch, a) is not None]


def _write_present(
    branch: Branch, block: np.ndarray | None, here: np.ndarray, out: np.ndarray
) -> None:
    """Write the rows that are `here` to `out` [n, k], and the branch's fill to the others."""
    if block is None:
        out[...] = branch.fill
        return
    branch.write(block, out)
    absent = np.flatnonzero(~here)
    if len(absent):
        out[absent] = branch.fill


def _columns(blocks: Blocks, present: np.ndarray) -> dict[str, int]:
    """The column of `present` of each modality."""
    if present.ndim != 2 or present.shape[1] != len(blocks) or present.dtype != np.bool_:
        raise ValueError(
            f"present must be bool[n, {len(blocks)}], a column a modality, "
            f"not {present.dtype}{list(present.shape)}"
        )
    return {name: i for i, name in enumerate(blocks)}


def _check_block(name: str, dimension: int, blocks: Blocks, present: np.ndarray) -> None:
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
