"""What the commands do, from the recipe's path to the summary at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from rich.console import Console

from pipelines.planning import Checked, absolute_paths, default_output, folder_of, make_plan
from pipelines.predicting import plan_prediction
from pipelines.progress import Watch, watching
from pipelines.report import write_report
from pipelines.resume import clear_stale, hashes, is_done, read_state, steps_of, write_state
from pipelines.running import RunFailed, log_path, logging_to, runner
from pipelines.summary import print_plan, print_summary
from pipelines.training import choose_strategy, with_choice
from schemas import storage
from schemas.errors import DataError
from schemas.layout import Layout
from schemas.loading import dump_recipe, locate_recipe
from schemas.options.fuse import needs_choice
from schemas.plan import Plan
from schemas.problems import RecipeError, nearest

OUT, ERR = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False)


def run_recipe(path: str, upto: str, to: str | None, sets: list[str], beam_args: list[str]) -> None:
    """Run a recipe up to a step; `all` is as far as the recipe goes.

    Raises:
        RecipeError: if the recipe or an option is wrong.
        DataError, RunFailed, WorkerDied: if the run fails.
    """
    _check_options(beam_args)
    recipe, place = locate_recipe(path, sets)
    output = _absolute(to) if to is not None else default_output(recipe, path)
    checked = make_plan(recipe, path, output, place)
    trains = recipe.train is not None and recipe.target is not None
    if upto == "train" and not trains:
        raise RecipeError([f"{path}: nothing to train: it needs `target`, and `train` not null"])
    last = ("train" if trains else "fuse") if upto == "all" else upto
    _carry_out(checked, folder_of(path), last, beam_args)


def predict_recipe(trained: str, path: str, to: str, sets: list[str], beam_args: list[str]) -> None:
    """Predict the records of a recipe with what an output has learnt; raises as `run_recipe`."""
    _check_options(beam_args)
    recipe, place = locate_recipe(path, sets)
    checked = plan_prediction(_absolute(trained), recipe, path, _absolute(to), place)
    _carry_out(checked, folder_of(path), "fuse", beam_args)


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
    OUT.print(f"Written. Now run:  sensorium run {os.path.relpath(path)}")


def _absolute(path: str) -> str:
    return os.path.abspath(storage.local(path)) if storage.is_local(path) else path.rstrip("/")


def _check_options(args: list[str]) -> None:
    """Options that neither Sensorium nor Beam knows are mistakes, not something to pass on."""
    from pipelines.running import runner_named

    if not args or runner_named(args):
        return  # a runner may have options of its own, which only its job server knows
    import argparse
    import logging

    logging.disable(logging.WARNING)  # Beam speaks while it is imported
    from apache_beam.options.pipeline_options import PipelineOptions

    logging.disable(logging.NOTSET)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    unknown = parser.parse_known_args(args)[1]
    if unknown:
        known = [name for action in parser._actions for name in action.option_strings]
        known += ["--to", "--set", "--debug"]
        name = unknown[0].partition("=")[0]
        raise RecipeError([f"unknown option {name}{nearest(name, known)}"])


def _carry_out(checked: Checked, base: str, upto: str, beam_args: list[str]) -> None:
    """Do what is not done yet.

    Args:
        checked: the plan.
        base: folder that the recipe's paths are relative to.
        upto: the last step.
        beam_args: options for Beam.
    """
    plan = checked.plan
    new, old = hashes(plan, checked.identities), read_state(plan.output)
    for note in checked.notes:
        ERR.print(f"note: {note}")
    if is_done(plan, upto, old, new):
        _check_dead_letters(plan)
        ERR.print("Nothing to do: all is done, from the same recipe and inputs.")
        print_summary(plan, upto, OUT)
        return
    log = log_path(plan.output)
    with _failures_point_to(log), logging_to(log):
        graph = "fuse" if upto == "train" else upto
        if not is_done(plan, graph, old, new):
            stale = clear_stale(plan, old, new)
            # From here on nothing counts as done but what receipts say.
            write_state(plan.output, replace(new, inputs={}))
            text = dump_recipe(absolute_paths(plan, base)).encode()
            storage.write_bytes(Layout(plan.output, plan.buckets).recipe, text)
            watch = Watch(plan, graph, ERR, _unchanged(old, new, stale))
            chooses = graph == "fuse" and needs_choice(plan.recipe.fuse) and plan.fitted is None
            with (
                watching(watch),
                runner(plan, beam_args, 2 if chooses else 1, watch.start) as run,
            ):
                if chooses:
                    run(plan, "extract")
                    choose_strategy(plan, watch.say)
                run(with_choice(plan) if chooses else plan, graph)
            done = {step: new.inputs[step] for step in steps_of(plan, graph)}
            old = replace(new, inputs=done)
            write_state(plan.output, old)
        write_report(plan)  # before the checks, so that it shows why a run failed
        _check_audit(plan)
        _check_dead_letters(plan)
        if upto == "train":
            _train(with_choice(plan))
            write_report(plan)
            assert old is not None
            done = {**old.inputs, "train": new.inputs["train"]}
            write_state(plan.output, replace(new, inputs=done))
    print_summary(plan, upto, OUT)


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
                f"{name}: {dead} of {rows} rows ({dead / rows:.1%}) are dead letters, more than "
                f"max_dead_letters, which is {plan.recipe.max_dead_letters}. The first: "
                f"{_first_letter(plan, name)}. All are in {plan.output}/dead_letters; what was "
                "done is kept"
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
