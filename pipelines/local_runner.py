"""Beam's FnApiRunner on forked workers, which share a stage's work as they are free.

FnApiRunner deals a stage's elements out in equal numbers before it starts. One that has more to do
then, or whose core is slower, keeps all others waiting at the end of each stage. Here a worker
takes some elements at a time, and fewer towards the end.
"""

from __future__ import annotations

import copy
import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from traceback import walk_stack
from types import FrameType
from typing import Any

from apache_beam.internal import cloudpickle_pickler
from apache_beam.runners.portability.fn_api_runner import FnApiRunner, fn_runner, worker_handlers
from apache_beam.runners.worker import bundle_processor, statesampler
from apache_beam.transforms import userstate
from apache_beam.transforms.environments import Environment
from apache_beam.utils import thread_pool_executor

from pipelines.workers import WorkerDied, WorkerPool

URN = "sensorium:env:forked_worker:v1"
PIECES = 512
"""Pieces that a stage's elements are cut into, where there are as many elements."""

WORTHWHILE = 0.03
"""Seconds of work that are worth a bundle of their own: to hand one out takes milliseconds."""

Piece = dict[str, list[bytes]]
"""Encoded elements by input of the stage."""


class Deal:
    """Pieces that workers take as they are free.

    Each time a worker takes half of its fair share of what is left (guided self-scheduling), so
    that there are few bundles, and the last are small. Pieces that lie beside each other are
    alike, such as buckets of one modality: a share is a sample of all. What is quickly done is
    taken at once.

    References:
        Polychronopoulos and Kuck: Guided self-scheduling: a practical scheduling scheme for
        parallel supercomputers. IEEE Transactions on Computers 36(12), 1987.

    Args:
        pieces: number of pieces.
        workers: number of workers.
    """

    def __init__(self, pieces: int, workers: int) -> None:
        self.workers = workers
        self._left = list(range(pieces))
        self._lock = threading.Lock()

    def take(self, seconds: float | None = None) -> list[int]:
        """The next pieces for a worker, in order, or none.

        Args:
            seconds: that one piece took this worker, if it knows.
        """
        with self._lock:
            left = len(self._left)
            if not left:
                return []
            number = -(-left // (2 * self.workers))
            if seconds is not None:
                quick = WORTHWHILE / max(seconds, 1e-9)
                number = max(number, int(min(left, quick)))
            step = left // number
            taken = self._left[: number * step : step]
            del self._left[: number * step : step]
            return taken

    def stop(self) -> None:
        """Leave the rest undone."""
        with self._lock:
            self._left.clear()


class SharedBundles(fn_runner.ParallelBundleManager):
    """A stage's elements in bundles of some pieces, each for the worker that is free."""

    def process_bundle(
        self,
        inputs: Mapping[str, Any],
        expected_outputs: Any,
        fired_timers: Any,
        expected_output_timers: Any,
        dry_run: bool = False,
    ) -> tuple[Any, list[Any]]:
        """Work the elements of all inputs off.

        Returns:
            The response of one of the bundles, as there are no metrics in it, and their splits.
        """
        handlers = self.bundle_context_manager.worker_handlers
        pieces = _pieces(inputs)
        deal = Deal(len(pieces), len(handlers))

        def bundle(handler: Any, numbers: list[int]) -> tuple[Any, list[Any]]:
            context = copy.copy(self.bundle_context_manager)
            context._worker_handlers = [handler]
            elements = {name: [e for i in numbers for e in pieces[i][name]] for name in inputs}
            return fn_runner.BundleManager(
                context, self._progress_frequency, self._cache_token_generator
            ).process_bundle(
                elements,
                expected_outputs,
                fired_timers if 0 in numbers else {},
                expected_output_timers,
                dry_run,
            )

        def work(handler: Any) -> list[tuple[Any, list[Any]]]:
            done, seconds = [], None
            while numbers := deal.take(seconds):
                start = time.perf_counter()
                try:
                    done.append(bundle(handler, numbers))
                except BaseException:
                    deal.stop()
                    raise
                seconds = (time.perf_counter() - start) / len(numbers)
            return done

        with thread_pool_executor.shared_unbounded_instance() as executor:
            done = list(itertools.chain.from_iterable(executor.map(work, handlers)))
        splits = list(itertools.chain.from_iterable(splits for _, splits in done))
        return done[0][0], splits


def _pieces(inputs: Mapping[str, Any]) -> list[Piece]:
    """Pieces of the elements of a stage; without elements one, as a stage has a bundle still.

    Args:
        inputs: elements by name of the input.
    """
    parts = {name: elements.partition(PIECES) for name, elements in inputs.items()}
    pieces = [{name: parts[name][i] for name in parts} for i in range(PIECES)]
    full = [piece for piece in pieces if any(any(elements) for elements in piece.values())]
    return full or pieces[:1]


class LocalRunner(FnApiRunner):
    """FnApiRunner, but that workers take elements as they are free."""

    def _get_bundle_manager(self, bundle_context_manager: Any) -> Any:
        manager = super()._get_bundle_manager(bundle_context_manager)
        if isinstance(manager, fn_runner.ParallelBundleManager):
            return SharedBundles(
                bundle_context_manager,
                self._progress_frequency,
                cache_token_generator=self.get_cache_token_generator(static=False),
            )
        return manager


@contextmanager
def serving(pool: WorkerPool) -> Iterator[LocalRunner]:
    """Give a runner whose workers come from the pool.

    Yields:
        A runner to be passed to `beam.Pipeline`.

    Raises:
        WorkerDied: from whatever the main thread is doing, when a worker has died.
    """

    class ForkedWorkerEnvironment(Environment):
        def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
            return URN, b""

        @classmethod
        def default(cls) -> ForkedWorkerEnvironment:
            return cls()

    class ForkedWorkerHandler(worker_handlers.GrpcWorkerHandler):
        def __init__(
            self, payload: bytes, state: Any, provision_info: Any, grpc_server: Any
        ) -> None:
            super().__init__(state, provision_info, grpc_server)

        def host_from_worker(self) -> str:
            return "localhost"

        def start_worker(self) -> None:
            pool.start_worker(self.control_address, self.worker_id)

        def stop_worker(self) -> None:
            pass  # a harness leaves when its control stream ends

    def fail(number: int, frame: FrameType | None) -> None:
        if any(inside.f_code.co_filename == logging.__file__ for inside, _ in walk_stack(frame)):
            # Logging would swallow the exception, so the signal comes again a little later.
            threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
            return
        raise WorkerDied(pool.died or "a worker process died")

    worker_handlers.WorkerHandler.register_environment(URN, bytes)(ForkedWorkerHandler)
    signal.signal(signal.SIGUSR1, fail)
    try:
        yield LocalRunner(default_environment=ForkedWorkerEnvironment())
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # one may be under way


def quicken() -> None:
    """Take out what Beam does that no run needs, in this process and in those forked from it.

    It looks for state and timers in all methods of each DoFn six times while a graph is built, and
    again in every worker and stage. It compresses each pickled DoFn as small as can be, there and
    again in every worker. The end of each bundle waits for a thread that samples in which step
    time is spent, and then reports metrics of every step. Together they take tenths of a second
    of a run.
    """
    userstate.get_dofn_specs = no_specs
    cloudpickle_pickler.bz2 = AsItIs
    statesampler.StateSampler = Unsampled
    bundle_processor.BundleProcessor.monitoring_infos = no_metrics


def no_specs(dofn: Any) -> tuple[set[Any], set[Any]]:
    """State and timers of a DoFn of the flow: none has any."""
    return set(), set()


def no_metrics(processor: Any) -> list[Any]:
    """Metrics of a bundle: how far a run is tell its receipts."""
    return []


class AsItIs:
    """In the place of bz2, for what goes no further than to another process here."""

    @staticmethod
    def compress(data: bytes, compresslevel: int = 9) -> bytes:
        """The data themselves."""
        return data

    @staticmethod
    def decompress(data: bytes) -> bytes:
        """The data themselves."""
        return data


class Unsampled(statesampler.StateSampler):
    """Beam's tracker of the step that a worker is in, without a look at how long."""

    def start(self) -> None:
        """Begin a bundle, without a thread beside it."""
        self.tracked_thread = threading.current_thread()
        statesampler.set_current_tracker(self)
        self.started = True

    def stop(self) -> None:
        """End a bundle."""
        statesampler.set_current_tracker(None)
        self.finished = True
