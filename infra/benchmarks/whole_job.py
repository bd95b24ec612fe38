"""The whole job against its bare work: what does the framework cost?

    python -m infra.benchmarks.whole_job                    ratio at 20,000 keys
    python -m infra.benchmarks.whole_job --keys 80000       ... and at 80,000
    python -m infra.benchmarks.whole_job --add              what embed, scaling and PCA add
    python -m infra.benchmarks.whole_job --line             fixed cost, cost a key, peak memory
    python -m infra.benchmarks.whole_job --vs daft          beside Daft, where it is installed

Whole processes are timed against each other in turn, imports included, and the ratio is that of
the medians: on a shared machine single times mean little. Python keeps compiled modules, as it
does for users, even where the environment says that it must not.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from infra.benchmarks.synthetic import make

ADDED = {
    "payload embed": ["modalities.image.payload=embed", "modalities.audio.payload=embed"],
    "scale standard": ["fuse.scale=standard", "join.missing=mean"],
    "pca 64 of hog": ["fuse.scale=standard", "join.missing=mean", "fuse.pca={image: 64}"],
}

ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


@dataclass
class Run:
    """One finished process: seconds from start to end, peak MiB of its largest process."""

    seconds: float
    peak: float


def timed(command: list[str], output: Path) -> Run:
    """Run a command that writes to an output folder of its own, which is removed first."""
    shutil.rmtree(output, ignore_errors=True)
    os.sync()  # what another run left to write must not be waited for in this one
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{said.decode()}")
    return Run(seconds, usage.ru_maxrss / 1024)


class Jobs:
    """The commands that are compared, on a set of some size.

    Each run has a new output. The files of old ones are emptied, and removed only at exit: some
    file systems (ext4 without a journal) pass over each inode that was freed within the last
    minutes, one by one, for every new file, which users' runs do not have to wait for.
    """

    def __init__(self, folder: Path, keys: int, workers: int) -> None:
        self.set = folder / f"set-{keys}"
        self.workers = workers
        folder.mkdir(parents=True, exist_ok=True)
        self._outputs = Path(tempfile.mkdtemp(prefix="outputs-", dir=folder))
        atexit.register(shutil.rmtree, self._outputs)
        self._runs = 0
        if not (self.set / "recipe.yaml").exists():
            print(f"making a set of {keys:,} keys", flush=True)
        self.recipe = make(self.set, keys)

    def sensorium(self, *sets: str) -> Run:
        """`sensorium run`."""
        options = [part for one in sets for part in ("--set", one)]
        if self.workers != os.cpu_count():
            options.append(f"--direct_num_workers={self.workers}")
        command = [sys.executable, "-m", "pipelines.cli", "run", str(self.recipe)]
        self._next()
        return timed([*command, "--to", str(self.output), *options], self.output)

    def bare(self) -> Run:
        """The bare work."""
        module = [sys.executable, "-m", "infra.benchmarks.bare"]
        self._next()
        return timed([*module, str(self.set), str(self.output), str(self.workers)], self.output)

    def daft(self) -> Run:
        """The same in Daft."""
        module = [sys.executable, "-m", "infra.benchmarks.with_daft"]
        self._next()
        return timed([*module, str(self.set), str(self.output)], self.output)

    @property
    def output(self) -> Path:
        """The output folder of the last run."""
        return self._outputs / str(self._runs)

    def _next(self) -> None:
        for path in self.output.rglob("*"):
            if path.is_file():
                os.truncate(path, 0)
        self._runs += 1


def median(runs: list[Run]) -> float:
    """Median of the seconds."""
    return statistics.median(run.seconds for run in runs)


def show(name: str, runs: list[Run], than: float | None = None) -> None:
    """A line of figures."""
    times = sorted(run.seconds for run in runs)
    ratio = "" if than is None else f"   ratio of medians {median(runs) / than:.3f}"
    peak = max(run.peak for run in runs)
    print(
        f"{name:<18}median {median(runs):7.2f} s   min {times[0]:7.2f}   max {times[-1]:7.2f}   "
        f"peak {peak:6.0f} MiB{ratio}",
        flush=True,
    )


def ratio(jobs: Jobs, runs: int) -> None:
    """Sensorium and the bare work, in turn."""
    jobs.bare(), jobs.sensorium()  # warm the page cache
    pairs = [(jobs.sensorium(), jobs.bare()) for _ in range(runs)]
    bare = [b for _, b in pairs]
    show("bare work", bare)
    show("sensorium run", [s for s, _ in pairs], median(bare))


def additions(jobs: Jobs, runs: int) -> None:
    """What each option adds to the plain run, all in turn."""
    jobs.sensorium()
    rounds = [
        {"plain": jobs.sensorium()} | {n: jobs.sensorium(*sets) for n, sets in ADDED.items()}
        for _ in range(runs)
    ]
    plain = [one["plain"] for one in rounds]
    show("plain", plain)
    for name in ADDED:
        show(name, [one[name] for one in rounds], median(plain))


def line(folder: Path, sizes: list[int], workers: int, runs: int) -> None:
    """A straight line through the medians of several sizes."""
    for name in ("sensorium", "bare"):
        points = []
        for keys in sizes:
            jobs = Jobs(folder, keys, workers)
            job = jobs.sensorium if name == "sensorium" else jobs.bare
            job()
            found = [job() for _ in range(runs)]
            show(f"{name} {keys:,}", found)
            points.append((keys, median(found)))
        x = [p[0] for p in points]
        slope, fixed = statistics.linear_regression(x, [p[1] for p in points])
        print(f"{name}: {fixed:.2f} s + {slope * 1000:.3f} ms a key", flush=True)


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, default=Path(".benchmarks"))
    parser.add_argument("--add", action="store_true")
    parser.add_argument("--line", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 20_000, 80_000])
    parser.add_argument("--vs", choices=["daft"])
    args = parser.parse_args()
    print(f"{args.workers} workers, {args.runs} runs each", flush=True)
    if args.line:
        line(args.folder, args.sizes, args.workers, args.runs)
        return
    jobs = Jobs(args.folder, args.keys, args.workers)
    print(f"{args.keys:,} keys", flush=True)
    if args.add:
        additions(jobs, args.runs)
    elif args.vs == "daft":
        if importlib.util.find_spec("daft") is None:
            sys.exit("Daft is not installed: pip install daft")
        pairs = [(jobs.daft(), jobs.bare(), jobs.sensorium()) for _ in range(args.runs)]
        bare = [p[1] for p in pairs]
        show("bare work", bare)
        show("sensorium run", [p[2] for p in pairs], median(bare))
        show("daft", [p[0] for p in pairs], median(bare))
    else:
        ratio(jobs, args.runs)


if __name__ == "__main__":
    main()
