"""Payloads: where a row's file is, what state it is in, and its bytes, read ahead of decoding."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from itertools import chain, pairwise
from stat import S_ISREG
from typing import NamedTuple

import numpy as np

from schemas import storage
from schemas.plan import SourcePlan
from transforms.extractors.base import BadRecord

READ_AHEAD = 3  # batches under way at once, besides the one being decoded
AHEAD = 64 << 20
"""Bytes of remote payloads in memory: of beginnings, and as many of those that have more."""

FILE_PROBLEMS = frozenset({"missing_file", "unreadable_file", "too_large"})
"""Kinds of dead letters that a change of the payload's file can mend."""

Payload = bytes | BadRecord


def locate(source: SourcePlan, positions: np.ndarray, uris: Sequence[str]) -> list[str]:
    """Absolute paths or URLs of payloads.

    Args:
        source: whose manifests name the payloads.
        positions: int[n], each row's position in `source.files`.
        uris: as the manifests have them; relative ones are relative to their manifest.
    """
    folders = [storage.parent(file) for file in source.files]
    local = [os.path.join(f, "") if storage.is_local(f) else None for f in folders]
    out = []
    for position, uri in zip(positions.tolist(), uris, strict=True):
        # The common case first: this loop runs once a row.
        folder = local[position]
        if folder is None or "://" in uri:
            out.append(storage.join(folders[position], uri))
        else:
            out.append(uri if uri.startswith("/") else folder + uri)
    return out


def examine(paths: Sequence[str], max_bytes: int) -> tuple[list[BadRecord | None], np.ndarray]:
    """State of local payload files, without opening them.

    Objects on remote stores are not asked for one by one: they are taken to be immutable, and a
    missing one shows when it is read.

    Returns:
        What is wrong with each, or None; and int64[n, 2], size in bytes and time of modification
        in ns of each, which change when a file changes.
    """
    wrong: list[BadRecord | None] = []
    state: list[tuple[int, int]] = []
    for path in paths:
        bad, one = None, (0, 0)
        if storage.is_local(path):
            try:
                found = os.stat(storage.local(path))
            except FileNotFoundError:
                bad = _failure(path, FileNotFoundError())
            except OSError as error:
                bad = _failure(path, error)
            except ValueError as error:  # a null character
                bad = BadRecord("missing_file", f"{path!r} is no path: {error}")
            else:
                one = found.st_size, found.st_mtime_ns
                if found.st_size > max_bytes:
                    bad = _too_large(path, found.st_size, max_bytes)
                elif not S_ISREG(found.st_mode):  # a pipe would be waited for for ever
                    bad = BadRecord("unreadable_file", f"{path} is no regular file")
        wrong.append(bad)
        state.append(one)
    return wrong, np.array(state, "<i8").reshape(-1, 2)


def fetch_ahead(batches: list[list[str]], max_bytes: int) -> Iterator[Iterator[Payload]]:
    """The bytes of each file, or why there are none, a batch at a time, read ahead of their use.

    Local files are opened ahead, and the system is told to read those that are not in memory;
    each is read when it is asked for, so that of large files one is in memory at a time.
    What has a latency of its own, such as an object store, is fetched by a pool of threads. (Of
    files that are in memory, threads would wait for each other more than read.) At most
    READ_AHEAD batches are under way besides the one in use, and of remote payloads AHEAD bytes.

    Yields:
        An iterator for each batch, to be used up before the next is asked for.

    Raises:
        StorageError: if a store cannot be used.
    """
    if all(storage.is_local(path) for paths in batches for path in paths):
        return _read_ahead(batches, max_bytes)
    return _fetch_ahead(batches, max_bytes)


class _Large(NamedTuple):
    """A remote payload that has more than the bytes that are read at first."""

    path: str
    size: int


def _fetch_ahead(batches: list[list[str]], max_bytes: int) -> Iterator[Iterator[Payload]]:
    """Fetch the beginnings of all payloads of a batch at once, which of most are all there is.

    The others are fetched whole, several at once, in the order of their use. The next is asked
    for while those that were asked for and are not used up have no more than AHEAD bytes with it;
    one larger than that is alone.
    """
    beginning = max(1, AHEAD // ((READ_AHEAD + 1) * max(map(len, batches))))
    large: deque[_Large] = deque()  # not asked for yet
    asked: deque[Future[list[Payload]]] = deque()
    held = 0

    with storage.requesters() as pool:

        def begun() -> Iterator[list[Payload | _Large]]:
            waiting: deque[Future[list[Payload | _Large]]] = deque()
            for paths in batches:
                waiting.append(pool.submit(_begin, paths, beginning, max_bytes))
                if len(waiting) == READ_AHEAD:
                    yield known(waiting.popleft().result())
            while waiting:
                yield known(waiting.popleft().result())

        def known(batch: list[Payload | _Large]) -> list[Payload | _Large]:
            large.extend(one for one in batch if isinstance(one, _Large))
            batch.reverse()  # to be taken from its end, so that what is used up is not kept
            return batch

        def ask() -> None:
            nonlocal held
            while large and (not asked or held + large[0].size <= AHEAD):
                one = large.popleft()
                held += one.size
                asked.append(pool.submit(_fetch, [one.path], max_bytes))

        def use(batch: list[Payload | _Large]) -> Iterator[Payload]:
            nonlocal held
            while batch:
                one = batch.pop()
                if isinstance(one, _Large):
                    ask()
                    yield asked.popleft().result()[0]
                    held -= one.size
                else:
                    yield one

        # The next batch's large ones are known while one is used: fetching goes on between them.
        for batch, _ in pairwise(chain(begun(), [[]])):
            yield use(batch)


def _begin(paths: list[str], most: int, max_bytes: int) -> list[Payload | _Large]:
    """Payloads of fewer than `most` bytes, and the sizes of the others."""
    most = min(most, max_bytes + 1)
    read = storage.read_many(paths, most)
    out: list[Payload | _Large] = list(_payloads(paths, read, max_bytes))
    more = [i for i, got in enumerate(read) if isinstance(got, bytes) and len(got) == most]
    sizes = storage.side_by_side(storage.size, [paths[i] for i in more])
    for i, size in zip(more, sizes, strict=True):
        if size is None:  # not told
            size = max_bytes
        large = size > max_bytes
        out[i] = _too_large(paths[i], size, max_bytes) if large else _Large(paths[i], size)
    return out


def _fetch(paths: list[str], max_bytes: int) -> list[Payload]:
    return _payloads(paths, storage.read_many(paths, max_bytes + 1), max_bytes)


def _payloads(paths: list[str], read: list[bytes | OSError], max_bytes: int) -> list[Payload]:
    return [
        _failure(path, got) if isinstance(got, OSError) else _bounded(path, got, max_bytes)
        for path, got in zip(paths, read, strict=True)
    ]


def _read_ahead(batches: list[list[str]], max_bytes: int) -> Iterator[Iterator[Payload]]:
    waiting: deque[deque[tuple[str, int | OSError]]] = deque()

    def first() -> Iterator[Payload]:
        while waiting[0]:
            yield _read(*waiting[0].popleft(), max_bytes)

    try:
        for paths in batches:
            batch = deque((path, _open(path)) for path in paths)
            _advise([opened for _, opened in batch if isinstance(opened, int)])
            waiting.append(batch)
            if len(waiting) > READ_AHEAD:
                yield first()
                waiting.popleft()
        while waiting:
            yield first()
            waiting.popleft()
    finally:
        for opened_files in waiting:
            for _, opened in opened_files:
                if isinstance(opened, int):
                    os.close(opened)


def _open(path: str) -> int | OSError:
    try:
        return os.open(storage.local(path), os.O_RDONLY)
    except OSError as error:
        return error


def _advise(files: list[int]) -> None:
    """Tell the system to read files, unless the first of them is in memory already.

    Advice costs as much as a read from memory, so it is only given where it can help.
    """
    if not files or not hasattr(os, "RWF_NOWAIT"):  # only Linux has it
        return
    try:
        os.preadv(files[0], [bytearray(1)], 0, os.RWF_NOWAIT)
    except OSError:  # it would wait for the disk, or this file system cannot tell
        for file in files:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)


def _read(path: str, opened: int | OSError, max_bytes: int) -> Payload:
    if isinstance(opened, OSError):
        return _failure(path, opened)
    try:
        size = os.fstat(opened).st_size
        most = min(size, max_bytes) + 1  # one byte more than is allowed tells that there is more
        data = os.read(opened, most)
        while len(data) not in (size, most) and (more := os.read(opened, most - len(data))):
            data += more
    except OSError as error:
        return _failure(path, error)
    finally:
        os.close(opened)
    return _bounded(path, data, max_bytes)


def _bounded(path: str, data: bytes, max_bytes: int) -> Payload:
    return _too_large(path, len(data), max_bytes) if len(data) > max_bytes else data


def _failure(path: str, error: OSError) -> BadRecord:
    if isinstance(error, FileNotFoundError):
        return BadRecord("missing_file", f"there is no file {path}")
    why = error.strerror or type(error).__name__
    return BadRecord("unreadable_file", f"{path} cannot be read: {why}")


def _too_large(path: str, size: int, max_bytes: int) -> BadRecord:
    # Of a remote file no more is read than it takes to know.
    has = f"has {size} bytes," if storage.is_local(path) else "has"
    return BadRecord("too_large", f"{path} {has} more than max_bytes, which is {max_bytes}")
