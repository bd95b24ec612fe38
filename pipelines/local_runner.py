"""Beam's FnApiRunner on forked workers, which share a stage's work as they are free.

FnApiRunner deals a stage's elements out in equal numbers before it starts. One that has more to do
then, or whose core is slower, keeps all others waiting at the end of each stage. Here a worker
takes some elements at a time, and fewer towards the end.
"""

from __future__ import annotations

import copy
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import FunctionType, MethodType
from typing import Any

from apache_beam.metrics import monitoring_infos
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner, fn_runner, worker_handlers
from apache_beam.runners.worker import statesampler
from apache_beam.transforms import core
from apache_beam.transforms.environments import Environment
from apache_beam.utils import thread_pool_executor

from pipelines.workers import WorkerDied, WorkerPool

URN = "sensorium:env:forked_worker:v1"
PIECES = 16
"""Pieces a worker that a stage's elements are cut into, where there are as many elements."""

WORTHWHILE = 0.03
"""Seconds of work that are worth a bundle of their own: to hand one out takes milliseconds."""

Piece = dict[str, list[bytes]]
"""Encoded elements by input of the stage."""

Signature = tuple[list[str], list[Any]]
"""Names of a function's arguments, and the values of those that have a default."""


class Deal:
    """Pieces that workers take as they are free.

    Each time a worker takes half of its fair share of what is left (guided self-scheduling), so
    that there are few bundles, and the last are small. What is quickly done is taken at once.

    References:
        Polychronopoulos and Kuck: Guided self-scheduling: a practical scheduling scheme for
        parallel supercomputers. IEEE Transactions on Computers 36(12), 1987.

    Args:
        pieces: number of pieces.
        workers: number of workers.
    """

    def __init__(self, pieces: int, workers: int) -> None:
        self.pieces, self.workers = pieces, workers
        self.taken = 0
        self._lock = threading.Lock()

    def take(self, seconds: float | None = None) -> range:
        """The next pieces for a worker, or none.

        Args:
            seconds: that one piece took this worker, if it knows.
        """
        with self._lock:
            left = self.pieces - self.taken
            number = -(-left // (2 * self.workers))
            if seconds is not None:
                quick = WORTHWHILE / max(seconds, 1e-9)
                number = max(number, int(min(left, quick)))
            first = self.taken
            self.taken += number
            return range(first, self.taken)

    def stop(self) -> None:
        """Leave the rest undone."""
        with self._lock:
            self.taken = self.pieces


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
            The response of all bundles together, and their splits.
        """
        handlers = self.bundle_context_manager.worker_handlers
        pieces = _pieces(inputs, PIECES * len(handlers))
        deal = Deal(len(pieces), len(handlers))

        def bundle(handler: Any, numbers: range) -> tuple[Any, list[Any]]:
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
        return _merged([response for response, _ in done]), splits


def _pieces(inputs: Mapping[str, Any], most: int) -> list[Piece]:
    """The elements of a stage's inputs in pieces, dealt in turn, so that each is a sample.

    Args:
        inputs: by name.
        most: number of pieces at most; of no elements there is one, as a stage has a bundle still.
    """
    parts = {name: elements.partition(most) for name, elements in inputs.items()}
    pieces = [{name: parts[name][i] for name in parts} for i in range(most)]
    full = [piece for piece in pieces if any(any(elements) for elements in piece.values())]
    return full or pieces[:1]


def _merged(responses: list[Any]) -> Any:
    """One response with the metrics of all."""
    infos = (one.process_bundle.monitoring_infos for one in responses)
    together = monitoring_infos.consolidate(itertools.chain.from_iterable(infos))
    done = beam_fn_api_pb2.ProcessBundleResponse(monitoring_infos=together)
    return beam_fn_api_pb2.InstructionResponse(process_bundle=done)


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

    def fail(*_: Any) -> None:
        raise WorkerDied(pool.died or "a worker process died")

    worker_handlers.WorkerHandler.register_environment(URN, bytes)(ForkedWorkerHandler)
    before = signal.signal(signal.SIGUSR1, fail)
    try:
        yield LocalRunner(default_environment=ForkedWorkerEnvironment())
    finally:
        signal.signal(signal.SIGUSR1, before)


@cache  # done once, as it wraps what is there
def quicken() -> None:
    """Take out two waits of Beam, in this process and in those forked from it.

    It looks at the signatures of all methods of each DoFn six times while a graph is built, and
    again in every worker and stage, though nearly all are the same inherited methods. And the end
    of each bundle waits for a thread that samples where time is spent, which sleeps for up to
    0.2 s at a time. Together they take tenths of a second of a run.
    """
    core.get_function_args_defaults = _remembering(core.get_function_args_defaults)
    statesampler.StateSampler = QuickSampler


class QuickSampler(statesampler.StateSampler):
    """Beam's sampler of the steps that a worker is in, more often: so it is stopped sooner."""

    def __init__(self, prefix: str, counter_factory: Any) -> None:
        super().__init__(prefix, counter_factory, sampling_period_ms=5)


def _remembering(look: Callable[[Any], Signature]) -> Callable[[Any], Signature]:
    """The same, but that a method is looked at once."""

    @cache
    def of_method(function: FunctionType) -> Signature:
        return look(MethodType(function, object()))

    def arguments(f: Any) -> Signature:
        plain = isinstance(f, MethodType) and isinstance(f.__func__, FunctionType)
        names, defaults = of_method(f.__func__) if plain else look(f)
        return list(names), list(defaults)

    return arguments
