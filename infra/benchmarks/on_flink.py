"""The whole job on Flink beside the local runner: the ratio, and where the difference goes.

    make cluster-up
    python -m infra.benchmarks.on_flink                 20,000 keys, 3 runs each
    python -m infra.benchmarks.on_flink --keys 80000

Whole processes in turn, as in `whole_job`; both have two Python workers. The phases of the runs on
Flink are from its REST API, so that the clock is one machine's.
"""

from __future__ import annotations

from typing import Any

from infra.benchmarks.beside import compare
from infra.flink.cluster import TASK_MANAGERS, Cluster

PHASES = (
    "launcher, until Flink has the job",
    "Flink, until the first Python step is done",
    "Flink, the steps that work",
    "Flink, all else",
    "launcher, after the job",
)
WORK = ("ingest", "extract", "Fuse", "Statistics")


def phases(cluster: Cluster, started: float, ended: float) -> list[float]:
    """Seconds of each of PHASES of the newest job."""
    job = cluster.get(f"/jobs/{cluster.jobs()[-1]['jid']}")
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
    """Compare both."""
    cluster = Cluster()

    def phases_of(started: float, ended: float) -> list[float]:
        return phases(cluster, started, ended)

    compare(cluster, len(TASK_MANAGERS), PHASES, phases_of, __doc__)


if __name__ == "__main__":
    main()
