"""Files on local disks and object stores, through one small door.

A file appears whole or not at all: locally by a temporary name and a rename, on object stores
by one upload of a finished local file. Temporary names start with a dot and end in `.tmp`, so no
glob for data finds them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import IO, Any

TEMPORARY = ".tmp"


def is_local(path: str) -> bool:
    """Whether a path is on this machine's file system (no URL, or file://)."""
    return "://" not in path or path.startswith("file://")


def local(path: str) -> str:
    """A local path without its file:// scheme."""
    return path.removeprefix("file://")


def join(base: str, *parts: str) -> str:
    """A path below a folder or URL; an absolute last part or a URL stands for itself."""
    for part in parts:
        if "://" in part or part.startswith("/"):
            base = part
        elif is_local(base):
            base = os.path.normpath(os.path.join(local(base), part))
        else:
            base = base.rstrip("/") + "/" + part.removeprefix("./")
    return base


def parent(path: str) -> str:
    """The folder that holds a file."""
    return os.path.dirname(local(path)) if is_local(path) else path.rsplit("/", 1)[0]


@lru_cache(maxsize=32)
def _file_system(scheme: str, pid: int) -> Any:
    """A file system of this very process (`pid`): a fork needs its own connections."""
    import fsspec

    try:
        return fsspec.filesystem(scheme)
    except ImportError as error:
        raise ImportError(
            f"{scheme}:// needs a package that is not installed: {error}. "
            f"Install it, for instance with: pip install {_PACKAGES.get(scheme, 'fsspec[full]')}"
        ) from None
    except ValueError as error:
        raise ValueError(f"{scheme}:// is no kind of storage that fsspec knows: {error}") from None


_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}


def file_system(path: str) -> Any:
    """The fsspec file system of a URL.

    Raises:
        ImportError: if the store's package is missing; says what to install.
        ValueError: if no such kind of storage is known.
    """
    scheme = "file" if is_local(path) else path.split("://", 1)[0]
    return _file_system(scheme, os.getpid())


def exists(path: str) -> bool:
    """Whether there is a file or folder."""
    return os.path.exists(local(path)) if is_local(path) else file_system(path).exists(path)


def size(path: str) -> int | None:
    """A file's size in bytes, or None where there is no file."""
    try:
        if is_local(path):
            return os.stat(local(path)).st_size
        return int(file_system(path).info(path)["size"])
    except FileNotFoundError:
        return None


def read_bytes(path: str) -> bytes:
    """A whole file.

    Raises:
        FileNotFoundError: if there is none.
    """
    if is_local(path):
        with open(local(path), "rb") as file:
            return file.read()
    return file_system(path).cat_file(path)


def read_many(paths: list[str]) -> list[bytes | OSError]:
    """Several whole files, at once where the store can; an error stands in its file's place."""
    if not paths:
        return []
    if all(is_local(path) for path in paths):
        return [_read_or_error(path) for path in paths]
    out: list[bytes | OSError] = []
    for path in paths if not _same_store(paths) else ():
        out.append(_read_or_error(path))
    if not out:
        fs = file_system(paths[0])
        stripped = [fs._strip_protocol(path) for path in paths]
        found = fs.cat(list(dict.fromkeys(stripped)), on_error="return")
        if isinstance(found, bytes):  # a single path is not put into a dict
            return [found] * len(paths)
        for path in stripped:
            got = found[path]
            if isinstance(got, Exception) and not isinstance(got, OSError):
                raise got
            out.append(got)
    return out


def _same_store(paths: list[str]) -> bool:
    return len({path.split("://", 1)[0] for path in paths}) == 1


def _read_or_error(path: str) -> bytes | OSError:
    try:
        return read_bytes(path)
    except OSError as error:
        return error


@contextlib.contextmanager
def writing(path: str) -> Iterator[IO[bytes]]:
    """Write a file that appears whole when the block ends well, and not at all when it fails."""
    if is_local(path):
        path = local(path)
        folder, name = os.path.split(path)
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=TEMPORARY, dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            os.chmod(temporary, 0o666 & ~_UMASK)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        return
    with tempfile.NamedTemporaryFile(prefix="sensorium-") as file:
        yield file.file
        file.flush()
        file_system(path).put_file(file.name, path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()


def write_bytes(path: str, data: bytes) -> None:
    """Write a whole file, atomically."""
    with writing(path) as file:
        file.write(data)


def remove(path: str) -> None:
    """Remove a file if it is there."""
    with contextlib.suppress(FileNotFoundError):
        if is_local(path):
            os.unlink(local(path))
        else:
            file_system(path).rm_file(path)


def remove_tree(path: str) -> None:
    """Remove a folder and all it holds, if it is there."""
    if is_local(path):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(local(path))
    elif file_system(path).exists(path):
        file_system(path).rm(path, recursive=True)


def names_in(folder: str, prefixes: Iterable[str] = ("",)) -> Iterator[str]:
    """Names of the files right in a folder, in any order; nothing where there is no folder.

    A folder may hold millions: they come as they are listed, and are not kept.

    Args:
        folder: path or URL.
        prefixes: on an object store, the names are asked for one prefix after the other, so that
            no more than those of one are in memory.
    """
    if is_local(folder):
        with contextlib.suppress(FileNotFoundError), os.scandir(local(folder)) as entries:
            for entry in entries:
                yield entry.name
        return
    fs = file_system(folder)
    root = fs._strip_protocol(folder).rstrip("/") + "/"
    for prefix in prefixes:
        with contextlib.suppress(FileNotFoundError):
            for path in fs.find(root, prefix=prefix):
                name = path.removeprefix(root)
                if name.startswith(prefix) and "/" not in name:
                    yield name


def temporary_below(path: str) -> Iterator[str]:
    """Temporary files that a killed process left in a folder or its sub-folders, and nobody else.

    Only local writing makes any; nothing is kept of the other names.
    """
    folders = [local(path)] if is_local(path) else []
    while folders:
        with contextlib.suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name.startswith(".") and entry.name.endswith(TEMPORARY):
                    yield entry.path


def files_below(path: str) -> list[str]:
    """Files in a folder and its sub-folders, relative to it, sorted; temporary ones included."""
    if is_local(path):
        root = local(path)
        found = [
            os.path.relpath(os.path.join(folder, name), root)
            for folder, _, names in os.walk(root)
            for name in names
        ]
    else:
        fs = file_system(path)
        root = fs._strip_protocol(path).rstrip("/") + "/"
        found = [name.removeprefix(root) for name in fs.find(path)]
    return sorted(found)
