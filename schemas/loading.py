"""A recipe's file: reading it with its overrides, writing it out, and its JSON Schema."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from schemas import storage
from schemas.problems import Loc, Place, RecipeError, dotted, explain, nearest
from schemas.profiles import Profile, Profiles
from schemas.recipe import Recipe

__all__ = [
    "RecipeError",
    "dump_recipe",
    "json_schema",
    "load_profiles",
    "load_recipe",
    "locate_recipe",
]


def load_recipe(path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Values mean what they do in YAML 1.2: `no`, `on` and `1:30` are text, `1e-3` is a number, and
    names of fields and columns are always text.

    Args:
        path: a local file or an fsspec URL.
        overrides: `field=value`, with dots in the field (`split.folds=3`), a number for a
            position in a list, and the value in YAML. Fields that are not there are added; a
            modality only as a whole.

    Raises:
        RecipeError: with all that is wrong, by line and field.
    """
    return locate_recipe(path, overrides)[0]


def locate_recipe(
    path: str, overrides: Sequence[str] = ()
) -> tuple[Recipe, Callable[[Loc], Place]]:
    """`load_recipe`, and a function that tells where a field was written."""
    data, values = _mapping_of(path, "a recipe has at least `name` and `modalities`")
    for override in overrides:
        _override(data, values.places, override)
    try:
        return Recipe.model_validate(data), values.place
    except ValidationError as error:
        raise RecipeError(explain(error, values.place)) from None


def load_profiles(path: str) -> dict[str, Profile]:
    """Read a file of profiles.

    All plain values are text, as they are on a command line: `flink_version: 1.20` is no number.

    Raises:
        RecipeError: with all that is wrong, by line and field.
    """
    data, values = _mapping_of(path, "it has `profiles`, by name", _TextParser)
    try:
        return Profiles.model_validate(data).profiles
    except ValidationError as error:
        raise RecipeError(explain(error, values.place, Profiles)) from None


def dump_recipe(recipe: Recipe) -> str:
    """YAML with every default written out, in the order of the models.

    `load_recipe` makes an equal recipe of it.
    """
    return yaml.dump(
        recipe.model_dump(mode="json"),
        Dumper=_Writer,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=math.inf,
    )


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a recipe, with which an editor completes and checks it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Recipe.model_json_schema(),
    }


# --- the file --------------------------------------------------------------------------------


def _mapping_of(
    path: str, hint: str, parser: type[yaml.SafeLoader] | None = None
) -> tuple[dict[str, Any], _Values]:
    """The mapping that a file holds, and where each value in it is written."""
    values = _Values(lambda mark: Place(mark.line + 1, f"{path}:{mark.line + 1}"))
    root = _compose(_read(path), lambda line, column: f"{path}:{line}:{column}", path, parser)
    data = None if root is None else values.value(root, ())
    if values.problems:
        raise RecipeError(values.problems)
    if data is None or data == "":
        raise RecipeError([f"{path}: is empty; {hint}"])
    if not isinstance(data, dict):
        raise RecipeError(
            [f"{path}:1: must be a mapping (lines such as `name: digits`), not a list or a value"]
        )
    return data, values


def _read(path: str) -> str:
    try:
        storage.reach(path)
        data = storage.read_bytes(path)
    except (FileNotFoundError, IsADirectoryError):
        raise RecipeError([_why_not_there(path)]) from None
    except (OSError, ImportError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError([f"{path}: cannot be read: {reason}"]) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError([f"{path}:{line}: is not UTF-8 text (byte {error.start})"]) from None


def _why_not_there(path: str) -> str:
    if storage.kind(path) == "folder":
        inside = storage.join(path, "recipe.yaml")
        hint = (
            f"; did you mean {inside}?" if storage.exists(inside) else ", which has no recipe.yaml"
        )
        return f"{path}: is a folder{hint}"
    folder, name = storage.parent(path) or ".", path.rsplit("/", 1)[-1]
    try:
        names = storage.listed(folder)
    except (FileNotFoundError, NotADirectoryError):
        return f"{path}: there is no such file, nor a folder {folder}"
    return f"{path}: there is no such file{nearest(name, names)}"


# --- YAML ------------------------------------------------------------------------------------

_TAG = "tag:yaml.org,2002:"
_CORE = {  # YAML 1.2 core schema, without octal and hexadecimal numbers
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": r"<<",
}


class _Parser(yaml.SafeLoader):
    """Composes nodes; PyYAML's own rules for plain values are those of YAML 1.1."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  PyYAML's way to say so


class _TextParser(yaml.SafeLoader):
    """Takes all plain values for text."""

    yaml_implicit_resolvers = {}  # noqa: RUF012


class _Writer(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would take for something else; short lists on a line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> Any:
        # PyYAML's other styles fold line ends of all kinds, and lose some.
        return self.represent_scalar(_TAG + "str", text, None if text.isprintable() else '"')

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        flat = not any(isinstance(one, dict | list) for one in sequence)
        return super().represent_sequence(tag, sequence, flow_style=flat)


_Writer.add_representer(str, _Writer.represent_text)
for _name, _pattern in _CORE.items():
    for _class in (_Parser, _Writer):
        _class.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), None)
_TextParser.add_implicit_resolver(_TAG + "merge", re.compile(r"^<<$"), None)

_HINTS = {
    "mapping values are not allowed here": "; is the line indented rightly, and are values "
    "that hold ': ' in quotes?",
    "but found another document": "; a recipe is one document, so `---` may only start it",
    "found character '\\t' that cannot start any token": "; indent with spaces, not tabs",
}


def _compose(
    text: str,
    where: Callable[[int, int], str],
    name: str,
    parser: type[yaml.SafeLoader] | None = None,
) -> yaml.Node | None:
    """The only document's node, or None if the text is empty.

    Args:
        text: YAML.
        where: names a line and column, from 1, for an error.
        name: names the whole.
        parser: decides what plain values are, by default as in a recipe.
    """
    try:
        return (parser or _Parser)(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        start = name if mark is None else where(mark.line + 1, mark.column + 1)
        what = error.problem or error.context or ""
        raise RecipeError([f"{start}: not valid YAML: {what}{_HINTS.get(what, '')}"]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise RecipeError(
            [f"{where(line, column)}: not valid YAML: the character {hex(error.character)} in it"]
        ) from None
    except RecursionError:
        raise RecipeError([f"{name}: is nested too deeply"]) from None


MOST_VALUES = 100_000
"""Most values of a recipe, each counted as often as an alias repeats it."""


class _Values:
    """Plain values of YAML nodes, and the place of each.

    Args:
        where: the place of a position in the text.
    """

    def __init__(self, where: Callable[[yaml.Mark], Place]) -> None:
        self.where = where
        self.places: dict[Loc, Place] = {}
        self.problems: list[str] = []
        self._open: list[yaml.Node] = []

    def place(self, loc: Loc) -> Place:
        """Where a value is written; of one that is not, where the nearest above it is."""
        while loc not in self.places:
            loc = loc[:-1]
        return self.places[loc]

    def value(self, node: yaml.Node, loc: Loc) -> Any:
        """A node as text, number, truth value, None, list or dict with text as keys."""
        here = self.places.setdefault(loc, self.where(node.start_mark))
        if len(self.places) > MOST_VALUES:  # aliases of aliases make of few lines any number
            raise RecipeError([here.problem(loc, f"is one of more than {MOST_VALUES:,} values")])
        if any(node is one for one in self._open):
            self.problems.append(here.problem(loc, "holds itself, by an alias"))
            return None
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
                return self._mapping(node, loc)
            if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
                return [self.value(one, (*loc, i)) for i, one in enumerate(node.value)]
            return _scalar(node)
        except ValueError as error:
            self.problems.append(here.problem(loc, str(error)))
            return None
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        out: dict[str, Any] = {}
        own: dict[str, int] = {}
        for key, value, merged in _pairs(node, []):
            place = self.where(key.start_mark)
            if not isinstance(key, yaml.ScalarNode) or not key.value:
                self.problems.append(place.problem(loc, "a name before ':' must be text"))
                continue
            name, line = key.value, key.start_mark.line + 1
            here = (*loc, name)
            if name in out and not merged:
                what = f"is given twice, in lines {own[name]} and {line}"
                self.problems.append(place.problem(here, what))
            elif name not in out:
                own[name] = line
                self.places[here] = place
                out[name] = self.value(value, here)
        return out


def _pairs(
    node: yaml.MappingNode, above: list[yaml.Node]
) -> Iterator[tuple[yaml.Node, yaml.Node, bool]]:
    """Keys and values of a mapping, then those merged into it by `<<`, and whether they were."""
    bases: list[yaml.Node] = []
    for key, value in node.value:
        if key.tag == _TAG + "merge":
            bases += value.value if isinstance(value, yaml.SequenceNode) else [value]
        else:
            yield key, value, bool(above)
    for base in bases:
        if not isinstance(base, yaml.MappingNode) or base is node or base in above:
            raise ValueError("<< needs a mapping, such as *name of an anchor &name above")
        yield from ((key, value, True) for key, value, _ in _pairs(base, [*above, node]))


def _scalar(node: yaml.Node) -> Any:
    kind, text = node.tag.removeprefix(_TAG), node.value
    if kind in ("str", "merge"):
        return text
    if kind == "null":
        return None
    if kind == "bool" and re.fullmatch(_CORE["bool"], text):
        return text.lower() == "true"
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
    raise ValueError(f"the tag {node.tag.replace(_TAG, '!!')} is not understood")


# --- overrides -------------------------------------------------------------------------------


def _override(data: dict[str, Any], places: dict[Loc, Place], override: str) -> None:
    """Set one field in place, as `--set field=value` says."""
    field, equals, text = override.partition("=")
    field = field.strip()
    parts = field.split(".")
    if not equals or not all(parts):
        raise RecipeError([f"--set {override}: must be field=value, such as --set split.folds=3"])
    place = Place(2**62, f"--set {field}", field)
    values = _Values(lambda _: place)
    root = _compose(text, lambda _line, _column: place.text, place.text)

    loc: Loc = ()
    inner: Any = data
    while True:
        step, parts = _step(inner, parts, place, loc)
        loc = (*loc, step)
        if not parts:
            break
        if loc[:-1] == ("modalities",) and isinstance(inner, dict) and step not in inner:
            raise RecipeError([place.problem(loc, _no_modality(step, inner))])
        known = inner.get(step) if isinstance(inner, dict) else inner[step]
        if not isinstance(known, dict | list):
            known = inner[step] = {}
            _forget(places, loc)
            places[loc] = place
        inner = known
    _forget(places, loc)
    places[loc] = place
    inner[step] = None if root is None else values.value(root, loc)
    if values.problems:
        raise RecipeError(values.problems)
    places.update(values.places)


def _step(inner: Any, parts: list[str], place: Place, loc: Loc) -> tuple[str | int, list[str]]:
    """The next key or position below a mapping or list, and the parts of the field left."""
    if isinstance(inner, list):
        if not parts[0].isdecimal() or int(parts[0]) >= len(inner):
            raise RecipeError(
                [
                    f"{place.text}: {dotted(loc)} is a list of {len(inner)}: "
                    f"give a position from 0 to {len(inner) - 1}, not {parts[0]!r}"
                ]
            )
        return int(parts[0]), parts[1:]
    for n in range(len(parts), 0, -1):  # a class of the user's own has dots in its name
        if ".".join(parts[:n]) in inner:
            return ".".join(parts[:n]), parts[n:]
    return parts[0], parts[1:]


def _no_modality(name: object, known: dict[str, Any]) -> str:
    """What to say of one whose fields are set: made of these alone, it would lack all others."""
    return "there is no such modality" + (
        nearest(name, known)
        or f"; there are: {', '.join(known) or 'none'}. A new one is set as a whole: "
        f"--set 'modalities.{name}={{kind: ..., source: ...}}'"
    )


def _forget(places: dict[Loc, Place], above: Loc) -> None:
    for loc in [loc for loc in places if loc[: len(above)] == above]:
        del places[loc]
