"""From an output folder to what training works on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import storage
from schemas.errors import DataError
from schemas.layout import Layout
from schemas.plan import Plan
from schemas.recipe import TARGET
from schemas.tables import matrix, read_table
from transforms.fusion.fitted import Fusion, fusion_of
from transforms.fusion.fusing import load_fusion
from transforms.fusion.joining import feature_names, group_sizes, join_bucket
from transforms.fusion.splitting import Splits, split_by_group, split_by_key
from transforms.fusion.strategies import fit_rows
from transforms.fusion.trees import Part, Tree
from transforms.learning.network.bank import Bank
from transforms.learning.problem import TrainingSet


@dataclass
class LabelledRows:
    """The labelled rows of one bucket.

    Attributes:
        keys: str[n].
        labels: str[n], or float64[n] for a regression.
        group, domain: str[n], empty where a row has none.
        fold: int32[n], -1 for test rows.
        present: bool[n, m].
        blocks: features of each modality, float32[n, d].
        rows: bool[k], which of the bucket's fused rows they are.
    """

    keys: np.ndarray
    labels: np.ndarray
    group: np.ndarray
    domain: np.ndarray
    fold: np.ndarray
    present: np.ndarray
    blocks: dict[str, np.ndarray]
    rows: np.ndarray

    def take(self, some: np.ndarray) -> LabelledRows:
        """Some of the rows."""
        arrays = {n: v[some] for n, v in vars(self).items() if n not in ("blocks", "rows")}
        return LabelledRows(
            **arrays, blocks={n: b[some] for n, b in self.blocks.items()}, rows=self.rows
        )


def labelled_rows(plan: Plan, buckets: Iterable[int] | None = None) -> Iterator[LabelledRows]:
    """The labelled rows of a data set, a bucket at a time, from features and target records.

    Args:
        plan: of the run.
        buckets: those that are wanted, in any order; None: all.
    """
    splits = _splits(plan)
    for bucket in range(plan.buckets) if buckets is None else buckets:
        joined = join_bucket(plan, bucket, splits)
        labelled = pc.is_valid(joined.label).to_numpy(zero_copy_only=False)
        rows = pa.array(labelled)
        label = joined.label.filter(rows)
        yield LabelledRows(
            keys=_texts(joined.keys.filter(rows)),
            labels=label.to_numpy() if pa.types.is_floating(label.type) else _texts(label),
            group=_texts(joined.group.filter(rows)),
            domain=_texts(joined.domain.filter(rows)),
            fold=joined.fold[labelled],
            present=joined.present[labelled],
            blocks={name: block[labelled] for name, block in joined.all_features().items()},
            rows=labelled,
        )


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
    layout, recipe = Layout(plan.output, plan.buckets), plan.recipe
    names = [m.name for m in plan.modalities]
    parts: list[LabelledRows] = []
    vectors: list[np.ndarray] = []
    for bucket, rows in enumerate(labelled_rows(plan)):
        parts.append(rows)
        if fused:
            table = read_table(layout.fused(bucket), ["fused"])
            vectors.append(matrix(table.column("fused"))[rows.rows])
    if not sum(len(rows.keys) for rows in parts):
        raise nothing_to_learn()
    blocks = {}
    for name in names:
        blocks[name] = np.concatenate([rows.blocks.pop(name) for rows in parts])
    whole = {
        name: np.concatenate([getattr(rows, name) for rows in parts])
        for name in ("keys", "labels", "group", "domain", "fold", "present")
    }
    dimensions = {name: feature_names(plan, name) for name in names}
    final = None
    if fused:
        fusion, X = load_fusion(plan.output), np.concatenate(vectors)
        final = {
            name: (X[:, start:stop], fusion.sides(name))
            for name, (start, stop) in fusion.of_heads().items()
        }

    domain = whole["domain"] if recipe.train and recipe.train.domain is not None else None
    bank = Bank(plan.output, whole["fold"], domain)

    def fit(training: np.ndarray, part: Part) -> Fusion:
        if part.network is not None:
            return fusion_of(bank.of(part.network, training).of(part.modalities))
        own = {name: dimensions[name] for name in part.modalities}
        missing = recipe.join.missing
        return fit_rows(Tree((part,)), missing, blocks, whole["present"], training, own)

    return TrainingSet(
        keys=whole["keys"],
        labels=whole["labels"],
        fold=whole["fold"],
        test=whole["fold"] < 0,
        blocks=blocks,
        present=whole["present"],
        fit=fit,
        groups=whole["group"] if recipe.split.group is not None else None,
        domain=domain,
        final=final,
    )


def nothing_to_learn() -> DataError:
    """What is said where no row has a label."""
    return DataError(
        "nothing to learn: no key of the data set has a label. Do the keys of the target's "
        "source agree with those of the modalities?"
    )


def size_of(plan: Plan) -> tuple[int, dict[str, int]]:
    """Most labelled rows that a data set may have, and the dimensions of each modality."""
    audit = json.loads(storage.read_bytes(Layout(plan.output, plan.buckets).audit))
    rows = audit["modalities"][TARGET]["records"]
    return rows, {m.name: len(feature_names(plan, m.name)) for m in plan.modalities}


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


def needed_bytes(rows: int, widths: Mapping[str, int], threads: int) -> int:
    """Memory that training takes with all rows in memory: features, fused vectors, copies."""
    d = sum(widths.values())
    return rows * d * (4 + 4 + threads * (4 + 8 + 8))
