"""Words and n-grams of many texts at once, as hashes."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from transforms.extractors.text.murmur import murmur3_32

_CHARACTERS = 1 << 16  # of texts looked at together: fills a processor's cache, bounds memory


@functools.cache
def is_word() -> np.ndarray:
    r"""bool[0x110000]: the code points that the regular expression \w matches."""
    return _matches(r"\w+")


@functools.cache
def is_not_blank() -> np.ndarray:
    """bool[0x110000]: the code points that str.split() leaves."""
    return _matches(r"\S+")


def _matches(pattern: str) -> np.ndarray:
    """bool[0x110000]: the code points that a pattern of one or more of them matches."""
    points = np.arange(0x110000, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    found = np.zeros(len(points), bool)
    for match in re.finditer(pattern, points):
        found[match.start() : match.end()] = True
    return found


def code_points(texts: list[str]) -> np.ndarray:
    """The texts, a line feed after each: uint8[m] if all is ASCII, else uint32[m]."""
    joined = "\n".join([*texts, ""])
    if joined.isascii():
        return np.frombuffer(joined.encode(), np.uint8)
    return np.frombuffer(joined.encode("utf-32-le"), "<u4")


@dataclass(frozen=True)
class Pieces:
    """Words of some texts, or whole texts, side by side in a buffer.

    Attributes:
        data: the buffer, UTF-8.
        at: where in `data` each of its characters begins; None: all are one byte long.
        starts: int64[m], the first character of each piece.
        stops: int64[m], the one after its last.
        rows: int64[m], the text that it is from, ascending.
    """

    data: bytes
    at: np.ndarray | None
    starts: np.ndarray
    stops: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(
        cls, chars: np.ndarray, starts: np.ndarray, stops: np.ndarray, rows: np.ndarray
    ) -> Pieces:
        """Pieces of some code points, given as `code_points` does."""
        if chars.dtype == np.uint8:
            return cls(chars.tobytes(), None, starts, stops, rows)
        lengths = 1 + (chars >= 0x80).astype(np.int64) + (chars >= 0x800) + (chars >= 0x10000)
        at = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return cls(chars.tobytes().decode("utf-32-le").encode(), at, starts, stops, rows)

    def with_blanks(self) -> Pieces:
        """The same words, each with the blank before and after it."""
        return replace(self, starts=self.starts - 1, stops=self.stops + 1)

    def hashes(self, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """MurmurHash3 of parts of the buffer, given by characters: int32[n]."""
        if self.at is not None:
            starts, stops = self.at[starts], self.at[stops]
        return murmur3_32(self.data, starts, stops)


def words_of(texts: list[str], is_inside: np.ndarray, shortest: int) -> Pieces:
    """Runs of at least `shortest` (1 or 2) characters of the kind that `is_inside` tells.

    In the buffer there is one blank before and after each.
    """
    chars = code_points(texts)
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
    return Pieces.of(clean, stops - sizes, stops, rows)


def whole_texts(texts: list[str]) -> Pieces:
    """Each text as one piece, with runs of two or more blanks as a single space."""
    chars = code_points(texts)
    is_end = np.zeros(len(chars), bool)
    is_end[np.cumsum([len(text) + 1 for text in texts]) - 1] = True
    blank = ~(is_not_blank()[chars] | is_end)
    after_blank = np.concatenate([np.zeros(1, bool), blank[:-1]])
    before_blank = np.concatenate([blank[1:], np.zeros(1, bool)])
    single = np.where(blank & before_blank, np.array(ord(" "), chars.dtype), chars)
    kept = ~(blank & after_blank)
    stops = np.flatnonzero(is_end[kept])
    starts = np.concatenate([np.zeros(1, np.int64), stops[:-1] + 1])
    return Pieces.of(single[kept], starts, stops, np.arange(len(texts)))


def word_ngrams(words: Pieces, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and hash of each n words of a text that follow each other, with blanks between."""
    first = np.arange(max(0, len(words.rows) - n + 1))
    first = first[words.rows[first] == words.rows[first + n - 1]]
    return words.rows[first], words.hashes(words.starts[first], words.stops[first + n - 1])


def character_ngrams(pieces: Pieces, n: int, short_ones: bool) -> tuple[np.ndarray, np.ndarray]:
    """Row and hash of each n characters of a piece that follow each other.

    Pieces shorter than n count as a whole where `short_ones` are wanted.
    """
    starts, stops, rows = pieces.starts, pieces.stops, pieces.rows
    if not short_ones:
        wanted = stops - starts >= n
        starts, stops, rows = starts[wanted], stops[wanted], rows[wanted]
    many = np.maximum(stops - starts - n + 1, 1)
    first = np.repeat(starts - np.cumsum(many) + many, many) + np.arange(many.sum())
    last = np.minimum(first + n, np.repeat(stops, many))
    return np.repeat(rows, many), pieces.hashes(first, last)


def groups(texts: Sequence[str], prepare: Callable[[str], str]) -> Iterator[tuple[int, list[str]]]:
    """Prepared texts, as many at a time as make `_CHARACTERS`, or one.

    Yields (row of the first text, texts).
    """
    group: list[str] = []
    size = 0
    for row, text in enumerate(texts):
        prepared = prepare(text)
        if group and size + len(prepared) > _CHARACTERS:
            yield row - len(group), group
            group, size = [], 0
        group.append(prepared)
        size += len(prepared)
    if group:
        yield len(texts) - len(group), group
