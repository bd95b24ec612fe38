"""The whole job on Spark beside the local runner: the ratio, and where the difference goes.

    make spark-up
    python -m infra.benchmarks.on_spark                 20,000 keys, 3 runs each
    python -m infra.benchmarks.on_spark --keys 2000

Whole processes in turn, as in `whole_job`; both have two Python workers. The phases of the runs on
Spark are from its event log, so that the clock is one machine's.
"""

from __future__ import annotations

from infra.benchmarks.beside import compare
from infra.spark.cluster import WORKERS, Cluster

PHASES = (
    "launcher, until Spark has the job",
    "executors start",
    "tasks",
    "Spark, between tasks",
    "launcher, after the job",
)


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
    """Compare both."""
    cluster = Cluster()

    def phases_of(started: float, ended: float) -> list[float]:
        return phases(cluster, started, ended)

    compare(cluster, len(WORKERS), PHASES, phases_of, __doc__)


if __name__ == "__main__":
    main()
