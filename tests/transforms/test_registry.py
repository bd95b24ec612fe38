"""The registry: built-in extractors and a user's own are found, or it is said why not."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from pydantic import TypeAdapter

from schemas.recipe import Modality
from transforms.extractors import BUILTIN, READS, build, feature_names, identity
from transforms.extractors.base import Context, Extractor
from transforms.extractors.table.columns import Columns
from transforms.extractors.vector.vector import Vector
from transforms.extractors.video.frames import OnFrames

SOURCES = {
    "image": {"path": "a.csv"},
    "audio": {"path": "a.csv"},
    "video": {"path": "a.csv"},
    "text": {"path": "a.csv", "columns": ["text"]},
    "table": {"path": "a.csv", "columns": {"a": "number"}},
    "vector": {"path": "a.csv"},
    "series": {"path": "a.csv", "column": "values"},
}
NEEDED = {"onnx": {"path": "a.onnx"}, "handler": {"class": "json.JSONDecoder"}}
"""Options that have no default, by name of the extractor."""
OWN = """
import numpy as np
from pydantic import BaseModel
from transforms.extractors.base import Extractor

class Options(BaseModel, extra="forbid"):
    times: int = 1

class Lengths(Extractor):
    kind = "text"
    version = 3
    def __init__(self, **options):
        self.options = Options(**options)
    def names(self):
        return ["length"]
    def transform(self, batch):
        return np.array([[len(text) * self.options.times] for text in batch.items], np.float32)

class Plain(Extractor):
    kind = "text"

class Picky(Extractor):
    kind = "text"
    def __init__(self, size):
        if size > 3:
            raise ValueError("size must be at most 3")

class NoKind(Extractor):
    pass

class NotOne:
    pass
"""


def modality(kind: str, extract: dict) -> Modality:
    fields = {"kind": kind, "source": SOURCES[kind], "extract": extract}
    return TypeAdapter(Modality).validate_python(fields)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of the user's own; its name is another one in each test."""
    name = f"own_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "texts.py").write_text(OWN)
    (folder / "broken.py").write_text("import surely_not_installed\n")
    (folder / "raising.py").write_text("1 / 0\n")
    (folder / "typo.py").write_text("def\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_each_built_in_name_has_its_class() -> None:
    recipe_names = {
        (READS.get(kind, (kind,))[-1], name)
        for model in get_args(get_args(Modality)[0])
        for kind in get_args(model.model_fields["kind"].annotation)
        for name in model.model_fields["extract"].annotation.builtin
    }
    assert recipe_names == set(BUILTIN)


@pytest.mark.parametrize(("kind", "name"), BUILTIN)
def test_built_in_extractors_are_built_with_defaults(kind: str, name: str) -> None:
    context = Context(columns={"a": "number"}, rate=16_000)
    (extractor,) = build(modality(kind, {name: NEEDED.get(name)}), context)
    assert isinstance(extractor, Extractor)
    assert extractor.kind == kind
    assert extractor.context is context
    known = identity(extractor)
    uses = known.pop("uses", [])
    assert known == {"class": BUILTIN[kind, name], "version": extractor.version}
    assert [one["class"] for one in uses] == (["json.decoder.JSONDecoder"] * (name == "handler"))


@pytest.mark.parametrize("name", ["hog", "color", "handler"])
def test_extractors_of_images_read_the_frames_of_videos(name: str) -> None:
    (extractor,) = build(modality("video", {name: NEEDED.get(name)}), Context())
    (inner,) = build(modality("image", {name: NEEDED.get(name)}), Context())
    assert isinstance(extractor, OnFrames)
    assert type(extractor.extractor) is type(inner)
    assert extractor.kind == "video"
    assert extractor.rounds == inner.rounds
    # What the extractor of images depends on, the one of videos depends on.
    uses = identity(extractor)["uses"]
    own = identity(inner)
    assert uses == [{k: own[k] for k in ("class", "version")}, *own.get("uses", [])]


def test_extractors_come_in_order_with_their_options(package: str) -> None:
    own = f"{package}.texts.Lengths"
    lengths, tfidf = (own, {"times": 2}), ("tfidf", {"dimension": 64})
    built = build(modality("text", dict([lengths, tfidf])), Context())
    assert [type(one).__name__ for one in built] == ["Tfidf", "Lengths"]
    assert built[0].options.dimension == 64
    assert built[1].options.times == 2


def test_only_what_is_named_is_imported() -> None:
    code = """
import sys
from pydantic import TypeAdapter
from schemas.recipe import Modality
from transforms.extractors import build
from transforms.extractors.base import Context
table = {"kind": "table", "source": {"path": "a.csv", "columns": {"a": "number"}}}
build(TypeAdapter(Modality).validate_python(table), Context(columns={"a": "number"}))
assert "transforms.extractors.table.columns" in sys.modules
heavy = {"cv2", "soundfile", "soxr", "sklearn", "apache_beam", "transforms.extractors.text.tfidf"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_class_of_the_users_own_is_known_by_its_file(package: str) -> None:
    (extractor,) = build(modality("text", {f"{package}.texts.Lengths": {}}), Context())
    known = identity(extractor)
    assert json.loads(json.dumps(known)) == {
        "class": f"{package}.texts.Lengths",
        "version": 3,
        "sha256": hashlib.sha256(OWN.encode()).hexdigest(),
    }


def test_a_class_without_a_file_cannot_be_known() -> None:
    scope: dict = {"__name__": "nowhere_to_be_found", "Extractor": Extractor}
    exec("class Typed(Extractor):\n    kind = 'text'", scope)
    with pytest.raises(ValueError, match="Typed is not in a file"):
        identity(scope["Typed"]())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("surely_not.there.Class", {}, "there is no module 'surely_not'; install it, or put"),
        ("{own}.text.Lengths", {}, "'{own}' has no module 'text'; did you mean 'texts'?"),
        ("{own}.texts.Length", {}, "'{own}.texts' has no 'Length'; did you mean 'Lengths'?"),
        ("{own}.texts.deeper.Lengths", {}, "'{own}.texts' has no module 'deeper'"),
        ("{own}.broken.A", {}, "importing '{own}.broken' failed: ModuleNotFoundError: No module"),
        ("{own}.raising.A", {}, "importing '{own}.raising' failed: ZeroDivisionError: division"),
        ("{own}.typo.A", {}, "importing '{own}.typo' failed: SyntaxError: "),
        ("{own}.texts.NotOne", {}, "is not a subclass of transforms.extractors.base.Extractor"),
        ("{own}.texts.np", {}, "is not a subclass of transforms.extractors.base.Extractor"),
        ("{own}.texts.NoKind", {}, "does not say its `kind`, but the modality's kind is 'text'"),
        (
            "transforms.extractors.table.columns.Columns",
            {},
            "reads 'table', but the modality's kind is",
        ),
        ("{own}.texts.Plain", {"size": 3}, "{own}.texts.Plain: Plain has no options, got: size"),
        (
            "{own}.texts.Picky",
            {"sise": 3},
            "unknown option 'sise'; did you mean 'size'? known are: size",
        ),
        ("{own}.texts.Picky", {"colour": 3}, "unknown option 'colour'; known are: size"),
        ("{own}.texts.Picky", {}, "missing 1 required positional argument: 'size'"),
        ("{own}.texts.Picky", {"size": 4}, "{own}.texts.Picky: size must be at most 3"),
        ("{own}.texts.Lengths", {"times": "x"}, "{own}.texts.Lengths: times: Input should be a"),
        ("{own}.texts.Lengths", {"tims": 1}, "tims: Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_built_is_explained(
    package: str, name: str, options: dict, message: str
) -> None:
    name, message = name.replace("{own}", package), message.replace("{own}", package)
    with pytest.raises(ValueError) as error:  # noqa: PT011  the message is looked at below
        build(modality("text", {name: options}), Context())
    assert str(error.value).startswith(name)
    assert message in str(error.value)


def test_names_of_dimensions_start_with_the_extractors_name() -> None:
    columns, vector = Columns(), Vector()
    columns.context = Context(columns={"age": "number", "usage": "category"})
    columns.load(columns.finish(columns.merge([])))
    vector.context = Context(columns={"a": "number", "b": "number"})
    names, slices = feature_names([("columns", columns), ("vector", vector)])
    assert names == ["columns.age", "columns.usage is unseen", "vector.a", "vector.b"]
    assert slices == {"columns": (0, 2), "vector": (2, 4)}
    assert feature_names([]) == ([], {})
