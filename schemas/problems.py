"""What is wrong with a recipe, in plain words: pydantic's errors told by field and place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.options.base import FieldError, UnknownName
from schemas.recipe import NAME, Recipe

Loc = tuple[str | int, ...]
"""Where a value is in a recipe: names of fields and positions in lists, from the top."""


class RecipeError(Exception):
    """A recipe that cannot be used.

    Args:
        problems: all that is wrong, a line each: place, field, what is wrong.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


@dataclass(frozen=True, order=True)
class Place:
    """Where a value was written: a line of the recipe's file, or a `--set`.

    Attributes:
        line: to sort by.
        text: what a problem's line starts with.
        field: what a `--set` sets, which need not be said twice.
    """

    line: int
    text: str
    field: str = ""

    def problem(self, loc: Loc, what: str) -> str:
        """One line for a person."""
        field = dotted(loc)
        return (
            f"{self.text}: {what}" if field in ("", self.field) else f"{self.text}: {field}: {what}"
        )


def dotted(loc: Loc) -> str:
    """`modalities.image.source`."""
    return ".".join(map(str, loc))


def nearest(name: object, known: Iterable[str]) -> str:
    """`; did you mean 'size'?`, or nothing if none of the known names is near."""
    found = difflib.get_close_matches(name, list(known), n=1) if isinstance(name, str) else []
    return f"; did you mean {found[0]!r}?" if found else ""


def counted(n: int, what: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def explain(
    error: ValidationError, place: Callable[[Loc], Place], model: type[BaseModel] = Recipe
) -> list[str]:
    """Problems of a recipe, in the order of their lines, one a field.

    Args:
        error: what pydantic says of the model.
        place: tells where a field was written, or where it should have been.
        model: what was to be read.
    """
    errors = [one for one in error.errors(include_url=False) if not _follows(one)]
    groups = _settle([_find(one, model) for one in errors])
    told = [(place(loc), loc, what) for loc, what in map(_tell, groups)]
    told.sort(key=lambda one: one[0].line)
    return list(dict.fromkeys(where.problem(loc, what) for where, loc, what in told))


def _follows(error: ErrorDetails) -> bool:
    """Whether it is too short only because pydantic does not count the entries that are wrong."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


# --- where: pydantic's location without the names of a union's branches ----------------------


@dataclass(frozen=True)
class _Found:
    """An error, its place in the recipe's own terms, and the unions tried on the way there.

    Attributes:
        unions: location and branch of each union that has no discriminating field.
        holder: the model, list or tuple type that holds the last part of the location.
        types: what the value may be, as far as the model says.
    """

    error: ErrorDetails
    loc: Loc
    unions: tuple[tuple[Loc, str], ...]
    holder: Any
    types: tuple[Any, ...]


def _find(error: ErrorDetails, model: type[BaseModel]) -> _Found:
    types: list[Any] = [model]
    loc: Loc = ()
    unions: list[tuple[Loc, str]] = []
    holder: Any = None
    for part in error["loc"]:
        if part == "[key]":
            continue
        if len(types) > 1:  # pydantic names the branch of a union that it tried
            tagged = [one for one in types if part in _tags(one)]
            if not tagged:
                unions.append((loc, str(part)))
            types = tagged or [one for one in types if _is_branch(one, str(part))]
            continue
        loc = (*loc, part)
        holder = types[0] if types else None
        types = _below(holder, part)
    return _Found(error, loc, tuple(unions), holder, tuple(types))


def _alternatives(annotation: Any) -> list[Any]:
    """The types of a union; None and annotations do not count."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [one for each in get_args(annotation) for one in _alternatives(each)]
    return [] if annotation is NoneType else [annotation]


def _below(holder: Any, part: str | int) -> list[Any]:
    if _is_model(holder):
        field = holder.model_fields.get(part)
        return _alternatives(field.annotation) if field else []
    kinds = get_args(holder)
    if get_origin(holder) is dict:
        return _alternatives(kinds[1])
    if get_origin(holder) in (list, tuple) and isinstance(part, int):
        several = len(kinds) > 1 and kinds[1] is not Ellipsis
        return _alternatives(kinds[min(part, len(kinds) - 1) if several else 0])
    return []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _tags(kind: Any) -> list[Any]:
    fields = kind.model_fields.values() if _is_model(kind) else ()
    literals = [f.annotation for f in fields if get_origin(f.annotation) is Literal]
    return [value for literal in literals for value in get_args(literal)]


def _is_branch(kind: Any, name: str) -> bool:
    if _is_model(kind):
        return re.search(rf"\b{kind.__name__}\b", name) is not None
    origin = get_origin(kind) or kind
    return str(getattr(origin, "__name__", origin)).lower() in name.split("[")[0]


def _settle(found: list[_Found], depth: int = 0) -> list[list[_Found]]:
    """Errors in groups, each to be told in one line.

    Of a union, all branches report an error. If a value has the form of one of them, only what
    that one says counts; if it has no branch's form, all are told together.
    """
    out: list[list[_Found]] = []
    unions: dict[Loc, list[_Found]] = {}
    for one in found:
        if len(one.unions) > depth:
            unions.setdefault(one.unions[depth][0], []).append(one)
        else:
            out.append([one])
    for loc, members in unions.items():
        fits = {
            one.unions[depth][1]
            for one in members
            if len(one.loc) > len(loc) or one.error["type"] not in _WRONG_KIND
        }
        if fits:
            out += _settle([m for m in members if m.unions[depth][1] in fits], depth + 1)
        else:
            out.append(members)
    return out


# --- what: a message in plain words ----------------------------------------------------------

_WRONG_KIND = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "literal_error": "one of",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def _tell(group: list[_Found]) -> tuple[Loc, str]:
    """Location and message of one group of `_settle`."""
    first = group[0]
    kind, value, loc = first.error["type"], first.error["input"], first.loc
    context = first.error.get("ctx", {})
    if kind in _WRONG_KIND:
        return loc, _wrong_kind(group)
    if kind == "extra_forbidden":
        fields = first.holder.model_fields if _is_model(first.holder) else {}
        known = [field.alias or name for name, field in fields.items()]
        return loc, f"unknown field{nearest(loc[-1], known) or ';'} known are: {', '.join(known)}"
    if kind == "missing" and isinstance(loc[-1], int):  # of a list of fixed length
        return loc[:-1], f"must have {len(get_args(first.holder))} values, got {len(value)}"
    if kind == "missing":
        return loc, "is missing"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        field = context["discriminator"].strip("'")
        known = [tag for one in first.types for tag in get_args(one.model_fields[field].annotation)]
        if kind == "union_tag_not_found":
            return (*loc, field), f"is missing; must be one of {', '.join(known)}"
        given = value[field]
        return (*loc, field), f"must be one of {', '.join(known)}, {_got(given)}" + nearest(
            given, known
        )
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return loc, f"must be {words} {context[name]:.12g}, {_got(value)}"
    if kind in ("too_short", "too_long"):
        words, name = (
            ("at least", "min_length") if kind == "too_short" else ("at most", "max_length")
        )
        entries = "entry" if context[name] == 1 else "entries"
        return loc, f"must have {words} {context[name]} {entries}, got {context['actual_length']}"
    if kind == "string_pattern_mismatch":
        return loc, _wrong_pattern(str(value), context["pattern"])
    if kind == "value_error":
        return _own_error(loc, context["error"])
    return loc, first.error["msg"][0].lower() + first.error["msg"][1:]


def _wrong_kind(group: list[_Found]) -> str:
    value = group[0].error["input"]
    choices: list[str] = []
    wanted: list[str] = []
    for one in group:
        kind = one.error["type"]
        if kind == "literal_error":
            literal = next(t for t in one.types if get_origin(t) is Literal)
            values = [str(v) for v in get_args(literal)]
            choices += values
            text = f"one of {', '.join(values)}" if len(values) > 1 else repr(values[0])
        else:
            text = _WRONG_KIND[kind]
            needed = [
                name
                for model in one.types
                if _is_model(model) and len(one.types) == 1
                for name, field in model.model_fields.items()
                if field.is_required()
            ]
            text += f" with {', '.join(needed)}" if needed else ""
        if text not in wanted:
            wanted.append(text)
    what = f"must be {' or '.join(wanted)}, {_got(value)}{nearest(value, choices)}"
    if "text" in wanted and isinstance(value, bool | int | float):
        what += ": put it in quotes"
    return what


def _wrong_pattern(value: str, pattern: str) -> str:
    if pattern == NAME:
        better = re.sub(r"[^a-z0-9_]+", "_", value.lower()).strip("_")
        hint = f"; did you mean {better!r}?" if re.match(pattern, better) else ""
        return f"a name has small letters, digits and _, and starts with a letter{hint}"
    return (
        "must start with a letter or digit, and hold only letters, digits and the characters "
        f"_ . -, {_got(value)}"
    )


def _own_error(loc: Loc, error: ValueError) -> tuple[Loc, str]:
    if isinstance(error, UnknownName):
        near = nearest(error.name, error.known) or ";"
        return (*loc, *error.field), (
            f"unknown name {error.name!r}{near} known are: {', '.join(error.known)}"
        )
    return (*loc, *error.field) if isinstance(error, FieldError) else loc, str(error)


def _got(value: Any) -> str:
    if value is None:
        return "got nothing"
    if isinstance(value, dict):
        return "got a mapping"
    if isinstance(value, list):
        return "got a list"
    if isinstance(value, bool):
        return f"got {str(value).lower()}"
    text = repr(value)
    return f"got {text if len(text) <= 60 else text[:57] + '...'}"
