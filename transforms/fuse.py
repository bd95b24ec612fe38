"""Fuse: joined buckets -> the fused data set."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import apache_beam as beam

from schemas.plan import Plan
from schemas.receipts import Receipt
from transforms.fusion.fitted import Fusion
from transforms.fusion.fusing import fuse_bucket, load_fusion
from transforms.fusion.splitting import Splits
from transforms.join import Together


class Fuse(beam.PTransform):
    """Write the fused rows of each bucket: receipts come out.

    Args:
        plan: of the run.
        splits: a `Splits`, or a side input of one.
        fitted: fingerprint of the fusion, or a side input of it.
    """

    def __init__(self, plan: Plan, splits: Any, fitted: Any) -> None:
        super().__init__()
        self.plan, self.splits, self.fitted = plan, splits, fitted

    def expand(self, joined: beam.PCollection) -> beam.PCollection:
        return joined | "Bucket" >> beam.Map(
            fuse_one, self.plan, self.splits, self.fitted
        ).with_output_types(Receipt)


def fuse_one(together: Together, plan: Plan, splits: Splits, fitted: str) -> Receipt:
    """Fused rows of one bucket."""
    bucket, upstream = together
    fusion = _fusion(plan.fitted or plan.output, fitted)
    return fuse_bucket(plan, bucket, upstream, splits, fusion, fitted)


@lru_cache(maxsize=1)
def _fusion(output: str, fitted: str) -> Fusion:
    return load_fusion(output)
