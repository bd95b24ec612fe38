"""Texts: decoding, and hashed bags of words or of character n-grams."""

from __future__ import annotations

import codecs
import functools
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from schemas.options import TfidfOptions
from schemas.recipe import TextModality
from transforms.extractors.base import BadRecord, Batch, Extractor, State
from transforms.extractors.murmur import murmur3_32

_CHARACTERS = 1 << 16  # of texts looked at together: fills a processor's cache, bounds memory


def decode(payload: bytes, modality: TextModality) -> str:
    """Turn the bytes of a text file into text.

    UTF-8 with or without a byte order mark, or UTF-16 with one.

    Args:
        payload: the file; an empty one is an empty text.
        modality: gives `max_characters`.

    Raises:
        BadRecord: `not_utf8` or `too_long`.
    """
    encoding = "utf-8-sig"
    if payload.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        # The mark of little-endian UTF-32 begins with that of UTF-16.
        encoding = "utf-32" if payload.startswith(codecs.BOM_UTF32_LE) else "utf-16"
    if encoding == "utf-32":
        raise BadRecord("not_utf8", "the file is UTF-32; save it as UTF-8")
    try:
        text = payload.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding == "utf-8-sig" else "UTF-16, which its first bytes promise"
        found = f"byte {error.start} ({payload[error.start]:#04x}): {error.reason}"
        raise BadRecord("not_utf8", f"not {name}: {found}; save it as UTF-8") from error
    return check(text, modality)


def check(text: str, modality: TextModality) -> str:
    """The text as it is, if it may be used.

    Raises:
        BadRecord: `too_long`.
    """
    if len(text) > modality.max_characters:
        limit = modality.max_characters
        raise BadRecord("too_long", f"{len(text):,} characters; max_characters is {limit:,}")
    return text


@functools.cache
def _is_word() -> np.ndarray:
    r"""bool[0x110000]: the code points that the regular expression \w matches."""
    return _matches(r"\w+")


@functools.cache
def _is_not_blank() -> np.ndarray:
    """bool[0x110000]: the code points that str.split() leaves."""
    return _matches(r"\S+")


def _matches(pattern: str) -> np.ndarray:
    """bool[0x110000]: the code points that a pattern of one or more of them matches."""
    points = np.arange(0x110000, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    found = np.zeros(len(points), bool)
    for match in re.finditer(pattern, points):
        found[match.start() : match.end()] = True
    return found


@dataclass(frozen=True)
class _Words:
    """The words of some texts, side by side in a buffer, with a blank before and after each.

    Attributes:
        data: the buffer, UTF-8.
        at: where in `data` each of its characters begins; None: all are one byte long.
        starts: int64[m], the first character of each word.
        stops: int64[m], the one after its last.
        rows: int64[m], the text that it is from, ascending.
    """

    data: bytes
    at: np.ndarray | None
    starts: np.ndarray
    stops: np.ndarray
    rows: np.ndarray

    def hashes(self, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """MurmurHash3 of pieces of the buffer, given by characters: int32[n]."""
        if self.at is not None:
            starts, stops = self.at[starts], self.at[stops]
        return murmur3_32(self.data, starts, stops)


def _words(texts: list[str], is_inside: np.ndarray, shortest: int) -> _Words:
    """Runs of at least `shortest` (1 or 2) characters of the kind that `is_inside` tells."""
    joined = "\n".join([*texts, ""])
    if joined.isascii():
        chars = np.frombuffer(joined.encode(), np.uint8)
    else:
        chars = np.frombuffer(joined.encode("utf-32-le"), "<u4")
    inside = is_inside[chars]
    edges = np.flatnonzero(np.diff(inside, prepend=False))  # the last character is outside
    starts, stops = edges[::2], edges[1::2]
    if shortest == 2:
        long_enough = stops - starts >= shortest
        inside[starts[~long_enough]] = False
        starts, stops = starts[long_enough], stops[long_enough]
    ends = np.cumsum([len(text) + 1 for text in texts])
    rows = np.repeat(np.arange(len(texts)), np.diff(np.searchsorted(starts, ends), prepend=0))

    sizes = stops - starts
    stops = np.cumsum(sizes + 1)
    is_letter = np.ones(len(sizes) + int(sizes.sum()) + 1, bool)
    is_letter[0] = is_letter[stops] = False
    clean = np.full(len(is_letter), ord(" "), chars.dtype)
    clean[is_letter] = chars[inside]
    if chars.dtype == np.uint8:
        return _Words(clean.tobytes(), None, stops - sizes, stops, rows)
    lengths = 1 + (clean >= 0x80).astype(np.int64) + (clean >= 0x800) + (clean >= 0x10000)
    at = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    data = clean.tobytes().decode("utf-32-le").encode()
    return _Words(data, at, stops - sizes, stops, rows)


def _word_ngrams(words: _Words, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and hash of each n words of a text that follow each other, with blanks between."""
    first = np.arange(max(0, len(words.rows) - n + 1))
    first = first[words.rows[first] == words.rows[first + n - 1]]
    return words.rows[first], words.hashes(words.starts[first], words.stops[first + n - 1])


def _character_ngrams(words: _Words, n: int, shortest: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and hash of each n characters of a word with a blank before and after it.

    Words shorter than n count as a whole, but only for the shortest n.
    """
    starts, stops = words.starts - 1, words.stops + 1
    wanted = (stops - starts >= n) | (n == shortest)
    starts, stops, rows = starts[wanted], stops[wanted], words.rows[wanted]
    many = np.maximum(stops - starts - n + 1, 1)
    first = np.repeat(starts - np.cumsum(many) + many, many) + np.arange(many.sum())
    last = np.minimum(first + n, np.repeat(stops, many))
    return np.repeat(rows, many), words.hashes(first, last)


def _logs(counts: np.ndarray) -> np.ndarray:
    """Natural logarithms of int64[n], each at least 1, as float64[n].

    One by one, because the bits of NumPy's logarithm depend on the processor.
    """
    values, where = np.unique(counts, return_inverse=True)
    return np.array([math.log(value) for value in values.tolist()])[where]


class Tfidf(Extractor):
    """Hashed bag of words, weighted by inverse document frequency, rows of length 1.

    The numbers are those of scikit-learn's `HashingVectorizer(norm=None)` followed by its
    `TfidfTransformer`, fitted on the training rows: MurmurHash3 picks a term's slot and sign
    (so that terms in one slot cancel rather than add up), and idf is
    ln((1 + documents) / (1 + documents with the slot)) + 1. Two things differ. Texts are brought
    to Unicode's NFKC form before they are lower-cased, so that ways to write a character make
    no difference. And a sublinear count keeps its sign, s (1 + ln |count|), or is 0 if terms
    cancelled; scikit-learn takes the logarithm of negative counts, which is not a number.

    A text without terms is all zeros.

    References:
        Spärck Jones: A statistical interpretation of term specificity and its application in
        retrieval. Journal of Documentation 28(1), 1972.
        Weinberger, Dasgupta, Langford, Smola, Attenberg: Feature hashing for large scale
        multitask learning. ICML 2009.
    """

    kind: ClassVar[str] = "text"
    fits: ClassVar[bool] = True

    def __init__(self, **options: Any) -> None:
        self.options = TfidfOptions(**options)
        self._idf: np.ndarray | None = None

    def names(self) -> list[str]:
        """Numbers of the slots: which terms share one is not kept."""
        return [f"w{slot}" for slot in range(self.options.dimension)]

    def partial(self, batch: Batch) -> State:
        """documents: int64[1]; frequency: int64[d], how many of them have a term in the slot."""
        where, _ = self._counts(batch.items)
        frequency = np.bincount(where % self.options.dimension, minlength=self.options.dimension)
        return {"documents": np.array([len(batch)]), "frequency": frequency.astype(np.int64)}

    def merge(self, states: Sequence[State]) -> State:
        """Sums."""
        out = {
            "documents": np.zeros(1, np.int64),
            "frequency": np.zeros(self.options.dimension, np.int64),
        }
        for state in states:
            for name, total in out.items():
                total += state[name]
        return out

    def finish(self, state: State) -> State:
        """idf: float64[d]."""
        documents = math.log(1 + int(state["documents"][0]))
        return {"idf": documents - _logs(1 + state["frequency"]) + 1}

    def load(self, fitted: State) -> None:
        """Take the inverse document frequencies."""
        self._idf = fitted["idf"]

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, dimension]; each row has length 1, or is zero."""
        assert self._idf is not None, "load() comes before transform()"
        n, d = len(batch), self.options.dimension
        where, counts = self._counts(batch.items)
        weights = counts.astype(np.float64)
        if self.options.sublinear:
            weights = np.sign(weights) * (1 + _logs(np.maximum(np.abs(counts), 1)))
        weights *= self._idf[where % d]
        rows = where // d
        # bincount adds up in order, so a row's length is the same bits in any batch.
        lengths = np.sqrt(np.bincount(rows, weights * weights, minlength=n))
        lengths[lengths == 0] = 1
        out = np.zeros(n * d, np.float32)
        out[where] = weights / lengths[rows]
        return out.reshape(n, d)

    def _counts(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Signed counts of terms in the slots that have any.

        Returns:
            int64[m], row * dimension + slot, ascending; and int64[m], the counts, which are 0
            where terms cancel: scikit-learn's document frequencies include those.
        """
        d = self.options.dimension
        parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for first_row, group in _groups(texts):
            rows, hashes = self._terms(group)
            slots = np.abs(hashes.astype(np.int64)) % d
            # The sign is the last bit, so that sorting plain numbers brings together a slot.
            terms = ((first_row + rows) * d + slots) * 2 + (hashes < 0)
            terms.sort()
            where = terms >> 1
            first = np.flatnonzero(np.diff(where, prepend=-1))
            if first.size:
                parts.append((where[first], np.add.reduceat(1 - 2 * (terms & 1), first)))
        return np.concatenate([w for w, _ in parts]), np.concatenate([c for _, c in parts])

    def _terms(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Row and hash, int64[m] and int32[m], of each n-gram in some prepared texts."""
        shortest, longest = self.options.ngrams
        lengths = range(shortest, longest + 1)
        if self.options.analyzer == "word":
            words = _words(texts, _is_word(), 2)
            found = [_word_ngrams(words, n) for n in lengths]
        else:
            words = _words(texts, _is_not_blank(), 1)
            found = [_character_ngrams(words, n, shortest) for n in lengths]
        return np.concatenate([r for r, _ in found]), np.concatenate([h for _, h in found])


def _groups(texts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Texts in NFKC form and lower case, as many at a time as make `_CHARACTERS`, or one.

    Yields (row of the first text, texts).
    """
    group: list[str] = []
    size = 0
    for row, text in enumerate(texts):
        prepared = unicodedata.normalize("NFKC", text).lower()
        if group and size + len(prepared) > _CHARACTERS:
            yield row - len(group), group
            group, size = [], 0
        group.append(prepared)
        size += len(prepared)
    if group:
        yield len(texts) - len(group), group
