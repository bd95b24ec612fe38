"""What holds for every extractor of texts: rows stand alone, numbers are finite, fits split."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_text import generated

from transforms.extractors.base import Batch, Extractor, State
from transforms.extractors.text.statistics import TextStatistics
from transforms.extractors.text.tfidf import Tfidf, TfidfCharacters

EXTRACTORS: list[tuple[type[Extractor], dict[str, Any]]] = [
    (Tfidf, {"dimension": 32}),
    (Tfidf, {"dimension": 64, "ngrams": (1, 2), "sublinear": True, "components": 4}),
    (Tfidf, {"dimension": 256, "components": 3}),
    (TfidfCharacters, {"dimension": 64}),
    (TfidfCharacters, {"dimension": 64, "analyzer": "char", "components": 3}),
    (TextStatistics, {}),
]
CORPUS = generated(60)
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=8)


def learnt(extractor: Extractor, parts: list[list[str]], nested: int = 0) -> list[State]:
    """What each round learns from parts, the first few of which are merged on their own."""
    rounds: list[State] = []
    for _ in range(extractor.rounds):
        states = [extractor.partial(Batch(part)) for part in parts]
        merged = extractor.merge([extractor.merge(states[:nested]), *states[nested:]])
        rounds.append(extractor.finish(merged))
        extractor.load({name: array for one in rounds for name, array in one.items()})
    return rounds


def fitted(kind: type[Extractor], options: dict[str, Any]) -> Extractor:
    extractor = kind(**options)
    learnt(extractor, [CORPUS])
    return extractor


@pytest.mark.parametrize(("kind", "options"), EXTRACTORS)
@settings(max_examples=50)
@given(texts=TEXTS)
@example(["", " ", "\0", "\n\n", "a", "é", "e\u0301", "\u200d", "👩‍🚀", "İ", "ﬃ", "\U0010ffff"])
@example(["x" * 70_000, "a b " * 20_000, "日" * 1000, "." * 1000])
def test_rows_stand_alone_and_are_finite(
    kind: type[Extractor], options: dict[str, Any], texts: list[str]
) -> None:
    extractor = fitted(kind, options)
    batch = Batch([*CORPUS, *texts])
    together = extractor.transform(batch)
    assert together.dtype == np.float32
    assert together.shape == (len(batch), len(extractor.names()))
    assert np.isfinite(together).all()
    assert not batch.failures
    alone = [extractor.transform(Batch([text])) for text in texts]
    assert np.vstack([together[:0], *alone]).tobytes() == together[len(CORPUS) :].tobytes()
    assert extractor.transform(Batch(texts)).tobytes() == together[len(CORPUS) :].tobytes()


@pytest.mark.parametrize(("kind", "options"), EXTRACTORS)
def test_names_are_told_apart(kind: type[Extractor], options: dict[str, Any]) -> None:
    names = kind(**options).names()
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("kind", "options"), [one for one in EXTRACTORS if one[0](**one[1]).rounds > 0]
)
@settings(max_examples=50)
@given(cuts=st.lists(st.integers(0, len(CORPUS)), max_size=6), nested=st.integers(0, 6))
def test_fits_are_the_same_in_any_parts(
    kind: type[Extractor], options: dict[str, Any], cuts: list[int], nested: int
) -> None:
    edges = [0, *sorted(cuts), len(CORPUS)]
    parts = [CORPUS[start:stop] for start, stop in itertools.pairwise(edges)]
    whole = learnt(kind(**options), [CORPUS])
    split = learnt(kind(**options), parts, nested)
    assert split[0]["idf"].tobytes() == whole[0]["idf"].tobytes()
    for found, expected in zip(split[1:], whole[1:], strict=True):
        np.testing.assert_allclose(found["axes"], expected["axes"], atol=1e-9)
    again = learnt(kind(**options), parts, nested)
    for found, expected in zip(again, split, strict=True):
        assert {name: array.tobytes() for name, array in found.items()} == {
            name: array.tobytes() for name, array in expected.items()
        }
