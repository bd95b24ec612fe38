"""Beam's Prism, the runner that is strict about portability, built by Go into the cache.

    python -m infra.prism.build

Released binaries exist too, and `--runner=PrismRunner` downloads one by itself; building it needs
only a Go module proxy, and gives the version of the SDK in use.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from infra.processes import CACHE, need

SECONDS = 1200


def prism() -> Path:
    """The program, of the version of the installed Beam; built the first time, in a minute."""
    beam = version("apache-beam")
    folder = CACHE / f"prism-{beam}"
    if not (folder / "prism").is_file():
        need("go")
        print("Go: prism (the first time only)", flush=True)
        package = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{beam}"
        # Go puts a finished program there in one step.
        environment = {**os.environ, "GOBIN": str(folder)}
        try:
            subprocess.run(["go", "install", package], check=True, timeout=SECONDS, env=environment)
        except subprocess.CalledProcessError:
            sys.exit(f"Go could not build {package}: what it said is above")
        except subprocess.TimeoutExpired:
            sys.exit(f"Go did not end within {SECONDS} s: is its module proxy reachable?")
    return folder / "prism"


def options() -> list[str]:
    """Options of Beam that run a pipeline on it."""
    # Its workers are threads of the launcher (LOOPBACK): for checking, not for speed.
    return ["--runner=PrismRunner", f"--prism_location={prism()}"]


if __name__ == "__main__":
    print(" ".join(options()))
