"""Options for Beam, from a profile and the command line: which runner, and is it remote."""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NoReturn

import typer

from schemas import storage
from schemas.loading import load_profiles
from schemas.problems import RecipeError, nearest
from schemas.profiles import FILE, Profile

OWN = ["--to", "--set", "--debug", "--profile", "--shared", "--dry-run", "--upto", "--job"]
MAGIC_FLINK_MASTERS = ("[local]", "[auto]")


@dataclass(frozen=True)
class RunnerOptions:
    """Which runner is to do the work, and how.

    Attributes:
        args: options for Beam, as it takes them: the profile's, then those given.
        shared: local paths are on storage that all workers see.
        runner: the runner's name as Beam spells it; empty: local workers of our own.
        values: every option that Beam's Python SDK knows -> its value, given or by default;
            empty where no option was given.
        unknown: what was given that Beam's Python SDK does not know.
    """

    args: tuple[str, ...] = ()
    shared: bool = False
    runner: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    @property
    def remote(self) -> bool:
        """Whether the workers may be on other machines."""
        value = self.values.get
        if not self.runner or str(value("environment_type")).upper() == "LOOPBACK":
            return False  # loopback: the workers are threads of the launcher
        if value("job_endpoint"):
            return value("job_endpoint") != "embed"
        if self.runner == "FlinkRunner":
            return value("flink_master") not in MAGIC_FLINK_MASTERS
        if self.runner == "SparkRunner":
            local = re.match(r"^local(\[.+\])?$", str(value("spark_master_url")))
            return bool(value("spark_submit_uber_jar")) or not local
        from apache_beam.options.pipeline_options import StandardOptions

        return self.runner not in (*StandardOptions.LOCAL_RUNNERS, "InteractiveRunner")


def runner_options(
    args: list[str], recipe_path: str, profile: str | None = None, shared: bool = False
) -> RunnerOptions:
    """Options from the command line and a profile.

    Args:
        args: options for Beam from the command line; they win over those of the profile.
        recipe_path: beside which a file of profiles may lie.
        profile: its name.
        shared: whether local paths were said to be shared.

    Raises:
        RecipeError: if the profile, an option's name or value, or the runner's name is wrong.
    """
    known, where = Profile(), ""
    if profile is not None:
        known, where = find_profile(profile, recipe_path)
    shared = shared or known.shared
    if not args and not known.beam:
        return RunnerOptions(shared=shared)  # without importing Beam
    own = _as_args(known, args, where)
    parser = beam_parser()
    try:
        values, unknown = parser.parse_known_args([*own, *args])
    except _WrongOption as error:
        raise RecipeError([_by(str(error), own, args, where)]) from None
    found = RunnerOptions(
        (*own, *args), shared, _runner_name(values.runner), vars(values), tuple(unknown)
    )
    for name in found.unknown:
        _check_unknown(found, name, own, args, where)
    return found


def find_profile(name: str, recipe_path: str) -> tuple[Profile, str]:
    """A profile and the file it is in: the one beside the recipe, or the user's own.

    Raises:
        RecipeError: if there is no such profile.
    """
    beside = storage.join(storage.parent(recipe_path) or ".", FILE)
    own = os.path.join(typer.get_app_dir("sensorium"), FILE)
    files = [path for path in (beside, own) if storage.exists(path)]
    if not files:
        raise RecipeError(
            [f"there is no file of profiles, so no profile {name!r}: write {beside} or {own}"]
        )
    known: list[str] = []
    for path in files:
        profiles = load_profiles(path)
        if name in profiles:
            return profiles[name], path
        known += profiles
    raise RecipeError(
        [
            f"{' and '.join(files)}: no profile {name!r}{nearest(name, known) or ';'} "
            f"known are: {', '.join(dict.fromkeys(known)) or 'none'}"
        ]
    )


class _WrongOption(Exception):
    """An option of Beam with a value that it does not take."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _WrongOption(message.removeprefix("argument "))


@contextmanager
def quietly() -> Iterator[None]:
    """For the import of Beam, which warns of what is not installed."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@lru_cache(maxsize=1)
def beam_parser() -> argparse.ArgumentParser:
    """Parser of all options that Beam's Python SDK knows."""
    with quietly():
        from apache_beam.options.pipeline_options import PipelineOptions

        import pipelines.remote  # noqa: F401 - it has an option too
    parser = _Parser(add_help=False, allow_abbrev=False)
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    return parser


def option_names() -> list[str]:
    """Names of all options that Beam's Python SDK or we ourselves know, with their dashes."""
    return [n for action in beam_parser()._actions for n in action.option_strings] + OWN


def _as_args(profile: Profile, given: list[str], where: str) -> list[str]:
    """A profile's options as on a command line, without those that were given there."""
    actions = beam_parser()._option_string_actions

    def means(name: str) -> str:  # two spellings of an option are one
        return actions[name].dest if name in actions else name

    taken = {means(arg.partition("=")[0]) for arg in given if arg.startswith("--")}
    out: list[str] = []
    for name, value in profile.beam.items():
        flag = f"--{name}"
        if means(flag) in taken:
            continue
        action = actions.get(flag)
        if action is not None and action.nargs == 0 and value not in ("true", "false"):
            raise RecipeError([f"{where}: beam.{name}: must be true or false, got {value!r}"])
        if value in ("true", "false") and (action is None or action.nargs == 0):
            out += [flag] if value == "true" else []
        elif isinstance(value, dict):
            out.append(f"{flag}={json.dumps(value)}")
        else:
            out += [f"{flag}={one}" for one in ([value] if isinstance(value, str) else value)]
    return out


def _by(what: str, own: list[str], given: list[str], where: str) -> str:
    """A message about an option, with the profile's file if the option is from there."""
    name = re.match(r"--[\w-]+", what)
    mine = name is not None and any(arg.partition("=")[0] == name[0] for arg in own)
    return f"{where}: {what}" if mine else what


def _runner_name(given: str | None) -> str:
    """A runner's name as Beam spells it; Beam takes `flink` and `flinkrunner` too."""
    from apache_beam.options.pipeline_options import StandardOptions

    if given is None:
        return ""
    known = StandardOptions.KNOWN_RUNNER_NAMES
    name = given.rpartition(".")[2]
    for one in known:
        if name.lower() in (one.lower(), one.lower().removesuffix("runner")):
            return one
    if "." in given:
        return given  # a class of the user's own
    near = nearest(given, known) or nearest(f"{given}Runner", known) or ";"
    raise RecipeError([f"--runner={given}: unknown runner{near} known are: {', '.join(known)}"])


def _check_unknown(
    options: RunnerOptions, arg: str, own: list[str], given: list[str], where: str
) -> None:
    """Beam passes over options that it does not know: here they are mistakes.

    A remote runner may have options of its own. Where a job server runs it is asked for them
    (`pipelines.reaching`); else what is near to a known option is taken for a slip.
    """
    name = arg.partition("=")[0]
    if not arg.startswith("--"):
        # Else it is the value of an option that is unknown too.
        if not options.remote:
            raise RecipeError([f"{arg!r} is neither an option nor the value of one"])
        return
    near = nearest(name, option_names())
    asked = options.remote and options.values["job_endpoint"]
    if not options.remote or (is_slip(name) and not asked):
        raise RecipeError([_by(f"{name}: unknown option{near}", own, given, where)])


def is_slip(name: str) -> bool:
    """Whether an option that nobody knows is very near to one of Beam's or our own."""
    return bool(difflib.get_close_matches(name, option_names(), n=1, cutoff=0.85))
