"""Planning a prediction: new sources, the fitted artefacts and the model of an output."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from pipelines.planning import Checked, make_plan
from pipelines.resume import learnt_files, read_state
from pipelines.training import chosen_strategy
from schemas import storage
from schemas.layout import Layout
from schemas.loading import load_recipe
from schemas.options.fuse import needs_choice
from schemas.plan import ModalityPlan, SourcePlan
from schemas.problems import Loc, Place, RecipeError, nearest
from schemas.receipts import fingerprint
from schemas.recipe import Recipe, Split
from transforms.extractors.extracting import extract_identity


def plan_prediction(
    trained: str, recipe: Recipe, recipe_path: str, output: str, place: Callable[[Loc], Place]
) -> Checked:
    """Plan to predict the records of a new recipe with what an output has learnt.

    Sources are the new recipe's; how they are joined and fused is the trained one's. A modality
    that the new recipe lacks is missing for every key. Labels are not looked at.

    Args:
        trained: output folder of the run that trained the model.
        recipe: the new one.
        recipe_path: where it was loaded from.
        output: folder for the prediction.
        place: tells where a field of the recipe was written.

    Raises:
        RecipeError: if `trained` holds no trained model, `output` is that folder, or the new
            recipe does not fit to what was trained.
    """
    layout, state = Layout(trained, 1), read_state(trained)
    if state is None or storage.size(layout.model) is None:
        raise RecipeError(
            [f"{trained} holds no trained model: run a recipe with a target there first"]
        )
    if _same_folder(trained, output):
        raise RecipeError(
            [
                f"the output folder {output} holds the model, which predictions would take the "
                "place of: choose another with --to"
            ]
        )
    old = load_recipe(layout.recipe)
    problems = [
        place(("modalities", name)).problem(
            ("modalities", name), f"the model knows no such modality{nearest(name, old.modalities)}"
        )
        for name in recipe.modalities
        if name not in old.modalities
    ]
    if problems:
        raise RecipeError(problems)
    merged = old.model_copy(
        update={
            "name": recipe.name,
            "modalities": {
                n: recipe.modalities[n] for n in old.modalities if n in recipe.modalities
            },
            "fuse": chosen_strategy(trained) if needs_choice(old.fuse) else old.fuse,
            "target": None,
            "split": Split(),
            "max_dead_letters": recipe.max_dead_letters,
        }
    )
    checked = make_plan(merged, recipe_path, output, place)
    plan = checked.plan
    found = [_in_order(m, state.extract[m.name]["columns"]) for m in plan.modalities]
    for modality in found:
        if fingerprint(extract_identity(modality)) != state.extract[modality.name]["identity"]:
            where = ("modalities", modality.name)
            problems.append(
                place(where).problem(
                    where,
                    "its columns or the options of its extraction are not those that the model "
                    f"was trained with; see {layout.recipe}",
                )
            )
    if problems:
        raise RecipeError(problems)

    known = {m.name: m for m in found}
    modalities = tuple(
        known.get(name) or _nothing_of(name, old, state.extract[name]) for name in old.modalities
    )
    fitted = fingerprint(*_learnt(layout, modalities))
    parts = dict(plan.fingerprints)
    for modality in modalities:
        name = modality.name
        parts.setdefault(f"ingest/{name}", fingerprint("no source"))
        own = fingerprint(extract_identity(modality))
        parts[f"extract/{name}"] = fingerprint(own, fitted)
    parts["fuse"] = fingerprint(parts["fuse"], fitted)
    parts["fitted"] = fitted
    for name in old.modalities:
        if name not in known:
            checked.identities[name] = ""
            checked.rows[name] = 0
            checked.notes.append(f"{name}: not in the recipe, so it is missing for every key")
    recipe = merged.model_copy(update={"modalities": old.modalities | merged.modalities})
    whole = replace(plan, recipe=recipe, modalities=modalities, fingerprints=parts, fitted=trained)
    return replace(checked, plan=whole)


def _same_folder(one: str, other: str) -> bool:
    """Whether two folders are the same, whatever links lead there."""
    if storage.is_local(one) and storage.is_local(other):
        return os.path.realpath(one) == os.path.realpath(other)
    return one == other


def _in_order(modality: ModalityPlan, columns: Iterable[str]) -> ModalityPlan:
    """A modality with its columns in the order of the trained one's, in which its features lie."""
    own = modality.source.columns
    if set(own) != set(columns):
        return modality
    source = replace(modality.source, columns={column: own[column] for column in columns})
    return replace(modality, source=source)


def _learnt(layout: Layout, modalities: Iterable[ModalityPlan]) -> Iterator[bytes]:
    """All files that predictions depend on.

    Raises:
        RecipeError: if one is missing.
    """

    def read(path: str) -> bytes:
        try:
            return storage.read_bytes(path)
        except FileNotFoundError:
            raise RecipeError(
                [
                    f"{layout.root} lacks {layout.relative(path)}, which predictions need: run its "
                    "recipe again, which makes it anew"
                ]
            ) from None

    return map(read, learnt_files(layout, modalities, "train"))


def _nothing_of(name: str, old: Recipe, extract: dict) -> ModalityPlan:
    """A modality of which there are no records."""
    source = SourcePlan(
        files=(),
        names=(),
        format="csv",
        key="key",
        uri="uri" if extract["payload"] else None,
        columns=extract["columns"],
    )
    return ModalityPlan(name, old.modalities[name], source, extract["widths"])
