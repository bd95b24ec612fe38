"""One model a process, and a process that can still be forked once a model is loaded."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from onnx_models import write_linear

from schemas import storage
from transforms.extractors.base import Batch, Context
from transforms.extractors.model.onnx import OnnxOfTables, OnnxOfVectors
from transforms.extractors.model.sharing import shared

COLUMNS = Context(columns=dict.fromkeys("abc", "number"))


def test_a_thing_is_loaded_once_however_many_threads_ask() -> None:
    loads = []

    def load() -> list[int]:
        time.sleep(0.05)
        loads.append(1)
        return loads

    found: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: found.append(shared("test: threads", load)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [1]
    assert all(one is loads for one in found)


def test_what_failed_to_load_is_tried_again() -> None:
    def fail() -> int:
        raise ValueError("not yet")

    with pytest.raises(ValueError, match="not yet"):
        shared("test: failing", fail)
    assert shared("test: failing", lambda: 5) == 5


def test_one_session_serves_all_that_name_the_same_model(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(3, 2))
    path = write_linear(tmp_path / "a.onnx", weights)
    (tmp_path / "b.onnx").write_bytes(path.read_bytes())
    one, two = OnnxOfVectors(path=str(path)), OnnxOfTables(path=str(tmp_path / "b.onnx"))
    one.context = two.context = COLUMNS
    assert one._model[1] is two._model[1]
    write_linear(path, 2 * weights)
    changed = OnnxOfVectors(path=str(path))
    assert changed._model[1] is not one._model[1]


def test_a_model_on_a_remote_store(tmp_path: Path) -> None:
    weights = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
    data = write_linear(tmp_path / "a.onnx", weights).read_bytes()
    storage.write_bytes("memory://models/a.onnx", data)
    onnx = OnnxOfVectors(path="memory://models/a.onnx")
    onnx.context = COLUMNS
    onnx.check()
    np.testing.assert_allclose(onnx.transform(Batch(np.eye(3))), weights, rtol=1e-6)


CODE = """
import os, sys
from transforms.extractors.base import Context
from transforms.extractors.model.onnx import OnnxOfVectors
onnx = OnnxOfVectors(path=sys.argv[1], batch=2)
onnx.context = Context(columns=dict.fromkeys("abc", "number"))
onnx.check()
assert "onnxruntime" in sys.modules
print(len(os.listdir("/proc/self/task")), os.environ["ORT_DISABLE_TELEMETRY"])
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads on Linux only")
def test_a_model_starts_no_thread_and_reports_to_nobody(tmp_path: Path) -> None:
    path = write_linear(tmp_path / "a.onnx", np.eye(3))
    environment = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "1"]
