"""Columns of categories: one-hot, or hashed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import DataError
from transforms.extractors.base import Batch, State
from transforms.extractors.table.families import Family, missing_name, sums
from transforms.extractors.text.murmur import murmur3_32

MOST = 65_536  # distinct categories that a column may have to be counted
MOST_BYTES = 16 << 20  # of their UTF-8 texts together


class OneHot(Family):
    """Categories: a dimension for each of the frequent ones in training, and three for others.

    Kept are the `most` most frequent ones that `min_count` training rows have (of equally
    frequent ones those that come first in UTF-8 order), in UTF-8 order. Others that training rows
    have are rare and share a dimension, if there are any. Those that none has share another one,
    `is unseen`: always there, so that at prediction it can be told how much of the data is new.
    A missing one is 0 in all of them; if any was missing in training, a dimension tells.

    All categories of a column are counted, and kept so that rare ones can be told from unseen
    ones; so a column may not have more than MOST, or more than MOST_BYTES of text in them.

    Text is kept as UTF-8 bytes and lengths: NumPy's own text arrays drop zero characters at the
    end, and give each text the room of the longest.

    Args:
        columns: their names.
        most: categories kept of a column.
        min_count: training rows that such a one has.
    """

    def __init__(self, columns: Sequence[str], most: int, min_count: int) -> None:
        super().__init__(columns)
        self.most, self.min_count = most, min_count

    def partial(self, table: pa.Table) -> State:
        """Of the i-th column, its c categories in UTF-8 order, and how many rows have them.

        Returns:
            missing: int64[k], rows; i/text: uint8[bytes]; i/length, i/count: int64[c].
        """
        state = {"missing": _missing(self.columns, table)}
        for i, name in enumerate(self.columns):
            encoded = _encoded(table.column(name))
            known = encoded.indices.drop_null().to_numpy()
            counts = np.bincount(known, minlength=len(encoded.dictionary))
            state |= self._counted(i, encoded.dictionary, counts)
        return state

    def merge(self, states: Sequence[State]) -> State:
        """As `partial`, of all rows together.

        Raises:
            DataError: a column has too many categories to be counted.
        """
        merged = {"missing": np.sum([state["missing"] for state in states], axis=0)}
        for i in range(len(self.columns)):
            texts = pa.concat_arrays([_unpack(state, f"{i}/") for state in states])
            counts = np.concatenate([state[f"{i}/count"] for state in states])
            encoded = texts.dictionary_encode()
            # Weights are float64, which is exact for all counts that there can be.
            size = len(encoded.dictionary)
            total = np.bincount(encoded.indices.to_numpy(), counts, size).astype(np.int64)
            merged |= self._counted(i, encoded.dictionary, total)
        return merged

    def finish(self, state: State) -> State:
        """Of the i-th column, the c categories in training, and which of them are kept.

        Returns:
            flagged: bool[k], whether a dimension tells where they are missing; i/text:
            uint8[bytes]; i/length: int64[c]; i/kept: bool[c].
        """
        fitted = {"flagged": state["missing"] > 0}
        for i in range(len(self.columns)):
            counts = state[f"{i}/count"]
            kept = np.zeros(len(counts), bool)
            kept[np.argsort(-counts, kind="stable")[: self.most]] = True
            fitted[f"{i}/kept"] = kept & (counts >= self.min_count)
            fitted |= {f"{i}/{part}": state[f"{i}/{part}"] for part in ("text", "length")}
        return fitted

    def load(self, fitted: State) -> None:
        """Take what was fitted."""
        self._names: list[list[str]] = []
        self._slots: list[dict[str, int]] = []
        self._unseen: list[int] = []
        self._flagged = fitted["flagged"].tolist()
        for i, name in enumerate(self.columns):
            texts, kept = _unpack(fitted, f"{i}/").to_pylist(), fitted[f"{i}/kept"]
            names = [f"{name}={texts[at]}" for at in np.flatnonzero(kept).tolist()]
            slots = np.where(kept, np.cumsum(kept) - 1, len(names))
            self._slots.append(dict(zip(texts, slots.tolist(), strict=True)))
            names += [] if kept.all() else [f"{name} is rare"]
            self._unseen.append(len(names))
            names.append(f"{name} is unseen")
            self._names.append([*names, missing_name(name)] if self._flagged[i] else names)

    def names(self) -> list[list[str]]:
        """`usage=fighter`, ..., `usage is rare`, `usage is unseen`, `usage is missing`."""
        return self._names

    def transform(self, batch: Batch, out: Sequence[np.ndarray]) -> None:
        """A one in the dimension of each row's category."""
        for i, name in enumerate(self.columns):
            encoded = _encoded(batch.items.column(name))
            unseen, known = self._unseen[i], self._slots[i]
            slots = [known.get(text, unseen) for text in encoded.dictionary.to_pylist()]
            rows, at = _places(encoded.indices, np.array(slots, np.int64))
            out[i][rows, at] = 1
            if self._flagged[i]:
                out[i][:, -1] = encoded.indices.is_null().to_numpy(zero_copy_only=False)

    def _counted(self, i: int, texts: pa.Array, counts: np.ndarray) -> State:
        """Distinct texts brought to UTF-8 order, and their counts."""
        lengths = pc.binary_length(texts)
        if len(texts) > MOST or (pc.sum(lengths).as_py() or 0) > MOST_BYTES:
            raise DataError(
                f"column {self.columns[i]!r} has more than {MOST:,} distinct categories, or more "
                f"than {MOST_BYTES >> 20} MB of them, too many to count: hash them with "
                f"`extract: {{columns: {{hash: {{{self.columns[i]}: 256}}}}}}`, or leave the "
                "column out"
            )
        order = pc.sort_indices(texts)
        return {**_pack(texts.take(order), f"{i}/"), f"{i}/count": counts[order.to_numpy()]}


class Hashed(Family):
    """Categories hashed to a fixed number of dimensions each, without looking at the others.

    MurmurHash3 of a category's UTF-8 text picks its dimension and its sign, 1 or -1, so of those
    that share a dimension half can still be told apart. The same numbers as scikit-learn's
    `FeatureHasher(input_type="string")` on the column alone. A missing one is 0 in all of them;
    if any was missing in training, a dimension tells.

    Args:
        columns: their names.
        slots: how many dimensions each has.

    References:
        Weinberger, Dasgupta, Langford, Smola, Attenberg: Feature hashing for large scale
        multitask learning. ICML 2009.
    """

    def __init__(self, columns: Sequence[str], slots: Sequence[int]) -> None:
        super().__init__(columns)
        self.slots = list(slots)

    def partial(self, table: pa.Table) -> State:
        """missing: int64[k], rows."""
        return {"missing": _missing(self.columns, table)}

    def merge(self, states: Sequence[State]) -> State:
        """Sums."""
        return sums(states)

    def finish(self, state: State) -> State:
        """flagged: bool[k], whether a dimension tells where they are missing."""
        return {"flagged": state["missing"] > 0}

    def load(self, fitted: State) -> None:
        """Take what was fitted."""
        self._flagged = fitted["flagged"].tolist()

    def names(self) -> list[list[str]]:
        """`city#0`, `city#1`, ..., `city is missing`."""
        names = []
        for name, slots, flag in zip(self.columns, self.slots, self._flagged, strict=True):
            own = [f"{name}#{slot}" for slot in range(slots)]
            names.append([*own, missing_name(name)] if flag else own)
        return names

    def transform(self, batch: Batch, out: Sequence[np.ndarray]) -> None:
        """A one or minus one in the dimension of each row's category."""
        for i, name in enumerate(self.columns):
            encoded = _encoded(batch.items.column(name))
            stops = np.cumsum(pc.binary_length(encoded.dictionary).to_numpy(zero_copy_only=False))
            starts = np.concatenate([np.zeros(1, np.int64), stops[:-1]])[: len(stops)]
            hashes = murmur3_32(_joined(encoded.dictionary), starts, stops)
            slots = np.abs(hashes.astype(np.int64)) % self.slots[i]
            rows, at = _places(encoded.indices, slots)
            signs = np.where(hashes < 0, -1, 1)
            out[i][rows, at] = signs[encoded.indices.drop_null().to_numpy()]
            if self._flagged[i]:
                out[i][:, -1] = encoded.indices.is_null().to_numpy(zero_copy_only=False)


def _missing(columns: Sequence[str], table: pa.Table) -> np.ndarray:
    return np.array([table.column(name).null_count for name in columns], np.int64)


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """Distinct texts, as large_string, and which of them each row has."""
    return column.combine_chunks().cast(pa.large_string()).dictionary_encode()


def _places(indices: pa.Array, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that have a text, and its slot."""
    rows = np.flatnonzero(indices.is_valid().to_numpy(zero_copy_only=False))
    return rows, slots[indices.drop_null().to_numpy()]


def _joined(texts: pa.Array) -> bytes:
    """Their UTF-8 bytes, one after the other, of large_string[n] without nulls."""
    if not len(texts):
        return b""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return data[int(ends[0]) : int(ends[-1])].to_pybytes() if data is not None else b""


def _pack(texts: pa.Array, prefix: str) -> State:
    """UTF-8 bytes of large_string[n] and their lengths in bytes."""
    return {
        f"{prefix}text": np.frombuffer(_joined(texts), np.uint8),
        f"{prefix}length": pc.binary_length(texts).to_numpy(zero_copy_only=False),
    }


def _unpack(state: State, prefix: str) -> pa.Array:
    """The large_string[n] that was packed."""
    lengths = state[f"{prefix}length"]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(state[f"{prefix}text"])]
    return pa.Array.from_buffers(pa.large_string(), len(lengths), buffers)
