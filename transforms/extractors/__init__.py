"""How records become numbers: one module a kind of modality, and how extractors are found.

base: what an extractor is, and the batches that it reads.
image, audio, text, table, vector, series: decoding of that kind of record, and its extractors.
video: decoding of videos, whose frames the extractors of images read.
model: deep models as extractors, of any kind of record.
importing: what a dotted name stands for.
batches: records of a bucket, decoded a batch at a time.
pooling: several rows of a key become one.
extracting: the above put to work on the files of an output.

Here: the registry. Only what a recipe names is imported, so that a recipe without images needs
no image library. None imports Beam.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.options.entry_points import dotted_name
from schemas.problems import nearest
from schemas.recipe import Modality, VideoModality
from transforms.extractors.base import Context, Extractor
from transforms.extractors.importing import find
from transforms.extractors.video.frames import OnFrames

BUILTIN = {
    ("image", "hog"): "transforms.extractors.image.hog.Hog",
    ("image", "fisher"): "transforms.extractors.image.fisher.Fisher",
    ("image", "sift"): "transforms.extractors.image.sift.Sift",
    ("image", "color"): "transforms.extractors.image.color.Color",
    ("image", "lbp"): "transforms.extractors.image.lbp.Lbp",
    ("image", "pixels"): "transforms.extractors.image.pixels.Pixels",
    ("image", "hu"): "transforms.extractors.image.hu.Hu",
    ("audio", "log_mel"): "transforms.extractors.audio.log_mel.LogMel",
    ("audio", "mfcc"): "transforms.extractors.audio.mfcc.Mfcc",
    ("audio", "spectral"): "transforms.extractors.audio.spectral.Spectral",
    ("audio", "pitch"): "transforms.extractors.audio.pitch.Pitch",
    ("text", "tfidf"): "transforms.extractors.text.tfidf.Tfidf",
    ("text", "tfidf_characters"): "transforms.extractors.text.tfidf.TfidfCharacters",
    ("text", "statistics"): "transforms.extractors.text.statistics.TextStatistics",
    ("table", "columns"): "transforms.extractors.table.columns.Columns",
    ("vector", "vector"): "transforms.extractors.vector.vector.Vector",
    ("series", "statistics"): "transforms.extractors.series.statistics.Statistics",
    ("series", "resampled"): "transforms.extractors.series.resampled.Resampled",
    ("series", "bands"): "transforms.extractors.series.bands.Bands",
    ("image", "onnx"): "transforms.extractors.model.onnx.OnnxOfImages",
    ("audio", "onnx"): "transforms.extractors.model.onnx.OnnxOfAudio",
    ("text", "onnx"): "transforms.extractors.model.onnx.OnnxOfTexts",
    ("table", "onnx"): "transforms.extractors.model.onnx.OnnxOfTables",
    ("vector", "onnx"): "transforms.extractors.model.onnx.OnnxOfVectors",
    ("image", "handler"): "transforms.extractors.model.handler.HandlerOfImages",
    ("audio", "handler"): "transforms.extractors.model.handler.HandlerOfAudio",
    ("text", "handler"): "transforms.extractors.model.handler.HandlerOfTexts",
    ("table", "handler"): "transforms.extractors.model.handler.HandlerOfTables",
    ("vector", "handler"): "transforms.extractors.model.handler.HandlerOfVectors",
}
"""Dotted name of each built-in extractor, by kind of record that it reads and name in a recipe."""

READS = {"video": ("video", "image")}
"""Kinds of extractors that read a kind of modality besides those of the same kind."""


def build(modality: Modality, context: Context) -> list[Extractor]:
    """The extractors that a modality names, in the order of `modality.extract.named()`.

    Args:
        modality: of a recipe.
        context: what they may know of the modality; each gets it as its `context`.

    Raises:
        ValueError: an extractor cannot be found or imported, is not for this kind of modality,
            or does not take its options.
    """
    return [_build(name, options, modality, context) for name, options in modality.extract.named()]


def identity(extractor: Extractor) -> dict[str, Any]:
    """What the numbers depend on besides options and data, JSON-ready, for fingerprints.

    The class and its version; of a class that is not built in also its file's hash, so that a
    change of the file counts even where its author forgot to raise the version; and the same of
    what else it uses.

    Raises:
        ValueError: a class has no file, such as one typed at a prompt.
    """
    found = _identity(type(extractor))
    uses = [_identity(one) for one in extractor.uses()]
    return found | ({"uses": uses} if uses else {})


def _identity(code: Callable) -> dict[str, Any]:
    name = f"{code.__module__}.{code.__qualname__}"
    found: dict[str, Any] = {"class": name}
    if isinstance(code, type) and issubclass(code, Extractor):
        found["version"] = code.version
    if not name.startswith(f"{__name__}."):
        try:
            file = inspect.getfile(code)
        except (TypeError, OSError) as error:
            raise ValueError(
                f"{name} is not in a file, so a change of it could not be noticed: "
                "put it into a module"
            ) from error
        found["sha256"] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return found


def feature_names(
    extractors: Sequence[tuple[str, Extractor]],
) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """Names of all dimensions of a modality, and which of them are whose.

    This is where an extractor's name in the recipe is put before the names of its dimensions.

    Args:
        extractors: (name in the recipe, extractor), in order; fitted ones after `load`.

    Returns:
        Names such as `columns.age`, and name of extractor -> (start, stop).
    """
    names: list[str] = []
    slices: dict[str, tuple[int, int]] = {}
    for name, extractor in extractors:
        own = extractor.names()
        slices[name] = (len(names), len(names) + len(own))
        names += [f"{name}.{one}" for one in own]
    return names, slices


def _build(name: str, options: dict[str, Any], modality: Modality, context: Context) -> Extractor:
    kinds = READS.get(modality.kind, (modality.kind,))
    known = next((BUILTIN[k, name] for k in kinds if (k, name) in BUILTIN), None)
    cls = _class(known or dotted_name(name))
    kind = getattr(cls, "kind", None)
    if kind not in kinds:
        reads = f"reads {kind!r}" if kind else "does not say its `kind`"
        raise ValueError(f"{name} {reads}, but the modality's kind is {modality.kind!r}")
    _check_names(name, cls, options)
    try:
        extractor = cls(**options)
    except ValidationError as error:
        told = [
            ": ".join(
                filter(
                    None, [".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")]
                )
            )
            for one in error.errors(include_url=False)
        ]
        raise ValueError(f"{name}: {'; '.join(told)}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error
    extractor.context = context
    if isinstance(modality, VideoModality) and kind == "image":
        return OnFrames(extractor, modality.pool)
    return extractor


def _check_names(name: str, cls: type[Extractor], options: dict[str, Any]) -> None:
    """Options must be parameters of a class that names these; others look for themselves."""
    parameters = inspect.signature(cls).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return
    for option in options:
        if option not in parameters:
            near, known = nearest(option, parameters), ", ".join(parameters) or "none"
            raise ValueError(f"{name}: unknown option {option!r}{near or ';'} known are: {known}")


def _class(dotted: str) -> type[Extractor]:
    found = find(dotted)
    if not (isinstance(found, type) and issubclass(found, Extractor)):
        base = f"{Extractor.__module__}.{Extractor.__qualname__}"
        raise ValueError(f"{dotted} is not a subclass of {base}")
    return found
