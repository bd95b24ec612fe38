"""One model a process, whoever asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_LOCK = threading.RLock()  # what loads a thing may ask for another one
_HELD: dict[str, Any] = {}


def shared(key: str, load: Callable[[], T]) -> T:
    """What was loaded under a key, or what `load` gives, which is called once a process.

    Args:
        key: names all that the result depends on.
        load: called where nothing is held yet; other threads wait meanwhile.
    """
    with _LOCK:
        if key not in _HELD:
            _HELD[key] = load()
        return _HELD[key]
