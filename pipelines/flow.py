"""The whole flow, top to bottom: one Beam graph from manifest rows to the fused data set.

manifest rows -> buckets of keys -> records -> features     one named branch a modality
all modalities, by bucket -> statistics -> fusion
-> fused data set -> audit
"""

from __future__ import annotations

import apache_beam as beam

from schemas.plan import Plan
from schemas.recipe import TARGET
from transforms.audit import Audit
from transforms.extract import Extract
from transforms.fuse import Fuse
from transforms.ingest import Ingest, ReadRows
from transforms.join import FitFusion, JoinBuckets
from transforms.predict import Predict
from transforms.split import splits_of

UPTO = ("ingest", "extract", "fuse")


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
        features = {
            m.name: records[m.name] | f"{m.name}: extract" >> Extract(plan, m.name, splits)
            for m in plan.modalities
        }
        receipts += features.values()
        if upto != "extract":
            labels = (records[TARGET],) if TARGET in records else ()
            joined = (*features.values(), *labels) | "Join" >> JoinBuckets(plan)
            if plan.fitted is not None:
                fitted = plan.fingerprints["fitted"]
            else:
                fitted = beam.pvalue.AsSingleton(joined | "Fit fusion" >> FitFusion(plan, splits))
            fused = joined | "Fuse" >> Fuse(plan, splits, fitted)
            receipts.append(fused)
            if plan.fitted is not None:
                receipts.append(fused | "Predict" >> Predict(plan))
    _ = tuple(receipts) | "Audit" >> Audit(plan)
