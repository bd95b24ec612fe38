"""What the commands do, from the recipe's path to the summary at the end."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from pipelines.graph import print_graph
from pipelines.jobs import Job, Working, check_free, new_id, read_job, working
from pipelines.options import RunnerOptions, runner_options
from pipelines.planning import Checked, absolute_paths, default_output, folder_of, make_plan
from pipelines.predicting import plan_prediction
from pipelines.progress import Watch, watched, watching
from pipelines.reaching import check_options, check_runner
from pipelines.report import write_report
from pipelines.resume import (
    State,
    clear_stale,
    clear_temporary,
    hashes,
    is_done,
    read_state,
    steps_of,
    write_state,
)
from pipelines.running import RunFailed, log_path, logging_to, runner
from pipelines.status import print_status, status_of
from pipelines.submitting import say_submitted, start_launcher, wait_for
from pipelines.summary import print_plan, print_summary
from pipelines.training import choose_strategy, with_choice
from schemas import storage
from schemas.errors import DataError
from schemas.layout import Layout
from schemas.loading import dump_recipe, locate_recipe
from schemas.options.fuse import needs_choice
from schemas.plan import Plan
from schemas.problems import RecipeError, counted, nearest

# In a pipe or a file there is no window for tables to fit into.
OUT = Console(
    highlight=False,
    soft_wrap=True,
    markup=False,
    emoji=False,
    width=None if sys.stdout.isatty() else 1000,
)
ERR = Console(highlight=False, soft_wrap=True, markup=False, emoji=False, stderr=True)


@dataclass(frozen=True)
class Asked:
    """What the command line says of how to run.

    Attributes:
        beam: options for Beam, as they were given.
        profile: name of a profile.
        shared: local paths are on storage that all workers see.
        dry_run: print the graph, and do nothing.
        job: id of the job, where `sensorium submit` has given one.
    """

    beam: list[str]
    profile: str | None = None
    shared: bool = False
    dry_run: bool = False
    job: str | None = None

    def options(self, recipe_path: str) -> RunnerOptions:
        """Options for the runner, with those of the profile."""
        return runner_options(self.beam, recipe_path, self.profile, self.shared)


def run_recipe(path: str, upto: str, to: str | None, sets: list[str], asked: Asked) -> None:
    """Run a recipe up to a step; `all` is as far as the recipe goes.

    Raises:
        RecipeError: if the recipe or an option is wrong.
        DataError, RunFailed, WorkerDied: if the run fails.
    """
    options = asked.options(path)
    checked, last = _plan_run(path, upto, to, sets)
    _carry_out(checked, folder_of(path), last, options, asked)


def submit_recipe(
    path: str, upto: str, to: str | None, sets: list[str], asked: Asked, command: list[str]
) -> None:
    """Start a launcher of its own for `run_recipe`, once all that can be checked is right.

    Args:
        path: of the recipe.
        upto: the last step, or `all`.
        to: output folder, or None.
        sets: values of the recipe to set.
        asked: how to run.
        command: command line of the launcher.

    Raises:
        RecipeError, DataError, RunFailed: as of `run_recipe`, if it cannot start.
    """
    options = asked.options(path)
    checked, last = _plan_run(path, upto, to, sets)
    plan = checked.plan
    new, old = hashes(plan, checked.identities), read_state(plan.output)
    if _is_all_done(plan, last, old, new):
        return
    check_free(plan.output)
    _check_runner(plan, last, options, old, new)
    job = new_id(plan.recipe.name)
    process, log = start_launcher([*command, f"--job={job}"], plan.output, job)
    found = wait_for(process, log, plan.output, job)
    say_submitted(found, plan.output, options.remote, OUT, ERR)


def _plan_run(path: str, upto: str, to: str | None, sets: list[str]) -> tuple[Checked, str]:
    """The plan of a run, and the last step of it."""
    recipe, place = locate_recipe(path, sets)
    output = _absolute(to) if to is not None else default_output(recipe, path)
    checked = make_plan(recipe, path, output, place)
    trains = recipe.train is not None and recipe.target is not None
    if upto == "train" and not trains:
        raise RecipeError([f"{path}: nothing to train: it needs `target`, and `train` not null"])
    return checked, ("train" if trains else "fuse") if upto == "all" else upto


def predict_recipe(trained: str, path: str, to: str, sets: list[str], asked: Asked) -> None:
    """Predict the records of a recipe with what an output has learnt; raises as `run_recipe`."""
    options = asked.options(path)
    recipe, place = locate_recipe(path, sets)
    checked = plan_prediction(_absolute(trained), recipe, path, _absolute(to), place)
    _carry_out(checked, folder_of(path), "fuse", options, asked)


def show_status(output: str, as_json: bool) -> bool:
    """Print how far an output is.

    Returns:
        Whether all is well: it is done, or at work.

    Raises:
        RecipeError: if it is no output of a run.
    """
    status = status_of(_absolute(output))
    if as_json:
        OUT.print_json(data=status.to_json())
    else:
        print_status(status, OUT)
    return status.state in ("done", "running")


def validate_recipe(path: str, to: str | None, sets: list[str]) -> None:
    """Check a recipe and print its plan; raises RecipeError as `run_recipe` does."""
    recipe, place = locate_recipe(path, sets)
    output = _absolute(to) if to is not None else default_output(recipe, path)
    print_plan(make_plan(recipe, path, output, place), OUT)


def write_example(name: str, folder: str) -> None:
    """Write an example data set and its recipe.

    Raises:
        RecipeError: if there is no such example, or the folder is not empty.
    """
    if name != "digits":
        raise RecipeError([f"there is no example {name!r}{nearest(name, ['digits'])}: take digits"])
    from pipelines.example import write_digits

    try:
        path = write_digits(folder)
    except FileExistsError as error:
        raise RecipeError([str(error)]) from None
    OUT.print(f"Written. Now run:  sensorium run {shlex.quote(os.path.relpath(path))}")


def _absolute(path: str) -> str:
    try:
        storage.reach(path)
    except ValueError as error:
        raise RecipeError([str(error)]) from None
    return os.path.abspath(storage.local(path)) if storage.is_local(path) else path.rstrip("/")


def _is_all_done(plan: Plan, upto: str, old: State | None, new: State) -> bool:
    """Whether nothing is left to do; if so, its summary is printed, and nothing is asked of any
    runner.
    """
    if not is_done(plan, upto, old, new):
        return False
    if not storage.exists(Layout(plan.output, plan.buckets).report):
        write_report(plan)
    _check_dead_letters(plan)
    ERR.print("Nothing to do: all is done, from the same recipe and inputs.")
    print_summary(plan, upto, OUT)
    return True


def _check_runner(
    plan: Plan, upto: str, options: RunnerOptions, old: State | None, new: State
) -> None:
    """Check that the runner can do it, if there is a graph for it to run."""
    if not is_done(plan, _graph(upto), old, new):
        for note in [*check_options(plan, options), *check_runner(options)]:
            ERR.print(f"note: {note}")


def _graph(upto: str) -> str:
    """The last step that is a runner's; training is the launcher's."""
    return "fuse" if upto == "train" else upto


def _carry_out(
    checked: Checked, base: str, upto: str, options: RunnerOptions, asked: Asked
) -> None:
    """Do what is not done yet.

    Args:
        checked: the plan.
        base: folder that the recipe's paths are relative to.
        upto: the last step.
        options: for the runner.
        asked: what the command line says.
    """
    plan = checked.plan
    new, old = hashes(plan, checked.identities), read_state(plan.output)
    for note in checked.notes:
        ERR.print(f"note: {note}")
    if asked.dry_run:
        for note in check_options(plan, options):
            ERR.print(f"note: {note}")
        print_graph(checked, upto, options, OUT, _unchanged(old, new, []))
        return
    if _is_all_done(plan, upto, old, new):
        return
    _check_runner(plan, upto, options, old, new)
    job = Job(
        asked.job or new_id(plan.recipe.name),
        plan.recipe.name,
        upto,
        plan.buckets,
        list(watched(plan, _graph(upto))),
        options.runner,
        log=log_path(plan.output),
    )
    before = read_job(plan.output)
    with (
        working(plan.output, job) as work,
        _failures_point_to(job.log),
        logging_to(job.log),
    ):
        if options.remote:
            from pipelines.remote import PipelineOptions, cancel_left  # imports Beam

            cancel_left(before, PipelineOptions(list(options.args)))
        _do(checked, base, upto, options, work, old, new)
    print_summary(plan, upto, OUT)


def _do(
    checked: Checked,
    base: str,
    upto: str,
    options: RunnerOptions,
    work: Working,
    old: State | None,
    new: State,
) -> None:
    """The work of `_carry_out`: the graphs, and what the launcher does after them."""
    plan, graph = checked.plan, _graph(upto)
    if not is_done(plan, graph, old, new):
        stale = clear_stale(plan, old, new)
        # From here on nothing counts as done but what receipts say.
        write_state(plan.output, replace(new, inputs={}))
        text = dump_recipe(absolute_paths(plan, base)).encode()
        storage.write_bytes(Layout(plan.output, plan.buckets).recipe, text)
        watch = Watch(plan, graph, ERR, _unchanged(old, new, stale))
        chooses = graph == "fuse" and needs_choice(plan.recipe.fuse) and plan.fitted is None

        def started() -> None:
            work.beat()
            watch.start()

        with (
            watching(watch),
            runner(plan, options, 2 if chooses else 1, started, work.submitted) as run,
        ):
            if chooses:
                run(plan, "extract")
                choose_strategy(plan, watch.say)
            run(with_choice(plan) if chooses else plan, graph)
        if options.remote and storage.is_local(plan.output):
            clear_temporary(plan.output)  # a worker may have been killed, and another taken over
        done = {step: new.inputs[step] for step in steps_of(plan, graph)}
        old = replace(new, inputs=done)
        write_state(plan.output, old)
    work.beat()
    write_report(plan)  # before the checks, so that it shows why a run failed
    _check_audit(plan)
    _check_dead_letters(plan)
    if upto == "train":
        _train(with_choice(plan))
        write_report(plan)
        assert old is not None
        done = {**old.inputs, "train": new.inputs["train"]}
        write_state(plan.output, replace(new, inputs=done))


def _unchanged(old: Any, new: Any, stale: list[str]) -> set[str]:
    """Steps that are expected to find everything done."""
    if old is None:
        return set()
    return {s for s, h in new.inputs.items() if old.inputs.get(s) == h and s not in stale}


def _train(plan: Plan) -> None:
    from pipelines.training import train_output

    if ERR.is_terminal:
        with ERR.status("train") as status:
            train_output(plan, lambda words: status.update(f"train: {words}"))
    else:
        train_output(plan, lambda _: None)
        ERR.print("          train: done")


@contextmanager
def _failures_point_to(log: str) -> Iterator[None]:
    """Add the log file to the message of whatever ends the run."""
    from pipelines.workers import WorkerDied

    try:
        yield
    except (RunFailed, WorkerDied) as error:
        raise RunFailed(f"{error}; details are in {log}") from error


def read_audit(plan: Plan) -> dict[str, Any]:
    """The audit of an output."""
    return json.loads(storage.read_bytes(Layout(plan.output, plan.buckets).audit))


def _check_audit(plan: Plan) -> None:
    problems = read_audit(plan)["problems"]
    if problems:
        raise RunFailed("the audit does not add up: " + "; ".join(problems))


def _check_dead_letters(plan: Plan) -> None:
    """Fail if a modality has more dead letters than the recipe allows."""
    for name, counts in read_audit(plan)["modalities"].items():
        dead, rows = counts["dead_letters"], counts["rows"]
        if dead and dead > plan.recipe.max_dead_letters * rows:
            raise DataError(
                f"{name}: {dead:,} of {counted(rows, 'row')} ({dead / rows:.1%}) became dead "
                f"letters, more than max_dead_letters, which is {plan.recipe.max_dead_letters}. "
                f"The first: {_first_letter(plan, name)}. All are in {plan.output}/dead_letters; "
                "what was done is kept"
            )


def _first_letter(plan: Plan, name: str) -> str:
    from schemas.tables import read_table

    layout = Layout(plan.output, plan.buckets)
    for step in ("ingest", "extract"):
        for bucket in range(plan.buckets):
            path = layout.dead_letters(step, name, bucket)
            if storage.exists(path):
                letter = read_table(path).slice(0, 1).to_pylist()[0]
                return (
                    f"{letter['source']} row {letter['row']}, key {letter['key']}: "
                    f"{letter['kind']}: {letter['message']}"
                )
    return "not found"
