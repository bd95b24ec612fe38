"""The command line: `sensorium run recipe.yaml` and its single steps.

Exit codes: 0 done; 1 the run failed; 2 the recipe or the command line is wrong.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os

from pipelines.workers import THREAD_LIMITS

gc.disable()  # imports and the graph make many objects and no garbage; `run_graph` turns it on

os.environ.update(THREAD_LIMITS)  # before NumPy is imported, which reads them once
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own lines are for its developers

import sys
import traceback
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer

from schemas.errors import DataError, StorageError
from schemas.problems import RecipeError

app = typer.Typer(
    name="sensorium",
    help="Turns images, recordings, texts and tables about the same things into one fused "
    "Parquet data set and a trained model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
BEAM = {"allow_extra_args": True, "ignore_unknown_options": True}
BEAM_EPILOG = (
    "All other options go to Beam as they are, such as --runner=FlinkRunner "
    "--flink_master=HOST:8081 --environment_type=EXTERNAL, or --direct_num_workers=4. Without "
    "--runner all cores of this machine are used. What you would write each time can stand in "
    "sensorium.yaml beside the recipe, or in the user's configuration folder, under profiles: "
    "NAME: {shared: true, beam: {runner: FlinkRunner, ...}}, and be taken with --profile NAME."
)

RecipePath = Annotated[str, typer.Argument(metavar="RECIPE", help="The recipe: a YAML file or URL")]
To = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="DIR", help="Output folder or URL [default: NAME-output beside the recipe]"
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Set a value of the recipe, such as split.folds=3"
    ),
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="Options for Beam from sensorium.yaml; those given here win",
    ),
]
Shared = Annotated[
    bool,
    typer.Option(
        "--shared", help="Local paths are mounted at the same place on every worker of a cluster"
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the graph and its counts; run and write nothing")
]
JobId = Annotated[str | None, typer.Option("--job", hidden=True)]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks")]


def _guarded(work: Callable[[], None], debug: bool) -> None:
    """Do a command's work; turn what goes wrong into a line for a person and an exit code."""
    from pipelines.running import RunFailed
    from pipelines.workers import WorkerDied

    try:
        work()
    except RecipeError as error:
        if debug:
            traceback.print_exc()
        _say(str(error))
        raise typer.Exit(2) from None
    except (DataError, StorageError, RunFailed, WorkerDied) as error:
        if debug:
            traceback.print_exc()
        _say(f"failed: {error}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from here")
        raise typer.Exit(130) from None
    except typer.Exit:
        raise
    except Exception as error:
        # Whatever it is, a person gets one line; the whole goes to --debug.
        if debug:
            raise
        first = str(error).strip().partition("\n")[0]
        _say(f"failed: {type(error).__name__}: {first} (--debug shows where)")
        raise typer.Exit(1) from None


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


def _step(upto: str, what: str) -> None:
    """Add the command that runs the flow up to one step."""

    def command(
        context: typer.Context,
        recipe: RecipePath,
        to: To = None,
        sets: Sets = None,
        profile: ProfileName = None,
        shared: Shared = False,
        dry_run: DryRun = False,
        job: JobId = None,
        debug: Debug = False,
    ) -> None:
        from pipelines.commands import Asked, run_recipe

        asked = Asked(context.args, profile, shared, dry_run, job)
        _guarded(lambda: run_recipe(recipe, upto, to, sets or [], asked), debug)

    name = "run" if upto == "all" else upto
    app.command(name, help=what, context_settings=BEAM, epilog=BEAM_EPILOG)(command)


_step("all", "Do it all: ingest, extract, join, fuse and train. What is done is not done again.")


@app.command()
def validate(recipe: RecipePath, to: To = None, sets: Sets = None, debug: Debug = False) -> None:
    """Check all that can be checked before work starts, and print the plan."""
    from pipelines.commands import validate_recipe

    _guarded(lambda: validate_recipe(recipe, to, sets or []), debug)


_step("ingest", "Read the manifests and write records.")
_step("extract", "The same, and extract the features of each modality.")
_step("fuse", "The same, and join and fuse the modalities into the data set.")
_step("train", "The same, and train the model on the data set.")


@app.command(context_settings=BEAM, epilog=BEAM_EPILOG)
def predict(
    context: typer.Context,
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Output of the training run")],
    recipe: Annotated[str, typer.Option("--recipe", help="Recipe with the new sources")],
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Folder for the predictions")],
    sets: Sets = None,
    profile: ProfileName = None,
    shared: Shared = False,
    dry_run: DryRun = False,
    debug: Debug = False,
) -> None:
    """Run the same steps on new records, with what was fitted, and predict. No labels needed."""
    from pipelines.commands import Asked, predict_recipe

    asked = Asked(context.args, profile, shared, dry_run)
    _guarded(lambda: predict_recipe(output, recipe, to, sets or [], asked), debug)


class Upto(StrEnum):
    """Steps that a job can end with."""

    ingest = "ingest"
    extract = "extract"
    fuse = "fuse"
    train = "train"
    all = "all"


@app.command(context_settings=BEAM, epilog=BEAM_EPILOG)
def submit(
    context: typer.Context,
    recipe: RecipePath,
    to: To = None,
    sets: Sets = None,
    upto: Annotated[Upto, typer.Option("--upto", help="The last step")] = Upto.all,
    profile: ProfileName = None,
    shared: Shared = False,
    debug: Debug = False,
) -> None:
    """Start `run` in the background, here or on a cluster, and print the job's id.

    All checks are made first. The launcher, a process of its own on this machine, goes on when the
    terminal is closed: it gives the graphs to the runner and trains. Look with `status`.
    """
    from pipelines.commands import Asked, submit_recipe

    asked = Asked(context.args, profile, shared)
    command = ["run" if upto is Upto.all else upto.value, recipe]
    command += ["--to", to] if to is not None else []
    command += [word for one in sets or [] for word in ("--set", one)]
    command += ["--profile", profile] if profile is not None else []
    command += ["--shared"] if shared else []
    command += ["--debug"] if debug else []
    command += context.args
    _guarded(lambda: submit_recipe(recipe, upto.value, to, sets or [], asked, command), debug)


@app.command()
def status(
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Output folder or URL")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs")] = False,
    debug: Debug = False,
) -> None:
    """Show how far an output is, from any machine that sees it.

    It counts the buckets that are committed. Exit code 0: done or at work; 1: failed, or the
    launcher is gone.
    """

    def work() -> None:
        from pipelines.commands import show_status

        if not show_status(output, as_json):
            raise typer.Exit(1)

    _guarded(work, debug)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a recipe, which editors complete from."""
    import json

    from schemas.loading import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command()
def example(
    name: Annotated[str, typer.Argument(metavar="digits", help="Which example; there is one")],
    folder: Annotated[str, typer.Argument(metavar="DIR", help="An empty or new folder")],
    debug: Debug = False,
) -> None:
    """Write a small multimodal data set and its recipe, with nothing to download."""
    from pipelines.commands import write_example

    _guarded(lambda: write_example(name, folder), debug)


def main() -> None:
    """Entry point of the console script."""
    status: int | str | None = 0
    try:
        app()
    except SystemExit as end:
        status = end.code
    if "apache_beam.runners.portability.job_server" in sys.modules:
        # Beam ends the job servers that it has started (Prism, or a Java process) at exit.
        logging.disable()  # it says so, and the log file is closed
        atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # All files are closed and all workers gone: taking gRPC, Arrow and the rest apart again
    # would only take time.
    os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    main()
