"""How far an output is, told from what is committed in it: from any machine that sees it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.jobs import Job, read_job
from pipelines.progress import count_receipts
from pipelines.resume import State, read_state
from schemas import storage
from schemas.layout import FUSED, Layout
from schemas.problems import RecipeError, counted
from schemas.tables import open_parquet


@dataclass(frozen=True)
class Step:
    """A step of a modality: how many of its buckets are committed."""

    step: str
    modality: str
    done: int
    total: int


@dataclass(frozen=True)
class Status:
    """What is known of an output.

    Attributes:
        output: folder or URL.
        state: running, done, failed or interrupted, as the launcher said last; lost: the launcher
            has ended without a word; unfinished: something is left to do, and no job is known, or
            the last one had done it.
        cause: why it failed, or what makes it `lost` or `unfinished`.
        job: the last one, or None.
        steps: in the order of the flow.
        trained: whether the model is there; None where the job does not train.
        dead_letters: modality -> rows so far.
    """

    output: str
    state: str
    cause: str
    job: Job | None
    steps: list[Step]
    trained: bool | None
    dead_letters: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        job = vars(self.job) if self.job else None
        return {**vars(self), "job": job, "steps": [vars(step) for step in self.steps]}


def status_of(output: str) -> Status:
    """Look at an output.

    Raises:
        RecipeError: if it is none.
    """
    job, state = read_job(output), read_state(output)
    if job is None and state is None:
        there = storage.exists(output)
        what = "is no output of a run: it has neither job.json nor receipts" if there else ""
        raise RecipeError([f"{output}: {what or 'there is no such folder'}"])
    layout = Layout(output, job.buckets if job else state.buckets if state else 0)
    keys = job.steps if job else _steps_of(state)
    steps = [
        Step(step, name, count_receipts(layout, step, name), layout.buckets) for step, name in keys
    ]
    trains = job.upto == "train" if job else state is not None and "train" in state.inputs
    trained = storage.exists(layout.metrics) if trains else None
    word, cause = _state(job, steps, trained)
    return Status(output, word, cause, job, steps, trained, _dead_letters(layout))


def _steps_of(state: State | None) -> list[tuple[str, str]]:
    """Steps of an output of which no job is known."""
    names = [step.partition("/") for step in state.recipe if step != "train"] if state else []
    return sorted(
        ((step, name or FUSED) for step, _, name in names),
        key=lambda one: ("ingest", "extract", "fuse").index(one[0]),
    )


def _state(job: Job | None, steps: list[Step], trained: bool | None) -> tuple[str, str]:
    all_there = all(step.done >= step.total for step in steps) and trained is not False
    if job is None:
        return ("done" if all_there else "unfinished"), ""
    if job.state == "done" and not all_there:
        return "unfinished", "it was done, but files are missing; the same command makes them again"
    if job.state == "running" and not job.alive:
        return "lost", (
            f"the launcher, process {job.pid} on {job.host}, gave its last sign of life at "
            f"{job.seen}; the same command goes on from here"
        )
    return job.state, job.cause


def _dead_letters(layout: Layout) -> dict[str, int]:
    """Rows of each modality; from the audit once it is there, else from the files so far."""
    try:
        audit = json.loads(storage.read_bytes(layout.audit))
        counts = {name: found["dead_letters"] for name, found in audit["modalities"].items()}
    except FileNotFoundError:
        counts = {}
        folder = layout.at("dead_letters")
        for path in storage.files_below(folder) if storage.exists(folder) else ():
            if path.endswith(".parquet"):
                name = path.split("/")[1]
                counts[name] = counts.get(name, 0) + _rows(storage.join(folder, path))
    return {name: count for name, count in counts.items() if count}


def _rows(path: str) -> int:
    with open_parquet(path) as file:
        return file.metadata.num_rows


def print_status(status: Status, console: Console) -> None:
    """A few lines for a person."""
    job = status.job
    words = f"{status.output}: {status.state}"
    console.print(f"{words}: {status.cause}" if status.cause else words)
    if job is not None:
        runner = job.runner or "local workers"
        console.print(f"job {job.id}, up to {job.upto}, on {runner}, started {job.started}")
        console.print(f"launcher: process {job.pid} on {job.host}, log {job.log}")
        if job.runner_jobs:
            console.print(f"the runner's own: {', '.join(job.runner_jobs)}")
    table = Table(box=None, pad_edge=False, show_header=False)
    for step in status.steps:
        name = "" if step.modality == FUSED else step.modality
        dead = status.dead_letters.get(name, 0) if step.step == "ingest" else 0
        note = counted(dead, "dead letter") if dead else ""
        table.add_row(step.step, name, f"{step.done}/{step.total}", note)
    if status.trained is not None:
        table.add_row("train", "", "done" if status.trained else "to do", "")
    console.print(table)
