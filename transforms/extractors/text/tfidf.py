"""Hashed bags of words or of character n-grams."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from schemas.options.text import TfidfCharactersOptions, TfidfOptions
from transforms.extractors.base import Batch, Extractor, State
from transforms.extractors.text import semantics
from transforms.extractors.text.ngrams import (
    character_ngrams,
    groups,
    is_not_blank,
    is_word,
    whole_texts,
    word_ngrams,
    words_of,
)


def _logs(counts: np.ndarray) -> np.ndarray:
    """Natural logarithms of int64[n], each at least 1, as float64[n].

    One by one, because the bits of NumPy's logarithm depend on the processor.
    """
    values, where = np.unique(counts, return_inverse=True)
    return np.array([math.log(value) for value in values.tolist()])[where]


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


class Tfidf(Extractor):
    """Hashed bag of words, weighted by inverse document frequency, rows of length 1.

    The numbers are those of scikit-learn's `HashingVectorizer(norm=None)` followed by its
    `TfidfTransformer`, fitted on the training rows: MurmurHash3 picks a term's slot and sign
    (so that terms in one slot cancel rather than add up), and idf is
    ln((1 + documents) / (1 + documents with the slot)) + 1. Two things differ. Texts are brought
    to Unicode's NFKC form before they are lower-cased, so that ways to write a character make
    no difference. And a sublinear count keeps its sign, s (1 + ln |count|), or is 0 if terms
    cancelled; scikit-learn takes the logarithm of negative counts, which is not a number.

    With `components` a second round learns the axes of latent semantic analysis from the training
    rows, and the numbers are those of scikit-learn's `TruncatedSVD` up to their sign, which is
    chosen here so that the largest loading of an axis is positive. They are left as long as they
    come out: scikit-learn's examples bring them to length 1 before k-means, but how much of a
    text the axes keep says something to a classifier. Dimensions that the training rows do not
    have are zeros.

    A text without terms is all zeros.

    References:
        Spärck Jones: A statistical interpretation of term specificity and its application in
        retrieval. Journal of Documentation 28(1), 1972.
        Weinberger, Dasgupta, Langford, Smola, Attenberg: Feature hashing for large scale
        multitask learning. ICML 2009.
        For `components`, see `semantics`.
    """

    kind: ClassVar[str] = "text"
    Options: ClassVar[type[TfidfOptions]] = TfidfOptions

    def __init__(self, **options: Any) -> None:
        self.options = self.Options(**options)
        self.rounds = 1 if self.options.components is None else 2
        self._idf: np.ndarray | None = None
        self._axes: np.ndarray | None = None

    def names(self) -> list[str]:
        """Numbers of the slots: which terms share one is not kept. Or of the components."""
        if self.options.components is not None:
            return [f"lsa{i}" for i in range(self.options.components)]
        return [f"w{slot}" for slot in range(self.options.dimension)]

    def partial(self, batch: Batch) -> State:
        """First documents: int64[1]; frequency: int64[d], how many of them have a term in the slot.

        In the second round what `semantics` needs of the rows.
        """
        d = self.options.dimension
        where, counts = self._counts(batch.items)
        if self._idf is not None:
            weights = self._weights(where, counts, len(batch), self._idf)
            return semantics.remembered(where, weights, len(batch), d)
        frequency = np.bincount(where % d, minlength=d)
        return {"documents": np.array([len(batch)]), "frequency": frequency.astype(np.int64)}

    def merge(self, states: Sequence[State]) -> State:
        """Sums."""
        if self._idf is not None:
            return semantics.merged(states, self.options.dimension)
        out = {
            "documents": np.zeros(1, np.int64),
            "frequency": np.zeros(self.options.dimension, np.int64),
        }
        for state in states:
            for name, total in out.items():
                total += state[name]
        return out

    def finish(self, state: State) -> State:
        """idf: float64[d]; then axes: float64[d, components]."""
        if self._idf is not None:
            assert self.options.components is not None, "there is no second round without them"
            return {"axes": semantics.axes(state, self.options.dimension, self.options.components)}
        documents = math.log(1 + int(state["documents"][0]))
        return {"idf": documents - _logs(1 + state["frequency"]) + 1}

    def load(self, fitted: State) -> None:
        """Take the inverse document frequencies, and the axes once there are some."""
        self._idf, self._axes = fitted["idf"], fitted.get("axes")

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, dimension]; each row has length 1, or is zero. Or float32[n, components]."""
        assert self._idf is not None, "load() comes before transform()"
        n, d = len(batch), self.options.dimension
        where, counts = self._counts(batch.items)
        weights = self._weights(where, counts, n, self._idf)
        if self.options.components is not None:
            assert self._axes is not None, "both rounds come before transform()"
            return semantics.projected(where, weights, n, self._axes).astype(np.float32)
        out = np.zeros(n * d, np.float32)
        out[where] = weights
        return out.reshape(n, d)

    def _weights(
        self, where: np.ndarray, counts: np.ndarray, n: int, idf: np.ndarray
    ) -> np.ndarray:
        """float64[m], what `_counts` found weighted, the rows of length 1."""
        weights = counts.astype(np.float64)
        if self.options.sublinear:
            weights = np.sign(weights) * (1 + _logs(np.maximum(np.abs(counts), 1)))
        weights *= idf[where % self.options.dimension]
        rows = where // self.options.dimension
        # bincount adds up in order, so a row's length is the same bits in any batch.
        lengths = np.sqrt(np.bincount(rows, weights * weights, minlength=n))
        lengths[lengths == 0] = 1
        return weights / lengths[rows]

    def _counts(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Signed counts of terms in the slots that have any.

        Returns:
            int64[m], row * dimension + slot, ascending; and int64[m], the counts, which are 0
            where terms cancel: scikit-learn's document frequencies include those.
        """
        d = self.options.dimension
        parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for first_row, group in groups(texts, _plain):
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
            words = words_of(texts, is_word(), 2)
            found = [word_ngrams(words, n) for n in lengths]
        elif self.options.analyzer == "char_wb":
            pieces = words_of(texts, is_not_blank(), 1).with_blanks()
            found = [character_ngrams(pieces, n, n == shortest) for n in lengths]
        else:
            pieces = whole_texts(texts)
            found = [character_ngrams(pieces, n, False) for n in lengths]
        return np.concatenate([r for r, _ in found]), np.concatenate([h for _, h in found])


class TfidfCharacters(Tfidf):
    """The same of characters by default, so that a recipe can have both."""

    Options: ClassVar[type[TfidfOptions]] = TfidfCharactersOptions
