"""The whole job on a cluster beside the local runner: the ratio, and where the difference goes."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from infra.benchmarks.whole_job import Jobs, Run, median, show, timed
from infra.clusters import LocalCluster
from tests.pipelines.flows import hashes


def compare(
    cluster: LocalCluster,
    workers: int,
    names: Sequence[str],
    phases: Callable[[float, float], list[float]],
    about: str | None,
) -> None:
    """Parse the command line, run both in turn and print the figures.

    Args:
        cluster: that is up.
        workers: Python workers of both.
        names: of the phases.
        phases: (start, end of a run, in seconds since 1970) -> seconds of each phase.
        about: the help text.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(".benchmarks").absolute())
    args = parser.parse_args()
    name = cluster.name
    if not cluster.answers():
        sys.exit(f"no {name} cluster is up: see infra/{name.lower()}/README.md")
    jobs = Jobs(args.folder, args.keys, workers)
    output = jobs.output.with_name(f"on-{name.lower()}")
    command = [sys.executable, "-m", "pipelines.cli", "run", str(jobs.recipe), "--to", str(output)]

    def there() -> tuple[Run, list[float]]:
        run = timed([*command, *cluster.options()], output)
        ended = time.time()
        return run, phases(ended - run.seconds, ended)

    print(f"{args.keys:,} keys, {args.runs} runs each", flush=True)
    jobs.sensorium(), there()  # warm the page cache and the JVMs
    pairs = [(jobs.sensorium(), there()) for _ in range(args.runs)]
    same = hashes(jobs.output) == hashes(output)
    local = [one for one, _ in pairs]
    show("FnApiRunner", local)
    show(name, [run for _, (run, _) in pairs], median(local))
    for phase, seconds in zip(names, zip(*(p for _, (_, p) in pairs), strict=True), strict=True):
        print(f"  {phase:<44}{statistics.median(seconds):6.2f} s", flush=True)
    print(f"the same bytes: {same}")
