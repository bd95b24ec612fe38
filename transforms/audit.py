"""Audit: the counts of every step, summed over buckets, and whether they add up."""

from __future__ import annotations

import hashlib
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

RECEIPTS, DIGEST = "receipts", "digest"
"""Counts of every step: of its receipts, and the sum of what stands for them."""

MODULUS = 2**63  # integers of Beam's coders have 64 bits, with a sign


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
    """The counts of one receipt, under one key for all.

    Two more stand for the receipt itself: that there is one, and a number for its bucket and
    fingerprint. The sum of these numbers stands for all receipts of a step in any order (Clarke et
    al. 2003, Incremental multiset hash functions), so nobody has to read them again.
    """
    own = hashlib.sha256(f"{receipt.bucket} {receipt.fingerprint}".encode()).digest()
    counts = {**receipt.counts, RECEIPTS: 1, DIGEST: int.from_bytes(own[:8], "little") % MODULUS}
    return 0, {(receipt.step, receipt.modality, n): c for n, c in counts.items()}


def add_counts(several: Iterable[Totals]) -> Totals:
    """The sum of each count, modulo `MODULUS`, which only digests ever reach."""
    out: Totals = {}
    for counts in several:
        for name, count in counts.items():
            out[name] = (out.get(name, 0) + count) % MODULUS
    return out


def write_audit(totals: tuple[int, Totals], plan: Plan) -> None:
    """Write report/audit.json."""
    data = json.dumps(audit_of(totals[1], plan), indent=1).encode()
    storage.write_bytes(Layout(plan.output, plan.buckets).audit, data)


def audit_of(totals: Totals, plan: Plan) -> dict[str, Any]:
    """Counts by modality and of the data set, and every sum that does not balance.

    Per modality: rows = records + duplicates + dead letters (ingest), and
    records = features + pooled + dead letters (extract). Per data set: keys = fused + dropped.

    Each step has one receipt a bucket.

    Returns:
        JSON-ready: name, buckets, modalities (counts by step), data_set, digests (step/modality
        -> hash of its receipts), balanced, problems.
    """

    def counts(step: str, name: str) -> dict[str, int]:
        own = {n: c for (s, m, n), c in sorted(totals.items()) if (s, m) == (step, name)}
        own.pop(DIGEST, None)
        number = own.pop(RECEIPTS, plan.buckets)
        if number != plan.buckets:
            problems.append(f"{step} {name}: {number} receipts of {plan.buckets} buckets")
        return own

    problems: list[str] = []
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
        "digests": {
            f"{step}/{name}": f"{total:016x}"
            for (step, name, count), total in sorted(totals.items())
            if count == DIGEST
        },
        "balanced": not problems,
        "problems": problems,
    }
