"""Extract: records -> features, with a fit over the training rows where an extractor needs one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from schemas.plan import Plan
from schemas.receipts import Receipt
from transforms.extractors.extracting import extract_bucket, finish_fit, fit_bucket, fits
from transforms.fusion.joining import training_rows
from transforms.fusion.splitting import Splits


class Extract(beam.PTransform):
    """Features of one modality: receipts of records in, receipts of features out.

    Args:
        plan: of the run.
        name: of the modality.
        splits: a `Splits`, or a side input of one.
    """

    def __init__(self, plan: Plan, name: str, splits: Any) -> None:
        super().__init__()
        self.plan, self.name, self.splits = plan, name, splits

    def expand(self, records: beam.PCollection) -> beam.PCollection:
        plan = self.plan
        fitted: Any = None
        if fits(plan.modality(self.name)):
            if plan.fitted is not None:
                fitted = plan.fingerprints["fitted"]
            else:
                fitted = beam.pvalue.AsSingleton(
                    records
                    | "Fit bucket" >> beam.Map(fit_one, plan, self.splits)
                    | "Together" >> beam.GroupBy(lambda _: 0)
                    | "Finish fit" >> beam.Map(finish_one, plan, self.name)
                )
        return records | "Bucket" >> beam.Map(extract_one, plan, fitted).with_output_types(Receipt)


def fit_one(records: Receipt, plan: Plan, splits: Splits) -> Receipt:
    """Sums of one bucket for the extractors that fit."""

    def training(keys: pa.Array) -> np.ndarray:
        return training_rows(plan, records.bucket, keys, splits)

    return fit_bucket(plan, records, training, splits.fingerprint)


def finish_one(together: tuple[int, Iterable[Receipt]], plan: Plan, name: str) -> str:
    """Fingerprint of what was fitted from all buckets."""
    return finish_fit(plan, name, complete(together[1], plan)).fingerprint


def complete(receipts: Iterable[Receipt], plan: Plan) -> list[Receipt]:
    """Receipts of every bucket, in order.

    Raises:
        RuntimeError: if one is missing or twice there, which would be a fault of the runner.
    """
    found = sorted(receipts, key=lambda receipt: receipt.bucket)
    if [receipt.bucket for receipt in found] != list(range(plan.buckets)):
        raise RuntimeError(f"expected one receipt for each of {plan.buckets} buckets")
    return found


def extract_one(records: Receipt, plan: Plan, fitted: str | None) -> Receipt:
    """Features of one bucket."""
    return extract_bucket(plan, records, fitted)
