"""Split: who is in training, test and which fold, as a value that later steps take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow.compute as pc

from schemas.layout import Layout
from schemas.plan import Plan
from schemas.receipts import Receipt
from schemas.recipe import TARGET
from schemas.tables import read_table
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
        | "Group sizes" >> beam.FlatMap(group_sizes, plan)
        | "Sum" >> beam.CombinePerKey(sum)
        | "Together" >> beam.combiners.ToDict()
        | "Split groups" >> beam.Map(lambda found, split: split_by_group(split, found), split)
    )
    return beam.pvalue.AsSingleton(sizes)


def group_sizes(records: Receipt, plan: Plan) -> Iterator[tuple[str, int]]:
    """Number of keys of each group in one bucket of the target's records."""
    column = plan.recipe.split.group
    assert column is not None
    path = Layout(plan.output, plan.buckets).records(TARGET, records.bucket)
    for pair in pc.value_counts(read_table(path, [column]).column(column)).to_pylist():
        if pair["values"] is not None:
            yield pair["values"], pair["counts"]
