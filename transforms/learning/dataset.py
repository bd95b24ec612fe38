"""From an output folder to what training works on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import DataError
from schemas.layout import Layout
from schemas.plan import Plan
from schemas.tables import matrix, read_table
from transforms.fusion.fusing import load_fusion
from transforms.fusion.joining import feature_names, group_sizes, join_bucket
from transforms.fusion.splitting import Splits, split_by_group, split_by_key
from transforms.fusion.strategies import Fusion, fit_rows
from transforms.fusion.trees import Part, Tree
from transforms.learning.problem import TrainingSet

_COLUMNS = ("key", "label", "group", "domain", "fold", "here")


def load_training_set(plan: Plan, fused: bool) -> TrainingSet:
    """The labelled rows of a data set, with each modality's features.

    Within the folds, fused vectors are made anew from the features, with whatever is fitted being
    fitted without the held-out fold.

    Args:
        plan: of the run, whose features are there.
        fused: whether the fused data set is there too; its vectors serve the final model.

    Raises:
        DataError: if no row has a label.
    """
    layout, splits = Layout(plan.output, plan.buckets), _splits(plan)
    names = [m.name for m in plan.modalities]
    features: dict[str, list[np.ndarray]] = {name: [] for name in names}
    parts: dict[str, list[np.ndarray]] = {n: [] for n in _COLUMNS}
    vectors: list[np.ndarray] = []
    for bucket in range(plan.buckets):
        joined = join_bucket(plan, bucket, splits)
        labelled = pc.is_valid(joined.label).to_numpy(zero_copy_only=False)
        rows = pa.array(labelled)
        parts["key"].append(_texts(joined.keys.filter(rows)))
        label = joined.label.filter(rows)
        parts["label"].append(
            label.to_numpy() if pa.types.is_floating(label.type) else _texts(label)
        )
        parts["group"].append(_texts(joined.group.filter(rows)))
        parts["domain"].append(_texts(joined.domain.filter(rows)))
        parts["fold"].append(joined.fold[labelled])
        parts["here"].append(joined.present[labelled])
        for name in names:
            features[name].append(joined.features(name)[labelled])
        if fused:
            table = read_table(layout.fused(bucket), ["fused"])
            vectors.append(matrix(table.column("fused"))[labelled])
    whole = {name: np.concatenate(several) for name, several in parts.items()}
    if not len(whole["key"]):
        raise DataError(
            "nothing to learn: no key of the data set has a label. Do the keys of the target's "
            "source agree with those of the modalities?"
        )
    dimensions = {name: feature_names(plan, name) for name in names}
    blocks = {name: np.concatenate(features.pop(name)) for name in names}
    final = None
    if fused:
        heads = load_fusion(plan.output).of_heads()
        X = np.concatenate(vectors)
        final = {name: X[:, start:stop] for name, (start, stop) in heads.items()}

    def fit(training: np.ndarray, part: Part) -> Fusion:
        own = {name: dimensions[name] for name in part.modalities}
        missing = plan.recipe.join.missing
        return fit_rows(Tree((part,)), missing, blocks, whole["here"], training, own)

    train = plan.recipe.train
    return TrainingSet(
        keys=whole["key"],
        labels=whole["label"],
        fold=whole["fold"],
        test=whole["fold"] < 0,
        blocks=blocks,
        present=whole["here"],
        fit=fit,
        groups=whole["group"] if plan.recipe.split.group is not None else None,
        domain=whole["domain"] if train is not None and train.domain is not None else None,
        final=final,
    )


def _texts(array: pa.Array) -> np.ndarray:
    return np.array(pc.fill_null(array, "").to_pylist(), dtype=str)


def _splits(plan: Plan) -> Splits:
    """Who is in training, test and which fold, from the target's records."""
    split = plan.recipe.split
    if split.group is None:
        return split_by_key(split)
    sizes: Counter[str] = Counter()
    for bucket in range(plan.buckets):
        sizes.update(group_sizes(plan, bucket))
    return split_by_group(split, dict(sizes))
