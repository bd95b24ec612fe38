"""Jobs: which process is at work on an output, for whoever looks at it from elsewhere.

`OUTPUT/job.json` is written by the launcher when it starts, when the runner takes over, at the
end, and every few seconds between, so that a launcher that was killed can be told from one at
work, from any machine. It has no part in what is done and what is not: that is in the receipts.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from schemas import storage
from schemas.errors import DataError, StorageError
from schemas.layout import Layout
from schemas.problems import RecipeError

BEAT = 15.0  # seconds between two signs of life
LOST = 120.0  # seconds without one after which a launcher on another machine is taken for dead

State = Literal["running", "done", "failed", "interrupted"]


@dataclass
class Job:
    """Content of job.json.

    Attributes:
        id: of the job.
        name: of the recipe.
        upto: the last step that is to be done.
        buckets: number of buckets of each step.
        steps: (step, modality) of what is done bucket by bucket, as its receipts are filed.
        runner: name of the runner; empty: local workers.
        runner_jobs: the runner's own ids of what was submitted to it, in order.
        host, pid, born: the launcher's machine and process, and when the system started it.
        log: where details are, on the launcher's machine.
        started, seen: times in UTC, ISO 8601; `seen` is the last sign of life.
        state: of the job; that of a launcher that was killed stays `running`.
        cause: why it failed.
    """

    id: str
    name: str = ""
    upto: str = ""
    buckets: int = 0
    steps: list[tuple[str, str]] = field(default_factory=list)
    runner: str = ""
    runner_jobs: list[str] = field(default_factory=list)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    born: str = field(default_factory=lambda: _born(os.getpid()))
    log: str = ""
    started: str = field(default_factory=lambda: _now())
    seen: str = field(default_factory=lambda: _now())
    state: State = "running"
    cause: str = ""

    @property
    def alive(self) -> bool:
        """Whether the launcher is at work, as far as can be told from this machine."""
        if self.state != "running":
            return False
        if self.host == socket.gethostname():
            return _born(self.pid) == self.born
        return self.silent < LOST

    @property
    def silent(self) -> float:
        """Seconds since the last sign of life, by this machine's clock."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.seen)).total_seconds()


def new_id(name: str) -> str:
    """A job's id: the recipe's name and some digits."""
    return f"{name}-{secrets.token_hex(4)}"


def read_job(output: str) -> Job | None:
    """The last job of an output, or None.

    Raises:
        DataError: if job.json cannot be read as such.
    """
    path = Layout(output, 1).job
    try:
        data = json.loads(storage.read_bytes(path))
        return Job(**{**data, "steps": [(step, name) for step, name in data["steps"]]})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is not readable ({error}): remove it") from None


def check_free(output: str) -> None:
    """Two launchers on one output would remove each other's files.

    Raises:
        DataError: if another process is at work on the output.
    """
    job = read_job(output)
    if job is not None and job.alive and (job.host, job.pid) != (socket.gethostname(), os.getpid()):
        wait = ""
        if job.host != socket.gethostname():
            wait = f"; if it was killed, wait {LOST - job.silent:.0f} s"
        raise DataError(
            f"job {job.id} is at work on {output} (process {job.pid} on {job.host}): look "
            f"with `sensorium status {output}`, and wait for its end or stop it{wait}"
        )


class Working:
    """The job of this process, kept up to date in job.json.

    Args:
        output: of the job.
        job: as it starts.
    """

    def __init__(self, output: str, job: Job) -> None:
        self.path, self.job = Layout(output, 1).job, job
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._write()

    def beat(self) -> None:
        """Give signs of life from now on, from a thread; to be called once no more forks come."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._beats, name="job", daemon=True)
            self._thread.start()

    def submitted(self, runner_job: str) -> None:
        """The runner has taken over a graph."""
        self.job.runner_jobs.append(runner_job)
        self._write()

    def end(self, state: State, cause: str = "") -> None:
        """The job has ended."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.job.state, self.job.cause = state, cause
        self._write()

    def _beats(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                self._write()
            except (
                OSError,
                StorageError,
            ):  # the next one may get through; the work itself has its own writes
                logging.getLogger("sensorium").warning("job.json was not written", exc_info=True)

    def _write(self) -> None:
        with self._lock:
            self.job.seen = _now()
            storage.write_bytes(self.path, json.dumps(asdict(self.job), indent=1).encode())


@contextmanager
def working(output: str, job: Job) -> Iterator[Working]:
    """Keep job.json while the block runs, and write how it ended.

    `kill` is taken as Ctrl-C, which a detached launcher cannot get: it cancels what a runner does.

    Raises:
        DataError: if another process is at work on the output.
        RecipeError: if the output cannot be written.
    """
    check_free(output)
    try:
        work = Working(output, job)
    except OSError as error:
        raise RecipeError(
            [f"{output} cannot be written ({error.strerror}): choose another folder with --to"]
        ) from None
    try:
        with _termination_interrupts():
            yield work
    except KeyboardInterrupt:
        work.end("interrupted")
        raise
    except BaseException as error:
        # A store that is away is perhaps the very cause, which is told in any case.
        with contextlib.suppress(OSError, StorageError):
            work.end("failed", in_one_line(error))
        raise
    work.end("done")


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only that one may handle signals
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def in_one_line(error: BaseException) -> str:
    """What went wrong, in the first line of its message."""
    first = str(error).strip().partition("\n")[0]
    module = type(error).__module__.partition(".")[0]
    own = module in ("schemas", "transforms", "pipelines")
    return first if own else f"{type(error).__name__}: {first}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _born(pid: int) -> str:
    """When a process of this machine was started, so that its number is not taken for another's.

    Returns:
        As the system tells it; empty if there is no such process, or only its remains.
    """
    try:
        if not sys.platform.startswith("linux"):
            with contextlib.suppress(PermissionError):  # another user's
                os.kill(pid, 0)
            return "there"
        with open(f"/proc/{pid}/stat") as file:
            # After the command in parentheses: the state comes first, and the start 19 later.
            fields = file.read().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        return ""
