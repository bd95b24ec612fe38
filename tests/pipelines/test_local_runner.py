"""The local runner: how a stage's elements come to the workers."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import EmbeddedPythonEnvironment
from flows import ROOT
from hypothesis import given
from hypothesis import strategies as st
from vectors import write_vectors

from pipelines.flow import build
from pipelines.local_runner import Deal, serving
from pipelines.planning import make_plan
from pipelines.workers import WorkerDied
from schemas.loading import locate_recipe

SECONDS = st.one_of(st.none(), st.floats(0, 10))

UNEVEN = """
import os, sys, time
import apache_beam as beam
from pipelines.local_runner import serving
from pipelines.workers import WorkerPool

folder, wanted, refused = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def is_first():
    try:
        os.mkdir(folder + "-first")
        return True
    except FileExistsError:
        return False

def work(grouped):
    if is_first():
        deadline = time.monotonic() + 30
        while len(os.listdir(folder)) < wanted:
            if time.monotonic() > deadline:
                raise RuntimeError(f"only {len(os.listdir(folder))} others were done")
            time.sleep(0.01)
    if grouped[0] == refused:
        raise RuntimeError("it is refused")
    time.sleep(0.005)
    open(os.path.join(folder, str(grouped[0])), "w").close()

pool = WorkerPool(2, lambda: None)
try:
    with serving(pool) as runner:
        options = beam.options.pipeline_options.PipelineOptions(["--direct_num_workers=2"])
        with beam.Pipeline(runner=runner, options=options) as pipeline:
            numbers = pipeline | beam.Create([(i, None) for i in range(32)])
            numbers | beam.GroupByKey() | beam.Map(work)
finally:
    pool.close()
"""


def uneven(folder: Path, wanted: int, refused: int = -1) -> subprocess.CompletedProcess[str]:
    """32 elements in two workers: the first to be begun waits until some others are done."""
    folder.mkdir()
    return subprocess.run(
        [sys.executable, "-c", UNEVEN, str(folder), str(wanted), str(refused)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_what_a_worker_does_not_come_to_the_other_does(tmp_path: Path) -> None:
    done = uneven(tmp_path / "done", wanted=24)  # of equal shares, the other has but 16
    assert done.returncode == 0, done.stderr
    assert sorted(map(int, os.listdir(tmp_path / "done"))) == list(range(32))


def test_an_error_in_one_worker_ends_the_stage(tmp_path: Path) -> None:
    done = uneven(tmp_path / "done", wanted=0, refused=7)
    assert done.returncode == 1
    assert "it is refused" in done.stderr
    assert "7" not in os.listdir(tmp_path / "done")


class Interrupting(io.StringIO):
    def write(self, text: str) -> int:
        os.kill(os.getpid(), signal.SIGUSR1)
        return super().write(text)


def log_and_wait(log: logging.Logger) -> None:
    log.error("a connection is broken")
    time.sleep(10)


def test_a_dead_worker_is_told_even_in_the_middle_of_logging() -> None:
    # Logging would print what is raised in it, and go on.
    log, said = logging.Logger("interrupted"), Interrupting()
    log.addHandler(logging.StreamHandler(said))
    pool: Any = SimpleNamespace(died="a worker process ended with signal 9")
    with serving(pool), pytest.raises(WorkerDied, match="signal 9"):
        log_and_wait(log)
    assert said.getvalue() == "a connection is broken\n"


@given(st.integers(0, 300), st.integers(2, 16), st.data())
def test_every_piece_is_taken_once(pieces: int, workers: int, data: st.DataObject) -> None:
    deal, taken = Deal(pieces, workers), []
    while numbers := deal.take(data.draw(SECONDS)):
        assert numbers == sorted(numbers)
        taken += numbers
    assert sorted(taken) == list(range(pieces))
    assert not deal.take()


def test_shares_become_smaller() -> None:
    deal = Deal(64, 2)
    assert [len(deal.take()) for _ in range(8)] == [16, 12, 9, 7, 5, 4, 3, 2]


def test_a_share_is_a_sample_of_what_is_left() -> None:
    deal = Deal(64, 2)
    assert deal.take() == list(range(0, 64, 4))
    assert deal.take() == [i for i in range(64) if i % 4][::4]


def test_what_is_quickly_done_is_taken_at_once() -> None:
    deal = Deal(64, 2)
    assert len(deal.take()) == 16
    assert len(deal.take(seconds=1e-6)) == 48


def test_a_stopped_deal_has_nothing_left() -> None:
    deal = Deal(64, 2)
    deal.take()
    deal.stop()
    assert not deal.take()


def test_no_step_of_the_flow_has_state_or_timers(tmp_path: Path) -> None:
    # Local runs do not look for any.
    recipe = write_vectors(tmp_path, {"method": "average", "dimension": 4, "scale": "standard"})
    loaded, place = locate_recipe(str(recipe), [])
    plan = make_plan(loaded, str(recipe), str(tmp_path / "out"), place).plan
    pipeline = beam.Pipeline(runner=FnApiRunner())
    os.rmdir(pipeline.local_tempdir)  # made for a run, at whose end it would go
    build(pipeline, plan, "fuse", str(tmp_path))
    graph = pipeline.to_runner_api(default_environment=EmbeddedPythonEnvironment.default())
    parameters = [
        beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
        for transform in graph.components.transforms.values()
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn
    ]
    assert len(parameters) > 10
    assert not any(one.state_specs or one.timer_family_specs for one in parameters)
