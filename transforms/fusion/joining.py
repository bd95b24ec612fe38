"""Join one bucket: one row a key from the sorted feature files of all modalities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import storage
from schemas.layout import Layout
from schemas.plan import Plan
from schemas.recipe import TARGET, Left
from schemas.tables import metadata, open_parquet, read_features, read_table, read_tables
from transforms.fusion.splitting import Splits


@dataclass
class Joined:
    """One bucket's keys and what is known of them.

    Attributes:
        keys: text, sorted by UTF-8 bytes, without repetitions: those that the join keeps.
        index: modality -> int32[n], the row in its feature file, -1 where it is missing.
        present: bool[n, m], in the recipe's order of modalities.
        label: text or float64, null where there is none.
        group: text, null where there is none.
        domain: text, null where there is none.
        fold: int32[n], -1 for test rows.
        dropped: number of keys that the join's policy drops.
        labels_without_records: number of labelled keys that no modality has.
    """

    plan: Plan
    bucket: int
    keys: pa.Array
    index: dict[str, np.ndarray]
    present: np.ndarray
    label: pa.Array
    group: pa.Array
    domain: pa.Array
    fold: np.ndarray
    dropped: int
    labels_without_records: int

    def features(self, name: str) -> np.ndarray:
        """float32[n, d] of one modality; rows where it is missing hold arbitrary numbers."""
        return self._in_order(name, read_features(self._path(name)))

    def all_features(self) -> dict[str, np.ndarray]:
        """`features` of every modality, read at once where they are remote."""
        names = [modality.name for modality in self.plan.modalities]
        read = storage.side_by_side(read_features, map(self._path, names))
        return {n: self._in_order(n, values) for n, values in zip(names, read, strict=True)}

    def _path(self, name: str) -> str:
        return Layout(self.plan.output, self.plan.buckets).features(name, self.bucket)

    def _in_order(self, name: str, values: np.ndarray) -> np.ndarray:
        """The features of a file in the order of the keys."""
        index = self.index[name]
        if len(index) == len(values) and (index == np.arange(len(index))).all():
            return values
        if not len(values):
            return np.zeros((len(index), values.shape[1]), np.float32)
        return values[index]

    def present_features(self, name: str, rows: np.ndarray) -> np.ndarray:
        """float32[k, d] of one modality in those of the bool[n] rows that have it."""
        index = self.index[name][rows]
        return read_features(self._path(name))[index[index >= 0]]


def feature_names(plan: Plan, name: str) -> list[str]:
    """Names of a modality's feature dimensions, from its first bucket."""
    with open_parquet(Layout(plan.output, plan.buckets).features(name, 0)) as file:
        return metadata(file.schema_arrow, "names")


def join_bucket(plan: Plan, bucket: int, splits: Splits) -> Joined:
    """Merge the keys of all modalities in one bucket by the recipe's policy.

    Args:
        plan: of the run; the features of all modalities and the target's records are written.
        bucket: number of the bucket.
        splits: who is in training, test and which fold.
    """
    layout = Layout(plan.output, plan.buckets)
    names = [modality.name for modality in plan.modalities]
    tables = read_tables([layout.features(name, bucket) for name in names], ["key"])
    found = {
        name: table.column("key").combine_chunks()
        for name, table in zip(names, tables, strict=True)
    }
    every = pc.unique(pa.concat_arrays(list(found.values())))
    every = every.take(pc.sort_indices(every))
    how = plan.recipe.join.how
    if how == "outer":
        keys = every
    elif isinstance(how, Left):
        keys = found[how.left]
    else:
        keys = every
        for one in found.values():
            keys = keys.filter(pc.is_in(keys, one))
    index = {}
    for name, own in found.items():
        if own.equals(keys):
            index[name] = np.arange(len(keys), dtype=np.int32)
        else:
            at = pc.index_in(keys, own)
            index[name] = pc.fill_null(at, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    present = np.stack([index[name] >= 0 for name in names], axis=1)

    (label, group, domain), unused = _labels(plan, bucket, keys, every)
    fold = splits.assign(keys, group)
    dropped = len(every) - len(keys)
    return Joined(plan, bucket, keys, index, present, label, group, domain, fold, dropped, unused)


def _labels(plan: Plan, bucket: int, keys: pa.Array, every: pa.Array) -> tuple[list[pa.Array], int]:
    """Label, group and domain of each key, and the number of labelled keys that no modality has."""
    target, train = plan.recipe.target, plan.recipe.train
    if target is None or plan.target is None:
        return [pa.nulls(len(keys), pa.string())] * 3, 0
    records = read_table(Layout(plan.output, plan.buckets).records(TARGET, bucket))
    own = records.column("key").combine_chunks()
    at = pc.index_in(keys, own)
    found = [
        pa.nulls(len(keys), pa.string())
        if column is None
        else records.column(column).combine_chunks().take(at)
        for column in (target.column, plan.recipe.split.group, train.domain if train else None)
    ]
    return found, len(own) - (pc.sum(pc.is_in(own, every)).as_py() or 0)


def group_sizes(plan: Plan, bucket: int) -> dict[str, int]:
    """Number of keys of each group in one bucket of the target's records."""
    column = plan.recipe.split.group
    assert column is not None
    records = read_table(Layout(plan.output, plan.buckets).records(TARGET, bucket), [column])
    counts = pc.value_counts(records.column(column)).to_pylist()
    return {pair["values"]: pair["counts"] for pair in counts if pair["values"] is not None}


def training_rows(plan: Plan, bucket: int, keys: pa.Array, splits: Splits) -> np.ndarray:
    """Whether each key (sorted or not, repeated or not) of a bucket is a training row: bool[n]."""
    groups = None
    if splits.groups is not None:
        assert plan.recipe.split.group is not None
        path = Layout(plan.output, plan.buckets).records(TARGET, bucket)
        records = read_table(path, ["key", plan.recipe.split.group])
        at = pc.index_in(keys, records.column("key").combine_chunks())
        groups = records.column(plan.recipe.split.group).combine_chunks().take(at)
    return splits.assign(keys, groups) >= 0
