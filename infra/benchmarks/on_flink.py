"""The whole job on Flink beside the local runner: the ratio, and where the difference goes.

    make cluster-up
    python -m infra.benchmarks.on_flink                 20,000 keys, 3 runs each
    python -m infra.benchmarks.on_flink --keys 80000

Whole processes in turn, as in `whole_job`; both have two Python workers. The phases of the runs on
Flink are from its REST API, so that the clock is one machine's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import urllib.error
from pathlib import Path
from typing import Any

from infra.benchmarks.whole_job import Jobs, Run, median, show, timed
from infra.flink.cluster import TASK_MANAGERS, Cluster
from tests.pipelines.flows import hashes

PHASES = (
    "launcher, until Flink has the job",
    "Flink, until the first Python step is done",
    "Flink, the steps that work",
    "Flink, all else",
    "launcher, after the job",
)
WORK = ("ingest", "extract", "Fuse", "Statistics")


def on_flink(jobs: Jobs, cluster: Cluster) -> tuple[Run, list[float]]:
    """One run on Flink, and the seconds of its phases."""
    command = [sys.executable, "-m", "pipelines.cli", "run", str(jobs.recipe)]
    output = jobs.output.with_name("on-flink")
    run = timed([*command, "--to", str(output), *cluster.options()], output)
    ended = time.time()
    return run, phases(cluster, ended - run.seconds, ended)


def phases(cluster: Cluster, started: float, ended: float) -> list[float]:
    """Seconds of each of PHASES of the newest job."""
    job = cluster.rest(f"/jobs/{cluster.jobs()[-1]['jid']}")
    begin, end = job["start-time"] / 1000, job["end-time"] / 1000
    first = next(v for v in job["vertices"] if "Read/Parts" in v["name"])["end-time"] / 1000
    busy = covered([v for v in job["vertices"] if works(v)], first)
    return [begin - started, first - begin, busy, end - first - busy, ended - end]


def works(vertex: dict[str, Any]) -> bool:
    """Whether a stage runs steps that read and write files."""
    name = vertex["name"]
    return "MapPartition" in name and any(word in name for word in WORK)


def covered(vertices: list[dict[str, Any]], since: float) -> float:
    """Seconds since a time in which at least one of some stages ran, or waited for its input."""
    total, until = 0.0, since
    for vertex in sorted(vertices, key=lambda v: v["start-time"]):
        start, end = vertex["start-time"] / 1000, vertex["end-time"] / 1000
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(".benchmarks").absolute())
    args = parser.parse_args()
    cluster = Cluster()
    try:
        cluster.rest("/overview")
    except (FileNotFoundError, urllib.error.URLError):
        sys.exit("no cluster is up: make cluster-up")
    jobs = Jobs(args.folder, args.keys, len(TASK_MANAGERS))
    print(f"{args.keys:,} keys, {args.runs} runs each", flush=True)
    jobs.sensorium(), on_flink(jobs, cluster)  # warm the page cache and the JVMs
    pairs = [(jobs.sensorium(), on_flink(jobs, cluster)) for _ in range(args.runs)]
    same = hashes(jobs.output) == hashes(jobs.output.with_name("on-flink"))
    local = [one for one, _ in pairs]
    show("FnApiRunner", local)
    show("Flink", [run for _, (run, _) in pairs], median(local))
    for name, seconds in zip(PHASES, zip(*(p for _, (_, p) in pairs), strict=True), strict=True):
        print(f"  {name:<44}{statistics.median(seconds):6.2f} s", flush=True)
    print(f"the same bytes: {same}")


if __name__ == "__main__":
    main()
