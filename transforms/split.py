"""Split: who is in training, test and which fold, as a value that later steps take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from schemas.plan import Plan
from schemas.receipts import Receipt
from schemas.recipe import Split
from transforms.fusion.joining import group_sizes
from transforms.fusion.splitting import Splits, split_by_group, split_by_key


def splits_of(plan: Plan, target: beam.PCollection | None) -> Any:
    """The splits: a value where the key alone decides, else a side input.

    Args:
        plan: of the run.
        target: receipts of the target's records, or None without a target.
    """
    split = plan.recipe.split
    if split.group is None or plan.fitted is not None:
        return Splits(split.test_share, 1, split.seed) if plan.fitted else split_by_key(split)
    sizes = (
        target
        | "Group sizes" >> beam.FlatMap(sizes_of, plan)
        | "Sum" >> beam.CombinePerKey(sum)
        | "Together" >> beam.combiners.ToDict()
        | "Split groups" >> beam.Map(split_groups, split)
    )
    return beam.pvalue.AsSingleton(sizes)


def split_groups(sizes: dict[str, int], split: Split) -> Splits:
    """The splits, sent with their fingerprint: of a million groups it takes a second to make."""
    splits = split_by_group(split, sizes)
    assert splits.fingerprint
    return splits


def sizes_of(records: Receipt, plan: Plan) -> Iterator[tuple[str, int]]:
    """Number of keys of each group in one bucket of the target's records."""
    yield from group_sizes(plan, records.bucket).items()
