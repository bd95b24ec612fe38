"""What every recipe model builds on: strict options, errors of fields, extractors by name."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

from schemas.options.entry_points import GROUP, announced

DOTTED = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+$"


class FieldError(ValueError):
    """An error of one field, found by a model that holds it.

    Args:
        field: names and positions from that model down to the field.
        message: what is wrong, for a person.
    """

    def __init__(self, field: tuple[str | int, ...], message: str) -> None:
        self.field = field
        super().__init__(message)


class UnknownName(FieldError):
    """A name that is none of the known ones; the loader adds the nearest right one."""

    def __init__(self, name: str, known: list[str], field: tuple[str | int, ...] = ()) -> None:
        self.name, self.known = name, known
        super().__init__(field, f"unknown name {name!r}; known are: {', '.join(known)}")


class Options(BaseModel):
    """Base of every recipe model: unknown fields are errors, values cannot change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        ser_json_inf_nan="constants",
        defer_build=True,  # of models that others hold, only these are needed
    )

    @model_validator(mode="before")
    @classmethod
    def _true_is_not_one(cls, value: Any) -> Any:
        # Python counts True as the number 1; who writes `pca: true` does not mean one component.
        for name, field in cls.model_fields.items() if isinstance(value, dict) else ():
            if isinstance(value.get(name), bool) and field.annotation not in (bool, str):
                raise FieldError((name,), "must not be true or false")
        return value


def _others_in_json_schema(schema: dict[str, Any], model: type[Extract]) -> None:
    """Allow for extractors that are not built in: any class, and what packages announce now."""

    def options(of: str) -> dict[str, Any]:
        return {"type": ["object", "null"], "description": f"Options of {of}"}

    schema["additionalProperties"] = False
    schema["minProperties"] = 1
    own = "an extractor class of your own, by dotted name"
    schema["patternProperties"] = {DOTTED: options(own)}
    for one in announced():
        schema["properties"].setdefault(one.name, options(f"{one.dotted}, of {one.package}"))


class Extract(Options):
    """Extractors by name.

    A name with a dot is a class of the user's own; one without, that is not built in either, is
    an entry point of an installed package.
    """

    model_config = ConfigDict(extra="allow", frozen=True, json_schema_extra=_others_in_json_schema)
    builtin: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _no_options_means_defaults(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if not value:
            raise ValueError("name at least one extractor, one of: " + ", ".join(cls.builtin))
        return {k: ({} if v is None else v) for k, v in value.items()}

    @model_validator(mode="after")
    def _only_known_names_may_be_added(self) -> Extract:
        for name, options in (self.model_extra or {}).items():
            if not re.match(DOTTED, name):
                self._check_is_announced(name)
            if not isinstance(options, dict):
                raise FieldError((name,), "must be a mapping of options")
        return self

    def _check_is_announced(self, name: str) -> None:
        """Raise an error unless one package announces an extractor of this name."""
        if "." in name:
            raise FieldError((name,), "is not a dotted name of a class")
        found = announced()
        meant = [one for one in found if one.name == name]
        if not meant:
            names = dict.fromkeys([*self.builtin, *(one.name for one in found)])
            raise UnknownName(name, list(names), (name,))
        clash = next((one for one in found if one.name in self.builtin), None)
        if clash is not None:
            raise FieldError(
                (name,),
                f"entry points of {GROUP} cannot be used: {clash.name!r} of the package "
                f"{clash.package!r} has the name of a built-in extractor, which wins; have it "
                "renamed, or write the class that you mean by its dotted name",
            )
        if len(meant) > 1:
            raise FieldError(
                (name,),
                "is announced by several packages: "
                + ", ".join(f"{one.dotted} by {one.package}" for one in meant)
                + "; write the one that you mean by its dotted name",
            )

    @model_serializer(mode="plain")
    def _only_what_is_used(self) -> dict[str, Any]:
        return dict(self.named())

    def named(self) -> list[tuple[str, dict[str, Any]]]:
        """The extractors in order: built-in ones as listed here, then the user's as written.

        Returns (name, options) pairs with every default filled in.
        """
        chosen = [
            (name, getattr(self, name).model_dump(mode="json"))
            for name in self.builtin
            if getattr(self, name) is not None
        ]
        return chosen + list((self.model_extra or {}).items())
