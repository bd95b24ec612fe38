"""One example data set and one finished run of it, which tests look at but do not change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from flows import must

from pipelines.example import write_digits


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's folder after a whole run: recipe.yaml and output are in it.

    What the run printed is beside the folder, in stdout.txt and stderr.txt.
    """
    folder = tmp_path_factory.mktemp("finished") / "digits"
    write_digits(folder)
    done = must("run", folder / "recipe.yaml", "--to", folder / "output")
    for name in ("stdout", "stderr"):
        (folder.parent / f"{name}.txt").write_text(getattr(done, name))
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished example, to change."""
    return Path(shutil.copytree(finished, tmp_path / "digits"))
