"""The local runner: how a stage's elements come to the workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from apache_beam.transforms import core
from flows import ROOT
from hypothesis import given
from hypothesis import strategies as st

from pipelines.local_runner import Deal, _remembering

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


@given(st.integers(0, 300), st.integers(2, 16), st.data())
def test_every_piece_is_taken_once_and_in_order(
    pieces: int, workers: int, data: st.DataObject
) -> None:
    deal, taken = Deal(pieces, workers), []
    while numbers := deal.take(data.draw(SECONDS)):
        taken += numbers
    assert taken == list(range(pieces))
    assert not deal.take()


def test_shares_become_smaller() -> None:
    deal = Deal(64, 2)
    assert [len(deal.take()) for _ in range(8)] == [16, 12, 9, 7, 5, 4, 3, 2]


def test_what_is_quickly_done_is_taken_at_once() -> None:
    deal = Deal(64, 2)
    assert len(deal.take()) == 16
    assert len(deal.take(seconds=1e-6)) == 48


def test_a_stopped_deal_has_nothing_left() -> None:
    deal = Deal(64, 2)
    deal.take()
    deal.stop()
    assert not deal.take()


class Base:
    def process(self, element: int, step: int = 3) -> int:
        return element + step


class Other(Base):
    def process(self, element: int, *, named: int = 1, step: int = 4) -> int:
        return element + step + named


@pytest.mark.parametrize(
    "function",
    [
        Base().process,
        Other().process,
        Base.process,
        len,
        lambda a, b=2: a,
        "text".upper,
        core.DoFn().setup,
    ],
)
def test_remembered_signatures_are_those_of_beam(function: object) -> None:
    plain = core.get_function_args_defaults
    remembering = _remembering(plain)
    for _ in range(2):  # looked at, then remembered
        assert remembering(function) == plain(function)
