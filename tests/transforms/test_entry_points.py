"""Extractors that installed packages announce: found by name, or it is said why not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from schemas.loading import RecipeError, json_schema, load_recipe
from schemas.options import entry_points
from schemas.recipe import Modality
from transforms.extractors import build, feature_names, identity
from transforms.extractors.base import Context

CLASSES = """
import numpy as np
from transforms.extractors.base import Extractor

class Lengths(Extractor):
    kind = "text"
    def __init__(self, unit=1):
        self.unit = unit
    def names(self):
        return ["length"]
    def transform(self, batch):
        return np.array([[len(text) / self.unit] for text in batch.items], np.float32)
"""
RECIPE = """\
name: notes
modalities:
  note:
    kind: text
    source: {path: notes.csv, columns: [text]}
    extract: {EXTRACT}
"""
Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a package on the path, installed as pip would do it; returns its module's name."""

    def put(package: str, announces: str) -> str:
        folder = tmp_path / package
        (folder / f"{package}-1.0.dist-info").mkdir(parents=True)
        # A module of another name in each test, because modules stay imported.
        module = f"{package}_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
        (folder / f"{module}.py").write_text(CLASSES)
        info = folder / f"{package}-1.0.dist-info"
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = announces.replace("MODULE", module)
        (info / "entry_points.txt").write_text(f"[sensorium.extractors]\n{lines}\n")
        monkeypatch.syspath_prepend(str(folder))
        return module

    return put


def text(extract: dict[str, Any]) -> Modality:
    fields = {"kind": "text", "source": {"path": "a.csv", "columns": ["t"]}, "extract": extract}
    return TypeAdapter(Modality).validate_python(fields)


def problem(folder: Path, extract: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("EXTRACT", extract))
    with pytest.raises(RecipeError) as error:
        load_recipe(str(path))
    return str(error.value).removeprefix(f"{path}:6: modalities.note.extract.")


def test_an_announced_extractor_is_used_by_its_name(install: Install) -> None:
    module = install("letters", "lengths = MODULE:Lengths")
    modality = text({"lengths": {"unit": 10}, "statistics": {}})
    assert [name for name, _ in modality.extract.named()] == ["statistics", "lengths"]
    built = build(modality, Context())
    assert built[1].unit == 10
    assert identity(built[1]) == {
        "class": f"{module}.Lengths",
        "version": 1,
        "sha256": hashlib.sha256(CLASSES.encode()).hexdigest(),
    }
    names, slices = feature_names([("statistics", built[0]), ("lengths", built[1])])
    assert names[-1] == "lengths.length"
    assert slices["lengths"] == (len(names) - 1, len(names))


def test_its_options_and_kind_are_checked(install: Install) -> None:
    module = install("letters", "lengths = MODULE:Lengths\nnone = MODULE:Nothing\nbare = MODULE")
    with pytest.raises(ValueError, match=r"lengths: unknown option 'units'; did you mean 'unit'"):
        build(text({"lengths": {"units": 10}}), Context())
    with pytest.raises(ValueError, match=f"{module}.Nothing: module {module!r} has no 'Nothing'"):
        build(text({"none": None}), Context())
    with pytest.raises(ValueError, match=r"'letters' announces .* which must be module:Class"):
        build(text({"bare": None}), Context())
    image = {"kind": "image", "source": {"path": "a.csv"}, "extract": {"lengths": None}}
    with pytest.raises(ValueError, match="lengths reads 'text', but the modality's kind is 'im"):
        build(TypeAdapter(Modality).validate_python(image), Context())


def test_unknown_names_get_the_nearest_one(install: Install, tmp_path: Path) -> None:
    install("letters", "lengths = MODULE:Lengths")
    assert problem(tmp_path, "length: {}") == (
        "length: unknown name 'length'; did you mean 'lengths'? "
        "known are: tfidf, tfidf_characters, statistics, onnx, handler, lengths"
    )
    assert "did you mean 'tfidf'?" in problem(tmp_path, "tfdf: {}")


def test_a_name_that_is_built_in_clashes(install: Install, tmp_path: Path) -> None:
    module = install("letters", "lengths = MODULE:Lengths\ntfidf = MODULE:Lengths")
    assert problem(tmp_path, "lengths: {}") == (
        "lengths: entry points of sensorium.extractors cannot be used: 'tfidf' of the package "
        "'letters' has the name of a built-in extractor, which wins; have it renamed, or write "
        "the class that you mean by its dotted name"
    )
    built = build(text({"tfidf": None, f"{module}.Lengths": None}), Context())
    assert [type(one).__name__ for one in built] == ["Tfidf", "Lengths"]
    # `tfidf` is built in for texts alone, so there is no clash for other kinds.
    image = {"kind": "image", "source": {"path": "a.csv"}, "extract": {"lengths": None}}
    TypeAdapter(Modality).validate_python(image)


def test_a_name_that_two_packages_announce_clashes(install: Install, tmp_path: Path) -> None:
    first = install("letters", "lengths = MODULE:Lengths")
    second = install("numbers", "lengths = MODULE:Lengths\ncounts = MODULE:Lengths")
    assert problem(tmp_path, "lengths: {}") == (
        f"lengths: is announced by several packages: {first}.Lengths by letters, "
        f"{second}.Lengths by numbers; write the one that you mean by its dotted name"
    )
    assert build(text({"counts": None}), Context())[0].names() == ["length"]


def test_a_package_that_a_worker_lacks_is_named_by_its_extractor(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("letters", "lengths = MODULE:Lengths")
    modality = text({"lengths": None})
    monkeypatch.undo()
    with pytest.raises(ValueError, match="lengths: no package that is installed here announces"):
        build(modality, Context())


def test_packages_are_not_looked_at_for_built_in_names(install: Install) -> None:
    install("letters", "lengths = MODULE:Lengths")
    before = entry_points._announced.cache_info()
    build(text({"tfidf": None, "statistics": None}), Context())
    assert entry_points._announced.cache_info() == before
    build(text({"lengths": None}), Context())
    assert entry_points._announced.cache_info() != before


def test_editors_complete_announced_names(install: Install) -> None:
    module = install("letters", "lengths = MODULE:Lengths\ntfidf = MODULE:Lengths")
    known = json_schema()["$defs"]["TextExtract"]["properties"]
    assert known["lengths"]["description"] == f"Options of {module}.Lengths, of letters"
    assert known["tfidf"]["description"] == "Hashed bag of words"
