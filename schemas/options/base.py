"""What every recipe model builds on: strict options, errors of fields, extractors by name."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

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
        extra="forbid", frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )

    @model_validator(mode="before")
    @classmethod
    def _true_is_not_one(cls, value: Any) -> Any:
        # Python counts True as the number 1; who writes `pca: true` does not mean one component.
        for name, field in cls.model_fields.items() if isinstance(value, dict) else ():
            if isinstance(value.get(name), bool) and field.annotation not in (bool, str):
                raise FieldError((name,), "must not be true or false")
        return value


class Extract(Options):
    """Extractors by name; a name with a dot is a class of the user's own."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        json_schema_extra={
            "additionalProperties": False,
            "minProperties": 1,
            "patternProperties": {
                DOTTED: {
                    "type": ["object", "null"],
                    "description": "Options of an extractor class of your own, by dotted name",
                }
            },
        },
    )
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
    def _only_dotted_names_may_be_added(self) -> Extract:
        for name, options in (self.model_extra or {}).items():
            if not re.match(DOTTED, name):
                if "." in name:
                    raise FieldError((name,), "is not a dotted name of a class")
                raise UnknownName(name, list(self.builtin), (name,))
            if not isinstance(options, dict):
                raise FieldError((name,), "must be a mapping of options")
        return self

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
