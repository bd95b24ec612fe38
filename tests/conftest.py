"""One S3 server for all tests, of which each that asks for it has a bucket."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from schemas import storage
from tests.pipelines.s3_server import JAR, Bucket, Gate, Server, environment


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """An S3 server behind its gate."""
    if not JAR.exists():
        if "CI" in os.environ:
            pytest.fail("the S3 server is missing: make .cluster/s3proxy.jar")
        pytest.skip("the S3 server is missing: make .cluster/s3proxy.jar")
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
