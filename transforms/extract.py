"""Extract: records -> features, with a fit over the training rows where an extractor needs one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from schemas.plan import Plan
from schemas.receipts import Receipt
from transforms.extractors.extracting import extract_bucket, finish_fit, fit_buckets, merge_fits
from transforms.fusion.grouping import group_size, in_order, merge_sizes
from transforms.fusion.joining import training_rows
from transforms.fusion.splitting import Splits
from transforms.merge import Merge, Named


class Fit(beam.PTransform):
    """What the extractors of one modality learn: receipts of records in, of sums out.

    One bucket's records are looked at where they were written; where there are very many
    buckets, groups of consecutive ones.

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
        plan, size = self.plan, fit_size(self.plan)
        if size == 1:
            grouped = records | "Alone" >> beam.Map(lambda receipt: [receipt])
        else:
            grouped = (
                records
                | "By group" >> beam.WithKeys(lambda receipt: receipt.bucket // size)
                | "Group" >> beam.GroupByKey()
                | "Buckets" >> beam.MapTuple(lambda _, receipts: list(receipts))
            )
        return (
            grouped
            | "Bucket"
            >> beam.Map(fit_one, plan, self.number, self.before, self.splits).with_output_types(
                Named
            )
            | Merge(plan.buckets, size, partial(merge_fits, plan, self.number))
        )


class FinishFits(beam.PTransform):
    """Sums of all modalities in, (modality, fingerprint of its fit) out.

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
        # Keyed before they are together: a map after a Flatten is a stage of its own.
        keyed = (
            branch
            | f"{name}: by bucket"
            >> beam.Map(by_bucket).with_output_types(tuple[tuple[str, int], Receipt])
            for name, branch in records.items()
        )
        dealt = (
            tuple(keyed)
            | "All modalities" >> beam.Flatten()
            | "Deal" >> beam.GroupByKey()
            | "Receipts" >> beam.FlatMap(lambda grouped: grouped[1]).with_output_types(Receipt)
            | "Modalities"
            >> beam.Partition(lambda receipt, _: names.index(receipt.modality), len(names))
        )
        return dict(zip(names, dealt, strict=True))


def by_bucket(receipt: Receipt) -> tuple[tuple[str, int], Receipt]:
    """A receipt under its modality and bucket."""
    return (receipt.modality, receipt.bucket), receipt


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
    records: list[Receipt], plan: Plan, number: int, before: dict[str, str], splits: Splits
) -> Named:
    """Sums of a group of buckets for the extractors that fit."""

    def training(bucket: int, keys: pa.Array) -> np.ndarray:
        return training_rows(plan, bucket, keys, splits)

    name, size = records[0].modality, fit_size(plan)
    start = records[0].bucket // size * size
    records = in_order(records, range(start, start + size))
    learnt = before.get(name, "")
    return name, fit_buckets(plan, records, number, learnt, training, splits.fingerprint)


def finish_one(together: tuple[str, Iterable[Receipt]], plan: Plan, number: int) -> tuple[str, str]:
    """A modality, and the fingerprint of what was fitted from all its buckets."""
    name, receipts = together
    last = [fit_size(plan), *merge_sizes(plan.buckets, fit_size(plan))][-1]
    parts = in_order(receipts, range(0, plan.buckets, last))
    return name, finish_fit(plan, name, number, parts).fingerprint


def fit_size(plan: Plan) -> int:
    """Buckets of which an extractor's sums are kept in one file."""
    return group_size(plan.buckets, 1)


def extract_one(records: Receipt, plan: Plan, fitted: dict[str, str]) -> Receipt:
    """Features of one bucket."""
    return extract_bucket(plan, records, fitted.get(records.modality))
