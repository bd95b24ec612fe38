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
from transforms.extract import Extract, FinishFits, Fit
from transforms.extractors.extracting import fits
from transforms.fuse import Fuse
from transforms.ingest import Ingest, ReadRows
from transforms.join import FitFusion, JoinBuckets
from transforms.predict import Predict
from transforms.split import splits_of


def build(pipeline: beam.Pipeline, plan: Plan, upto: str = "fuse") -> None:
    """Add the flow to a pipeline, up to and including a step.

    What is already done in the output, from the same recipe and inputs, is not done again.
    """
    names = plan.branches
    rows = pipeline | "Read" >> ReadRows(plan) | "Buckets" >> beam.GroupByKey()
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
        receipts += features
        if upto != "extract":
            labels = (records[TARGET],) if TARGET in records else ()
            joined = (*features, *labels) | "Join" >> JoinBuckets(plan)
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
) -> list[beam.PCollection]:
    """Features of each modality; of those that learn from the training rows, after the fit."""
    learners = [m.name for m in plan.modalities if fits(m)]
    known: Any = {}
    if plan.fitted is not None:
        known, learners = dict.fromkeys(learners, plan.fingerprints["fitted"]), []
    features = [
        records[m.name] | f"{m.name}: extract" >> Extract(plan, known)
        for m in plan.modalities
        if m.name not in learners
    ]
    if learners:
        sums = tuple(records[n] | f"{n}: fit" >> Fit(plan, splits) for n in learners)
        fitted = beam.pvalue.AsDict(sums | "Fit" >> FinishFits(plan))
        # Put together and cut again: so they are branches of one stage, not a stage each.
        waiting = tuple(records[n] for n in learners) | "Fitted modalities" >> beam.Flatten()
        cut = waiting | "Fitted" >> beam.Partition(
            lambda receipt, _: learners.index(receipt.modality), len(learners)
        )
        features += [
            branch | f"{name}: extract" >> Extract(plan, fitted)
            for name, branch in zip(learners, cut, strict=True)
        ]
    return features
