"""The whole flow, top to bottom: one Beam graph from manifest rows to the fused data set.

manifest rows -> buckets of keys -> records -> features     one named branch a modality
all modalities, by bucket -> statistics -> fusion
-> fused data set -> audit
"""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from schemas.plan import Plan
from schemas.recipe import TARGET
from transforms.audit import Audit
from transforms.extract import DealOut, Extract, FinishFits, Fit
from transforms.extractors.extracting import rounds
from transforms.fuse import Fuse
from transforms.ingest import Ingest, ReadRows
from transforms.join import FitFusion, JoinBuckets
from transforms.predict import Predict
from transforms.split import splits_of


def build(
    pipeline: beam.Pipeline, plan: Plan, upto: str = "fuse", scratch: str | None = None
) -> None:
    """Add the flow to a pipeline, up to and including a step.

    What is already done in the output, from the same recipe and inputs, is not done again.

    Args:
        pipeline: that runs it.
        plan: of the run.
        upto: ingest, extract or fuse.
        scratch: a folder that all workers share, for manifest rows on their way; without one they
            go through the runner's shuffle.
    """
    names = plan.branches
    rows = pipeline | "Read" >> ReadRows(plan, scratch) | "Buckets" >> beam.GroupByKey()
    branches = rows | "Modalities" >> beam.Partition(
        lambda grouped, _: names.index(grouped[0][0]), len(names)
    )

    records = {
        name: branch | f"{name}: ingest" >> Ingest(plan)
        for name, branch in zip(names, branches, strict=True)
    }
    receipts = list(records.values())
    if upto != "ingest":
        splits = splits_of(plan, records.get(TARGET))
        features = _extract(plan, records, splits)
        receipts += features.values()
        if upto != "extract":
            labels = {TARGET: records[TARGET]} if TARGET in records else {}
            joined = {**features, **labels} | "Join" >> JoinBuckets(plan)
            if plan.fitted is not None:
                fitted = plan.fingerprints["fitted"]
            else:
                fitted = beam.pvalue.AsSingleton(joined | "Fit fusion" >> FitFusion(plan, splits))
            fused = joined | "Fuse" >> Fuse(plan, splits, fitted)
            receipts.append(fused)
            if plan.fitted is not None:
                receipts.append(fused | "Predict" >> Predict(plan))
    _ = tuple(receipts) | "Audit" >> Audit(plan)


def _extract(
    plan: Plan, records: dict[str, beam.PCollection], splits: Any
) -> dict[str, beam.PCollection]:
    """Features of each modality; of those that learn from the training rows, after the fit."""
    needed = {m.name: rounds(m) for m in plan.modalities}
    known: Any = {}
    if plan.fitted is not None:
        known = {name: plan.fingerprints["fitted"] for name, last in needed.items() if last}
        needed = dict.fromkeys(needed, 0)
    features = {
        name: records[name] | f"{name}: extract" >> Extract(plan, known)
        for name, last in needed.items()
        if not last
    }
    learners = {name: records[name] for name, last in needed.items() if last}
    for number in range(1, max(needed.values()) + 1):
        again = "" if number == 1 else f", round {number}"
        sums = tuple(
            branch | f"{name}: fit{again}" >> Fit(plan, number, known, splits)
            for name, branch in learners.items()
            if needed[name] >= number
        )
        known = beam.pvalue.AsDict(sums | f"Fit{again}" >> FinishFits(plan, number))
        # What waits for a fit is dealt out anew: so all its branches are in one stage, not a
        # stage each, and all workers get equal shares of each.
        learners = learners | f"After fit{again}" >> DealOut()
        features |= {
            name: learners.pop(name) | f"{name}: extract" >> Extract(plan, known)
            for name, last in needed.items()
            if last == number
        }
    return features
