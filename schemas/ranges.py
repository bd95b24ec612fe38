"""A remote file as an open one, read by ranges: no more of it than is wanted, and ahead of use."""

from __future__ import annotations

import io

from schemas import stores

HEAD = 1 << 20
"""Bytes that are read at first: all of most files, and the keys of larger files of features."""
_TAIL = 256 << 10  # read at once of a larger file's end: the footer of most Parquet files
_JUMP = 256 << 10  # bytes of a window after a jump
_AHEAD, _MOST = 8 << 20, 32 << 20  # of one where reading goes on, at first and at most
_PART = 8 << 20  # bytes of a request: of a larger window there are several at once


class RangedFile(io.RawIOBase):
    """A remote file.

    Its head and a window of bytes are kept. Where reading goes on at a window's end, the next has
    8 MB, then twice as much, up to 32 MB, fetched by several requests at once: their latency is
    paid once for all. A jump begins with a small one.

    Raises:
        FileNotFoundError: if there is no such file.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._head = self._parts([0], [HEAD])
        size = None  # less or more than was asked for is all: the store may know no ranges
        if len(self._head) == HEAD:
            size = stores.info(url)["size"]
            if size is None:  # some web servers do not tell
                self._head = stores.read_whole(url)
        self._size = len(self._head) if size is None else size
        self._at = self._start = 0
        self._data, self._window = self._head, _JUMP

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, which costs nothing."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """As many bytes as asked for, fewer only at the end of the file."""
        left = max(0, self._size - self._at)
        n = left if size is None or size < 0 else min(size, left)
        if not n:
            return b""
        start = self._at
        self._at += n
        if start + n <= len(self._head):
            return self._head[start : start + n]
        if not self._start <= start <= start + n <= self._start + len(self._data):
            self._move(start, n)
        return self._data[start - self._start : start - self._start + n]

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer, as `read` does."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _move(self, at: int, n: int) -> None:
        """Let the window begin at a place and hold n bytes."""
        goes_on = self._start <= at <= self._start + len(self._data)
        kept = self._data[at - self._start :] if goes_on else self._head[at:]
        self._window = min(max(2 * self._window, _AHEAD), _MOST) if goes_on else _JUMP
        first = at + len(kept)
        if not kept and at + n == self._size:
            first = max(len(self._head), min(at, self._size - _TAIL))
        stop = min(self._size, max(at + n, first + self._window))
        starts = list(range(first, stop, _PART))
        stops = [min(start + _PART, stop) for start in starts]
        self._start, self._data = first - len(kept), kept + self._parts(starts, stops)
        if len(self._data) != stop - self._start:
            raise OSError(f"{self._url}: has changed while it was read")

    def _parts(self, starts: list[int], stops: list[int]) -> bytes:
        parts = []
        for part in stores.read_ranges([self._url] * len(starts), starts, stops):
            if isinstance(part, OSError):
                raise part
            parts.append(part)
        return b"".join(parts)
