"""Texts: the hash and the features are those of scikit-learn, and rows stand alone."""

from __future__ import annotations

import csv
import itertools
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.utils import murmurhash3_32 as reference_hash

from schemas.arrays import load_arrays, save_arrays
from schemas.recipe import TextModality
from transforms.extractors.base import BadRecord, Batch
from transforms.extractors.text.decoding import check, decode
from transforms.extractors.text.murmur import murmur3_32
from transforms.extractors.text.tfidf import Tfidf

EMOJI = Path(__file__).parents[3] / "shared" / "data" / "emoji" / "text.csv"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
STABLE_TEXT = st.text(
    st.one_of(
        st.sampled_from("aAbB zZ_09.,'\t\n\r\x1c\u00a0\u0085"),
        st.characters(exclude_categories=["Cs"]).filter(
            lambda c: unicodedata.is_normalized("NFKC", c) and not unicodedata.combining(c)
        ),
    ),
    max_size=60,
).filter(lambda text: unicodedata.is_normalized("NFKC", text))
WAYS = [
    {},
    {"ngrams": (1, 3)},
    {"ngrams": (2, 2)},
    {"analyzer": "char_wb", "ngrams": (1, 4)},
    {"analyzer": "char_wb", "ngrams": (5, 8)},
    {"analyzer": "char", "ngrams": (1, 3)},
    {"analyzer": "char", "ngrams": (6, 7)},
]


def modality(**fields: int) -> TextModality:
    return TextModality.model_validate(
        {
            "kind": "text",
            "source": {"path": "a.csv", "columns": ["text"]},
            "extract": {"tfidf": None},
            **fields,
        }
    )


def generated(n: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    letters = np.array(list("abcdefgh äßжñ日本語😀_7"))
    words = ["".join(random.choice(letters, random.integers(1, 9))) for _ in range(150)]
    texts = [" ".join(random.choice(words, random.integers(0, 60))) for _ in range(n)]
    return [unicodedata.normalize("NFKC", text) for text in texts]


def real(n: int) -> list[str]:
    if not EMOJI.exists():
        pytest.skip("the emoji data set is not there")
    with EMOJI.open(encoding="utf-8", newline="") as file:
        texts = [f"{row['name']}\n{row['keywords']}" for row in csv.DictReader(file)]
    return [text for text in texts if unicodedata.is_normalized("NFKC", text)][:n]


def by_sklearn(
    training: list[str], texts: list[str], dimension: int, sublinear: bool, **way: object
) -> np.ndarray:
    hashing = HashingVectorizer(
        n_features=dimension,
        analyzer=way.get("analyzer", "word"),
        ngram_range=way.get("ngrams", (1, 1)),
        norm=None,
    )
    weighting = TfidfTransformer(sublinear_tf=sublinear).fit(hashing.transform(training))
    counts = hashing.transform(texts)
    if not sublinear:
        return weighting.transform(counts).toarray()
    counts.eliminate_zeros()
    return np.sign(counts.toarray()) * weighting.transform(abs(counts)).toarray()


def fitted(training: list[str], **options: object) -> Tfidf:
    extractor = Tfidf(**options)
    extractor.load(extractor.finish(extractor.merge([extractor.partial(Batch(training))])))
    return extractor


# --- hash --------------------------------------------------------------------------------------


def pieces(tokens: list[str]) -> tuple[bytes, np.ndarray, np.ndarray]:
    encoded = [token.encode() for token in tokens]
    edges = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return b"".join(encoded), edges[:-1], edges[1:]


@given(st.lists(ANY_TEXT, max_size=60))
@example(["", "a", "ab", "abc", "abcd", "日本語", "x" * 1001, "😀" * 300] * 4)
@example([])
def test_hash_is_murmur3(tokens: list[str]) -> None:
    hashes = murmur3_32(*pieces(tokens))
    assert hashes.dtype == np.int32
    assert hashes.tolist() == [reference_hash(token, 0, positive=False) for token in tokens]


def test_hash_of_pieces_that_overlap() -> None:
    data = "größer als groß".encode()
    starts, stops = np.triu_indices(len(data) + 1)
    expected = [reference_hash(data[i:j], 0) for i, j in zip(starts, stops, strict=True)]
    assert murmur3_32(data, starts, stops).tolist() == expected


# --- decode ------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@given(text=ANY_TEXT)
@example(text="")
@example(text="größe 日本 😀")
def test_decode_reads_unicode(encoding: str, text: str) -> None:
    if text.startswith(("\ufeff", "\0")):  # NUL after the mark of UTF-16 makes that of UTF-32
        text = text.lstrip("\ufeff\0")
    assert decode(text.encode(encoding), modality()) == text


def test_decode_reads_big_endian_utf_16() -> None:
    assert decode(b"\xfe\xff" + "größe".encode("utf-16-be"), modality()) == "größe"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("größe".encode("latin-1"), r"not UTF-8: byte 2 \(0xf6\)"),
        (b"\xff\xfea", r"not UTF-16, which its first bytes promise: byte 2 \(0x61\)"),
        ("größe".encode("utf-32"), "UTF-32; save it as UTF-8"),
        (b"\xed\xa0\x80", "not UTF-8: byte 0"),
    ],
)
def test_decode_says_what_is_not_unicode(payload: bytes, message: str) -> None:
    with pytest.raises(BadRecord, match=message) as bad:
        decode(payload, modality())
    assert bad.value.kind == "not_utf8"


def test_long_texts_are_bad_records() -> None:
    assert check("äöü", modality(max_characters=3)) == "äöü"
    with pytest.raises(BadRecord, match="4 characters; max_characters is 3") as bad:
        check("äöüß", modality(max_characters=3))
    assert bad.value.kind == "too_long"
    with pytest.raises(BadRecord, match="max_characters"):
        decode(b"four", modality(max_characters=3))


# --- features ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sublinear", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("source", [generated, real])
def test_features_are_those_of_sklearn(source, way: dict, sublinear: bool) -> None:
    texts = source(240)
    training = texts[:180]
    # Few slots, so that terms collide and cancel.
    for dimension in (16, 1000):
        extractor = fitted(training, dimension=dimension, sublinear=sublinear, **way)
        expected = by_sklearn(training, texts, dimension, sublinear, **way)
        found = extractor.transform(Batch(texts))
        assert found.dtype == np.float32
        assert found.shape == (len(texts), dimension) == (len(texts), len(extractor.names()))
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert (found < 0).any()


@pytest.mark.parametrize("way", WAYS)
@given(texts=st.lists(STABLE_TEXT, min_size=1, max_size=6))
def test_any_text_has_the_features_of_sklearn(way: dict, texts: list[str]) -> None:
    found = fitted(texts, dimension=64, **way).transform(Batch(texts))
    np.testing.assert_allclose(found, by_sklearn(texts, texts, 64, False, **way), atol=1e-6)


def test_cancelled_terms_count_as_documents_but_weigh_nothing() -> None:
    words = [f"word{i}" for i in range(200)]
    hashes = {word: reference_hash(word, 0) for word in words}
    slot = {word: abs(h) % 16 for word, h in hashes.items()}
    plus, minus = next(
        (a, b) for a in words for b in words if slot[a] == slot[b] and hashes[a] >= 0 > hashes[b]
    )
    for sublinear in (False, True):
        extractor = Tfidf(dimension=16, sublinear=sublinear)
        state = extractor.partial(Batch([f"{plus} {minus}"]))
        assert state["frequency"].sum() == state["frequency"][slot[plus]] == 1
        extractor.load(extractor.finish(state))
        assert not extractor.transform(Batch([f"{plus} {minus}"])).any()


@pytest.mark.parametrize("way", WAYS)
def test_rows_do_not_depend_on_their_batch(way: dict) -> None:
    # More characters than are looked at together, with a long text in the midst.
    texts = [*generated(300), " ".join(generated(500, seed=1)), *generated(300, seed=2)]
    extractor = fitted(texts, dimension=128, sublinear=True, **way)
    together = extractor.transform(Batch(texts))
    for rows in (range(0, 601, 7), range(600, -1, -50), [300]):
        alone = [extractor.transform(Batch([texts[row]])) for row in rows]
        assert np.vstack(alone).tobytes() == together[list(rows)].tobytes()


def test_long_texts_have_the_features_of_sklearn() -> None:
    texts = [" ".join(generated(1500)), "a" * 20_000, " ".join(generated(200, seed=1))]
    for way in WAYS:
        found = fitted(texts, dimension=256, **way).transform(Batch(texts))
        np.testing.assert_allclose(found, by_sklearn(texts, texts, 256, False, **way), atol=1e-6)


@given(st.lists(st.integers(0, 40), max_size=5), st.integers(0, 5))
def test_fit_is_the_same_in_any_parts(cuts: list[int], nested: int) -> None:
    texts = generated(40)
    extractor = Tfidf(dimension=32)
    whole = extractor.finish(extractor.partial(Batch(texts)))
    edges = [0, *sorted(cuts), len(texts)]
    parts = [extractor.partial(Batch(texts[a:b])) for a, b in itertools.pairwise(edges)]
    merged = extractor.merge([extractor.merge(parts[:nested]), *parts[nested:]])
    assert extractor.finish(merged)["idf"].tobytes() == whole["idf"].tobytes()


def test_what_was_fitted_can_be_saved(tmp_path: Path) -> None:
    texts = generated(50)
    extractor = Tfidf(dimension=32)
    state = extractor.finish(extractor.merge([extractor.partial(Batch(texts))]))
    save_arrays(str(tmp_path / "text.npz"), state)
    other = Tfidf(dimension=32)
    other.load(load_arrays(str(tmp_path / "text.npz")))
    extractor.load(state)
    assert other.transform(Batch(texts)).tobytes() == extractor.transform(Batch(texts)).tobytes()


def test_ways_to_write_a_character_make_no_difference() -> None:
    extractor = fitted(["café ﬁne"])
    found = extractor.transform(Batch(["café ﬁne", "cafe\u0301 fine", "CAFÉ FINE", "ｃａｆé fine"]))
    assert (found == found[0]).all()


def test_texts_without_terms_are_zero() -> None:
    extractor = Tfidf(dimension=16)
    extractor.load(extractor.finish(extractor.merge([])))
    found = extractor.transform(Batch(["", " \n ", "a . b", "two words"]))
    assert not found[:3].any()
    np.testing.assert_allclose(np.linalg.norm(found[3]), 1, rtol=1e-6)
    assert extractor.transform(Batch([])).shape == (0, 16)
