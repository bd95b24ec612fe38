"""Opening manifests, and errors that say which file cannot be read, and why."""

from __future__ import annotations

import contextlib
import difflib
import io
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

import pyarrow as pa

from schemas import storage
from schemas.sources import compression_of


def opening(file: str) -> BinaryIO:
    """Open a file on any storage; raises FileNotFoundError of one line."""
    try:
        return storage.open_file(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: there is no such file") from None


def open_file(file: str) -> io.BufferedReader:
    """Open a file on any storage for reading bytes; `.gz` and the like are unpacked."""
    opened = opening(file)
    compression = compression_of(file)
    if compression is not None:
        from fsspec.compression import compr

        opened = compr[compression](opened, mode="rb")
    return io.BufferedReader(cast(io.RawIOBase, opened), 1 << 20)


@contextlib.contextmanager
def readable(file: str, what: str) -> Iterator[None]:
    """Turn what goes wrong in reading a file's content into a ValueError of one line.

    Errors of the machine (no file, no permission, no connection) stay what they are.
    """
    try:
        yield
    except (FileNotFoundError, PermissionError, ConnectionError, TimeoutError):
        raise
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        cause = " ".join(str(error).split())
        raise ValueError(f"{file}: cannot be read as {what}: {cause}") from error


def require(file: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Check that columns are there.

    Raises:
        ValueError: names the file, the first missing column, and the nearest right names.
    """
    there = list(known)
    for name in names:
        if name not in there:
            raise ValueError(f"{file}: there is no column {name!r}; {nearest(name, there)}")


def nearest(name: str, known: list[str]) -> str:
    """The names nearest to a wrong one, or the first few, for a message."""
    lower = {other.lower(): other for other in reversed(known)}
    close = [lower[n] for n in difflib.get_close_matches(name.lower(), list(lower), 3, 0.6)]
    if close:
        return "the nearest: " + ", ".join(map(repr, close))
    if not known:
        return "there is none at all"
    more = f" and {len(known) - 10} more" if len(known) > 10 else ""
    return "there are: " + ", ".join(map(repr, known[:10])) + more
