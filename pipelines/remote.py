"""Waiting for jobs of runners whose workers are other processes or machines.

A runner waits for its first worker for ever: one that was never started, or cannot import what
it needs, is no error to it. Here the first thing that a worker does is to write a sign into the
output, and a launcher that sees none in time cancels the job and says what it has waited for.
"""

from __future__ import annotations

import argparse
import json
import logging
import queue
import threading
import time
import urllib.request
from typing import Any

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
)

from pipelines.jobs import Job
from pipelines.options import MAGIC_FLINK_MASTERS
from pipelines.running import RunFailed, cause_of
from schemas import storage
from schemas.errors import DataError
from schemas.layout import Layout
from schemas.plan import Plan

ANSWER_SECONDS = 30.0  # for a runner that is asked to cancel a job
FLINK_ENDS = {"FINISHED", "CANCELED", "FAILED", "SUSPENDED"}


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


def wait_until_finish(result: Any, plan: Plan, options: PipelineOptions) -> Any:
    """Wait for the end of a job, but not for ever for its first worker.

    Args:
        result: what `Pipeline.run` gave.
        plan: of the run; `Layout.begun` was removed before the job was submitted.
        options: with which it was submitted.

    Returns:
        The state in which the job has ended.

    Raises:
        RunFailed: if no worker has come in time; the job is cancelled. If the job has failed
            before any worker did its first work.
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
    deadline: float | None = time.monotonic() + options.view_as(WaitingOptions).worker_timeout
    try:
        while True:
            try:
                end = ends.get(timeout=pause)
                break
            except queue.Empty:
                if deadline is not None and storage.exists(begun):
                    deadline = None
                if deadline is not None and time.monotonic() > deadline:
                    raise RunFailed(_no_worker(plan, options)) from None
    except (RunFailed, KeyboardInterrupt):
        _cancel(result, options)
        raise
    if not isinstance(end, Exception):
        return end
    cause = cause_of(end)
    if isinstance(cause, DataError) or storage.exists(begun):
        raise end
    raise RunFailed(f"{_no_begin(options)}: {cause}") from end


def _cancel(result: Any, options: PipelineOptions) -> None:
    """Cancel a job, without waiting for ever for a runner that does not answer."""

    def cancel() -> None:
        try:
            result.cancel()
            cancel_on_flink(getattr(result, "_job_id", ""), options)
        except Exception:
            # What ends the run is told to the person; that the job may be there still, to the log.
            logging.getLogger("sensorium").exception("the job was not cancelled")

    thread = threading.Thread(target=cancel, name="cancel", daemon=True)
    thread.start()
    thread.join(2 * ANSWER_SECONDS)


def _no_begin(options: PipelineOptions) -> str:
    how = options.view_as(PortableOptions)
    return (
        "no worker could begin; they are started as --environment_type="
        f"{how.environment_type or 'DOCKER'} --environment_config={how.environment_config} says"
    )


def _no_worker(plan: Plan, options: PipelineOptions) -> str:
    seconds = options.view_as(WaitingOptions).worker_timeout
    return (
        f"no worker has written to {plan.output} within {seconds:g} s: either none was started "
        "(the runner's log says why), or workers do not see that storage. If they only need "
        "longer, add --worker_timeout=SECONDS"
    )


def cancel_left(job: Job | None, options: PipelineOptions) -> None:
    """Cancel what a launcher that was killed has left with a job server.

    Such a job would go on writing to the output, perhaps from another recipe.

    Args:
        job: the last of the output.
        options: of the run that is about to start.

    Raises:
        RunFailed: if there is such a job and it cannot be cancelled from here.
        grpc.RpcError, OSError: if the runner does not answer.
    """
    endpoint = options.view_as(PortableOptions).job_endpoint
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
                if stub.GetState(asked, timeout=ANSWER_SECONDS).state in TERMINAL_STATES:
                    continue
                if job.runner == "FlinkRunner":
                    cancel_on_flink(name, options)
                stub.Cancel(messages.CancelJobRequest(job_id=name), timeout=ANSWER_SECONDS)
                logging.getLogger("sensorium").info("cancelled %s, left by another launcher", name)
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.NOT_FOUND:  # the server was started anew since
                    raise


def cancel_on_flink(job: str, options: PipelineOptions) -> None:
    """Cancel a job by Flink's REST API, and wait until it has ended.

    Cancelled through Beam's job server alone, it would go on: that one only stops waiting.

    Args:
        job: the job server's id, which is the job's name on Flink and some more.
        options: of the run; without a Flink master nothing is done.

    Raises:
        RunFailed: if the runner is Flink, and where it is was not told.
        OSError: if Flink does not answer.
    """
    runner = options.view_as(StandardOptions).runner or ""
    if "flink" not in runner.lower():
        return
    master = options.view_as(FlinkRunnerOptions).flink_master
    if master in MAGIC_FLINK_MASTERS:
        raise RunFailed(
            f"job {job} is still on Flink, where it was left: cancel it in Flink's console, or add "
            "--flink_master=HOST:PORT, so that it can be done from here"
        )
    base = master if master.startswith("http") else f"http://{master}"
    for one in _ask(f"{base}/jobs/overview")["jobs"]:
        if not job.startswith(one["name"]) or one["state"] in FLINK_ENDS:
            continue
        address = f"{base}/jobs/{one['jid']}"
        _ask(f"{address}?mode=cancel", "PATCH")
        end = time.monotonic() + ANSWER_SECONDS
        while _ask(address)["state"] not in FLINK_ENDS:
            if time.monotonic() > end:
                raise RunFailed(f"{address} is being cancelled, but has not ended: try again later")
            time.sleep(0.2)


def _ask(address: str, method: str = "GET") -> Any:
    """What a REST API answers."""
    request = urllib.request.Request(address, method=method)
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        return json.loads(answer.read() or b"null")
