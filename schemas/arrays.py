"""Named arrays in files (npz) whose bytes depend on the arrays alone; never pickled objects."""

from __future__ import annotations

import io

import numpy as np

from schemas import storage


def save_arrays(path: str, arrays: dict[str, np.ndarray]) -> int:
    """Write arrays of numbers or text, atomically; returns the file's size in bytes.

    NumPy gives the members of an npz file a fixed date, so equal arrays give equal bytes.
    """
    buffer = io.BytesIO()
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{name!r} holds Python objects: use arrays of numbers or text")
    np.savez(buffer, allow_pickle=False, **arrays)
    storage.write_bytes(path, buffer.getvalue())
    return buffer.tell()


def load_arrays(path: str) -> dict[str, np.ndarray]:
    """Read what `save_arrays` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    with np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def prefixed(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays with `prefix/` before each name."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def below(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names start with `prefix/`, without it."""
    start = prefix + "/"
    return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
