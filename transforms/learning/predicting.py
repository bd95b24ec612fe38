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
from transforms.learning.model import Model


def load_trained(output: str) -> Model:
    """The trained model of an output.

    Raises:
        FileNotFoundError: if it has none.
        ValueError: if a file holds what no model of ours needs.
    """
    return load_model(lambda name: storage.read_bytes(Layout(output, 1).at("model", name)))


def predict_bucket(plan: Plan, fused: Receipt, model: Model) -> Receipt:
    """Write the predictions of one bucket: key, prediction and, of classes, probabilities.

    Args:
        plan: of the prediction.
        fused: the receipt of the bucket's fused rows.
        model: the trained one.
    """
    layout = Layout(plan.output, plan.buckets)

    def work() -> tuple[dict[str, int], dict[str, int]]:
        rows = read_table(layout.fused(fused.bucket), ["key", "present", "fused"])
        flags = rows.column("present").combine_chunks()
        present = np.stack(
            [flags.field(m).to_numpy(zero_copy_only=False) for m in model.modalities], axis=1
        )
        table = predictions_table(model, rows.column("key"), matrix(rows.column("fused")), present)
        path = layout.predictions(fused.bucket)
        return {"predictions": len(rows)}, {path: write_table(path, [table], table.schema)}

    own = fingerprint(plan.fingerprints["fitted"], fused.fingerprint)
    return once(layout, "predict", FUSED, fused.bucket, own, work)


def predictions_table(
    model: Model, keys: pa.ChunkedArray, X: np.ndarray, present: np.ndarray
) -> pa.Table:
    """Predictions as a table.

    Args:
        model: the trained one.
        keys: text, n of them.
        X: fused vectors, float32[n, D].
        present: bool[n, m], which modalities each key has.

    Returns:
        key, prediction (text or float64) and, for classes, probabilities: a fixed-size list of
        float64 in the order that the schema's metadata names (`classes`, JSON).
    """
    classes = model.classes
    kind = pa.float64() if classes is None else pa.string()
    fields = [pa.field("key", pa.string()), pa.field("prediction", kind)]
    values, probabilities = model.predict(X, present)
    columns: list[Any] = [keys.combine_chunks(), pa.array(values.tolist(), kind)]
    metadata = None
    if classes is not None:
        assert probabilities is not None
        flat = pa.array(np.ascontiguousarray(probabilities, np.float64).reshape(-1))
        columns.append(pa.FixedSizeListArray.from_arrays(flat, len(classes)))
        fields.append(pa.field("probabilities", columns[-1].type))
        metadata = {"classes": json.dumps(classes.tolist())}
    return pa.table(columns, schema=pa.schema(fields, metadata=metadata))
