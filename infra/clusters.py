"""What the local clusters have in common: ports, Beam's job server, waiting, the command line."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from infra.processes import BOOT, CACHE, Processes, free_ports, tail, wait_for

SECONDS = 240  # for all to be up: eight on a quiet machine, a minute on a very busy one


@dataclass(frozen=True)
class Ports:
    """Where the parts of a cluster listen on loopback.

    Attributes:
        control: of Flink's JobManager or Spark's master, for its workers.
        console: of the same, for people and by HTTP.
        job, artifact, expansion: of Beam's job server.
    """

    control: int
    console: int
    job: int
    artifact: int
    expansion: int


class LocalCluster(ABC):
    """One cluster, with its processes' files and ports in a folder.

    Args:
        folder: for all that the cluster writes; by default in .cluster.
    """

    name: ClassVar[str]
    """As people write it; in small letters the name of its folder and of its make targets."""

    cached_seconds: ClassVar[int]
    """How long a Python worker waits for more to do of a job."""

    leftovers: ClassVar[tuple[str, ...]]
    """Folders that are removed when the cluster ends."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or CACHE / self.name.lower()
        self.processes = Processes(self.folder)

    @property
    def ports(self) -> Ports:
        """The ports of a cluster that was started."""
        return Ports(**json.loads((self.folder / "ports.json").read_text()))

    @abstractmethod
    def up(self) -> None:
        """Start what does not run, and wait until all is there.

        Raises:
            TimeoutError: if a part does not come up in time.
        """

    @abstractmethod
    def options(self, **variables: str) -> list[str]:
        """Options of `sensorium run` that send a pipeline here.

        Args:
            variables: of the environment of the Python workers.
        """

    @abstractmethod
    def overview(self) -> Any:
        """What the cluster says of itself, by HTTP."""

    def down(self) -> None:
        """End all processes, the job server first, and remove what they left."""
        names = self.processes.names()
        self.processes.stop(*sorted(names, key=lambda name: name != "job-server"))
        for name in self.leftovers:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "options").unlink(missing_ok=True)

    def portable_options(self, variables: dict[str, str]) -> list[str]:
        """Of `options`, those that concern the job server and the Python workers."""
        environment: dict[str, Any] = {"command": str(BOOT)}
        if variables:
            environment["env"] = variables
        return [
            "--shared",  # it all is on this machine
            f"--job_endpoint=localhost:{self.ports.job}",
            "--environment_type=PROCESS",
            f"--environment_cache_millis={self.cached_seconds * 1000}",
            f"--environment_config={json.dumps(environment, separators=(',', ':'))}",
        ]

    def job_server_arguments(self) -> list[str]:
        """Arguments of Beam's job server, whatever runs behind it."""
        ports = self.ports
        return [
            *("--job-host=localhost", f"--job-port={ports.job}"),
            *(f"--artifact-port={ports.artifact}", f"--expansion-port={ports.expansion}"),
            f"--artifacts-dir={self.folder}/artifacts",
        ]

    def new_ports(self) -> Ports:
        """Ports that are free now, kept in the folder."""
        ports = Ports(*free_ports(5))
        (self.folder / "ports.json").write_text(json.dumps(asdict(ports)))
        return ports

    def get(self, path: str) -> Any:
        """JSON from the console."""
        address = f"http://localhost:{self.ports.console}{path}"
        with urllib.request.urlopen(address, timeout=10) as reply:
            return json.load(reply)

    def answers(self) -> bool:
        """Whether the console does."""
        try:
            self.overview()
        except (urllib.error.URLError, OSError):
            return False
        return True

    def wait(self, name: str, what: str, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, while a process lives.

        Raises:
            TimeoutError: if it has ended, or the condition does not come to hold; says `what`.
        """

        def there() -> bool:
            if self.processes.pid(name) is None:
                raise TimeoutError(f"{name} has ended: {tail(self.processes.log(name))}")
            return condition()

        wait_for(there, f"{what}; see {self.processes.log(name)}", SECONDS)


def _up(cluster: LocalCluster) -> None:
    try:
        cluster.up()
    except TimeoutError as error:
        cluster.down()
        sys.exit(f"the cluster did not come up: {error}")
    options = cluster.folder / "options"
    options.write_text(" ".join(cluster.options()) + "\n")
    print(f"{cluster.name} is up; its console: http://localhost:{cluster.ports.console}")
    print(f"Now run:  sensorium run RECIPE $(cat {os.path.relpath(options)})")


def _status(cluster: LocalCluster) -> None:
    names = cluster.processes.names()
    for name in names:
        pid = cluster.processes.pid(name)
        print(f"{name}: {'has ended' if pid is None else f'runs, pid {pid}'}")
    if not names:
        sys.exit(f"no {cluster.name} cluster was started here: see infra/README.md")
    print(json.dumps(cluster.overview(), indent=1))


def main(cluster: LocalCluster, about: str | None) -> None:
    """Parse the command line, and start or end a cluster or tell how it is."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["up", "down", "status"])
    what = parser.parse_args().what
    if what == "down":
        cluster.down()
    else:
        {"up": _up, "status": _status}[what](cluster)
