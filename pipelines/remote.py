"""Waiting for jobs of runners whose workers are other processes or machines.

A runner waits for its first worker for ever: one that was never started, or cannot import what
it needs, is no error to it. Here the first thing that a worker does is to write a sign into the
output, and a launcher that sees none in time cancels the job and says what it has waited for.
"""

from __future__ import annotations

import argparse
import logging
import queue
import threading
import time
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.jobs import Job
from pipelines.options import RunnerOptions
from pipelines.running import RunFailed
from schemas import storage
from schemas.layout import Layout
from schemas.plan import Plan

ANSWER_SECONDS = 30.0  # for a runner that is asked to cancel a job


class WaitingOptions(PipelineOptions):
    """An option of ours beside Beam's."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--worker_timeout",
            type=float,
            default=600.0,
            help="Seconds to wait for the first worker of a remote runner. Machines that must be "
            "started first, or large images, may need more.",
        )


def wait_until_finish(result: Any, plan: Plan, seconds: float) -> Any:
    """Wait for the end of a job, but not for ever for its first worker.

    Args:
        result: what `Pipeline.run` gave.
        plan: of the run; `Layout.begun` was removed before the job was submitted.
        seconds: how long to wait for the first worker.

    Returns:
        The state in which the job has ended.

    Raises:
        RunFailed: if no worker has come in time; the job is cancelled.
        Exception: whatever the runner raises.
    """
    begun = Layout(plan.output, plan.buckets).begun
    pause = 1.0 if storage.is_local(plan.output) else 5.0
    ends: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def wait() -> None:
        try:
            ends.put(result.wait_until_finish())
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            ends.put(error)

    # In a thread, because a runner cannot be asked to stop waiting.
    threading.Thread(target=wait, name="runner", daemon=True).start()
    deadline: float | None = time.monotonic() + seconds
    try:
        while True:
            try:
                end = ends.get(timeout=pause)
            except queue.Empty:
                if deadline is not None and storage.exists(begun):
                    deadline = None
                if deadline is None or time.monotonic() < deadline:
                    continue
                raise RunFailed(
                    f"no worker has written to {plan.output} within {seconds:g} s: either none "
                    "was started (the runner's log says why), or workers do not see that "
                    "storage. If they only need longer, add --worker_timeout=SECONDS"
                ) from None
            if isinstance(end, Exception):
                raise end
            return end
    except (RunFailed, KeyboardInterrupt):
        _cancel(result)
        raise


def _cancel(result: Any) -> None:
    """Cancel a job, without waiting long for a runner that does not answer."""
    answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def cancel() -> None:
        try:
            result.cancel()
            answers.put(None)
        except Exception as error:  # noqa: BLE001 - handed on
            answers.put(error)

    threading.Thread(target=cancel, name="cancel", daemon=True).start()
    try:
        error = answers.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        error = TimeoutError(f"no answer within {ANSWER_SECONDS:g} s")
    if error is not None:
        # What ends the run is told to the person; that the job may still be there, to the log.
        logging.getLogger("sensorium").warning("the job was not cancelled", exc_info=error)


def cancel_left(job: Job | None, options: RunnerOptions) -> None:
    """Cancel what a launcher that was killed has left with a job server.

    Such a job would go on writing to the output, perhaps from another recipe.

    Args:
        job: the last of the output.
        options: of the run that is about to start.

    Raises:
        grpc.RpcError: if the job server does not answer.
    """
    endpoint = options.values.get("job_endpoint")
    if job is None or job.state != "running" or not endpoint or endpoint == "embed":
        return
    import grpc
    from apache_beam.portability.api import beam_job_api_pb2 as messages
    from apache_beam.portability.api import beam_job_api_pb2_grpc as services
    from apache_beam.runners.portability.portable_runner import TERMINAL_STATES

    with grpc.insecure_channel(endpoint) as channel:
        stub = services.JobServiceStub(channel)
        for name in job.runner_jobs:
            try:
                asked = messages.GetJobStateRequest(job_id=name)
                if stub.GetState(asked, timeout=ANSWER_SECONDS).state not in TERMINAL_STATES:
                    stub.Cancel(messages.CancelJobRequest(job_id=name), timeout=ANSWER_SECONDS)
                    logging.getLogger("sensorium").info("cancelled %s, left by another", name)
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.NOT_FOUND:  # it has been started anew since
                    raise
