"""For all tests: generated cases without time limits, and an S3 server with a bucket each."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from schemas import storage
from tests.pipelines.s3_server import JAR, Bucket, Gate, Server, environment

# How long a case takes says more of what else the machine does than of what is tested.
settings.register_profile(
    "untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")


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
