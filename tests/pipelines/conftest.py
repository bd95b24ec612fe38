"""One example data set and one finished run of it, which tests look at but do not change.

And one S3 server, of which each test that asks for it has a bucket.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from flows import must
from s3_server import JAR, Bucket, Gate, Server, environment

from pipelines.example import write_digits
from schemas import storage


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's folder after a whole run: recipe.yaml and digits-output are in it."""
    folder = tmp_path_factory.mktemp("finished") / "digits"
    write_digits(folder)
    must("run", folder / "recipe.yaml", "--to", folder / "output")
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished example, to change."""
    return Path(shutil.copytree(finished, tmp_path / "digits"))


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """An S3 server behind its gate."""
    if not JAR.exists():
        if "CI" in os.environ:
            pytest.fail("the S3 server is missing: make .cache/s3proxy.jar")
        pytest.skip("the S3 server is missing: make .cache/s3proxy.jar")
    server = Server(tmp_path_factory.mktemp("s3"))
    gate = Gate(server)
    yield gate
    gate.close()
    server.kill()


@pytest.fixture
def s3(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A new bucket, where the ordinary variables lead to, here and in the processes started."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment(gate.url).items():
        monkeypatch.setenv(name, value)
    bucket = Bucket(gate, f"test-{uuid.uuid4().hex[:12]}")
    yield bucket
    gate.reset()
    storage.disconnect()  # the next test's clients are to look at its own variables
