"""What the local clusters share: a folder for what they keep, programs, ports and processes.

Everything that is downloaded, built or written while a cluster runs is in .cluster/ of the
checkout (or in the folder that SENSORIUM_CLUSTER names), which git ignores.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("SENSORIUM_CLUSTER", ROOT / ".cluster"))
BOOT = ROOT / "infra" / "workers" / "boot"


def need(*programs: str) -> None:
    """Exit with a line for a person if a program is not on the PATH."""
    hints = {
        "java": "a Java runtime, 11 or 17 (Debian: openjdk-17-jdk-headless)",
        "mvn": "Maven 3.6 or newer (Debian: maven)",
        "go": "Go 1.21 or newer, which fetches the version that it needs (https://go.dev/dl)",
    }
    missing = [hints[name] for name in programs if shutil.which(name) is None]
    if missing:
        sys.exit(f"not installed: {'; '.join(missing)}")


def free_ports(count: int) -> list[int]:
    """Different ports on loopback that nobody listens at now.

    They are asked for at once, so that they differ; somebody else may take one before it is used,
    which its server then says.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def listening(port: int) -> bool:
    """Whether somebody listens at a port on loopback."""
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: names what did not happen in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds:g} s: {what}")
        time.sleep(0.2)


class Processes:
    """Named processes that outlive the one that starts them: NAME.pid and NAME.log in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log(self, name: str) -> Path:
        """What a process says."""
        return self.folder / f"{name}.log"

    def start(
        self, name: str, command: Sequence[str | Path], variables: Mapping[str, str] | None = None
    ) -> None:
        """Start a process in a session of its own, unless it runs already.

        Args:
            name: of the process.
            command: program and arguments.
            variables: of its environment, beside those of this process.
        """
        if self.pid(name) is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(variables or {})},
                start_new_session=True,  # an interrupt at the terminal is not for them
            )
        # For a moment the system has taken the program's place already, but not its arguments.
        while process.poll() is None and _command_of(process.pid)[:1] in ("", "["):
            time.sleep(0.01)
        (self.folder / f"{name}.pid").write_text(f"{process.pid} {_command_of(process.pid)}")

    def pid(self, name: str) -> int | None:
        """The process of that name, or None where it does not run."""
        try:
            pid, _, command = (self.folder / f"{name}.pid").read_text().partition(" ")
        except FileNotFoundError:
            return None
        # The number may belong to another process by now: its command tells.
        return int(pid) if command and _command_of(int(pid)) == command else None

    def names(self) -> list[str]:
        """Names of all that were started and not stopped."""
        return sorted(path.stem for path in self.folder.glob("*.pid"))

    def stop(self, *names: str, seconds: float = 10) -> None:
        """End processes, together; those that do not go in time are killed."""
        for name in names:
            self._signal(name, signal.SIGTERM)
        end = time.monotonic() + seconds
        for name in names:
            while self.pid(name) is not None and time.monotonic() < end:
                time.sleep(0.1)
            self._signal(name, signal.SIGKILL)
            (self.folder / f"{name}.pid").unlink(missing_ok=True)

    def kill(self, name: str) -> None:
        """Kill a process as a power failure would."""
        self._signal(name, signal.SIGKILL)

    def _signal(self, name: str, number: signal.Signals) -> None:
        pid = self.pid(name)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _command_of(pid: int) -> str:
    """The command line of a process; empty where there is none, `<defunct>` where it has ended."""
    command = ["ps", "-o", "args=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def tail(path: Path, lines: int = 5) -> str:
    """The last lines of a log."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
