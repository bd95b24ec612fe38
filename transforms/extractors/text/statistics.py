"""Lengths of a text, its kinds of characters and scripts, and how varied its words are."""

from __future__ import annotations

import functools
import itertools
import math
import unicodedata
from typing import Any, ClassVar

import numpy as np

from schemas.options.text import TextStatisticsOptions
from transforms.extractors.base import Batch, Extractor
from transforms.extractors.text.ngrams import code_points, groups, is_not_blank, words_of

KINDS = (
    "upper case",
    "letters",
    "marks",
    "digits",
    "white space",
    "punctuation",
    "ends",  # punctuation that may end a sentence, if no letter or digit follows
    "wide ends",  # and that of Chinese and Japanese, which always does
    "symbols",
    "rest",
)
SCRIPTS = (
    "latin",
    "cyrillic",
    "greek",
    "arabic",
    "hebrew",
    "devanagari",
    "han",
    "hiragana",
    "katakana",
    "hangul",
    "thai",
    "symbols",
    "other",
    "none",  # of white space, digits, punctuation, and marks that go with any script
)
_OF_WORDS = KINDS.index("digits") + 1  # of the kinds, the first so many make words
_NO_CHARACTER = len(KINDS) * len(SCRIPTS)

_ENDS = ".!?\u2026\u203d\u061f\u06d4\u0964\u0965\u104b\u1362"
_WIDE_ENDS = "\u3002\uff01\uff1f\uff61"
_CATEGORIES = {
    "Lu": "upper case",
    "Lt": "upper case",
    "L": "letters",
    "Mn": "marks",
    "Mc": "marks",
    "N": "digits",
    "P": "punctuation",
    "S": "symbols",
}
"""Unicode's general category -> kind."""
_NAMES = {
    "cjk": "han",
    "ideographic": "han",
    "katakana-hiragana": "katakana",
    "combining": "none",
} | {script: script for script in SCRIPTS[:11]}
"""First word of a character's name -> script."""


_LARGE = (
    ("han", 0x3400, 0x4DC0),
    ("han", 0x4E00, 0xA000),
    ("hangul", 0xAC00, 0xD7A4),
    ("han", 0x20000, 0x40000),
)
"""Scripts that fill a range of code points by themselves; beyond the last there are no others."""


class TextStatistics(Extractor):
    """Lengths, kinds of characters, scripts and variety of words.

    Texts are brought to Unicode's NFC form first. A word is a run of letters, marks and digits;
    the same words in other cases are one. A sentence ends after one of . ! ? and the like with
    no letter or digit after it (so abbreviations count as ends), or after a Chinese or Japanese
    full stop, and has at least one word.

    A text without any of what a share is of has 0 there. Which characters are letters, and of
    which script, is what the running Python's Unicode tables say.
    """

    kind: ClassVar[str] = "text"

    def __init__(self, **options: Any) -> None:
        self.options = TextStatisticsOptions(**options)

    def names(self) -> list[str]:
        """Lengths are ln(1 + x).

        `word length` is the mean. Letters, digits, white space and punctuation are shares of all
        characters, `upper case` of the letters; scripts are shares of the letters, marks and
        symbols, each of which belongs to one of them. `distinct words` is the type-token ratio.
        """
        lengths = [f"log {what}" for what in ("characters", "words", "sentences", "word length")]
        shares = ["letters", "digits", "white space", "punctuation", "upper case"]
        return [*lengths, *shares, *SCRIPTS[:-1], "distinct words"]

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, 23]; shares and ratios from 0 to 1, lengths from 0."""
        out = np.zeros((len(batch), len(self.names())), np.float32)
        for first, texts in groups(batch.items, _composed):
            out[first : first + len(texts)] = _statistics(texts)
        return out


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _statistics(texts: list[str]) -> np.ndarray:
    """float64[n, 23] of some prepared texts."""
    n = len(texts)
    chars = code_points(texts)
    sizes = np.array([len(text) + 1 for text in texts])
    rows = np.repeat(np.arange(n), sizes)
    classes = _classes()[chars]
    classes[np.cumsum(sizes) - 1] = _NO_CHARACTER  # the line feeds between the texts
    counts = np.bincount(rows * (_NO_CHARACTER + 1) + classes, minlength=n * (_NO_CHARACTER + 1))
    table = counts.reshape(n, -1)[:, :_NO_CHARACTER].reshape(n, len(KINDS), len(SCRIPTS))
    of = dict(zip(KINDS, table.sum(axis=2).T, strict=True))
    scripts = table.sum(axis=1)[:, :-1]
    letters = of["letters"] + of["upper case"]

    kinds = classes // len(SCRIPTS)
    in_word = kinds < _OF_WORDS
    starts = np.flatnonzero(np.diff(in_word, prepend=False) & in_word)
    words = np.bincount(rows[starts], minlength=n)
    word_follows = np.concatenate([in_word[1:], np.zeros(1, bool)])
    ends = (kinds == KINDS.index("wide ends")) | ((kinds == KINDS.index("ends")) & ~word_follows)
    # Words are in one sentence if they are in one text and as many ends are before them.
    sentence = (np.cumsum(ends) + rows)[starts]
    sentences = np.bincount(rows[starts][np.diff(sentence, prepend=-1) != 0], minlength=n)
    word_length = _ratio(table[:, :_OF_WORDS].sum(axis=(1, 2)), words)

    lengths = np.column_stack([sizes - 1, words, sentences, word_length])
    characters = sizes - 1
    punctuation = of["punctuation"] + of["ends"] + of["wide ends"]
    return np.column_stack(
        [
            np.array([math.log1p(x) for x in lengths.ravel().tolist()]).reshape(n, -1),
            _ratio(letters, characters),
            _ratio(of["digits"], characters),
            _ratio(of["white space"], characters),
            _ratio(punctuation, characters),
            _ratio(of["upper case"], letters),
            _ratio(scripts, scripts.sum(axis=1)[:, None]),
            _ratio(_distinct_words(texts), words),
        ]
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """0 where there is no whole."""
    return part / np.maximum(whole, 1)


def _distinct_words(texts: list[str]) -> np.ndarray:
    """int64[n]; words are told apart by 32 bits of hash."""
    words = words_of([text.lower() for text in texts], _is_in_word(), 1)
    hashes = words.hashes(words.starts, words.stops).astype(np.int64)
    found = (words.rows << 32) | (hashes & 0xFFFFFFFF)
    found.sort()
    return np.bincount(found[np.diff(found, prepend=-1) != 0] >> 32, minlength=len(texts))


@functools.cache
def _classes() -> np.ndarray:
    """uint8[0x110000]: kind and script of each code point, kind * len(SCRIPTS) + script."""

    def one(kind: str, script: str = "none") -> int:
        return KINDS.index(kind) * len(SCRIPTS) + SCRIPTS.index(script)

    table = np.full(0x110000, one("rest"), np.uint8)
    for script, start, stop in _LARGE:
        table[start:stop] = one("letters", script)
    between = map(range, [0, *(stop for *_, stop in _LARGE)], [start for _, start, _ in _LARGE])
    for point in itertools.chain(*between):
        character = chr(point)
        category = unicodedata.category(character)
        kind = _CATEGORIES.get(category) or _CATEGORIES.get(category[0])
        if kind in ("letters", "upper case", "marks"):
            words = unicodedata.name(character, "").lower().split(" ", 2)
            first = words[1] if words[0] in ("halfwidth", "fullwidth") else words[0]
            if first != "variation":  # a selector, as of the emoji form of a symbol
                table[point] = one(kind, _NAMES.get(first, "other"))
        elif kind is not None:
            table[point] = one(kind, "symbols" if kind == "symbols" else "none")
    table[~is_not_blank()] = one("white space")
    table[[ord(end) for end in _ENDS]] = one("ends")
    table[[ord(end) for end in _WIDE_ENDS]] = one("wide ends")
    return table


@functools.cache
def _is_in_word() -> np.ndarray:
    return _classes() // len(SCRIPTS) < _OF_WORDS
