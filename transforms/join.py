"""Join: what is known of each bucket from all modalities, and the fusion learnt from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import apache_beam as beam

from schemas.layout import FUSED
from schemas.plan import Plan
from schemas.receipts import Receipt
from transforms.fusion.fusing import (
    Upstream,
    finish_fusion,
    group_statistics,
    merge_statistics,
    needs_statistics,
    passes_of,
    statistics_size,
)
from transforms.fusion.grouping import in_order, merge_sizes
from transforms.fusion.splitting import Splits
from transforms.merge import Merge, Named

Together = tuple[int, Upstream]
"""(bucket, fingerprints of all that is joined in it)."""


class JoinBuckets(beam.PTransform):
    """Bring the receipts of all modalities, each by its name, together bucket by bucket.

    Only receipts travel: each bucket's files are read where they are joined.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def expand(self, receipts: dict[str, beam.PCollection]) -> beam.PCollection:
        # Keyed before they are together: a map after a Flatten is a stage of its own.
        keyed = (
            branch
            | f"{name}: by bucket"
            >> beam.Map(by_bucket).with_output_types(tuple[int, tuple[str, str]])
            for name, branch in receipts.items()
        )
        return (
            tuple(keyed)
            | "All modalities" >> beam.Flatten()
            | "Group" >> beam.GroupByKey()
            | "Upstream" >> beam.Map(upstream_of, self.plan).with_output_types(Together)
        )


def by_bucket(receipt: Receipt) -> tuple[int, tuple[str, str]]:
    """What is known of one modality in one bucket."""
    return receipt.bucket, (receipt.modality, receipt.fingerprint)


def upstream_of(grouped: tuple[int, Iterable[tuple[str, str]]], plan: Plan) -> Together:
    """One bucket's fingerprints, by modality.

    Raises:
        RuntimeError: if a modality is missing or twice there, which would be a fault of the runner.
    """
    bucket, pairs = grouped[0], sorted(grouped[1])
    if [name for name, _ in pairs] != sorted(plan.branches):
        raise RuntimeError(f"bucket {bucket}: expected one receipt of each of {plan.branches}")
    return bucket, dict(pairs)


class FitFusion(beam.PTransform):
    """Learn scaling, projections and what stands in for missing modalities from the sums of all
    buckets, in as many passes as it takes: one fingerprint comes out.

    Args:
        plan: of the run.
        splits: a `Splits`, or a side input of one.
    """

    def __init__(self, plan: Plan, splits: Any) -> None:
        super().__init__()
        self.plan, self.splits = plan, splits

    def expand(self, joined: beam.PCollection) -> beam.PCollection:
        plan = self.plan
        if not needs_statistics(plan):
            # One bucket's features tell the dimensions, which is all there is to know.
            return joined | "Nothing to learn" >> beam.FlatMap(finish_unlearnt, plan)
        grouped = (
            joined
            | "By group" >> beam.Map(by_group, plan).with_output_types(tuple[int, Together])
            | "Groups of buckets" >> beam.GroupByKey()
        )
        before: Any = ""
        for level in range(passes_of(plan)):
            again = "" if level == 0 else f", level {level}"
            finished = (
                grouped
                | f"Statistics{again}"
                >> beam.Map(statistics_of, plan, self.splits, level, before).with_output_types(
                    Named
                )
                | f"Merge{again}"
                >> Merge(
                    plan.buckets, statistics_size(plan), partial(merge_statistics, plan, level)
                )
                | f"Together{again}" >> beam.GroupByKey()
                | f"Finish{again}" >> beam.Map(finish_one, plan, level).with_output_types(str)
            )
            before = beam.pvalue.AsSingleton(finished)
        return finished


def finish_unlearnt(together: Together, plan: Plan) -> Iterator[str]:
    """Fingerprint of a fusion that learns nothing, once."""
    if together[0] == 0:
        yield finish_fusion(plan, [], 0).fingerprint


def by_group(together: Together, plan: Plan) -> tuple[int, Together]:
    """The group of consecutive buckets that one belongs to."""
    return together[0] // statistics_size(plan), together


def statistics_of(
    grouped: tuple[int, Iterable[Together]], plan: Plan, splits: Splits, level: int, before: str
) -> Named:
    """Moments of one group of buckets, under one name for all."""
    return FUSED, group_statistics(plan, dict(grouped[1]), splits, level, before)


def finish_one(together: tuple[str, Iterable[Receipt]], plan: Plan, level: int) -> str:
    """Fingerprint of the fusion, fitted up to a level."""
    size = statistics_size(plan)
    last = [size, *merge_sizes(plan.buckets, size)][-1]
    parts = in_order(together[1], range(0, plan.buckets, last))
    return finish_fusion(plan, parts, level).fingerprint
