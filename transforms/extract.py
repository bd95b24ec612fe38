"""Extract: records -> features, with a fit over the training rows where an extractor needs one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from schemas.plan import Plan
from schemas.receipts import Receipt
from transforms.extractors.extracting import extract_bucket, finish_fit, fit_bucket
from transforms.fusion.joining import training_rows
from transforms.fusion.splitting import Splits

Part = tuple[str, Receipt]
"""(modality, receipt of one bucket's sums)."""


class Fit(beam.PTransform):
    """What the extractors of one modality learn: receipts of records in, of sums out.

    Args:
        plan: of the run.
        number: of the round, from 1.
        before: modality -> fingerprint of what the rounds before have learnt, or a side input of
            that.
        splits: a `Splits`, or a side input of one.
    """

    def __init__(self, plan: Plan, number: int, before: Any, splits: Any) -> None:
        super().__init__()
        self.plan, self.number, self.before, self.splits = plan, number, before, splits

    def expand(self, records: beam.PCollection) -> beam.PCollection:
        return records | "Bucket" >> beam.Map(
            fit_one, self.plan, self.number, self.before, self.splits
        ).with_output_types(Part)


class FinishFits(beam.PTransform):
    """Sums of all buckets of all modalities in, (modality, fingerprint of its fit) out.

    Args:
        plan: of the run.
        number: of the round, from 1.
    """

    def __init__(self, plan: Plan, number: int) -> None:
        super().__init__()
        self.plan, self.number = plan, number

    def expand(self, parts: tuple[beam.PCollection, ...]) -> beam.PCollection:
        return (
            parts
            | "All modalities" >> beam.Flatten()
            | "Together" >> beam.GroupByKey()
            | "Finish"
            >> beam.Map(finish_one, self.plan, self.number).with_output_types(tuple[str, str])
        )


class DealOut(beam.PTransform):
    """Receipts of several modalities, each bucket a key of its own: the same come out.

    A runner that deals keys out in turn gives all workers equal shares of each modality.
    """

    def expand(self, records: dict[str, beam.PCollection]) -> dict[str, beam.PCollection]:
        names = list(records)
        dealt = (
            tuple(records.values())
            | "All modalities" >> beam.Flatten()
            | "By bucket" >> beam.WithKeys(lambda receipt: (receipt.modality, receipt.bucket))
            | "Deal" >> beam.GroupByKey()
            | "Receipts" >> beam.FlatMap(lambda grouped: grouped[1]).with_output_types(Receipt)
            | "Modalities"
            >> beam.Partition(lambda receipt, _: names.index(receipt.modality), len(names))
        )
        return dict(zip(names, dealt, strict=True))


class Extract(beam.PTransform):
    """Features of one modality: receipts of records in, receipts of features out.

    Args:
        plan: of the run.
        fitted: modality -> fingerprint of what its extractors learnt, or a side input of that.
    """

    def __init__(self, plan: Plan, fitted: Any) -> None:
        super().__init__()
        self.plan, self.fitted = plan, fitted

    def expand(self, records: beam.PCollection) -> beam.PCollection:
        return records | "Bucket" >> beam.Map(
            extract_one, self.plan, self.fitted
        ).with_output_types(Receipt)


def fit_one(
    records: Receipt, plan: Plan, number: int, before: dict[str, str], splits: Splits
) -> Part:
    """Sums of one bucket for the extractors that fit."""

    def training(keys: pa.Array) -> np.ndarray:
        return training_rows(plan, records.bucket, keys, splits)

    learnt = before.get(records.modality, "")
    return records.modality, fit_bucket(plan, records, number, learnt, training, splits.fingerprint)


def finish_one(together: tuple[str, Iterable[Receipt]], plan: Plan, number: int) -> tuple[str, str]:
    """A modality, and the fingerprint of what was fitted from all its buckets."""
    name, receipts = together
    return name, finish_fit(plan, name, number, complete(receipts, plan)).fingerprint


def complete(receipts: Iterable[Receipt], plan: Plan) -> list[Receipt]:
    """Receipts of every bucket, in order.

    Raises:
        RuntimeError: if one is missing or twice there, which would be a fault of the runner.
    """
    found = sorted(receipts, key=lambda receipt: receipt.bucket)
    if [receipt.bucket for receipt in found] != list(range(plan.buckets)):
        raise RuntimeError(f"expected one receipt for each of {plan.buckets} buckets")
    return found


def extract_one(records: Receipt, plan: Plan, fitted: dict[str, str]) -> Receipt:
    """Features of one bucket."""
    return extract_bucket(plan, records, fitted.get(records.modality))
