"""What the launcher does itself: choosing a strategy and training, on an output's files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from pydantic import TypeAdapter

from pipelines.planning import with_strategy
from pipelines.resume import clear_fusion, clear_networks
from pipelines.running import RunFailed
from schemas import storage
from schemas.errors import DataError
from schemas.layout import Layout
from schemas.options.fuse import Compare, Deep, Fuse, needs_choice, networks_of
from schemas.plan import Plan
from schemas.receipts import fingerprint
from schemas.recipe import TARGET
from schemas.tables import write_table


def choose_strategy(plan: Plan, progress: Callable[[str], None]) -> None:
    """Write fitted/strategy.json: the strategy in the place of what the recipe leaves open.

    Args:
        plan: of the run, whose features are there.
        progress: told in a few words what was done.

    Raises:
        DataError: if there is nothing to learn, or more than may be held in memory.
    """
    # Imported here: scikit-learn takes long, and only these steps need it.
    from transforms.learning.choosing import Choice, choose
    from transforms.learning.dataset import load_training_set
    from transforms.learning.training import judging

    recipe, layout = plan.recipe, Layout(plan.output, plan.buckets)
    upstream = _receipts(plan)
    own = fingerprint(plan.fingerprints["fuse"], plan.fingerprints["train"], upstream)
    before = _choice(plan.output) if storage.exists(layout.strategy) else None
    if before is not None and before["fingerprint"] == own:
        _train_networks(with_choice(plan), upstream, progress)
        return
    clear_networks(layout, networks_of(recipe.fuse))
    _train_networks(plan, upstream, progress)
    assert recipe.train is not None
    assert recipe.target is not None
    if isinstance(recipe.fuse, Deep):
        choice = Choice(recipe.fuse, {})  # all rows need not be in memory for that
    else:
        needed = _needed(plan)
        if needed > recipe.train.memory:
            raise DataError(
                f"choosing how to fuse takes all rows in memory, {needed:.1f} GiB, more than "
                f"train.memory, which is {recipe.train.memory:g}: raise that, or name a strategy "
                "with nothing left open; with `concatenate` training can read a bucket at a time"
            )
        data = load_training_set(plan, fused=False)
        try:
            with judging(data, recipe.train.models, recipe.target.task, progress) as heads:
                choice = choose(heads, recipe.fuse)
        except ValueError as error:
            raise DataError(str(error)) from None
    found = {
        "fingerprint": own,
        "fuse": choice.fuse.model_dump(mode="json"),
        "report": choice.report,
    }
    if before is not None and before["fuse"] != found["fuse"]:
        clear_fusion(layout)  # other features have led to another strategy
    storage.write_bytes(layout.strategy, json.dumps(found, indent=1, allow_nan=False).encode())


def with_choice(plan: Plan) -> Plan:
    """The plan with the strategy that was chosen; as it is where nothing was left open."""
    if not needs_choice(plan.recipe.fuse):
        return plan
    return with_strategy(plan, chosen_strategy(plan.output))


def chosen_strategy(output: str) -> Fuse:
    """The strategy that `choose_strategy` found for an output."""
    return TypeAdapter(Fuse).validate_python(_choice(output)["fuse"])


def _choice(output: str) -> dict:
    return json.loads(storage.read_bytes(Layout(output, 1).strategy))


def _train_networks(plan: Plan, upstream: list[str], progress: Callable[[str], None]) -> None:
    """Train what networks the recipe's strategies need and the output lacks."""
    if networks_of(plan.recipe.fuse):
        from transforms.learning.network.training import TrainingDied, ensure_networks

        try:
            ensure_networks(plan, fingerprint(upstream), progress)
        except TrainingDied as error:
            raise RunFailed(str(error)) from None


def _receipts(plan: Plan) -> list[str]:
    """What stands for all features and labels: hashes of their receipts."""
    audit = json.loads(storage.read_bytes(Layout(plan.output, plan.buckets).audit))
    steps = [f"extract/{m.name}" for m in plan.modalities] + [f"ingest/{TARGET}"]
    return [audit["digests"][step] for step in steps]


def _needed(plan: Plan) -> float:
    """GiB that training takes with all rows in memory."""
    from transforms.learning.dataset import needed_bytes, size_of
    from transforms.learning.training import threads

    return needed_bytes(*size_of(plan), threads()) / 2**30


def _too_large(plan: Plan) -> bool:
    assert plan.recipe.train is not None
    needed, most = _needed(plan), plan.recipe.train.memory
    how = "a bucket at a time" if needed > most else "with all rows in memory"
    logging.getLogger("sensorium").info(
        "training %s: in memory it takes %.2f GiB, train.memory is %g", how, needed, most
    )
    return needed > most


def train_output(plan: Plan, progress: Callable[[str], None]) -> dict:
    """Train on an output's fused data set and write model/, predictions/ and metrics.json.

    Args:
        plan: of the run, whose fused data set is there.
        progress: told in a few words what was done.

    Returns:
        The metrics, JSON-ready.

    Raises:
        DataError: if there is nothing to learn.
    """
    from transforms.learning.artefacts import model_files
    from transforms.learning.dataset import load_training_set
    from transforms.learning.streaming import CannotStream, train_streaming
    from transforms.learning.training import judging, train

    recipe, layout = plan.recipe, Layout(plan.output, plan.buckets)
    assert recipe.train is not None
    assert recipe.target is not None
    storage.remove(layout.metrics)  # the step's mark of completion goes first and comes last
    assert not isinstance(recipe.fuse, Compare)
    _train_networks(plan, _receipts(plan), progress)
    try:
        if _too_large(plan):
            trained = train_streaming(plan, progress)
        else:
            data = load_training_set(plan, fused=True)
            with judging(data, recipe.train.models, recipe.target.task, progress) as heads:
                trained = train(heads, recipe.fuse)
    except CannotStream as error:
        raise DataError(
            f"training with all rows in memory would take {_needed(plan):.1f} GiB, more than "
            f"train.memory, which is {recipe.train.memory:g}; and it cannot read them a bucket "
            f"at a time: {error}"
        ) from None
    except ValueError as error:
        raise DataError(str(error)) from None
    storage.remove_tree(layout.at("model"))
    for name, data_bytes in model_files(trained.model).items():
        storage.write_bytes(layout.at("model", name), data_bytes)
    table = trained.predictions
    write_table(layout.at("predictions", "predictions.parquet"), [table], table.schema)
    if storage.exists(layout.strategy):
        trained.metrics["strategy"] = _choice(plan.output)["report"]
    data_json = json.dumps(trained.metrics, indent=1, allow_nan=False).encode()
    storage.write_bytes(layout.metrics, data_json)
    return trained.metrics
