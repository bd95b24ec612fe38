"""Forked workers beside the thread that fsspec keeps for remote stores."""

from __future__ import annotations

import os
import subprocess
import sys

from flows import ROOT

FORK = """
import threading
from pipelines.workers import WorkerPool
{before}
pool = WorkerPool(2, lambda: None)
pool.close()
print("forked")
"""


def fork(before: str) -> subprocess.CompletedProcess[str]:
    """Fork and end two workers in a process of its own, after some other code."""
    return subprocess.run(
        [sys.executable, "-c", FORK.format(before=before)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_workers_are_forked_beside_the_thread_of_a_remote_store() -> None:
    done = fork("import fsspec.asyn; fsspec.asyn.get_loop(); assert threading.active_count() == 2")
    assert done.stdout == "forked\n", done.stderr


def test_other_threads_are_refused() -> None:
    done = fork("threading.Thread(target=threading.Event().wait, daemon=True, name='mine').start()")
    assert done.returncode == 1
    assert "mine" in done.stderr
