"""Tables: numbers scaled, categories one-hot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import DataError
from schemas.options.table import ColumnsOptions
from transforms.extractors.base import Batch, Extractor, State

_TEXT = pa.large_string()


class Columns(Extractor):
    """Numbers scaled to mean 0 and deviation 1, categories one-hot; both fitted.

    Dimensions follow the order of columns:

    - A number: (value - mean) / deviation, or with `scale: false` the value. A missing one is
      the training mean. A column that is the same number in all training rows is 0. If values
      were missing in training, a dimension follows that is 1 where one is missing, else 0.
    - A category: one dimension for each of the `max_categories` most frequent ones in training
      (of equally frequent ones, those that come first in UTF-8 order), in UTF-8 order, and one
      for all others, unseen ones too. A missing one is 0 in all of them.

    Moments are float64 and merged by the formulae of Chan, Golub & LeVeque, so values with a
    mean of 1e6 and a deviation of 1 lose nothing. The categories of a column are all counted, so
    what is merged grows with their number, not with the rows.

    Text is kept as UTF-8 bytes and lengths: NumPy's own text arrays drop zero characters at the
    end, and give each text the room of the longest.

    References:
        Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample
        variances. Stanford, STAN-CS-79-773, 1979.
    """

    kind: ClassVar[str] = "table"
    rounds = 1

    def __init__(self, **options: Any) -> None:
        self.options = ColumnsOptions(**options)
        self._fitted: State | None = None
        self._kept: dict[str, pa.Array] = {}

    def names(self) -> list[str]:
        """`age`, `age is missing`; `usage=fighter`, `usage is other`."""
        fitted = self._load_first()
        names = []
        flagged = dict(zip(self._numbers, fitted["numbers/flagged"], strict=True))
        for column, kind in self.context.columns.items():
            if kind == "number":
                names += [column, f"{column} is missing"] if flagged[column] else [column]
            else:
                names += [f"{column}={one}" for one in self._kept[column].to_pylist()]
                names.append(f"{column} is other")
        return names

    # --- fit -----------------------------------------------------------------------------------

    def partial(self, batch: Batch) -> State:
        """Counts of values; see `merge`."""
        values = self._matrix(batch.items)
        missing = np.isnan(values)
        count = (~missing).sum(axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.where(missing, 0, values).sum(axis=0) / np.maximum(count, 1)
            centred = np.where(missing, 0, values - mean)
            scatter = np.square(centred).sum(axis=0)
        state = {
            "numbers/count": count,
            "numbers/missing": missing.sum(axis=0),
            "numbers/mean": mean,
            "numbers/scatter": scatter,
            "numbers/least": np.where(missing, np.inf, values).min(axis=0, initial=np.inf),
            "numbers/most": np.where(missing, -np.inf, values).max(axis=0, initial=-np.inf),
        }
        for i, column in enumerate(self._categories):
            found = batch.items.column(column).drop_null().cast(_TEXT)
            state |= _counted(i, found, np.ones(len(found), np.int64))
        return state

    def merge(self, states: Sequence[State]) -> State:
        """Counts and moments of all rows together.

        Returns:
            Of k columns of numbers: numbers/count, numbers/missing: int64[k]; numbers/mean,
            numbers/scatter (sum of squares around the mean), numbers/least, numbers/most:
            float64[k]. Of the i-th column of c distinct categories, in UTF-8 order:
            categories/i/text: uint8[bytes], categories/i/length and categories/i/count: int64[c].
        """
        if not states:
            types = {"number": pa.float64(), "category": pa.string()}
            schema = pa.schema([(c, types[kind]) for c, kind in self.context.columns.items()])
            return self.partial(Batch(schema.empty_table()))
        parts = {name: np.stack([state[name] for state in states]) for name in _MOMENTS}
        counts, means = parts["numbers/count"], parts["numbers/mean"]
        count = counts.sum(axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            # Around a mean, not around 0, so that the weighted sum loses no digits.
            origin = means[counts.argmax(axis=0), np.arange(means.shape[1])]
            steps = np.where(counts > 0, means - origin, 0)
            step = (counts * steps).sum(axis=0) / np.maximum(count, 1)
            scatter = (parts["numbers/scatter"] + counts * np.square(steps - step)).sum(axis=0)
        merged = {
            "numbers/count": count,
            "numbers/missing": parts["numbers/missing"].sum(axis=0),
            "numbers/mean": origin + step,
            "numbers/scatter": scatter,
            "numbers/least": parts["numbers/least"].min(axis=0),
            "numbers/most": parts["numbers/most"].max(axis=0),
        }
        for i in range(len(self._categories)):
            texts = pa.concat_arrays([_unpack(i, state) for state in states])
            repeated = np.concatenate([state[f"categories/{i}/count"] for state in states])
            merged |= _counted(i, texts, repeated)
        return merged

    def finish(self, state: State) -> State:
        """What is needed to transform.

        Returns:
            Of k columns of numbers: numbers/mean, numbers/deviation (0: constant): float64[k];
            numbers/flagged: bool[k], whether a dimension tells where they are missing. Of the
            i-th column of categories: categories/i/text and categories/i/length, as in `merge`.

        Raises:
            DataError: numbers are too large for float64 to hold their moments.
        """
        mean = state["numbers/mean"]
        deviation = np.sqrt(state["numbers/scatter"] / np.maximum(state["numbers/count"], 1))
        usable = np.isfinite(mean) & (np.isfinite(deviation) | (not self.options.scale))
        for at in np.flatnonzero(~usable).tolist():
            low, high = state["numbers/least"][at], state["numbers/most"][at]
            raise DataError(
                f"column {self._numbers[at]!r} has numbers from {low:g} to {high:g}, too far "
                "apart to average them; correct or remove the outermost"
            )
        # Rounding gives equal numbers a tiny scatter, so that alone does not tell.
        constant = state["numbers/least"] >= state["numbers/most"]
        fitted = {
            "numbers/mean": mean,
            "numbers/deviation": np.where(constant, 0, deviation),
            "numbers/flagged": state["numbers/missing"] > 0,
        }
        for i in range(len(self._categories)):
            texts, counts = _unpack(i, state), state[f"categories/{i}/count"]
            frequent = np.argsort(-counts, kind="stable")[: self.options.max_categories]
            fitted |= _pack(i, texts.take(pa.array(np.sort(frequent))))
        return fitted

    def load(self, fitted: State) -> None:
        """Take what was fitted."""
        self._fitted = fitted
        self._kept = {
            column: _unpack(i, fitted).cast(pa.string())
            for i, column in enumerate(self._categories)
        }

    # --- transform -----------------------------------------------------------------------------

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, d]; a row with a number too large for float32 fails."""
        numbers, missing = self._scaled(batch)
        flagged = self._load_first()["numbers/flagged"]
        blocks = []
        number = 0
        for column, kind in self.context.columns.items():
            if kind == "category":
                blocks.append(self._one_hot(column, batch.items.column(column)))
                continue
            blocks.append(numbers[:, number : number + 1])
            if flagged[number]:
                blocks.append(missing[:, number : number + 1].astype(np.float32))
            number += 1
        return np.hstack(blocks)

    def _scaled(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """The columns of numbers, float32[n, k], and which were missing, bool[n, k]."""
        fitted = self._load_first()
        mean, deviation = fitted["numbers/mean"], fitted["numbers/deviation"]
        values = self._matrix(batch.items)
        missing = np.isnan(values)
        with np.errstate(over="ignore"):
            if self.options.scale:
                varies = deviation > 0
                scaled = (values - mean) / np.where(varies, deviation, 1)
                out = np.where(missing | ~varies, 0, scaled).astype(np.float32)
            else:
                out = np.where(missing, mean, values).astype(np.float32)
        for row, at in zip(*np.nonzero(np.isinf(out)), strict=True):
            name, what = self._numbers[at], "too large for a 32-bit number"
            if self.options.scale:
                what = f"too far from the training mean, {mean[at]:g}, to be scaled"
            batch.fail(int(row), "overflow", f"{name} is {values[row, at]:g}, {what}")
        return out, missing

    def _one_hot(self, name: str, column: pa.ChunkedArray) -> np.ndarray:
        """float32[n, kept + 1]; the last dimension is for all others."""
        kept = self._kept[name]
        slots = pc.fill_null(pc.index_in(column, value_set=kept), len(kept)).to_numpy()
        present = np.flatnonzero(column.is_valid().to_numpy())
        out = np.zeros((len(column), len(kept) + 1), np.float32)
        out[present, slots[present]] = 1
        return out

    # --- both ----------------------------------------------------------------------------------

    @property
    def _numbers(self) -> list[str]:
        return [name for name, kind in self.context.columns.items() if kind == "number"]

    @property
    def _categories(self) -> list[str]:
        return [name for name, kind in self.context.columns.items() if kind == "category"]

    def _load_first(self) -> State:
        assert self._fitted is not None, "load() comes before names() and transform()"
        return self._fitted

    def _matrix(self, table: pa.Table) -> np.ndarray:
        """The columns of numbers, float64[n, k]; NaN where they are missing."""
        columns = [table.column(name).to_numpy() for name in self._numbers]
        return np.stack(columns, axis=1) if columns else np.empty((len(table), 0))


_MOMENTS = [f"numbers/{name}" for name in ("count", "missing", "mean", "scatter", "least", "most")]


def _counted(i: int, texts: pa.Array | pa.ChunkedArray, counts: np.ndarray) -> State:
    """Distinct texts in UTF-8 order, with the sums of their counts."""
    table = pa.table({"text": texts, "count": counts})
    sums = table.group_by("text", use_threads=False).aggregate([("count", "sum")])
    sums = sums.sort_by("text").combine_chunks()
    texts = sums.column("text")
    return {
        **_pack(i, texts.chunk(0) if texts.num_chunks else pa.array([], _TEXT)),
        f"categories/{i}/count": sums.column("count_sum").to_numpy(),
    }


def _pack(i: int, texts: pa.Array) -> State:
    """UTF-8 bytes of large_string[n], one after the other, and their lengths in bytes."""
    joined = b"".join(texts.cast(pa.large_binary()).to_pylist())
    return {
        f"categories/{i}/text": np.frombuffer(joined, np.uint8),
        f"categories/{i}/length": pc.binary_length(texts).to_numpy(),
    }


def _unpack(i: int, state: Mapping[str, np.ndarray]) -> pa.Array:
    """The large_string[n] that was packed."""
    lengths = state[f"categories/{i}/length"]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(state[f"categories/{i}/text"])]
    return pa.Array.from_buffers(_TEXT, len(lengths), buffers)
