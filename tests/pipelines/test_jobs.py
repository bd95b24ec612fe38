"""Detached runs and how far they are: real launchers that are looked at, killed, and go on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flows import ROOT, hashes, must, sensorium

from pipelines.jobs import Job, check_free, read_job, working
from pipelines.status import status_of
from schemas.errors import DataError
from schemas.problems import RecipeError

WAITING = """\
import os, time
import numpy as np
from transforms.extractors.base import Extractor

class Waits(Extractor):
    kind = 'text'
    def __init__(self, flag): self.flag = flag
    def names(self): return ['length']
    def transform(self, batch):
        while not os.path.exists(self.flag): time.sleep(0.05)
        if open(self.flag).read(): raise RuntimeError('out of luck')
        return np.array([[len(text)] for text in batch.items], np.float32)
"""


def status(output: Path) -> dict[str, Any]:
    return status_of(str(output)).to_json()


def wait_until(true: Callable[[], bool], seconds: float = 200) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.1)


def job_of(output: Path) -> Job:
    found = read_job(str(output))
    assert found is not None
    return found


@pytest.fixture
def waiting(copy: Path) -> Iterator[Path]:
    """The example with an extractor of notes that waits for a file `flag`, and no output."""
    shutil.rmtree(copy / "output")
    (copy / "mine.py").write_text(WAITING)
    text = (copy / "recipe.yaml").read_text()
    start = text.index("    extract:", text.index("  note:"))
    own = f"    extract: {{mine.Waits: {{flag: {copy}/flag}}}}\n"
    (copy / "recipe.yaml").write_text(text[:start] + own + text[text.index("  # What one") :])
    yield copy
    found = read_job(str(copy / "output"))
    if found is not None and found.alive:
        os.kill(found.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_submitted_job_outlives_its_terminal_and_is_looked_at(waiting: Path) -> None:
    output = waiting / "output"
    command = [sys.executable, "-m", "pipelines.cli", "submit", "recipe.yaml", "--to", "output"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{waiting}"}
    terminal = subprocess.Popen(
        [*command, "--direct_num_workers=1"],
        cwd=waiting,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    said, errors = terminal.communicate(timeout=200)
    assert terminal.returncode == 0, errors
    with pytest.raises(ProcessLookupError):  # nothing of it is left in the terminal's session
        os.killpg(terminal.pid, signal.SIGHUP)
    job = job_of(output)
    assert said.strip() == job.id
    assert f"sensorium status {output}" in errors

    wait_until(lambda: status(output)["steps"][0]["done"] == 16)
    done = must("status", output, "--json")
    found = json.loads(done.stdout)
    assert found["state"] == "running"
    steps = {(step["step"], step["modality"]): step for step in found["steps"]}
    assert steps["ingest", "image"] == {**steps["ingest", "image"], "done": 16, "total": 16}
    assert steps["extract", "note"]["done"] == 0
    assert steps["fuse", "fused"]["done"] == 0
    assert found["trained"] is False
    assert found["job"]["upto"] == "train"

    done = sensorium("run", waiting / "recipe.yaml", "--to", output, path=[waiting])
    assert done.returncode == 1
    assert f"job {job.id} is at work on {output} (process {job.pid} on " in done.stderr

    (waiting / "flag").write_text("")
    wait_until(lambda: job_of(output).state == "done")
    found = status(output)
    assert (found["state"], found["trained"]) == ("done", True)
    assert all(step["done"] == step["total"] for step in found["steps"])
    audit = json.loads((output / "report/audit.json").read_text())
    dead = {name: m["dead_letters"] for name, m in audit["modalities"].items()}
    assert found["dead_letters"] == {name: count for name, count in dead.items() if count}
    before = (output / "job.json").read_bytes()
    done = must("submit", waiting / "recipe.yaml", "--to", output, path=[waiting])
    assert "Nothing to do" in done.stderr
    assert (output / "job.json").read_bytes() == before


@pytest.mark.slow
def test_a_launcher_that_was_killed_is_told_from_one_at_work(waiting: Path) -> None:
    output = waiting / "output"
    must("submit", waiting / "recipe.yaml", "--to", output, "--upto", "extract", path=[waiting])
    wait_until(lambda: (output / "receipts/ingest/note").exists())
    os.kill(job_of(output).pid, signal.SIGKILL)
    wait_until(lambda: not job_of(output).alive)
    said = sensorium("status", output)
    assert said.returncode == 1
    assert said.stdout.startswith(f"{output}: lost: the launcher, process ")
    assert "the same command goes on from here" in said.stdout.splitlines()[0]
    must("submit", waiting / "recipe.yaml", "--to", output, "--upto", "extract", path=[waiting])
    os.kill(job_of(output).pid, signal.SIGTERM)
    wait_until(lambda: not job_of(output).alive)
    assert job_of(output).state == "interrupted"
    (waiting / "flag").write_text("fail")
    done = sensorium("extract", waiting / "recipe.yaml", "--to", output, path=[waiting])
    assert done.returncode == 1
    said = sensorium("status", output)
    assert said.returncode == 1
    assert said.stdout.startswith(f"{output}: failed: ")
    assert "out of luck" in said.stdout.splitlines()[0]
    assert "ingest   image" in said.stdout


def test_submit_makes_all_checks_before_it_returns(copy: Path) -> None:
    shutil.rmtree(copy / "output")
    recipe = copy / "recipe.yaml"
    for wrong in ("--set=split.folds=1", "--direct_num_wrokers=2"):
        done = sensorium("submit", recipe, "--to", copy / "output", wrong)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert not (copy / "output").exists()


def test_status_of_what_is_no_output(copy: Path) -> None:
    done = sensorium("status", copy)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{copy}: is no output of a run")
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(RecipeError, match="there is no such folder"):
        status(copy / "no")
    (copy / "output/job.json").write_text("{}")
    with pytest.raises(DataError, match=r"job\.json is not readable"):
        status(copy / "output")


def test_status_without_a_job_is_told_from_the_receipts(copy: Path) -> None:
    (copy / "output/job.json").unlink()
    found = status(copy / "output")
    assert (found["state"], found["job"]) == ("done", None)
    for file in (copy / "output/receipts/extract/sound").glob("bucket-0000*"):
        file.unlink()
    found = status(copy / "output")
    assert found["state"] == "unfinished"
    sound = next(s for s in found["steps"] if (s["step"], s["modality"]) == ("extract", "sound"))
    assert (sound["done"], sound["total"]) == (6, 16)


def test_an_output_that_lacks_files_is_not_done(copy: Path) -> None:
    assert status(copy / "output")["state"] == "done"
    (copy / "output/report/metrics.json").unlink()
    found = status(copy / "output")
    assert (found["state"], found["trained"]) == ("unfinished", False)
    assert "the same command makes them again" in found["cause"]


def test_a_launcher_on_another_machine_is_alive_as_long_as_it_says_so(tmp_path: Path) -> None:
    elsewhere = Job("a-1", host="elsewhere", pid=1)
    (tmp_path / "job.json").write_text(json.dumps(asdict(elsewhere)))
    with pytest.raises(DataError, match=r"process 1 on elsewhere.*if it was killed, wait 1[12]\d"):
        check_free(str(tmp_path))
    late = (datetime.now(UTC) - timedelta(seconds=121)).isoformat(timespec="seconds")
    (tmp_path / "job.json").write_text(json.dumps(asdict(replace(elsewhere, seen=late))))
    check_free(str(tmp_path))
    assert not job_of(tmp_path).alive


def test_a_process_with_the_number_of_a_dead_one_is_not_taken_for_it(tmp_path: Path) -> None:
    mine = Job("a-1")
    assert mine.alive
    if sys.platform.startswith("linux"):
        assert not replace(mine, born="1").alive
    child = subprocess.Popen([sys.executable, "-c", ""])
    job = Job("a-2", pid=child.pid, born=mine.born)
    child.wait()
    assert not job.alive


def test_how_a_job_ends_is_written_down(tmp_path: Path) -> None:
    with working(str(tmp_path), Job("a-1")) as work:
        work.beat()
        work.submitted("runner-7")
        assert job_of(tmp_path).runner_jobs == ["runner-7"]
    assert job_of(tmp_path).state == "done"
    with pytest.raises(DataError), working(str(tmp_path), Job("a-2")):
        raise DataError("too few rows\nand more")
    assert (job_of(tmp_path).state, job_of(tmp_path).cause) == ("failed", "too few rows")
    with pytest.raises(KeyboardInterrupt), working(str(tmp_path), Job("a-3")):
        raise KeyboardInterrupt
    assert job_of(tmp_path).state == "interrupted"


# --- a job server ----------------------------------------------------------------------------


@contextmanager
def started(folder: Path, *command: str) -> Iterator[None]:
    """A process that says in its log when it listens."""
    log = folder / f"{command[0].rpartition('.')[2]}.log"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("wb") as file:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=file, stderr=file, env=environment
        )
    try:
        wait_until(
            lambda: re.search(b"Listening|Started worker pool", log.read_bytes()) is not None
        )
        yield
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


@pytest.mark.slow
def test_a_job_server_takes_a_submitted_job_and_a_finished_one_needs_none(
    finished: Path, tmp_path: Path
) -> None:
    port, workers, output = free_port(), free_port(), tmp_path / "out"
    run = (finished / "recipe.yaml", "--to", output, "--shared", "--runner=PortableRunner")
    run = (*run, f"--job_endpoint=localhost:{port}", "--environment_type=EXTERNAL")
    run = (*run, f"--environment_config=localhost:{workers}")
    beam = "apache_beam.runners"
    with (
        started(tmp_path, f"{beam}.portability.local_job_service_main", "-p", str(port)),
        started(tmp_path, f"{beam}.worker.worker_pool_main", "--service_port", str(workers)),
    ):
        done = must("submit", *run)
        job = job_of(output)
        assert done.stdout.strip() == job.id
        wait_until(lambda: job_of(output).state != "running")
    job = job_of(output)
    assert (job.state, job.cause) == ("done", "")
    assert len(job.runner_jobs) == 1
    assert job.runner_jobs[0] in done.stderr
    assert hashes(output) == hashes(finished / "output")
    done = must("run", *run)  # the server is gone
    assert "Nothing to do" in done.stderr
    assert job_of(output) == job
