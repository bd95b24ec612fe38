"""Who is in training, test and which fold: a function of the key, or of its whole group."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import DataError
from schemas.problems import counted
from schemas.receipts import fingerprint
from schemas.recipe import Split
from transforms.records.keys import hash64, uniform


@dataclass(frozen=True)
class Splits:
    """How keys are split.

    Attributes:
        test_share: share of keys set aside for the test.
        folds: number of folds.
        seed: of the hash.
        groups: group -> fold, or -1 for the test; None where keys are not grouped.
    """

    test_share: float
    folds: int
    seed: int
    groups: dict[str, int] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever a key may be split in another way; kept, also where it is sent."""
        groups = None if self.groups is None else sorted(self.groups.items())
        return fingerprint([self.test_share, self.folds, self.seed, groups])

    def assign(self, keys: pa.Array, groups: pa.Array | None = None) -> np.ndarray:
        """Fold of each key: int32[n], -1 for the test.

        Args:
            keys: text, n of them.
            groups: the group of each key, or null; only used where keys are grouped. A key
                without a group is a group of its own, split by its hash.
        """
        fold = np.floor(uniform(keys, 2 * self.seed + 1) * self.folds).astype(np.int32)
        fold[uniform(keys, 2 * self.seed) < self.test_share] = -1
        if self.groups is not None and groups is not None:
            # Only those that occur are looked up: there may be millions of others.
            coded = groups.dictionary_encode()
            found = [self.groups.get(name) for name in coded.dictionary.to_pylist()]
            own = pa.array(found, pa.int32()).take(coded.indices)
            known = pc.is_valid(own).to_numpy(zero_copy_only=False)
            fold[known] = own.drop_null().to_numpy()
        return fold


def split_by_key(split: Split) -> Splits:
    """Splits where no group is named."""
    assert isinstance(split.folds, int)
    return Splits(split.test_share, split.folds, split.seed)


def split_by_group(split: Split, sizes: dict[str, int]) -> Splits:
    """Splits that keep groups whole.

    Groups are taken in the order of their seeded hash: first for the test, as long as that
    brings it nearer to its share and the folds can do without, then each to the fold with the
    fewest keys.

    Args:
        split: of the recipe.
        sizes: number of keys of each group.

    Raises:
        DataError: if there are too few groups for the folds.
    """
    names = pa.array(sorted(sizes), pa.string())
    order = np.argsort(hash64(names, split.seed), kind="stable")
    ordered = names.take(pa.array(order)).to_pylist()
    wanted = split.test_share * sum(sizes.values())
    needed = 2 if split.folds == "group" else max(split.folds, 2)
    taken = 0
    groups: dict[str, int] = {}
    for name in ordered:
        if abs(taken + sizes[name] - wanted) < abs(taken - wanted):
            if groups and len(ordered) - len(groups) <= needed:
                break
            groups[name] = -1
            taken += sizes[name]
    rest = [name for name in ordered if name not in groups]
    folds = len(rest) if split.folds == "group" else split.folds
    if len(rest) < needed:
        raise DataError(
            f"split.group {split.group!r} has {counted(len(sizes), 'group')}, "
            f"{len(rest)} of them for training: too few for {needed} folds. Lower split.folds or "
            "split.test_share"
        )
    if split.folds == "group":
        groups |= {name: fold for fold, name in enumerate(sorted(rest))}
        return Splits(split.test_share, folds, split.seed, groups)
    filled = [0] * folds
    for name in rest:
        fold = filled.index(min(filled))
        groups[name] = fold
        filled[fold] += sizes[name]
    return Splits(split.test_share, folds, split.seed, groups)
