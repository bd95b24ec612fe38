"""One example data set and one finished run of it, which tests look at but do not change."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest
from flows import must

from pipelines.example import write_digits


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's folder after a whole run: recipe.yaml and output are in it.

    What the run printed is beside the folder, in stdout.txt and stderr.txt. Processes that share
    the tests between them share it, too.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "finished" / "digits"
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder.parent / "stdout.txt").exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed to make it
            write_digits(folder)
            done = must("run", folder / "recipe.yaml", "--to", folder / "output")
            for name in ("stderr", "stdout"):
                (folder.parent / f"{name}.txt").write_text(getattr(done, name))
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished example, to change."""
    return Path(shutil.copytree(finished, tmp_path / "digits"))
