"""Audit: the counts of every step, summed over buckets, and whether they add up."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import apache_beam as beam

from schemas import storage
from schemas.layout import FUSED, Layout
from schemas.plan import Plan
from schemas.receipts import Receipt
from schemas.recipe import TARGET

Totals = dict[tuple[str, str, str], int]
"""(step, modality, name of the count) -> sum over buckets."""


class Audit(beam.PTransform):
    """Sum the receipts of all steps and write report/audit.json."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def expand(self, receipts: tuple[beam.PCollection, ...]) -> beam.PCollection:
        return (
            receipts
            | "All steps" >> beam.Flatten()
            | "Counts" >> beam.Map(counts_of).with_output_types(tuple[int, Totals])
            | "Sum" >> beam.CombinePerKey(add_counts)
            | "Write" >> beam.Map(write_audit, self.plan)
        )


def counts_of(receipt: Receipt) -> tuple[int, Totals]:
    """The counts of one receipt, under one key for all."""
    return 0, {(receipt.step, receipt.modality, n): c for n, c in receipt.counts.items()}


def add_counts(several: Iterable[Totals]) -> Totals:
    """The sum of each count."""
    out: Totals = {}
    for counts in several:
        for name, count in counts.items():
            out[name] = out.get(name, 0) + count
    return out


def write_audit(totals: tuple[int, Totals], plan: Plan) -> None:
    """Write report/audit.json."""
    data = json.dumps(audit_of(totals[1], plan), indent=1).encode()
    storage.write_bytes(Layout(plan.output, plan.buckets).audit, data)


def audit_of(totals: Totals, plan: Plan) -> dict[str, Any]:
    """Counts by modality and of the data set, and every sum that does not balance.

    Per modality: rows = records + duplicates + dead letters (ingest), and
    records = features + pooled + dead letters (extract). Per data set: keys = fused + dropped.

    Returns:
        JSON-ready: name, buckets, modalities (counts by step), data_set, balanced, problems.
    """

    def counts(step: str, name: str) -> dict[str, int]:
        return {n: c for (s, m, n), c in sorted(totals.items()) if (s, m) == (step, name)}

    problems = []
    modalities: dict[str, Any] = {}
    for name in plan.branches:
        ingest = counts("ingest", name)
        out = dict(ingest)
        if ingest["rows"] != ingest["records"] + ingest["duplicates"] + ingest["dead_letters"]:
            problems.append(f"{name}: rows are not records + duplicates + dead letters")
        extract = counts("extract", name)
        if extract:
            if extract["records"] != ingest["records"]:
                problems.append(f"{name}: not every record came to extraction")
            made = extract["features"] + extract["pooled"] + extract["dead_letters"]
            if extract["records"] != made:
                problems.append(f"{name}: records are not features + pooled + dead letters")
            out["dead_letters"] += extract["dead_letters"]
            out |= {"features": extract["features"], "pooled": extract["pooled"]}
        modalities[name] = out
    data_set = counts("fuse", FUSED)
    if data_set:
        if data_set["keys"] != data_set["fused"] + data_set["dropped"]:
            problems.append("keys are not fused + dropped by the join")
        for name, out in modalities.items():
            present = data_set.pop(f"present/{name}", None)
            if name != TARGET:
                out["present"] = present
                if plan.recipe.join.how == "outer" and present != out["features"]:
                    problems.append(f"{name}: features are not all in the fused data set")
    return {
        "name": plan.recipe.name,
        "buckets": plan.buckets,
        "modalities": modalities,
        "data_set": data_set,
        "balanced": not problems,
        "problems": problems,
    }
