"""Predict one bucket of new records with the trained model of an output."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from schemas import storage
from schemas.layout import FUSED, Layout
from schemas.plan import Plan
from schemas.receipts import Receipt, fingerprint, once
from schemas.tables import matrix, read_table, write_table
from transforms.learning.artefacts import load_model
from transforms.learning.training import predict


def load_trained(output: str) -> Any:
    """The trained model of an output.

    Raises:
        FileNotFoundError: if it has none.
        ValueError: if the file holds what no model of ours needs.
    """
    return load_model(storage.read_bytes(Layout(output, 1).model))


def predict_bucket(plan: Plan, fused: Receipt, model: Any) -> Receipt:
    """Write the predictions of one bucket: key, prediction and, of classes, probabilities.

    Args:
        plan: of the prediction.
        fused: the receipt of the bucket's fused rows.
        model: the trained estimator.
    """
    layout = Layout(plan.output, plan.buckets)

    def work() -> tuple[dict[str, int], dict[str, int]]:
        rows = read_table(layout.fused(fused.bucket), ["key", "fused"])
        table = predictions_table(model, rows.column("key"), matrix(rows.column("fused")))
        path = layout.predictions(fused.bucket)
        return {"predictions": len(rows)}, {path: write_table(path, [table], table.schema)}

    own = fingerprint(plan.fingerprints["fitted"], fused.fingerprint)
    return once(layout, "predict", FUSED, fused.bucket, own, work)


def predictions_table(model: Any, keys: pa.ChunkedArray, X: np.ndarray) -> pa.Table:
    """Predictions as a table.

    Args:
        model: the trained estimator.
        keys: text, n of them.
        X: fused vectors, float32[n, D].

    Returns:
        key, prediction (text or float64) and, for classes, probabilities: a fixed-size list of
        float64 in the order that the schema's metadata names (`classes`, JSON).
    """
    classes = getattr(model, "classes_", None)
    kind = pa.float64() if classes is None else pa.string()
    fields = [pa.field("key", pa.string()), pa.field("prediction", kind)]
    if len(X):
        values, probabilities = predict(model, X)
    else:
        values = np.empty(0, float if classes is None else str)
        probabilities = None if classes is None else np.empty((0, len(classes)))
    columns: list[Any] = [keys.combine_chunks(), pa.array(values.tolist(), kind)]
    metadata = None
    if classes is not None:
        assert probabilities is not None
        flat = pa.array(np.ascontiguousarray(probabilities, np.float64).reshape(-1))
        columns.append(pa.FixedSizeListArray.from_arrays(flat, len(classes)))
        fields.append(pa.field("probabilities", columns[-1].type))
        metadata = {"classes": json.dumps(np.asarray(classes).tolist())}
    return pa.table(columns, schema=pa.schema(fields, metadata=metadata))
