"""Submitting: a launcher of its own session goes on when the terminal is closed."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from rich.console import Console

from pipelines.jobs import Job, read_job
from schemas import storage
from schemas.errors import DataError
from schemas.layout import LOGS

TAKES_OVER = 60.0  # seconds for the launcher to start: imports, and the plan anew
RUNNER_TAKES_OVER = 30.0  # seconds for the runner to name its job, before we leave it to `status`


def start_launcher(arguments: list[str], output: str, job: str) -> tuple[subprocess.Popen, str]:
    """Start `sensorium run` so that it lives on when this process and its terminal end.

    Args:
        arguments: of the command line, from the command's name on.
        output: of the run.
        job: id for it.

    Returns:
        The process, and the file that it writes to what it would say on a terminal.
    """
    if storage.is_local(output):
        os.makedirs(output, exist_ok=True)
        log = os.path.join(output, LOGS[1])
    else:
        log = os.path.abspath(f"{job}.log")
    # Modules of the user's own are found as they are from here.
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from pipelines.cli import main; main()", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path},
        )
    return process, log


def wait_for(process: subprocess.Popen, log: str, output: str, job: str) -> Job:
    """Wait until the launcher has taken over.

    Returns:
        The job as it was seen first.

    Raises:
        DataError: if it ended before, or does not start.
    """
    until = time.monotonic() + TAKES_OVER
    while time.monotonic() < until:
        ended = process.poll() is not None  # asked first: it may write and end in between
        found = read_job(output)
        if found is not None and found.id == job:
            return found
        if ended:
            raise DataError(f"the launcher ended at once: {_last_line(log)} (all is in {log})")
        time.sleep(0.1)
    process.kill()
    raise DataError(f"the launcher did not start within {TAKES_OVER:g} s; see {log}")


def say_submitted(job: Job, output: str, remote: bool, out: Console, err: Console) -> None:
    """Print the job's id, how to look at it, and the runner's own id once that is known."""
    out.print(job.id)
    err.print(f"launcher: process {job.pid} on {job.host}, which this terminal may leave")
    err.print(f"look at it:  sensorium status {output}")
    until = time.monotonic() + (RUNNER_TAKES_OVER if remote else 0)
    while time.monotonic() < until:
        found = read_job(output)
        if found is None or found.id != job.id or found.state != "running" or not found.alive:
            return  # ended already: `status` tells how
        if found.runner_jobs:
            err.print(f"{found.runner}'s own id:  {found.runner_jobs[0]}")
            return
        time.sleep(0.2)
    if remote:
        err.print(f"{job.runner} has not named its job yet")


def _last_line(log: str) -> str:
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    return lines[-1].removeprefix("failed: ") if lines else "it said nothing"
