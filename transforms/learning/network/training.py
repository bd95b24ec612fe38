"""Training the networks that a recipe asks for: which are there, which are not, in what processes.

fitted/networks/<strategy>/whole.safetensors          that of the fused data set
                           without-<folds>.safetensors   for cross-validation
                           networks.json              from what they were trained; written last
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from schemas import storage
from schemas.errors import DataError
from schemas.options.fuse import Deep, networks_of
from schemas.plan import Plan
from schemas.receipts import fingerprint
from transforms.fusion.fusing import networks_folder
from transforms.fusion.network import network_bytes
from transforms.learning.dataset import labelled_rows
from transforms.learning.network.fitting import fit_for_plan
from transforms.learning.network.jobs import Job, jobs_of
from transforms.learning.network.survey import Survey, survey

FORMAT = 3
"""To be raised when what is trained changes."""
JOBS = 8
"""Networks (and their twins) that one process trains side by side, if memory allows."""
PROCESSES = 4
"""Most that train at the same time."""
GROUP_BYTES = 1 << 30
"""Of all that these are: weights, slopes, averages, and what the optimiser remembers."""

Progress = Callable[[str], None]


class TrainingDied(RuntimeError):
    """A process that trains networks ended by itself."""


def ensure_networks(plan: Plan, upstream: str, progress: Progress) -> None:
    """Train the networks of a recipe's strategies that are not there yet.

    Args:
        plan: of the run, whose features are there.
        upstream: fingerprint of all features and labels.
        progress: told in a few words what was done.

    Raises:
        DataError: there is nothing to learn, or features are not finite.
        TrainingDied: a process ended by itself.
    """
    wanted = {networks_folder(plan.output, deep): deep for deep in networks_of(plan.recipe.fuse)}
    found: Survey | None = None
    for folder, deep in wanted.items():
        own = _depends_on(plan, deep, upstream)
        if _is_there(folder, own):
            continue
        if found is None:
            progress("networks: a look at all rows")
            found = look(plan)
        storage.remove(storage.join(folder, "networks.json"))
        storage.remove_tree(folder)
        _train(plan, found, deep, folder, own, progress)


def look(plan: Plan) -> Survey:
    """One pass over the labelled rows of an output."""
    assert plan.recipe.target is not None
    names = tuple(m.name for m in plan.modalities)
    found = survey(names, labelled_rows(plan), plan.recipe.target.task == "regression")
    if found.classes is not None and len(found.classes) < 2:
        raise DataError(
            f"nothing to learn: every label of the training rows is {found.classes.tolist()}"
        )
    return found


def _depends_on(plan: Plan, deep: Deep, upstream: str) -> str:
    recipe = plan.recipe
    assert recipe.target is not None
    assert recipe.train is not None
    return fingerprint(
        FORMAT,
        deep.model_dump(mode="json", exclude={"keep_modalities"}),
        [m.name for m in plan.modalities],
        recipe.join.model_dump(mode="json"),
        recipe.split.model_dump(mode="json"),
        [recipe.target.column, recipe.target.task, recipe.train.domain],
        upstream,
    )


def _is_there(folder: str, own: str) -> bool:
    path = storage.join(folder, "networks.json")
    if not storage.exists(path):
        return False
    known = json.loads(storage.read_bytes(path))
    files = [storage.join(folder, one["file"]) for one in known["networks"]]
    return known["fingerprint"] == own and all(storage.exists(file) for file in files)


def _train(
    plan: Plan, found: Survey, deep: Deep, folder: str, own: str, progress: Progress
) -> None:
    jobs = jobs_of(found.folds, found.domains)
    size = _group_size(found, deep)
    groups = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    lines: dict[int, list[dict[str, Any]]] = {}

    def say(group: int, words: str) -> None:
        of = f" of group {group + 1} of {len(groups)}" if len(groups) > 1 else ""
        progress(f"networks{of}: {words}")

    context = multiprocessing.get_context("spawn")  # forked, JAX would hang
    waiting = list(enumerate(groups))[::-1]
    running: dict[Connection, tuple[int, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < min(os.cpu_count() or 1, PROCESSES):
                number, group = waiting.pop()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(
                    target=_work, args=(theirs, plan, found, deep, group, folder), daemon=True
                )
                process.start()
                theirs.close()
                running[ours] = (number, process)
            ready = wait(list(running))
            for ours in [one for one in running if one in ready]:
                number, process = running[ours]
                try:
                    kind, said = ours.recv()
                except EOFError:
                    process.join()
                    kind, said = "died", f"exit status {process.exitcode}"
                    if process.exitcode == -9:
                        said += "; it may have run out of memory"
                if kind == "epoch":
                    say(number, f"epoch {said}")
                    continue
                if kind == "done":
                    lines[number] = said
                    process.join()
                    del running[ours]
                    ours.close()
                    continue
                if kind == "data":
                    raise DataError(said)
                raise TrainingDied(f"a process that trains networks ended: {said}")
    finally:
        for _, process in running.values():
            process.kill()
            process.join()
    text = {"fingerprint": own, "networks": [one for n in sorted(lines) for one in lines[n]]}
    path = storage.join(folder, "networks.json")
    storage.write_bytes(path, json.dumps(text, indent=1).encode())


def _group_size(found: Survey, deep: Deep) -> int:
    features = sum(len(m.mean) for m in next(iter(found.moments.values()))[:-1])
    several = len(found.modalities)
    weights = deep.dimension * features + (several**2 + 4 * several + 4) * deep.dimension**2
    # Of a network and its twin: as they are, averaged, kept; slopes, two moments, two copies.
    return max(1, min(JOBS, GROUP_BYTES // (2 * 8 * 4 * weights)))


def _work(
    told: Connection, plan: Plan, found: Survey, deep: Deep, jobs: Sequence[Job], folder: str
) -> None:
    """What a process does: train, write, tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides
    launcher = multiprocessing.parent_process()

    def after(epoch: int) -> None:
        if launcher is not None and not launcher.is_alive():
            os._exit(1)  # nobody waits for it
        told.send(("epoch", epoch))

    try:
        lines = []
        for job, one in zip(jobs, fit_for_plan(plan, found, deep, jobs, after), strict=True):
            file = f"{job.name}.safetensors"
            storage.write_bytes(storage.join(folder, file), network_bytes(one.network))
            lines.append(
                {
                    "file": file,
                    "folds": list(job.folds),
                    "domain": job.domain,
                    "epochs": one.epochs,
                    "loss": one.loss,
                }
            )
        told.send(("done", lines))
    except DataError as error:
        told.send(("data", str(error)))
    except Exception as error:  # noqa: BLE001 - the launcher says it and ends the run
        told.send(("failed", f"{type(error).__name__}: {error}".partition("\n")[0]))
