"""Join: what is known of each bucket from all modalities, and the fusion learnt from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apache_beam as beam

from schemas.plan import Plan
from schemas.receipts import Receipt
from transforms.fusion.fusing import (
    GROUP,
    Upstream,
    finish_fusion,
    group_statistics,
    needs_statistics,
)
from transforms.fusion.splitting import Splits

Together = tuple[int, Upstream]
"""(bucket, fingerprints of all that is joined in it)."""


class JoinBuckets(beam.PTransform):
    """Bring the receipts of all modalities together, bucket by bucket.

    Only receipts travel: each bucket's files are read where they are joined.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def expand(self, receipts: tuple[beam.PCollection, ...]) -> beam.PCollection:
        return (
            receipts
            | "All modalities" >> beam.Flatten()
            | "By bucket" >> beam.Map(lambda r: (r.bucket, (r.modality, r.fingerprint)))
            | "Group" >> beam.GroupByKey()
            | "Upstream" >> beam.Map(upstream_of, self.plan)
        )


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
    """Learn scaling and projections from the sums of all buckets: one fingerprint comes out.

    Args:
        plan: of the run.
        splits: a `Splits`, or a side input of one.
    """

    def __init__(self, plan: Plan, splits: Any) -> None:
        super().__init__()
        self.plan, self.splits = plan, splits

    def expand(self, joined: beam.PCollection) -> beam.PCollection:
        plan = self.plan
        if needs_statistics(plan):
            parts = (
                joined
                | "By group of buckets" >> beam.GroupBy(lambda together: together[0] // GROUP)
                | "Statistics" >> beam.Map(statistics_of, plan, self.splits)
            )
        else:
            parts = joined | "Nothing to learn" >> beam.Filter(lambda together: together[0] == 0)
        return (
            parts | "Together" >> beam.GroupBy(lambda _: 0) | "Finish" >> beam.Map(finish_one, plan)
        )


def statistics_of(grouped: tuple[int, Iterable[Together]], plan: Plan, splits: Splits) -> Receipt:
    """Moments of one group of buckets."""
    return group_statistics(plan, dict(grouped[1]), splits)


def finish_one(together: tuple[int, Iterable[Any]], plan: Plan) -> str:
    """Fingerprint of the fitted fusion."""
    parts = [part for part in together[1] if isinstance(part, Receipt)]
    return finish_fusion(plan, parts).fingerprint
