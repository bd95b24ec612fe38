"""How records become numbers: one module a kind of modality, and how extractors are found.

base: what an extractor is, and the batches that it reads.
image, audio, text, table, vector, series: decoding of that kind of record, and its extractors.
pooling: several rows of a key become one.
extracting: the above put to work on the files of an output.

Here: the registry. Only what a recipe names is imported, so that a recipe without images needs
no image library. None imports Beam.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from schemas.options.entry_points import dotted_name
from schemas.problems import nearest
from schemas.recipe import Modality
from transforms.extractors.base import Context, Extractor

BUILTIN = {
    ("image", "hog"): "transforms.extractors.image.hog.Hog",
    ("image", "color"): "transforms.extractors.image.color.Color",
    ("image", "pixels"): "transforms.extractors.image.pixels.Pixels",
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
}
"""Dotted name of each built-in extractor, by kind of modality and name in a recipe."""


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
    change of the file counts even where its author forgot to raise the version.

    Raises:
        ValueError: the class has no file, such as one typed at a prompt.
    """
    cls = type(extractor)
    found: dict[str, Any] = {
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "version": cls.version,
    }
    if not cls.__module__.startswith(f"{__name__}."):
        try:
            file = inspect.getfile(cls)
        except (TypeError, OSError) as error:
            raise ValueError(
                f"{found['class']} is not in a file, so a change of it could not be noticed: "
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
    cls = _class(BUILTIN.get((modality.kind, name)) or dotted_name(name))
    kind = getattr(cls, "kind", None)
    if kind != modality.kind:
        reads = f"reads {kind!r}" if kind else "does not say its `kind`"
        raise ValueError(f"{name} {reads}, but the modality's kind is {modality.kind!r}")
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
    return extractor


def _class(dotted: str) -> type[Extractor]:
    module_name, _, attribute = dotted.rpartition(".")
    module = _module(dotted, module_name)
    found = getattr(module, attribute, None)
    if found is None:
        near = nearest(attribute, [one for one in vars(module) if not one.startswith("_")])
        raise ValueError(f"{dotted}: module {module_name!r} has no {attribute!r}{near}")
    if not (isinstance(found, type) and issubclass(found, Extractor)):
        base = f"{Extractor.__module__}.{Extractor.__qualname__}"
        raise ValueError(f"{dotted} is not a subclass of {base}")
    return found


def _module(dotted: str, name: str) -> ModuleType:
    """Import a module, part by part, to tell the part that is not there from a broken one."""
    parts = name.split(".")
    module: ModuleType | None = None
    for i in range(len(parts)):
        part = ".".join(parts[: i + 1])
        try:
            module = importlib.import_module(part)
        except ModuleNotFoundError as error:
            if error.name != part:
                raise _failed(dotted, part, error) from error
            if module is None:
                raise ValueError(
                    f"{dotted}: there is no module {part!r}; install it, or put the folder that "
                    "it is in on PYTHONPATH"
                ) from error
            known = [one.name for one in pkgutil.iter_modules(getattr(module, "__path__", []))]
            raise ValueError(
                f"{dotted}: {module.__name__!r} has no module {parts[i]!r}"
                f"{nearest(parts[i], known)}"
            ) from error
        except Exception as error:  # a user's module may raise anything
            raise _failed(dotted, part, error) from error
    assert module is not None, "a dotted name has a part before its last dot"
    return module


def _failed(dotted: str, part: str, error: Exception) -> ValueError:
    return ValueError(f"{dotted}: importing {part!r} failed: {type(error).__name__}: {error}")
