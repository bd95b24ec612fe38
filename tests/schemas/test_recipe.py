"""What recipe models accept, fill in and refuse; the messages are the loader's affair."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.options.base import FieldError, UnknownName
from schemas.options.fuse import Concatenate
from schemas.options.table import TableExtract
from schemas.recipe import (
    RESERVED,
    ImageModality,
    Recipe,
    Source,
    TextSource,
    VectorSource,
)


def recipe(**changes: Any) -> dict[str, Any]:
    return {
        "name": "digits",
        "modalities": {
            "image": {
                "kind": "image",
                "source": {"path": "images.csv"},
                "extract": {"hog": None},
            },
            "facts": {
                "kind": "table",
                "source": {"path": "facts.parquet", "columns": {"n": "number"}},
            },
        },
    } | changes


def modality(kind: str, **rest: Any) -> dict[str, Any]:
    return recipe(modalities={"m": {"kind": kind, **rest}})


def test_defaults_are_filled_in() -> None:
    made = Recipe.model_validate(recipe())
    assert made.fuse == Concatenate()
    image = made.modalities["image"]
    assert isinstance(image, ImageModality)
    assert image.extract.named() == [
        ("hog", {"size": 64, "orientations": 9, "cell": 8, "block": 2})
    ]
    assert image.extract.color is None
    facts = made.modalities["facts"]
    assert isinstance(facts.extract, TableExtract)
    assert [name for name, _ in facts.extract.named()] == ["columns"]
    assert made.target_source() is None


def test_fuse_needs_no_method() -> None:
    made = Recipe.model_validate(recipe(fuse={"scale": "block"}))
    assert made.fuse == Concatenate(scale="block")


def test_own_extractors_keep_their_order_after_built_in_ones() -> None:
    source = {"path": "a.csv"}
    extract = {"my.pkg.B": {"x": 1}, "my.A": None, "pixels": None, "hog": {"size": 16}}
    made = Recipe.model_validate(modality("image", source=source, extract=extract))
    names = [name for name, _ in made.modalities["m"].extract.named()]
    assert names == ["hog", "pixels", "my.pkg.B", "my.A"]


@pytest.mark.parametrize("models", [{}, {"logistic": None}, {"lda": {"shrinkage": [0.1, "auto"]}}])
def test_a_recipe_written_as_json_comes_back_equal(models: dict[str, Any]) -> None:
    target = {"source": "facts", "column": "y"}
    made = Recipe.model_validate(recipe(target=target, train={"models": models}))
    assert Recipe.model_validate(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.csv", "csv"),
        ("a.CSV", "csv"),
        ("x/y.z/a.tsv", "tsv"),
        ("s3://bucket/a.NDJSON", "jsonl"),
        ("part-*.parquet", "parquet"),
        (["a.jsonl", "b.ndjson"], "jsonl"),
        ("a.csv.gz", "csv"),
        ("part-*.jsonl.zst", "jsonl"),
    ],
)
def test_format_is_told_from_the_ending(path: str | list[str], expected: str) -> None:
    assert Source(path=path).kind_of_file == expected


def test_a_given_format_wins_over_the_ending() -> None:
    assert Source(path=["a.txt", "b.csv"], format="tsv").kind_of_file == "tsv"
    assert Source(path="a.csv/*", key_pattern=r"(\d+)").kind_of_file == "files"


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ({"path": ""}, "at least one path"),
        ({"path": []}, "at least one path"),
        ({"path": ["a.csv", ""]}, "no empty one"),
        ({"path": "a.parquet.gz"}, "cannot tell the format"),
        ({"path": "folder.csv/a"}, "cannot tell the format"),
        ({"path": ["a.csv", "b"]}, "cannot tell the format of 'b'"),
        ({"path": ["a.csv", "b.tsv"]}, "several formats"),
        ({"path": "a.csv", "format": "files"}, "need key_pattern"),
        ({"path": "*.png", "key_pattern": "("}, "not a regular expression"),
        ({"path": "*.png", "key_pattern": "x"}, "needs a group"),
        ({"path": "*.png", "key_pattern": "(x)", "format": "csv"}, "goes with bare files"),
        ({"path": "*.png", "key_pattern": "(x)", "key_from_row": True}, "not both"),
        ({"path": "*.png", "key_pattern": "(x)", "key": "id"}, "give key or key_pattern"),
        ({"path": "a.csv", "key_from_row": True, "key": "id"}, "give key or key_from_row"),
        ({"path": ["a.csv", "b.csv"], "key_from_row": True}, "single file"),
    ],
)
def test_sources_that_contradict_themselves(source: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError, match=part):
        Source.model_validate(source)


def test_bare_files_have_no_columns() -> None:
    bare = {"path": "*.txt", "key_pattern": r"(\d+)\.txt$"}
    assert TextSource.model_validate(bare).columns is None
    for more in ({"columns": ["a"]}, {"uri": "u"}):
        with pytest.raises(ValidationError, match="no columns"):
            TextSource.model_validate(bare | more)
    with pytest.raises(ValidationError, match="no columns"):
        VectorSource.model_validate(bare)
    with pytest.raises(ValidationError, match="no columns"):
        Recipe.model_validate(recipe(target={"source": bare, "column": "y"}))
    texts = modality("text", source=bare, extract={"tfidf": None})
    with pytest.raises(ValidationError, match="no columns for labels"):
        Recipe.model_validate(texts | {"target": {"source": "m", "column": "y"}})


@pytest.mark.parametrize(
    "source", [{"path": "a.csv"}, {"path": "a.csv", "columns": [], "uri": "u"}]
)
def test_texts_are_in_columns_or_in_files(source: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TextSource.model_validate(source)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"join": {"how": {"left": "imag"}}}, ("join", "how", "left")),
        ({"target": {"source": "facs", "column": "y"}}, ("target", "source")),
        ({"fuse": {"pca": {"imag": 3}}}, ("fuse", "pca", "imag")),
    ],
)
def test_unknown_modalities_are_told_by_field(
    changes: dict[str, Any], field: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(recipe(**changes))
    error = caught.value.errors()[0]["ctx"]["error"]
    assert isinstance(error, UnknownName)
    assert error.field == field
    assert error.known == ["image", "facts"]


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_names(name: str) -> None:
    modalities = {name: recipe()["modalities"]["facts"]}
    with pytest.raises(ValidationError, match="reserved name") as caught:
        Recipe.model_validate(recipe(modalities=modalities))
    assert isinstance(caught.value.errors()[0]["ctx"]["error"], FieldError)


@pytest.mark.parametrize(
    "extract",
    [
        {},
        {"hogg": None},
        {"my..Class": None},
        {"my.Class": 3},
        {"hog": True},
        {"hog": {"size": 16, "cell": 16, "block": 2}},
        {"color": {"bins": [8, 3, 65]}},
        {"color": {"bins": [8, 3]}},
        {"pixels": {"size": True}},
    ],
)
def test_image_extractors_that_cannot_be(extract: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate(modality("image", source={"path": "a.csv"}, extract=extract))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("log_mel", {"window": 500}),
        ("log_mel", {"low": 4000}),
        ("log_mel", {"high": 4001}),
        ("log_mel", {"low": 300, "high": 300}),
        ("log_mel", {"trim": float("nan")}),
        ("log_mel", {"quantiles": [1.5]}),
        ("log_mel", {"quantiles": [0.5, 0.5]}),
        ("mfcc", {"high": 4001}),
        ("mfcc", {"bands": 10, "coefficients": 11}),
        ("mfcc", {"deltas": 3}),
        ("spectral", {"rolloff": 1}),
        ("pitch", {"high": 4001}),
        ("pitch", {"low": 500, "high": 400}),
        ("pitch", {"low": 4000, "high": 5000}),
        ("pitch", {"low": 15}),
        ("pitch", {"window": 128}),
    ],
)
def test_audio_options_that_cannot_be(name: str, options: dict[str, Any]) -> None:
    fine = modality("audio", source={"path": "a.csv"}, extract={name: None}, rate=8000)
    assert Recipe.model_validate(fine)
    fine["modalities"]["m"]["extract"] = {name: options}
    with pytest.raises(ValidationError):
        Recipe.model_validate(fine)


@pytest.mark.parametrize(
    "extract",
    [
        {},
        {"bands": {"bands": 0}},
        {"bands": {"bands": [1]}},
        {"bands": {"bands": [1, 3, 2]}},
        {"bands": {"bands": [1, 1]}},
        {"bands": {"bands": [1, 26]}},
        {"statistics": {"quantiles": [0.5, 0.5]}},
        {"resampled": {"length": 0}},
    ],
)
def test_series_extractors_that_cannot_be(extract: dict[str, Any]) -> None:
    source = {"path": "a.jsonl", "column": "values"}
    fine = modality("series", source=source, extract={"bands": {"bands": [1, 25]}}, rate=50)
    assert Recipe.model_validate(fine)
    with pytest.raises(ValidationError):
        Recipe.model_validate(modality("series", source=source, extract=extract, rate=50))
    for changes in ({"rate": 0}, {"source": {"path": "a.csv"}}, {"max_length": 0}):
        with pytest.raises(ValidationError):
            Recipe.model_validate(
                modality("series", **{"source": source, "extract": {"statistics": None}, **changes})
            )


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a/b"},
        {"name": "a\n"},
        {"modalities": {}},
        {"split": {"folds": "group"}},
        {"split": {"folds": 1}},
        {"split": {"group": "writer"}},  # there is no target
        {"split": {"seed": -1}},
        {"fuse": {"pca": True}},
        {"fuse": {"pca": {"image": 0}}},
        {"fuse": {"method": "average", "pca": 3}},
        {"max_dead_letters": float("nan")},
        {"train": {"models": {"logistic": {"C": [0.0]}}}},
        {"train": {"models": {"lda": {"shrinkage": [1.5]}}}},
        {"target": {"source": "facts", "column": "y"}, "train": {"models": {"ridge": None}}},
        {"colour": "red"},
    ],
)
def test_recipes_that_cannot_be(changes: dict[str, Any]) -> None:
    assert Recipe.model_validate(recipe())
    with pytest.raises(ValidationError):
        Recipe.model_validate(recipe(**changes))


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_models_and_weights_are_for_their_task(task: str) -> None:
    target = {"source": "facts", "column": "y", "task": task}
    balanced = {"class_weight": "balanced"}
    for models in (
        {"svm": {}},
        {"naive_bayes": {}},
        {"qda": {}},
        {"gaussian": {}},
        {"kernel": {}},
        {"boosting": balanced},
    ):
        changes = recipe(target=target, train={"models": models})
        if task == "classification":
            assert Recipe.model_validate(changes)
            continue
        with pytest.raises(ValidationError, match="is not for regression"):
            Recipe.model_validate(changes)
    assert Recipe.model_validate(recipe(target=target, train={"models": {"boosting": {}}}))


def test_ngrams_and_background_have_ranges() -> None:
    text = {"source": {"path": "a.csv", "columns": ["t"]}}
    for ngrams in ([2, 1], [0, 1], [1, 9]):
        with pytest.raises(ValidationError):
            Recipe.model_validate(modality("text", **text, extract={"tfidf": {"ngrams": ngrams}}))
    with pytest.raises(ValidationError):
        Recipe.model_validate(
            modality(
                "image", source={"path": "a.csv"}, extract={"hog": None}, background=[0, 0, 256]
            )
        )


def test_target_source_is_a_modality_or_its_own() -> None:
    made = Recipe.model_validate(recipe(target={"source": "facts", "column": "y"}))
    assert made.target_source() == made.modalities["facts"].source
    own = {"path": "labels.csv", "key": "id"}
    made = Recipe.model_validate(recipe(target={"source": own, "column": "y"}))
    assert made.target_source() == Source(path="labels.csv", key="id")
