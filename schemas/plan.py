"""The plan: a recipe together with what was found where it points.

A plan is a value: it is made once (`pipelines.planning`), travels to the workers, and holds all
that the steps need. Nothing in it depends on the machine or the runner.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from schemas.recipe import TARGET, Format, Modality, Recipe

ColumnType = Literal["text", "number", "category", "time", "boolean", "list"]


@dataclass(frozen=True)
class SourcePlan:
    """A source with its files found and its columns known.

    Attributes:
        files: absolute paths or URLs, sorted; a row's `source` is a position in it.
        names: the same files as people know them, relative to the recipe where possible.
        format: how the files are read.
        key: column of the key; None where the row's number or the file's name is the key.
        key_pattern: for bare files, the regular expression whose first group is the key.
        uri: column with the payload's path or URL, relative to the file that names it; None
            where values are inline. For bare files the file itself is the payload.
        columns: columns to carry, in order, and what they hold:
            text -> string (null allowed), number -> float64 (null: missing),
            category -> string (null: missing), time -> timestamp[us, UTC] (null: missing),
            boolean -> bool (null: missing), list -> list<float64>.
    """

    files: tuple[str, ...]
    names: tuple[str, ...]
    format: Format
    key: str | None
    key_pattern: str | None = None
    uri: str | None = None
    columns: dict[str, ColumnType] = field(default_factory=dict)


@dataclass(frozen=True)
class ModalityPlan:
    """One modality: its recipe, its source, and the widths of list columns."""

    name: str
    recipe: Modality
    source: SourcePlan
    widths: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Everything a run needs.

    Attributes:
        recipe: the recipe with every default filled in.
        output: folder or URL of the output.
        buckets: N, a power of two, from the number of rows alone.
        modalities: in the recipe's order.
        target: the source of labels (and groups), or None.
        fingerprints: of each step and modality, `step/modality` -> hash of the recipe's part
            and of the identity of the inputs; the upstream ones are mixed in.
        fitted: at prediction, the output folder whose fitted artefacts are used; else None.
    """

    recipe: Recipe
    output: str
    buckets: int
    modalities: tuple[ModalityPlan, ...]
    target: SourcePlan | None
    fingerprints: dict[str, str]
    fitted: str | None = None

    def modality(self, name: str) -> ModalityPlan:
        """The modality of that name."""
        return next(m for m in self.modalities if m.name == name)

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of everything that is ingested: the modalities and, last, the target."""
        names = tuple(m.name for m in self.modalities)
        return (*names, TARGET) if self.target is not None else names
