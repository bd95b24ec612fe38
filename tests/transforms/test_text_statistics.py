"""Statistics of texts: what is counted, against the plainest way to count it."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_text import generated, real

from transforms.extractors.base import Batch
from transforms.extractors.text.statistics import SCRIPTS, TextStatistics

LENGTHS = ("log characters", "log words", "log sentences", "log word length")


def of(text: str) -> dict[str, float]:
    """Each number by its name, lengths without the logarithm."""
    extractor = TextStatistics()
    (row,) = extractor.transform(Batch([text])).astype(float)
    found = dict(zip(extractor.names(), row.tolist(), strict=True))
    return {n: round(float(np.expm1(x)) if n in LENGTHS else x, 4) for n, x in found.items()}


def by_hand(text: str) -> dict[str, float]:
    """Letters, words and the like, a character at a time."""
    text = unicodedata.normalize("NFC", text)
    kinds = [unicodedata.category(c) for c in text]
    letters = [c for c in text if unicodedata.category(c)[0] == "L"]
    words = re.findall(r"[^\W_]+", text)
    n = max(len(text), 1)
    return {
        "log characters": np.log1p(len(text)),
        "log words": np.log1p(len(words)),
        "log word length": np.log1p(sum(map(len, words)) / max(len(words), 1)),
        "letters": len(letters) / n,
        "digits": sum(kind[0] == "N" for kind in kinds) / n,
        "white space": sum(c.isspace() for c in text) / n,
        "punctuation": sum(kind[0] == "P" for kind in kinds) / n,
        "upper case": sum(unicodedata.category(c) in ("Lu", "Lt") for c in letters)
        / max(len(letters), 1),
        "distinct words": len({word.lower() for word in words}) / max(len(words), 1),
    }


@pytest.mark.parametrize("source", [generated, real])
def test_counts_are_those_by_hand(source) -> None:
    texts = source(200)
    extractor = TextStatistics()
    found = extractor.transform(Batch(texts))
    names = extractor.names()
    for text, row in zip(texts, found, strict=True):
        for name, expected in by_hand(text).items():
            assert row[names.index(name)] == pytest.approx(expected, abs=1e-6), (name, text)


@given(st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x1FFFF), max_size=80))
def test_any_text_has_the_counts_by_hand(text: str) -> None:
    found = TextStatistics().transform(Batch([text]))[0]
    names = TextStatistics().names()
    expected = by_hand(text)
    for name in ("log characters", "digits", "white space", "punctuation", "letters"):
        assert found[names.index(name)] == pytest.approx(expected[name], abs=1e-6)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_shares_are_shares(text: str) -> None:
    found = of(text)
    assert all(0 <= x <= 1 for name, x in found.items() if name not in LENGTHS)
    scripts = sum(found[script] for script in SCRIPTS[:-1])
    assert scripts == pytest.approx(1, abs=1e-3) or scripts == 0


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Straße ｆｕｌｌ", "latin"),
        ("Привет, мир!", "cyrillic"),
        ("Καλημέρα ἄλφα", "greek"),
        ("مرحبا بالعالم ١٢٣", "arabic"),
        ("שָׁלוֹם", "hebrew"),
        ("हिन्दी में लिखा।", "devanagari"),
        ("今日 𠮷野 々", "han"),
        ("ひらがな", "hiragana"),
        ("カタカナ ｶﾀｶﾅ ー", "katakana"),
        ("안녕하세요", "hangul"),
        ("ภาษาไทย", "thai"),
        ("👩‍🚀 🇩🇪 ♥️ 3️⃣ + $ ©", "symbols"),
        ("ქართული አማርኛ", "other"),
    ],
)
def test_scripts(text: str, script: str) -> None:
    found = of(text)
    assert found[script] == 1
    assert [name for name in SCRIPTS[:-1] if found[name]] == [script]


@pytest.mark.parametrize(
    ("text", "words", "sentences"),
    [
        ("", 0, 0),
        (" \n\t ", 0, 0),
        ("... ?!", 0, 0),
        ("👩‍🚀♥️ (-:", 0, 0),
        ("One", 1, 1),
        ("One. Two! Three?", 3, 3),
        ("Pi is 3.14, more or less...", 7, 1),
        ("“Who?” he said.", 3, 2),
        ("今日は良い天気です。明日も？そうだ", 3, 3),
        ("हिन्दी में लिखा। दूसरा।", 4, 2),
        ("e\u0301te\u0301", 1, 1),
    ],
)
def test_words_and_sentences(text: str, words: int, sentences: int) -> None:
    found = of(text)
    assert (found["log words"], found["log sentences"]) == (words, sentences)


def test_words_are_counted_once_in_whatever_case() -> None:
    assert of("Go go GO! Stop.")["distinct words"] == 0.5
    assert of("a b. c")["distinct words"] == 1


def test_ways_to_write_a_character_make_no_difference() -> None:
    assert of("café Ångström") == of("cafe\u0301 A\u030angstro\u0308m")
    assert of("한국") == of(unicodedata.normalize("NFD", "한국"))


def test_empty_texts_are_zeros() -> None:
    found = TextStatistics().transform(Batch(["", "", "a"]))
    assert not found[:2].any()
    assert TextStatistics().transform(Batch([])).shape == (0, found.shape[1])
