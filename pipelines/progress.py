"""Progress by step and modality: bars on a terminal, plain lines otherwise.

It is read from the receipts in the output, so it is true for every runner.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from schemas import storage
from schemas.errors import StorageError
from schemas.layout import FUSED, Layout
from schemas.plan import Plan

Key = tuple[str, str]
"""(step, modality) as the receipts are filed."""

LOOK_AGAIN = 20  # times as long as looking took, at least, until it is done again


def watched(plan: Plan, upto: str) -> dict[Key, str]:
    """What there is to watch, with the words for it, in the order of the flow."""
    out = {("ingest", name): f"ingest {name}" for name in plan.branches}
    if upto != "ingest":
        out |= {("extract", m.name): f"extract {m.name}" for m in plan.modalities}
        if upto != "extract":
            out["fuse", FUSED] = "fuse"
            if plan.fitted is not None:
                out["predict", FUSED] = "predict"
    return out


def done_now(plan: Plan, keys: dict[Key, str]) -> dict[Key, int]:
    """How many buckets have a receipt, for each key."""
    layout = Layout(plan.output, plan.buckets)
    return {key: count_receipts(layout, *key) for key in keys}


def count_receipts(layout: Layout, step: str, modality: str) -> int:
    """How many buckets of a step have a receipt."""
    folder = storage.parent(layout.receipt(step, modality, 0))
    return sum(name.endswith(".json") for name in storage.names_in(folder, layout.prefixes))


class Watch:
    """Shows progress from a thread of its own; `start` it once no more processes are forked."""

    def __init__(self, plan: Plan, upto: str, console: Console, unchanged: set[str]) -> None:
        self.plan, self.console = plan, console
        # Steps as the state names them; they are looked through, but nothing is expected of them.
        self.unchanged = {
            (step, name or FUSED) for step, _, name in (u.partition("/") for u in unchanged)
        }
        self.keys = watched(plan, upto)
        self.seconds = 0.25 if storage.is_local(plan.output) else 5.0
        self.before = dict.fromkeys(self.keys, 0) | self._look()
        self._said = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show, name="progress", daemon=True)

    def start(self) -> None:
        """Begin to show."""
        self._thread.start()

    def _look(self) -> dict[Key, int]:
        """What is done now; the next look is as far off as keeps looking a twentieth of the time.

        A million receipts take a second to count on a disk, and a minute on an object store.
        Nothing is seen while a store is away: to show is not worth to fail.
        """
        started = time.monotonic()
        found: dict[Key, int] = {}
        try:
            found = done_now(self.plan, self.keys)
        except StorageError as error:
            logging.getLogger("sensorium").warning("progress cannot be seen: %s", error)
        self.seconds = max(self.seconds, LOOK_AGAIN * (time.monotonic() - started))
        return found

    def say(self, words: str) -> None:
        """Show what the launcher itself is doing, between two graphs."""
        if not self._said and not self.console.is_terminal:
            self.console.print("          choose the strategy")
        self._said = words

    def stop(self) -> None:
        """Show the last state and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _show(self) -> None:
        if self.console.is_terminal:
            self._bars()
        else:
            self._lines()

    def _bars(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, refresh_per_second=8) as bars:
            tasks = {
                key: bars.add_task(words, total=self.plan.buckets, start=False)
                for key, words in self.keys.items()
            }
            own: TaskID | None = None
            ended = False
            while not ended:
                ended = self._stop.wait(self.seconds)
                if self._said:
                    own = own if own is not None else bars.add_task("", total=None)
                    bars.update(own, description=f"choose {self._said}")
                for key, count in self._look().items():
                    if count > self.before[key]:
                        bars.start_task(tasks[key])
                    bars.update(tasks[key], completed=count)
                    if count >= self.plan.buckets:
                        bars.stop_task(tasks[key])

    def _lines(self) -> None:
        started, said = time.monotonic(), set[Key]()
        ended = False
        while not ended:
            ended = self._stop.wait(self.seconds)
            for key, count in self._look().items():
                if count >= self.plan.buckets and key not in said:
                    said.add(key)
                    note = " (as it was)" if key in self.unchanged else ""
                    seconds = time.monotonic() - started
                    self.console.print(f"{seconds:6.1f} s  {self.keys[key]}: done{note}")


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Stop a watch at the end, however it ends."""
    try:
        yield
    finally:
        watch.stop()
