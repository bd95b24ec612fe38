"""Files on local disks and object stores, through one small door.

A file appears whole or not at all: locally by a temporary name and a rename, on object stores
by one PUT of a finished local file, or above 100 MB by an upload in parts that its last request
makes visible. Nothing is renamed there, and no answer of a listing decides what is done. Temporary
names start with a dot and end in `.tmp`, so no glob for data finds them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Literal, TypeVar, cast

from schemas import stores
from schemas.ranges import RangedFile

TEMPORARY = ".tmp"
REQUESTS = 16  # to an object store at a time

Made = TypeVar("Made")


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


def exists(path: str) -> bool:
    """Whether there is a file or folder."""
    return os.path.exists(local(path)) if is_local(path) else kind(path) is not None


def kind(path: str) -> Literal["file", "folder"] | None:
    """What a path stands for; a folder of an object store is what has objects below it."""
    if is_local(path):
        path = local(path)
        return "folder" if os.path.isdir(path) else "file" if os.path.isfile(path) else None
    try:
        with stores.told(path):
            return "folder" if stores.client(path).info(path)["type"] == "directory" else "file"
    except FileNotFoundError:
        return None


def size(path: str) -> int | None:
    """A file's size in bytes, or None where there is no file, or a web server does not tell."""
    try:
        return os.stat(local(path)).st_size if is_local(path) else stores.info(path)["size"]
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
    return stores.read_whole(path)


def read_many(paths: list[str], most: int) -> list[bytes | OSError]:
    """The first bytes of several files, at once where the store can.

    Args:
        paths: local paths and URLs.
        most: bytes that are read of each.

    Returns:
        The bytes of each file, or the error that concerns it alone.

    Raises:
        StorageError: if a store cannot be used.
    """
    out: list[bytes | OSError] = [b""] * len(paths)
    remote: dict[str, list[int]] = {}
    for i, path in enumerate(paths):
        if is_local(path):
            out[i] = _read_or_error(path, most)
        else:
            remote.setdefault(stores.scheme_of(path), []).append(i)
    for positions in remote.values():
        urls = [paths[i] for i in positions]
        for i, got in zip(positions, stores.read_ranges(urls, 0, most), strict=True):
            out[i] = got
    return out


def side_by_side(work: Callable[[str], Made], paths: Iterable[str]) -> Iterator[Made]:
    """What is made of each file, in their order; of remote ones, `REQUESTS` at a time.

    For work that waits for a store rather than computes, such as reading the end of a file.
    """
    paths = list(paths)
    if all(map(is_local, paths)):
        yield from map(work, paths)
        return
    with requesters() as pool:
        yield from pool.map(work, paths)


@contextlib.contextmanager
def requesters() -> Iterator[ThreadPoolExecutor]:
    """`REQUESTS` threads that wait for stores; at the end they are gone, as a fork needs it."""
    pool = ThreadPoolExecutor(REQUESTS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        stores.wait_for_end([thread.native_id for thread in pool._threads])


def _read_or_error(path: str, most: int) -> bytes | OSError:
    try:
        with open(local(path), "rb") as file:
            return file.read(most)
    except OSError as error:
        return error


@contextlib.contextmanager
def making(path: str) -> Iterator[str]:
    """Give the name of a local file to write, which is whole at `path` when the block ends well.

    When the block fails it is gone, and what was at `path` is still there.
    """
    if is_local(path):
        path = local(path)
        folder, name = os.path.split(path)
        os.makedirs(folder, exist_ok=True)
        # A name of its own, as others may write the same file at the same time, on any machine.
        temporary = os.path.join(folder, f".{name}.{os.urandom(6).hex()}{TEMPORARY}")
        try:
            yield temporary
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        return
    with tempfile.NamedTemporaryFile(prefix="sensorium-") as file:
        yield file.name
        with stores.told(path):
            stores.client(path).put_file(file.name, path)


def write_bytes(path: str, data: bytes) -> None:
    """Write a whole file, atomically."""
    with making(path) as name, open(name, "wb") as file:
        file.write(data)


def remove(path: str) -> None:
    """Remove a file if it is there."""
    with contextlib.suppress(FileNotFoundError):
        if is_local(path):
            os.unlink(local(path))
        else:
            with stores.told(path):
                stores.client(path).rm_file(path)


def remove_tree(path: str) -> None:
    """Remove a folder and all it holds, if it is there.

    Of an object store, what a listing shows: what must not stay is to be named to `remove_all`.
    """
    if is_local(path):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(local(path))
    else:
        remove_all([join(path, name) for name in files_below(path)])


def remove_all(paths: list[str]) -> None:
    """Remove those of the files that are there, of one store; many by one request if it can."""
    for start in range(0, len(paths), stores.DELETED_AT_ONCE):
        some = paths[start : start + stores.DELETED_AT_ONCE]
        if any(map(is_local, some)) or not stores.deletes_many(some[0]):
            for path in some:
                remove(path)
        else:
            with stores.told(some[0]):
                stores.client(some[0]).rm(some)


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
    fs = stores.client(folder)
    root = fs._strip_protocol(folder).rstrip("/") + "/"
    for prefix in prefixes:
        found: list[str] = []
        with contextlib.suppress(FileNotFoundError), stores.told(folder):
            found = fs.find(root, prefix=prefix)
        for path in found:
            name = path.removeprefix(root)
            if name.startswith(prefix) and "/" not in name:
                yield name


def is_temporary(name: str) -> bool:
    """Whether a file of this name is half written, and is to get another name at its end."""
    return name.startswith(".") and name.endswith(TEMPORARY)


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
                elif is_temporary(entry.name):
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
        fs = stores.client(path)
        root = fs._strip_protocol(path).rstrip("/") + "/"
        with stores.told(path):
            found = [name.removeprefix(root) for name in fs.find(path)]
    return sorted(found)


def listed(path: str) -> list[str]:
    """Names in a folder, without those of its sub-folders.

    Raises:
        FileNotFoundError, NotADirectoryError: if there is no such folder.
    """
    if is_local(path):
        return sorted(os.listdir(local(path)))
    with stores.told(path):
        names = stores.client(path).ls(path, detail=False)
    return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in names)


def matching(pattern: str, root: int) -> list[str]:
    """Files that match a glob, as paths or URLs.

    Args:
        pattern: an absolute path or a URL.
        root: length of the part of it that ends before the first folder with a wildcard.
    """
    import fsspec  # it imports much, and few recipes need it

    fs = fsspec.filesystem("file") if is_local(pattern) else stores.client(pattern)
    # Stores strip the scheme from what they find: put back the part before the pattern.
    start = pattern[:root]
    stripped = fs._strip_protocol(start).rstrip("/") + "/"
    with contextlib.nullcontext() if is_local(pattern) else stores.told(pattern):
        found = fs.glob(pattern, detail=True)
    return [
        start + name.removeprefix(stripped)
        for name, info in found.items()
        if info["type"] == "file"
    ]


def reach(path: str) -> None:
    """Make sure that a path's store answers and lets us in; nothing to do for local ones.

    Raises:
        StorageError: if it does not; says what to do.
    """
    if not is_local(path):
        stores.reach(path)


def disconnect() -> None:
    """End the clients of remote stores and their threads, so that this process can fork."""
    stores.disconnect()


def open_file(path: str) -> BinaryIO:
    """Open a file for reading; a remote one is read by ranges, ahead where it is read in order.

    Raises:
        FileNotFoundError: if there is none.
    """
    if is_local(path):
        return open(local(path), "rb")
    return cast(BinaryIO, RangedFile(path))
