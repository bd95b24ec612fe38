"""Local worker processes for a runner, forked before anything starts a thread.

Beam's own `multi_processing` mode starts each worker as a new interpreter that imports
everything again, one after another. Here the processes are forked from the launcher while it
has no thread yet, so they share what it has imported, and are handed over to the runner when it
asks for them. A worker that dies ends the run: FnApiRunner itself would wait for it for ever.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

from schemas import storage

THREAD_LIMITS = {
    # One thread a worker: the processes are the parallelism, and sums keep their order.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}


LOOK_EVERY = 0.05  # seconds after which the end of a worker is noticed


class WorkerDied(RuntimeError):
    """A worker process ended by itself, for instance killed for want of memory."""


class WorkerPool:
    """Forked processes that wait to be told which runner to serve.

    Create it before any thread is started in this process (gRPC, BLAS, progress bars).

    Args:
        size: number of worker processes.
        prepare: called in each child right after the fork, such as imports and thread limits.
        log: path of a file to which the workers' standard error goes, or None to keep it.
    """

    def __init__(self, size: int, prepare: Callable[[], None], log: str | None = None) -> None:
        storage.disconnect()  # clients of remote stores have threads; they are made anew by need
        others = {t.name for t in threading.enumerate()} - {"MainThread"}
        if others:
            raise RuntimeError(
                f"worker processes must be forked before threads are started: {others}"
            )
        self._free: list[tuple[int, socket.socket]] = []
        self._running: dict[int, str] = {}
        self._ending = threading.Event()
        sys.stdout.flush()
        sys.stderr.flush()
        for _ in range(size):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                ours.close()
                for _, other in self._free:
                    other.close()
                _serve(theirs, prepare, log)
            theirs.close()
            self._free.append((pid, ours))
        self._watch: threading.Thread | None = None
        self.died: str | None = None

    def start_worker(self, control_address: str, worker_id: str) -> None:
        """Hand one waiting process over to the runner that listens at `control_address`."""
        if not self._free:
            raise RuntimeError("the runner asked for more workers than were forked")
        pid, channel = self._free.pop(0)
        channel.sendall(f"{control_address} {worker_id}\n".encode())
        channel.close()
        self._running[pid] = worker_id
        if self._watch is None:
            self._watch = threading.Thread(target=self._wait, name="workers", daemon=True)
            self._watch.start()

    def close(self) -> None:
        """End all processes; those still at work are killed."""
        self._ending.set()
        for pid, channel in self._free:
            channel.close()  # the child reads the end of its input and leaves
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self._free.clear()
        for pid in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._watch is not None:
            self._watch.join()

    def _wait(self) -> None:
        while self._running:
            for pid in list(self._running):
                with contextlib.suppress(ChildProcessError):
                    ended, status = os.waitpid(pid, os.WNOHANG)
                    if not ended:
                        continue
                    code = os.waitstatus_to_exitcode(status)
                    if not self._ending.is_set() and code != 0:
                        how = f"signal {-code}" if code < 0 else f"exit status {code}"
                        self.died = f"a worker process ended with {how}"
                        if code == -signal.SIGKILL:
                            self.died += "; it may have run out of memory"
                        # The main thread waits inside the runner: only a signal wakes it.
                        os.kill(os.getpid(), signal.SIGUSR1)
                self._running.pop(pid, None)
            if self._ending.wait(LOOK_EVERY):
                time.sleep(0.002)  # they have been killed


class Unfailing(io.TextIOBase):
    """Standard error that leaves out what cannot be written, as where the disk is full.

    Beam prints an error before it tells the runner. If that failed, the runner would never hear
    of it, and wait for ever.
    """

    def fileno(self) -> int:
        """That of standard error."""
        return 2

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Write what can be, at once."""
        with contextlib.suppress(OSError):
            os.write(2, text.encode(errors="backslashreplace"))
        return len(text)


def _serve(channel: socket.socket, prepare: Callable[[], None], log: str | None) -> None:
    """Life of a worker process; does not return."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which takes it for that
        if log is not None:
            with open(log, "ab", buffering=0) as file:
                os.dup2(file.fileno(), 2)
            sys.stderr = Unfailing()
        prepare()
        order = channel.makefile().readline()
        if order:
            from apache_beam.runners.worker.sdk_worker import SdkHarness

            control_address, worker_id = order.split()
            SdkHarness(
                control_address,
                worker_id=worker_id,
                state_cache_size=64 << 20,
                data_buffer_time_limit_ms=-1,
            ).run()
        status = 0
    finally:
        # No clean-up of what was inherited from the launcher: that is the launcher's.
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)
