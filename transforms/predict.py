"""Predict: fused rows of new records -> predictions of a trained model."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import apache_beam as beam

from schemas.plan import Plan
from schemas.receipts import Receipt


class Predict(beam.PTransform):
    """Write the predictions of each bucket: receipts of fused rows in, of predictions out."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def expand(self, fused: beam.PCollection) -> beam.PCollection:
        return fused | "Bucket" >> beam.Map(predict_one, self.plan).with_output_types(Receipt)


def predict_one(fused: Receipt, plan: Plan) -> Receipt:
    """Predictions of one bucket."""
    # Imported here: scikit-learn is heavy, and only prediction needs it in a worker.
    from transforms.learning.predicting import predict_bucket

    assert plan.fitted is not None
    return predict_bucket(plan, fused, _model(plan.fitted, plan.fingerprints["fitted"]))


@lru_cache(maxsize=1)
def _model(output: str, fitted: str) -> Any:
    from transforms.learning.predicting import load_trained

    return load_trained(output)
