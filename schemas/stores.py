"""Clients of remote stores: how they are set up, how they end before a fork, what their errors say.

Every client is fsspec's. Listings are not cached, as other processes write too. A store that is
away for a moment is asked again, up to AWS_MAX_ATTEMPTS times with growing pauses; what is asked
first, before work starts, is asked twice only, so that a wrong address is told in seconds.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from schemas.errors import StorageError

PATIENT, IMPATIENT = 8, 2
"""Attempts of a request: eight take half a minute, a minute at most, unless each hangs."""

DELETED_AT_ONCE = 1000
_S3 = {"s3", "s3a"}
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_CONNECTIONS = 32  # of one process to a store, for many small payloads at once
_PASSED_ON = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
_CLIENTS = {"botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "google", "requests", "urllib3"}


def scheme_of(url: str) -> str:
    """The kind of store that a URL names."""
    return url.split("://", 1)[0]


def client(url: str, attempts: int = PATIENT) -> Any:
    """The fsspec file system of a URL, one a process.

    Raises:
        StorageError: if the store's package is missing; says what to install.
        ValueError: if no such kind of storage is known.
    """
    return _client(scheme_of(url), attempts, os.getpid())


@lru_cache(maxsize=32)
def _client(scheme: str, attempts: int, pid: int) -> Any:
    """A file system of this very process (`pid`): a fork needs its own connections."""
    import fsspec

    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme in _S3:
        asked = int(os.environ.get("AWS_MAX_ATTEMPTS", attempts))
        attempts = asked if attempts == PATIENT else min(asked, attempts)
        options["config_kwargs"] = {
            "retries": {
                "mode": os.environ.get("AWS_RETRY_MODE", "standard"),
                "total_max_attempts": attempts,
            },
            "max_pool_connections": _CONNECTIONS,
            "connect_timeout": 5 if attempts <= IMPATIENT else 10,
            "read_timeout": 5 if attempts <= IMPATIENT else 30,
        }
        # Parts of a large file, 50 MB each, go one after the other: they are held in memory. And
        # a file is read by one request, without asking for its size first.
        options["max_concurrency"] = 1
    try:
        made = fsspec.filesystem(scheme, **options)
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        how = f"pip install 'sensorium[{extra}]'" if extra else "pip install 'fsspec[full]'"
        raise StorageError(f"{scheme}:// needs a package that is not installed: {how}") from error
    except ValueError as error:
        raise ValueError(f"{scheme}:// is no kind of storage that fsspec knows: {error}") from None
    if scheme in _S3:
        # The requests have attempts of their own; these are for answers that break off.
        made.retries = 1 if attempts <= IMPATIENT else 2
    return made


def info(url: str) -> dict[str, Any]:
    """What a store tells of a file: `size` in bytes, and names of its own.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    with told(url):
        found = client(url).info(url)
    if found["type"] == "directory":
        raise FileNotFoundError(f"{url}: there is no such file")
    return found


def read_whole(url: str) -> bytes:
    """A whole file, by one request.

    Raises:
        FileNotFoundError: if there is none.
    """
    with told(url):
        return client(url).cat_file(url)


def deletes_many(url: str) -> bool:
    """Whether a store removes many files by one request, whether they are there or not."""
    return scheme_of(url) in _S3


def read_ranges(
    urls: list[str], start: int | list[int], stop: int | list[int]
) -> list[bytes | OSError]:
    """Parts of several files of one store, at once where its client can; less where a file ends.

    Args:
        urls: the files.
        start: the first byte, of all or of each.
        stop: one past the last.

    Returns:
        The bytes of each, or the error that concerns this file alone.

    Raises:
        StorageError: if the store cannot be used.
    """
    if not urls:
        return []
    with told(urls[0]):
        found = client(urls[0]).cat_ranges(urls, start, stop, on_error="return")
    out: list[bytes | OSError] = []
    for url, got in zip(urls, found, strict=True):
        if isinstance(got, Exception):
            if is_empty_range(got):
                got = b""
            elif not (isinstance(got, OSError) and is_of_one_file(got)):
                with told(url):
                    raise got
        out.append(got)
    return out


def reach(url: str) -> None:
    """Make sure, in a few seconds, that a store answers and lets us in; once a bucket.

    Args:
        url: something that is going to be asked for there, whether it is there or not.

    Raises:
        StorageError: if not; says what to do.
    """
    if _bucket(url) not in _reached:
        with contextlib.suppress(FileNotFoundError), told(url):
            client(url, IMPATIENT).info(url)
        _reached.add(_bucket(url))


_reached: set[str] = set()


def disconnect() -> None:
    """End all clients and their threads, so that this process can fork; new ones come by need."""
    asyn = sys.modules.get("fsspec.asyn")
    if asyn is None or asyn.loop[0] is None:
        return
    _client.cache_clear()
    gc.collect()  # clients close their connections when they are collected
    loop, thread = asyn.loop[0], asyn.iothread[0]
    asyn.loop[0] = asyn.iothread[0] = None
    import asyncio  # late, as local runs need none

    threads = [t.native_id for t in threading.enumerate() if t.name.startswith("asyncio_")]
    threads.append(thread.native_id)

    async def end() -> None:
        await loop.shutdown_default_executor()  # threads that looked up host names

    asyncio.run_coroutine_threadsafe(end(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()
    wait_for_end(threads)


def wait_for_end(threads: list[int | None]) -> None:
    """Wait until the system has ended some threads that Python has joined.

    On its way out a thread tells OpenSSL, under a lock: in a process forked right then nobody
    would ever open it, and the first TLS context would wait for good.
    """
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not sys.platform.startswith("linux"):
            time.sleep(0.1)  # nothing tells; it takes some microseconds
            return
        if not any(os.path.exists(f"/proc/self/task/{thread}") for thread in threads):
            return
        time.sleep(0.001)
    raise StorageError("a store's client has threads that do not end: run again")


@contextlib.contextmanager
def told(url: str) -> Iterator[None]:
    """Turn what a store's client raises into a StorageError of one line that says what to do.

    FileNotFoundError stays what it is, unless it is the bucket that is missing.
    """
    try:
        yield
    except StorageError:
        raise
    except _PASSED_ON as error:
        missing = isinstance(error, FileNotFoundError) and url.rstrip("/") == _bucket(url)
        if _code(error) == "NoSuchBucket" or (missing and scheme_of(url) in _EXTRAS):
            raise StorageError(
                f"{_bucket(url)}: there is no such bucket: create it, or correct the name"
            ) from error
        raise
    except PermissionError as error:
        raise StorageError(_denied(url, error)) from error
    except Exception as error:
        root = type(error).__module__.partition(".")[0]
        if not isinstance(error, OSError) and root not in _CLIENTS:
            raise
        raise StorageError(_said(url, error)) from error


def is_of_one_file(error: Exception) -> bool:
    """Whether an error concerns one file, as opposed to the store or our rights in general."""
    if isinstance(error, PermissionError):
        return _code(error) in ("AccessDenied", "403", "")
    return isinstance(error, _PASSED_ON) and _code(error) != "NoSuchBucket"


def is_empty_range(error: Exception) -> bool:
    """Whether a store has nothing to give from the first byte on: the file is empty."""
    return _code(error) in ("InvalidRange", "416") or getattr(error, "code", None) == 416


def _code(error: BaseException) -> str:
    """The store's own word for what is wrong, if it gave one."""
    response = getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _bucket(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def _denied(url: str, error: BaseException) -> str:
    code = _code(error)
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity", "InvalidToken"):
        return f"{url}: the store does not know these credentials ({code}): correct them"
    if code in ("ExpiredToken", "RequestTimeTooSkewed", "TokenRefreshRequired"):
        return f"{url}: the credentials are no longer good ({code}): renew them and run again"
    return (
        f"{url}: access is denied: the credentials must be right, and must allow to read, write, "
        "delete and list there"
    )


def _said(url: str, error: BaseException) -> str:
    name, text = type(error).__name__, " ".join(str(error).split())
    if name in ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"):
        return (
            f"{url}: no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE"
            if scheme_of(url) in _S3
            else f"{url}: no credentials were found: set GOOGLE_APPLICATION_CREDENTIALS"
        )
    if name == "ProfileNotFound":
        return f"{url}: {text}: correct AWS_PROFILE"
    if "Connect" in name or "Timeout" in name or name in ("HTTPClientError", "ClientOSError"):
        return (
            f"{url}: the store does not answer: {text or name}; check "
            + ("AWS_ENDPOINT_URL and the network" if scheme_of(url) in _S3 else "the network")
            + ", then run again: what is done is kept"
        )
    return f"{url}: the store failed: {text or name} ({name}); run again: what is done is kept"
