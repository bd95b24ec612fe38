"""Payloads on object stores: read ahead of their use, within a bound in bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import storage
from tests.pipelines.s3_server import Bucket
from transforms.extractors.base import BadRecord
from transforms.records import payloads

MOST = 30  # bytes of a payload


def write(root: str, sizes: list[int]) -> list[str]:
    """Files of some sizes, each of bytes of its own; a negative size makes none."""
    for i, size in enumerate(sizes):
        if size >= 0:
            storage.write_bytes(f"{root}/{i}", bytes([i % 256]) * size)
    return [f"{root}/{i}" for i in range(len(sizes))]


def in_batches(paths: list[str], rows: int) -> list[list[str]]:
    return [paths[i : i + rows] for i in range(0, len(paths), rows)]


class Held:
    """Bytes of whole payloads that were fetched and are not used up, and their most."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now, self.most, self._lock, self._real = 0, 0, threading.Lock(), payloads._fetch
        patch.setattr(payloads, "_fetch", self._fetch)

    def _fetch(self, paths: list[str], max_bytes: int) -> list[payloads.Payload]:
        got = self._real(paths, max_bytes)
        with self._lock:
            self.now += sum(len(one) for one in got if isinstance(one, bytes))
            self.most = max(self.most, self.now)
        return got

    def used(self, size: int) -> None:
        with self._lock:
            self.now -= size


@given(
    sizes=st.lists(st.integers(-1, MOST + 3), max_size=40),
    rows=st.integers(1, 7),
    ahead=st.integers(1, 300),
    local=st.booleans(),
)
def test_payloads_come_in_order_each_by_itself_within_the_bound(
    sizes: list[int],
    rows: int,
    ahead: int,
    local: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    paths = write(f"memory://{uuid.uuid4().hex}", sizes)
    if local and paths:  # one of them is on this machine
        paths[0] = write(str(tmp_path_factory.mktemp("local")), sizes[:1])[0]
    batches = in_batches(paths, rows)
    beginning = min(MOST + 1, max(1, ahead // (4 * max(map(len, batches), default=1))))
    got: list[payloads.Payload] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payloads, "AHEAD", ahead)
        held = Held(patch)
        for paths_of_batch, batch in zip(batches, payloads.fetch_ahead(batches, MOST), strict=True):
            of_batch = []
            for one in batch:
                of_batch.append(one)
                if isinstance(one, bytes) and len(one) >= beginning:
                    held.used(len(one))
            assert len(of_batch) == len(paths_of_batch)
            got += of_batch
    assert held.most <= max(ahead, MOST)
    for i, (size, one) in enumerate(zip(sizes, got, strict=True)):
        if 0 <= size <= MOST:
            assert one == bytes([i]) * size
        else:
            assert isinstance(one, BadRecord)
            assert one.kind == ("missing_file" if size < 0 else "too_large")
            assert paths[i] in str(one)


FETCH = """
import sys, tracemalloc
from schemas import storage
from transforms.records import payloads

url, size, count, payloads.AHEAD = sys.argv[1], *map(int, sys.argv[2:])
paths = [f"{url}/{i}" for i in range(count)]
storage.read_bytes(paths[0])  # the client is there
tracemalloc.start()
seen = 0
for batch in payloads.fetch_ahead([paths[i : i + 20] for i in range(0, count, 20)], 256 << 20):
    for one in batch:
        assert len(one) == size and one[0] == one[-1] == seen
        seen += 1
assert seen == count
print(tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.slow
def test_huge_payloads_are_few_in_memory(s3: Bucket) -> None:
    size, count, ahead = 2 << 20, 40, 8 << 20
    write(s3.url, [size] * count)
    # In a process of its own: the gate before the server takes memory of this one.
    args = [FETCH, s3.url, str(size), str(count), str(ahead)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", *args], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    # Beginnings, and payloads, each of which is there twice when its last bytes have come in.
    assert int(done.stdout) < ahead + 2 * ahead + size


def test_small_payloads_take_one_request_each(s3: Bucket) -> None:
    paths = write(s3.url, [1000] * 100)
    storage.disconnect()
    storage.read_bytes(paths[0])
    s3.gate.reset()
    batches = in_batches(paths, 16)
    assert sum(len(one) for b in payloads.fetch_ahead(batches, 1 << 20) for one in b) == 100_000
    assert s3.gate.requests == 100


def test_what_is_over_max_bytes_is_not_fetched(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "_fetch", None)
    [batch] = payloads.fetch_ahead([write(s3.url, [2 << 20])], 1 << 20)
    [one] = batch
    assert isinstance(one, BadRecord)
    assert one.kind == "too_large"


def test_as_many_large_payloads_as_the_bound_allows_are_fetched_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = write(f"memory://{uuid.uuid4().hex}", [100] * 8)
    monkeypatch.setattr(payloads, "AHEAD", 400)
    together, real = threading.Barrier(4, timeout=60), payloads._fetch

    def fetch(paths: list[str], max_bytes: int) -> list[payloads.Payload]:
        together.wait()  # breaks unless four come
        return real(paths, max_bytes)

    monkeypatch.setattr(payloads, "_fetch", fetch)
    got = [one for batch in payloads.fetch_ahead(in_batches(paths, 3), 1000) for one in batch]
    assert got == [bytes([i]) * 100 for i in range(8)]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
@pytest.mark.parametrize("whole", [True, False])
def test_a_fork_after_it_finds_no_thread(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = in_batches(write(f"memory://{uuid.uuid4().hex}", [100] * 40), 4)
    monkeypatch.setattr(payloads, "AHEAD", 400)
    before = set(os.listdir("/proc/self/task"))
    fetched = payloads.fetch_ahead(batches, 1000)
    assert len(list(next(fetched))) == 4
    assert set(os.listdir("/proc/self/task")) > before
    if whole:
        assert sum(len(list(batch)) for batch in fetched) == 36
    fetched.close()
    assert set(os.listdir("/proc/self/task")) == before
