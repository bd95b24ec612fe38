"""What is wrong with a recipe: one line a problem, with line, field and plain words."""

from pathlib import Path

import pytest
from texts import GOOD, changed, problems


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "size: 32",
            "sise: 32",
            "7: modalities.image.extract.hog.sise: unknown field; did you mean 'size'? "
            "known are: size, orientations, cell, block",
        ),
        (
            "size: 32",
            "size: abc",
            "7: modalities.image.extract.hog.size: must be a whole number, got 'abc'",
        ),
        (
            "size: 32",
            "size: 4",
            "7: modalities.image.extract.hog.size: must be at least 8, got 4",
        ),
        (
            "hog:",
            "hogg:",
            "7: modalities.image.extract.hogg: unknown name 'hogg'; did you mean 'hog'? "
            "known are: hog, sift, fisher, color, lbp, pixels, hu, onnx, handler",
        ),
        (
            "hog: {size: 32}",
            "color: {bins: [1]}",
            "7: modalities.image.extract.color.bins: must have 3 values, got 1",
        ),
        (
            "hog: {size: 32}",
            "handler: {clas: a.B}",
            "7: modalities.image.extract.handler.class: is missing\n"
            "recipe.yaml:7: modalities.image.extract.handler.clas: unknown field; did you mean "
            "'class'? known are: class, options, batch, dimension",
        ),
        (
            "hog: {size: 32}",
            "handler: {class: Encoder}",
            "7: modalities.image.extract.handler.class: must be a dotted name, got 'Encoder'",
        ),
        (
            "hog: {size: 32}",
            "onnx: {path: a.onnx, sha256: abc}",
            "7: modalities.image.extract.onnx.sha256: must be 64 digits from 0 to 9 and a to f",
        ),
        (
            "kind: audio",
            "kind: adio",
            "12: modalities.sound.kind: must be one of image, audio, video, text, table, vector, "
            "series, got 'adio'; did you mean 'audio'?",
        ),
        (
            "    kind: audio\n",
            "",
            "11: modalities.sound.kind: is missing; "
            "must be one of image, audio, video, text, table, vector, series",
        ),
        (
            "{path: audio.jsonl, uri: wav}",
            "\n      urx: wav",
            "13: modalities.sound.source.path: is missing\n"
            "recipe.yaml:14: modalities.sound.source.urx: unknown field; did you mean 'uri'? "
            "known are: path, format, key, key_pattern, key_from_row, uri",
        ),
        (
            "path: table.csv",
            "path: 5",
            "18: modalities.facts.source.path: must be text or a list, got 5: put it in quotes",
        ),
        (
            "path: table.csv",
            "path: [a.csv, 5]",
            "18: modalities.facts.source.path.1: must be text, got 5: put it in quotes",
        ),
        (
            "path: table.csv",
            "path: table.xls",
            "18: modalities.facts.source.path: cannot tell the format of 'table.xls': give "
            "`format` for a manifest, or `key_pattern` where each file is a record",
        ),
        (
            "1: number",
            "1: numbr",
            "19: modalities.facts.source.columns.1: must be one of number, category, time, "
            "boolean, got 'numbr'; did you mean 'number'?",
        ),
        ("column: no", "column: 5", "20: target.column: must be text, got 5: put it in quotes"),
        (
            "source: facts",
            "source: fact",
            "20: target.source: unknown name 'fact'; did you mean 'facts'? "
            "known are: image, sound, facts",
        ),
        (
            "source: facts",
            "source: {path: a.csv, kye: b}",
            "20: target.source.kye: unknown field; did you mean 'key'? "
            "known are: path, format, key, key_pattern, key_from_row",
        ),
        (
            "source: facts",
            "source: []",
            "20: target.source: must be text or a mapping with path, got a list",
        ),
        (
            "  facts:",
            "  My Facts:",
            "15: modalities.My Facts: a name has small letters, digits and _, and starts with "
            "a letter; did you mean 'my_facts'?",
        ),
        (
            "name: digits",
            "name: a/b",
            "1: name: must start with a letter or digit, and hold only letters, digits and the "
            "characters _ . -, got 'a/b'",
        ),
        ("name: digits\n", "", "1: name: is missing"),
    ],
)
def test_one_line_a_problem(folder: Path, old: str, new: str, expected: str) -> None:
    assert problems(changed(old, new)) == "recipe.yaml:" + expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            "join: {how: outr}",
            "join.how: must be one of outer, inner or a mapping with left, got 'outr'; "
            "did you mean 'outer'?",
        ),
        (
            "join: {how: {left: imag}}",
            "join.how.left: unknown name 'imag'; did you mean 'image'? "
            "known are: image, sound, facts",
        ),
        ("join: {how: {left: [1]}}", "join.how.left: must be text, got a list"),
        (
            "split: {folds: gruop}",
            "split.folds: must be a whole number or 'group', got 'gruop'; did you mean 'group'?",
        ),
        ("split: {folds: 1}", "split.folds: must be at least 2, got 1"),
        ("split: {folds: group}", "split.folds: needs `group`, the column that names the groups"),
        ("fuse: {pca: true}", "fuse.pca: must not be true or false"),
        ("fuse: {pca: {image: 0}}", "fuse.pca.image: must be at least 1, got 0"),
        ("fuse: {pca: much}", "fuse.pca: must be a whole number or a mapping, got 'much'"),
        ("fuse:", "fuse: must be a mapping, got nothing"),
        (
            "fuse: {method: averag}",
            "fuse.method: must be one of "
            "concatenate, average, weighted, hierarchical, deep, compare, "
            "got 'averag'; did you mean 'average'?",
        ),
        (
            "train: {models: {lda: {shrinkage: [aut]}}}",
            "train.models.lda.shrinkage.0: must be a number or 'auto', got 'aut'; "
            "did you mean 'auto'?",
        ),
        (
            "train: {models: {logistic: {C: []}}}",
            "train.models.logistic.C: must have at least 1 entry, got 0",
        ),
        (
            "train: {models: {svm: {class_weight: balance}}}",
            "train.models.svm.class_weight: must be 'balanced', got 'balance'; "
            "did you mean 'balanced'?",
        ),
        ("train: {models: {ridge: }}", "train.models.ridge: is not for classification"),
        ("max_dead_letters: .nan", "max_dead_letters: must be a finite number, got nan"),
    ],
)
def test_unions_and_rules_across_fields_get_one_line(
    folder: Path, more: str, expected: str
) -> None:
    assert problems(GOOD + more) == "recipe.yaml:21: " + expected


def test_a_modality_named_like_a_field_or_kind_is_not_mistaken(folder: Path) -> None:
    for name in ("source", "text", "image", "extract"):
        text = changed("  sound:", "  NAME:").replace("  image:", "  other:")
        text = text.replace("NAME", name).replace("uri: wav", "urx: wav")
        assert f"recipe.yaml:13: modalities.{name}.source.urx: unknown field" in problems(text)


def test_all_problems_come_at_once_in_the_order_of_lines(folder: Path) -> None:
    text = changed("size: 32", "size: x").replace("column: no", "colum: no")
    lines = problems(text, "split.folds=1").splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "recipe.yaml:7",
        "recipe.yaml:20",
        "recipe.yaml:20",
        "--set split.folds",
    ]
