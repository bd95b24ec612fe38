"""Latent semantic analysis: the numbers of scikit-learn, however the training rows are split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.sparse import csr_array
from sklearn.decomposition import TruncatedSVD
from test_text import generated, real

from schemas.arrays import load_arrays, save_arrays
from transforms.extractors.base import Batch, State
from transforms.extractors.text import semantics
from transforms.extractors.text.tfidf import Tfidf, TfidfCharacters

WAYS = [
    (Tfidf, {"dimension": 1024, "components": 20}),
    (Tfidf, {"dimension": 64, "components": 8, "sublinear": True}),
    (TfidfCharacters, {"dimension": 256, "components": 12}),
]


def learnt(kind: type[Tfidf], batches: Iterable[list[str]], **options: object) -> State:
    """What is learnt in all rounds of batches that are merged one by one."""
    extractor, found = kind(**options), State()
    for _ in range(extractor.rounds):
        if found:
            extractor.load(found)
        state = extractor.merge([])
        for batch in batches:
            state = extractor.merge([state, extractor.partial(Batch(batch))])
        found |= extractor.finish(state)
    return found


def fitted(kind: type[Tfidf], batches: Iterable[list[str]], **options: object) -> Tfidf:
    extractor = kind(**options)
    extractor.load(learnt(kind, batches, **options))
    return extractor


@pytest.mark.parametrize(("kind", "options"), WAYS)
@pytest.mark.parametrize("source", [generated, real])
def test_components_are_those_of_sklearn(source, kind: type[Tfidf], options: dict) -> None:
    texts = source(240)
    training = texts[:180]
    extractor = fitted(kind, [training[:50], training[50:]], **options)
    found = extractor.transform(Batch(texts))

    plain = fitted(kind, [training], **options | {"components": None})
    reference = TruncatedSVD(options["components"], algorithm="arpack", random_state=0)
    reference.fit(csr_array(plain.transform(Batch(training)), dtype=np.float64))
    expected = reference.transform(plain.transform(Batch(texts)).astype(np.float64))
    signs = np.sign(np.sum(found * expected, axis=0))
    assert found.dtype == np.float32
    assert found.shape == (len(texts), options["components"])
    np.testing.assert_allclose(found, expected * signs, rtol=1e-4, atol=1e-6)
    assert extractor.names() == [f"lsa{i}" for i in range(options["components"])]


def test_the_largest_loading_of_an_axis_is_positive() -> None:
    axes = learnt(Tfidf, [generated(90)], dimension=64, components=8)["axes"]
    np.testing.assert_allclose(axes.T @ axes, np.eye(8), atol=1e-10)
    assert (axes[np.abs(axes).argmax(axis=0), np.arange(8)] > 0).all()


@pytest.mark.parametrize("dimension", [16, 1000])
@pytest.mark.parametrize("filled", [0.02, 0.5])
def test_rows_and_their_moments_say_the_same(dimension: int, filled: float) -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(700, dimension)) * (random.random((700, dimension)) < filled)
    states = []
    for part in np.array_split(rows, 9):
        where = np.flatnonzero(part)
        states.append(semantics.remembered(where, part.ravel()[where], len(part), dimension))
    merged = semantics.merged([semantics.merged(states[:4], dimension), *states[4:]], dimension)
    sizes = {name: array.nbytes for name, array in merged.items()}
    assert sum(sizes.values()) <= 2 * 8 * dimension**2
    assert (sizes["moments"] > 0) == (dimension < 1000)
    found = np.triu(semantics.second_moments(merged, dimension))
    np.testing.assert_allclose(found, np.triu(rows.T @ rows), rtol=1e-9, atol=1e-9)


def test_dimensions_that_the_texts_do_not_have_are_zeros() -> None:
    texts = ["one two", "one", "", "two two one"]
    extractor = fitted(Tfidf, [texts], dimension=64, components=5)
    found = extractor.transform(Batch(texts))
    assert np.abs(found[:, :2]).max() > 0.1
    assert not found[:, 2:].any()
    # Nothing is lost: as many axes as there are words keep all of the rows.
    plain = fitted(Tfidf, [texts], dimension=64).transform(Batch(texts))
    np.testing.assert_allclose(found @ found.T, plain @ plain.T, atol=1e-6)
    assert not fitted(Tfidf, [], dimension=64, components=5).transform(Batch(texts)).any()


def test_what_was_fitted_can_be_saved(tmp_path: Path) -> None:
    texts = generated(60)
    extractor, other = (Tfidf(dimension=64, components=6) for _ in range(2))
    found = learnt(Tfidf, [texts], dimension=64, components=6)
    save_arrays(str(tmp_path / "a.npz"), found)
    extractor.load(found)
    other.load(load_arrays(str(tmp_path / "a.npz")))
    assert other.transform(Batch(texts)).tobytes() == extractor.transform(Batch(texts)).tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimension": 8192, "components": 10}, "must be at most 4096 with components, got 8192"),
        ({"dimension": 64, "components": 65}, "must not be more than dimension, which is 64"),
        ({"components": 0}, "greater than or equal to 1"),
    ],
)
def test_components_have_bounds(options: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Tfidf(**options)
