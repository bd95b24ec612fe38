"""Looking at models and other extractors before work starts: are they there, can they work."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace

from pipelines.inspecting import Problems
from schemas import storage
from schemas.plan import ModalityPlan
from schemas.recipe import Modality
from transforms.extractors.extracting import extractors_of


def locate_model(modality: Modality, base: str, sha256: str | None = None) -> Modality:
    """The modality with its model's path made absolute.

    Args:
        modality: of a recipe, with or without a model.
        base: folder that paths are relative to.
        sha256: of the file, if it is to be written down.
    """
    options = getattr(modality.extract, "onnx", None)
    if options is None:
        return modality
    new = {"path": storage.join(base, options.path)} | ({"sha256": sha256} if sha256 else {})
    extract = modality.extract.model_copy(update={"onnx": options.model_copy(update=new)})
    return modality.model_copy(update={"extract": extract})


def with_models(plan: ModalityPlan, base: str, problems: Problems) -> ModalityPlan | None:
    """A modality whose model is known by path and content, so that a change of it is noticed."""
    options = getattr(plan.recipe.extract, "onnx", None)
    if options is None:
        return plan
    where = ("modalities", plan.name, "extract", "onnx")
    path = storage.join(base, options.path)
    try:
        found = hashlib.sha256(storage.read_bytes(path)).hexdigest()
    except FileNotFoundError:
        problems.add(f"there is no file {path}", *where, "path")
        return None
    except (OSError, ValueError, ImportError) as error:
        problems.add(f"{path} cannot be read: {error}", *where, "path")
        return None
    if options.sha256 not in (None, found):
        problems.add(f"the SHA-256 of {path} is {found}", *where, "sha256")
        return None
    return replace(plan, recipe=locate_model(plan.recipe, base, found))


def check_extractors(plan: ModalityPlan, problems: Problems) -> bool:
    """Whether all extractors of a modality can be made and can work."""
    where, before = ("modalities", plan.name, "extract"), len(problems)
    logging.disable(logging.WARNING)  # what handlers import speaks, as Beam does
    try:
        for name, extractor in extractors_of(plan):
            try:
                extractor.check()
            except ValueError as error:
                problems.add(str(error), *where, name)
    except ValueError as error:
        problems.add(str(error), *where)
    finally:
        logging.disable(logging.NOTSET)
    return len(problems) == before
