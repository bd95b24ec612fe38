"""Processes that outlive the one that starts them, told by pid and command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.processes import Processes, free_ports, listening, tail, wait_for
from infra.workers.start import arguments

SLEEP = ["sleep", "60"]


def test_a_process_runs_until_it_is_stopped(tmp_path: Path) -> None:
    processes = Processes(tmp_path / "run")
    assert processes.names() == []
    processes.start("one", SLEEP)
    pid = processes.pid("one")
    assert pid is not None
    processes.start("one", SLEEP)
    assert processes.pid("one") == pid
    assert processes.names() == ["one"]
    processes.stop("one")
    assert processes.pid("one") is None
    assert processes.names() == []


def test_a_killed_process_is_known_and_can_be_started_again(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("one", SLEEP)
    before = processes.pid("one")
    processes.kill("one")
    wait_for(lambda: processes.pid("one") is None, "it has not ended", 10)
    assert processes.names() == ["one"]
    processes.start("one", SLEEP)
    assert processes.pid("one") not in (None, before)
    processes.stop("one")


def test_a_number_that_belongs_to_another_process_by_now_is_left_alone(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    (tmp_path / "one.pid").write_text(f"{os.getpid()} sleep 60")
    assert processes.pid("one") is None
    processes.stop("one")  # or this test would not come back


def test_what_a_process_says_is_in_its_log_and_its_variables_are_its_own(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("one", ["sh", "-c", "echo $WORD"], {"WORD": "hello"})
    wait_for(lambda: tail(processes.log("one")) == "hello", "it says nothing", 10)
    processes.stop("one")
    assert "WORD" not in os.environ
    assert tail(processes.log("another")) == ""


def test_ports_are_free_and_differ() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert not any(map(listening, ports))


def test_waiting_ends() -> None:
    with pytest.raises(TimeoutError, match=r"after 0\.3 s: no such luck"):
        wait_for(lambda: False, "no such luck", 0.3)


def test_a_worker_takes_arguments_as_runners_write_them() -> None:
    given = ["--id='1-1'", "--provision_endpoint=localhost:5", "--control_endpoint=localhost:6"]
    found = arguments(given)
    assert (found.id, found.provision_endpoint) == ("1-1", "localhost:5")
