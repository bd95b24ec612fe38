"""Extractors of other packages, which they announce as entry points of a group."""

from __future__ import annotations

import functools
import re
import sys
from dataclasses import dataclass

GROUP = "sensorium.extractors"


@dataclass(frozen=True)
class Announced:
    """A class that a package announces.

    Attributes:
        name: in a recipe.
        dotted: of the class.
        package: the distribution that announces it.
    """

    name: str
    dotted: str
    package: str


def announced() -> list[Announced]:
    """All that is announced by the packages on the path, by name and package.

    This looks at every installed package, so it is for names that are known from nowhere else.
    """
    return _announced(tuple(sys.path))


def dotted_name(name: str) -> str:
    """The class of an extractor that is not built in: as it is written, or as it is announced.

    Raises:
        ValueError: nothing of that name is announced here, or not a class of a module.
    """
    if "." in name:
        return name
    for one in announced():
        if one.name == name and "." in one.dotted:
            return one.dotted
        if one.name == name:
            raise ValueError(
                f"{name}: the package {one.package!r} announces {one.dotted!r} in {GROUP}, which "
                "must be module:Class"
            )
    raise ValueError(f"{name}: no package that is installed here announces it in {GROUP}")


@functools.lru_cache(maxsize=8)
def _announced(path: tuple[str, ...]) -> list[Announced]:
    from importlib.metadata import entry_points  # takes a while, and few recipes need it

    found = [
        Announced(
            one.name,
            re.sub(r"\s|\[.*", "", one.value).replace(":", "."),
            one.dist.name if one.dist else "?",
        )
        for one in entry_points(group=GROUP)
    ]
    return sorted(found, key=lambda one: (one.name, str(one.package)))
