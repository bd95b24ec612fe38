"""Broken text files: each is decoded or a dead letter, and what is decoded has features."""

from __future__ import annotations

import codecs
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from test_text import modality

from transforms.extractors.base import BadRecord, Batch
from transforms.extractors.text.decoding import decode
from transforms.extractors.text.statistics import TextStatistics
from transforms.extractors.text.tfidf import Tfidf, TfidfCharacters

SAMPLE = "Größe, naïve café — 日本語のテキスト。 Ещё раз! 👩‍🚀🇩🇪 \U0002070e x\u0301\r\n\t" * 3
MARKS = (
    b"",
    codecs.BOM_UTF8,
    codecs.BOM_UTF16_LE,
    codecs.BOM_UTF16_BE,
    codecs.BOM_UTF32_LE,
    codecs.BOM_UTF32_BE,
)
FILES = {
    "utf-8": SAMPLE.encode(),
    "utf-8-sig": SAMPLE.encode("utf-8-sig"),
    "utf-16-le": codecs.BOM_UTF16_LE + SAMPLE.encode("utf-16-le"),
    "utf-16-be": codecs.BOM_UTF16_BE + SAMPLE.encode("utf-16-be"),
    "latin-1": "Größe, naïve café".encode("latin-1"),
    "ascii": b"plain words\r\n" * 10,
}


def mutated(file: bytes, seed: int) -> Iterator[bytes]:
    """Files that are nearly this one, of each kind of damage."""
    random = np.random.default_rng(seed)

    def place() -> int:
        return int(random.integers(len(file)))

    for _ in range(20):  # flipped bits
        data = bytearray(file)
        for _ in range(int(random.integers(1, 6))):
            data[place()] ^= 1 << int(random.integers(8))
        yield bytes(data)
    for _ in range(15):  # cut short
        yield file[: place()]
    for _ in range(5):  # without the beginning, so that UTF-16 is read a byte off
        yield file[place() :]
    for mark in MARKS:  # another mark, instead of the own or before it
        yield mark + file
        yield mark + file.removeprefix(codecs.BOM_UTF8).removeprefix(codecs.BOM_UTF16_LE)
    for _ in range(5):  # nulls, and bytes that no encoding has
        at = place()
        yield file[:at] + bytes(int(random.integers(1, 9))) + file[at:]
        yield file[:at] + random.bytes(8) + file[at:]
    for half in (b"\x00\xd8", b"\xd8\x00", b"\x00\xdc", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"):
        at = place() & ~1
        yield file[:at] + half + file[at:]  # half of a pair, and code points that there are not
    for _ in range(3):  # parts swapped
        a, b = sorted((place(), place()))
        yield file[b:] + file[a:b] + file[:a]


@pytest.mark.parametrize("name", FILES)
def test_broken_files_are_decoded_or_bad_records(name: str) -> None:
    files = [one for seed in range(2) for one in mutated(FILES[name], seed)]
    assert len(files) >= 130  # times six kinds of file
    texts, kinds = [], set()
    for file in files:
        try:
            texts.append(decode(file, modality(max_characters=500)))
        except BadRecord as bad:
            kinds.add(bad.kind)
    assert texts
    assert kinds
    assert kinds <= {"not_utf8", "too_long"}
    extractors = [
        Tfidf(dimension=64),
        TfidfCharacters(dimension=64, analyzer="char", components=4),
        TextStatistics(),
    ]
    for extractor in extractors:
        learnt = {}
        for _ in range(extractor.rounds):
            if learnt:
                extractor.load(learnt)
            learnt |= extractor.finish(extractor.merge([extractor.partial(Batch(texts))]))
        if learnt:
            extractor.load(learnt)
        batch = Batch(texts)
        assert np.isfinite(extractor.transform(batch)).all()
        assert not batch.failures


def test_files_that_must_be_too_long_are_not_decoded() -> None:
    file = b"a" * 40_000_000
    tracemalloc.start()
    with pytest.raises(BadRecord, match="at least 9,999,999 characters; max_characters is 1,000,"):
        decode(file, modality())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_the_bound_is_of_characters_not_of_bytes() -> None:
    for text in ("\U00020000" * 1000, "a" * 1000):
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            assert decode(text.encode(encoding), modality(max_characters=1000)) == text
            with pytest.raises(BadRecord, match="characters; max_characters is 999"):
                decode(text.encode(encoding), modality(max_characters=999))
