"""From an output folder to what training and prediction work on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import DataError
from schemas.layout import Layout
from schemas.plan import Plan
from schemas.tables import matrix, read_table
from transforms.fusion.joining import feature_names
from transforms.fusion.strategies import fit_rows
from transforms.learning.training import TrainingSet

_META = ["key", "label", "split", "fold", "present", "fused"]


def load_training_set(plan: Plan) -> TrainingSet:
    """The labelled rows of the fused data set, with each modality's features beside them.

    The fused vectors of the file serve the final model; within the folds they are made anew
    from the modalities' features, with whatever is fitted being fitted without the held-out fold.

    Raises:
        DataError: if no row has a label.
    """
    layout = Layout(plan.output, plan.buckets)
    names = tuple(m.name for m in plan.modalities)
    parts: list[pa.Table] = []
    features: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for bucket in range(plan.buckets):
        table = read_table(layout.fused(bucket), _META)
        table = table.filter(pc.is_valid(table.column("label")))
        parts.append(table)
        for name in names:
            features[name].append(_aligned(layout.features(name, bucket), table.column("key")))
    rows = pa.concat_tables(parts)
    if not len(rows):
        raise DataError(
            "nothing to learn: no key of the data set has a label. Do the keys of the target's "
            "source agree with those of the modalities?"
        )
    blocks = {name: np.concatenate(features.pop(name)) for name in names}
    present = np.stack(
        [pc.struct_field(rows.column("present"), name).to_numpy() for name in names],
        axis=1,
    )
    test = pc.equal(rows.column("split"), "test").to_numpy()
    fused = matrix(rows.column("fused"))
    dimensions = {name: feature_names(plan, name) for name in names}
    recipe = plan.recipe

    def fuse(training: np.ndarray, modalities: tuple[str, ...]) -> np.ndarray:
        if modalities == names and (training == ~test).all():
            return fused  # that is what the workers fitted and wrote
        fusion = fit_rows(
            recipe.fuse,
            recipe.join.missing,
            blocks,
            present,
            training,
            modalities,
            {name: dimensions[name] for name in modalities},
        )
        return fusion.apply(blocks, present)

    label = rows.column("label")
    assert recipe.target is not None
    if recipe.target.task == "regression":
        labels = label.to_numpy().astype(np.float64)
    else:
        labels = np.array(label.to_pylist(), dtype=str)
    return TrainingSet(
        keys=np.array(rows.column("key").to_pylist(), dtype=str),
        labels=labels,
        fold=pc.fill_null(rows.column("fold"), -1).to_numpy(),
        test=test,
        modalities=names,
        fuse=fuse,
    )


def _aligned(path: str, keys: pa.ChunkedArray) -> np.ndarray:
    """Features of some keys, float32[n, d]; zeros where there are none."""
    table = read_table(path)
    values = matrix(table.column("features"))
    at = pc.index_in(keys, table.column("key").combine_chunks()).combine_chunks()
    out = np.zeros((len(keys), values.shape[1]), np.float32)
    there = pc.is_valid(at).to_numpy(zero_copy_only=False)
    out[there] = values[at.drop_null().to_numpy()]
    return out
