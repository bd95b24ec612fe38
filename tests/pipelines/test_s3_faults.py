"""A store that stops at a PUT: the run survives it, or goes on from there when started again."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import pytest
from flows import hashes, must, sensorium
from s3_server import Bucket
from vectors import write_vectors

from schemas import storage
from schemas.errors import StorageError

FOREVER = 1e9
FOLDERS = ("records", "features", "fused", "fitted", "model", "predictions")


@pytest.fixture(scope="module", params=["fuse", pytest.param("run", marks=pytest.mark.faults)])
def vectors(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set with its local output; the folder has the name of the command."""
    folder = tmp_path_factory.mktemp("s3_faults") / request.param
    folder.mkdir()
    recipe = write_vectors(folder, {"method": "concatenate"})
    must(request.param, recipe, "--to", folder / "output")
    return folder


def start(s3: Bucket, url: str, where: Path, attempts: int = 8) -> tuple[int, str]:
    """Do the same from and to S3; returns the exit code and what was said."""
    variables = {"AWS_MAX_ATTEMPTS": str(attempts)}
    args = (url.rpartition("/")[2], f"{url}/recipe.yaml", "--to", f"{s3.url}/out")
    done = sensorium(*args, variables=variables, cwd=where, timeout=900)
    return done.returncode, done.stderr


def puts_of_a_run(s3: Bucket, url: str, where: Path) -> int:
    """How many PUTs a run takes that meets no fault."""
    s3.gate.reset()
    assert start(s3, url, where)[0] == 0
    return s3.gate.puts


def assert_same(vectors: Path, s3: Bucket) -> None:
    assert hashes(s3.folder / "out", *FOLDERS) == hashes(vectors / "output", *FOLDERS)


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_is_waited_for(
    vectors: Path, s3: Bucket, tmp_path: Path
) -> None:
    url, server = s3.take(vectors, vectors.name), s3.gate.server
    restarted = threading.Event()

    def restart() -> None:
        server.kill()
        time.sleep(1)
        server.start()
        restarted.set()

    s3.gate.fault_at, s3.gate.on_fault = 61, restart
    # Java takes its time on a busy machine: more patience than by default.
    code, said = start(s3, url, tmp_path, attempts=20)
    assert restarted.wait(180)
    assert code == 0, said
    # S3Proxy keeps what comes in under another name until it is whole: killed, it may leave that.
    ours, local = (hashes(at, *FOLDERS) for at in (s3.folder / "out", vectors / "output"))
    assert {name: ours.get(name) for name in local} == local


def goes_on_after(n: int, stored: bool, vectors: Path, s3: Bucket, url: str, where: Path) -> None:
    """A run that finds no store from its n-th PUT on fails; started again it ends as ever."""
    s3.gate.reset()
    s3.gate.fault_at, s3.gate.stored, s3.gate.down = n, stored, FOREVER
    code, said = start(s3, url, where, attempts=1)
    assert code == 1
    last = said.strip().splitlines()[-1]
    assert "failed: s3://" in last
    assert "does not answer" in last
    assert "run again" in last
    assert "Traceback" not in said
    s3.gate.reset()
    code, said = start(s3, url, where)
    assert code == 0, said
    assert_same(vectors, s3)


@pytest.mark.slow
def test_a_run_that_lost_its_store_goes_on(vectors: Path, s3: Bucket, tmp_path: Path) -> None:
    goes_on_after(150, True, vectors, s3, s3.take(vectors, vectors.name), tmp_path)


@pytest.mark.faults
def test_a_run_goes_on_wherever_it_lost_its_store(
    vectors: Path, s3: Bucket, tmp_path: Path
) -> None:
    url = s3.take(vectors, vectors.name)
    every = puts_of_a_run(s3, url, tmp_path)
    stored = itertools.cycle([False, True])
    for n in [1, 2, 3, *range(20, every - 8, 31), *range(every - 8, every + 1)]:
        storage.remove_tree(f"{s3.url}/out")
        goes_on_after(n, next(stored), vectors, s3, url, tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("stored", [False, True])
def test_every_put_may_break_once(stored: bool, vectors: Path, s3: Bucket, tmp_path: Path) -> None:
    url = s3.take(vectors, vectors.name)
    every = puts_of_a_run(s3, url, tmp_path)
    storage.remove_tree(f"{s3.url}/out")
    s3.gate.reset()
    s3.gate.fault_at, s3.gate.repeat, s3.gate.stored = 1, True, stored
    code, said = start(s3, url, tmp_path)
    assert code == 0, said
    assert s3.gate.puts > 1.8 * every  # a few go to the same name
    assert_same(vectors, s3)


def half_of_a_file(path: str) -> None:
    with storage.making(path) as name:
        Path(name).write_bytes(b"half")
        raise ZeroDivisionError


def test_a_put_that_fails_leaves_what_was_there(
    s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    path = f"{s3.url}/file"
    storage.write_bytes(path, b"old")
    s3.gate.reset()
    s3.gate.fault_at, s3.gate.down = 1, FOREVER
    with pytest.raises(StorageError, match="run again"):
        storage.write_bytes(path, b"new")
    s3.gate.reset()
    assert storage.read_bytes(path) == b"old"
    with pytest.raises(ZeroDivisionError):
        half_of_a_file(path)
    assert storage.read_bytes(path) == b"old"
    assert storage.files_below(s3.url) == ["file"]


@pytest.mark.slow
def test_a_large_file_appears_whole_or_not_at_all(
    s3: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    path, data = f"{s3.url}/large", bytes(range(256)) * (115 << 12)  # 115 MiB: three parts
    s3.gate.fault_at, s3.gate.down = 2, FOREVER
    with pytest.raises(StorageError):
        storage.write_bytes(path, data)
    s3.gate.reset()
    assert storage.kind(path) is None
    storage.write_bytes(path, data)
    assert s3.gate.puts == 3
    assert storage.read_bytes(path) == data
    with storage.open_file(path) as file:  # by ranges, from the middle to the end
        file.seek(1 << 20)
        assert file.read() == data[1 << 20 :]
