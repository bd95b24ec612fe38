"""Running a plan: which runner, with which options, and what its noise and failures become."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.options import RunnerOptions, quietly
from pipelines.workers import LOOK_EVERY, WorkerDied, WorkerPool
from schemas import storage
from schemas.errors import DataError, StorageError
from schemas.layout import LOGS, Layout
from schemas.plan import Plan

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class RunFailed(Exception):
    """The run failed: the message is the cause in one line."""


def log_path(output: str) -> str:
    """The log file: in the output where that is local, else in the working folder."""
    if storage.is_local(output):
        return os.path.join(output, LOGS[0])
    return os.path.abspath("sensorium.log")


class LogFile(logging.FileHandler):
    """A log file that lacks what cannot be written, as where the disk is full.

    The cause that a run ends with says it, without what logging prints of each record.
    """

    def __init__(self, path: str, mode: str) -> None:
        super().__init__(path, mode=mode, encoding="utf-8")
        self.setFormatter(logging.Formatter(LOG_FORMAT))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Print an error, unless it is of the file."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            super().close()


@contextmanager
def logging_to(path: str) -> Iterator[None]:
    """Send what Beam, its threads and Python's warnings say to a file, not to the terminal."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    root = logging.getLogger()
    handler = LogFile(path, "w")
    before = root.handlers[:], root.level, threading.excepthook
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sensorium").setLevel(logging.INFO)
    logging.captureWarnings(True)

    def in_a_thread(args: threading.ExceptHookArgs) -> None:
        info = (args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
        logging.getLogger("sensorium").warning("in a thread of the runner", exc_info=info)

    threading.excepthook = in_a_thread
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:], threading.excepthook = before[0], before[2]
        root.setLevel(before[1])
        handler.close()


def worker_count(options: RunnerOptions) -> int:
    """Local worker processes: --direct_num_workers, or the cores that this process may use."""
    given = any(arg.startswith("--direct_num_workers") for arg in options.args)
    if given and options.values["direct_num_workers"] > 0:
        return options.values["direct_num_workers"]
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


CLIENTS = ("apache_beam.io.gcp.bigquery", "bson")
"""What Beam imports if it can, for sources and sinks that no run of ours has: clients of Google's
services and of MongoDB, which take long to import."""


@contextmanager
def absent(modules: Iterable[str]) -> Iterator[None]:
    """Let Python say that modules are not installed, but for those that are imported already."""
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def import_for_workers(plan: Plan) -> None:
    """Import what the workers will need, before they are forked."""
    import pyarrow as pa

    with quietly(), absent(CLIENTS):
        import pipelines.flow  # noqa: F401

    pa.set_cpu_count(1)
    if any(m.recipe.kind in ("image", "audio", "video") for m in plan.modalities):
        import cv2

        cv2.setNumThreads(1)
    if plan.fitted is not None:
        import transforms.learning.predicting  # noqa: F401


RunGraph = Callable[[Plan, str], None]
"""(plan, ingest, extract or fuse): runs the flow up to that step and waits for its end.

Raises:
    DataError: if the data do not allow to go on.
    RunFailed: on any other failure, with its cause in one line.
"""


@contextmanager
def runner(
    plan: Plan,
    options: RunnerOptions,
    graphs: int,
    started: Callable[[], None],
    submitted: Callable[[str], None],
) -> Iterator[RunGraph]:
    """What runs a plan's flow.

    Args:
        plan: of the run.
        options: of the runner.
        graphs: how many are going to be run, one after the other. Local workers serve one graph
            each, and all must be forked before the first starts threads.
        started: called once the worker processes are there; threads may be started from then on.
        submitted: called with the id that a remote runner gives to a graph, when it has it.
    """
    if options.runner:
        started()
        remote = list(options.args)
        yield lambda plan, upto: _guarded(lambda: _run(plan, upto, remote, None, None, submitted))
        return
    import_for_workers(plan)
    from pipelines.local_runner import quicken, serving

    quicken()
    count = worker_count(options)
    log = log_path(plan.output)
    gc.freeze()  # else collections in the workers would copy every page they share
    with scratch_folder(plan.output) as scratch:
        pool = WorkerPool(count * graphs, lambda: _prepare_worker(plan, log), log)
        try:
            started()
            args = [a for a in options.args if not a.startswith("--direct_num_workers")]
            args.append(f"--direct_num_workers={count}")

            def run(plan: Plan, upto: str) -> None:
                with serving(pool) as local:
                    try:
                        _guarded(lambda: _run(plan, upto, args, local, scratch, submitted))
                    except RunFailed:
                        # That a connection is broken may be noticed before the worker's end is.
                        time.sleep(2 * LOOK_EVERY)
                        if pool.died is not None:
                            raise WorkerDied(pool.died) from None
                        raise

            yield run
        finally:
            pool.close()  # before the folder goes, in which a worker might be writing


@contextmanager
def scratch_folder(output: str) -> Iterator[str]:
    """A folder that local workers share while they are there: in the output if that is local."""
    if not storage.is_local(output):
        with tempfile.TemporaryDirectory(prefix="sensorium-") as folder:
            yield folder
        return
    folder = storage.local(Layout(output, 1).scratch)
    storage.remove_tree(folder)  # that of a run which was killed
    os.makedirs(folder)
    try:
        yield folder
    finally:
        storage.remove_tree(folder)


def _guarded(work: Callable[[], None]) -> None:
    try:
        work()
    except (DataError, StorageError, WorkerDied, RunFailed, KeyboardInterrupt):
        raise
    except Exception as error:
        logging.getLogger("sensorium").exception("the run failed")
        raise cause_of(error) from error


def _run(
    plan: Plan,
    upto: str,
    args: list[str],
    runner: object | None,
    scratch: str | None,
    submitted: Callable[[str], None],
) -> None:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipelines.flow import build

    class Options(PipelineOptions):
        """Beam asks for the same view of its options at every transform, and parses all anew."""

        def view_as(self, cls: type[Any]) -> Any:
            if cls not in views:
                views[cls] = super().view_as(cls)
            return views[cls]

    views: dict[type[Any], Any] = {}
    pipeline = beam.Pipeline(runner=runner, options=Options(args))
    build(pipeline, plan, upto, scratch)
    gc.enable()
    storage.remove(Layout(plan.output, plan.buckets).begun)
    result = pipeline.run()
    name = job_id(result)
    if name:
        submitted(name)
    if runner is None:
        from pipelines.remote import wait_until_finish

        state = wait_until_finish(result, plan, PipelineOptions(args))
    else:
        state = result.wait_until_finish()
    if state is not None and str(state) != "DONE":
        raise RunFailed(f"the runner ended with state {state}")


def job_id(result: Any) -> str | None:
    """The runner's own id of what was submitted to it, where it has one."""
    found = getattr(result, "_job_id", None)  # portable runners have no public name for it
    if found is None:
        found = getattr(result, "job_id", None)  # Dataflow
        found = found() if callable(found) else found
    return found if isinstance(found, str) else None


_WORKERS_ALONE = {
    "image": ("transforms.extractors.image.decoding",),
    "audio": ("transforms.extractors.audio.decoding", "scipy.sparse"),
    "video": ("transforms.extractors.video.decoding",),
}
"""What workers import that the launcher has no use for, by kind."""


def _prepare_worker(plan: Plan, log: str) -> None:
    """Set up a forked worker: it logs to the file, and nothing to the terminal.

    It has time for imports, as the launcher builds the graph meanwhile.
    """
    gc.enable()
    logging.getLogger().handlers[:] = [LogFile(log, "a")]
    sys.stdout = sys.stderr
    for kind in {modality.recipe.kind for modality in plan.modalities}:
        for module in _WORKERS_ALONE.get(kind, ()):
            with contextlib.suppress(ImportError):  # said where it is used
                importlib.import_module(module)


_DATA_ERROR = re.compile(r"DataError: (.+?)(?: \[while running .*\])?$", re.MULTILINE)
_STORAGE_ERROR = re.compile(r"StorageError: (.+?)(?: \[while running .*\])?$", re.MULTILINE)
_LAST_ERROR = re.compile(r"^([\w.]*(?:Error|Exception|Died|Exit\w*)\b.*)$", re.MULTILINE)
_BY_JOB_SERVER = re.compile(r"^RuntimeError: Pipeline \S+ failed in state \w+: ")
_WRAPPED = re.compile(r"^RuntimeError: (?=[\w.]+(?:Error|Exception): )")  # by Beam, with the step
_WHERE = re.compile(r"\[while running '([^']*)'\]")


def cause_of(error: BaseException) -> Exception:
    """The exception that ended the run, without the runner's wrapping.

    Runners hand on a worker's exception as text: its last error line is the cause.
    """
    text = str(error)
    found = _DATA_ERROR.search(text)
    if found:
        return DataError(found.group(1))
    found = _STORAGE_ERROR.search(text)
    if found:
        return RunFailed(found.group(1))
    lines = _LAST_ERROR.findall(text)
    first = text.strip().partition("\n")[0]
    cause = lines[-1] if lines else f"{type(error).__name__}: {first}".removesuffix(": ")
    cause = _WRAPPED.sub("", _BY_JOB_SERVER.sub("", cause))
    where = _WHERE.search(cause)
    cause = _WHERE.sub("", cause).strip()
    return RunFailed(f"{cause} (in step {where.group(1)!r})" if where else cause)
