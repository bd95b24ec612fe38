"""What a dotted name stands for, or why it stands for nothing."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from schemas.problems import nearest


def find(dotted: str) -> Any:
    """The class or function of that name.

    Raises:
        ValueError: a part of the name is not there, or cannot be imported.
    """
    module_name, _, attribute = dotted.rpartition(".")
    module = _module(dotted, module_name)
    found = getattr(module, attribute, None)
    if found is None:
        near = nearest(attribute, [one for one in vars(module) if not one.startswith("_")])
        raise ValueError(f"{dotted}: module {module_name!r} has no {attribute!r}{near}")
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
