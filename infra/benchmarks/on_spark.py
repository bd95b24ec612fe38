"""The whole job on Spark beside the local runner: the ratio, and where the difference goes.

    make spark-up
    python -m infra.benchmarks.on_spark                 20,000 keys, 3 runs each
    python -m infra.benchmarks.on_spark --keys 2000

Whole processes in turn, as in `whole_job`; both have two Python workers. The phases of the runs on
Spark are from its event log, so that the clock is one machine's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import urllib.error
from pathlib import Path

from infra.benchmarks.whole_job import Jobs, Run, median, show, timed
from infra.spark.cluster import WORKERS, Cluster
from tests.pipelines.flows import hashes

PHASES = (
    "launcher, until Spark has the job",
    "executors start",
    "tasks",
    "Spark, between tasks",
    "launcher, after the job",
)


def on_spark(jobs: Jobs, cluster: Cluster) -> tuple[Run, list[float]]:
    """One run on Spark, and the seconds of its phases."""
    command = [sys.executable, "-m", "pipelines.cli", "run", str(jobs.recipe)]
    output = jobs.output.with_name("on-spark")
    run = timed([*command, "--to", str(output), *cluster.options()], output)
    ended = time.time()
    return run, phases(cluster, ended - run.seconds, ended)


def phases(cluster: Cluster, started: float, ended: float) -> list[float]:
    """Seconds of each of PHASES of the newest job."""
    events = cluster.events(cluster.applications()[-1])
    begin, end = (
        next(e["Timestamp"] for e in events if e["Event"] == f"SparkListenerApplication{what}")
        / 1000
        for what in ("Start", "End")
    )
    tasks = sorted(
        (e["Task Info"]["Launch Time"] / 1000, e["Task Info"]["Finish Time"] / 1000)
        for e in events
        if e["Event"] == "SparkListenerTaskEnd"
    )
    busy, until = 0.0, 0.0  # seconds in which at least one task was at work
    for start, stop in tasks:
        busy += max(0.0, stop - max(start, until))
        until = max(until, stop)
    first = tasks[0][0]
    return [begin - started, first - begin, busy, end - first - busy, ended - end]


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
        cluster.rest()
    except (FileNotFoundError, urllib.error.URLError):
        sys.exit("no cluster is up: make spark-up")
    jobs = Jobs(args.folder, args.keys, len(WORKERS))
    print(f"{args.keys:,} keys, {args.runs} runs each", flush=True)
    pairs = [(jobs.sensorium(), on_spark(jobs, cluster)) for _ in range(args.runs)]
    same = hashes(jobs.output) == hashes(jobs.output.with_name("on-spark"))
    local = [one for one, _ in pairs]
    show("FnApiRunner", local)
    show("Spark", [run for _, (run, _) in pairs], median(local))
    for name, seconds in zip(PHASES, zip(*(p for _, (_, p) in pairs), strict=True), strict=True):
        print(f"  {name:<44}{statistics.median(seconds):6.2f} s", flush=True)
    print(f"the same bytes: {same}")


if __name__ == "__main__":
    main()
