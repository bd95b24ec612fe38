"""The training step: from the fused data set of an output to its model, metrics and predictions."""

from __future__ import annotations

import json
from collections.abc import Callable

from schemas import storage
from schemas.errors import DataError
from schemas.layout import Layout
from schemas.options.fuse import Compare
from schemas.plan import Plan
from schemas.tables import write_table


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
    # Imported here: scikit-learn takes long, and only this step needs it.
    from transforms.learning.artefacts import model_files
    from transforms.learning.dataset import load_training_set
    from transforms.learning.training import judging, train

    recipe, layout = plan.recipe, Layout(plan.output, plan.buckets)
    assert recipe.train is not None
    assert recipe.target is not None
    storage.remove(layout.metrics)  # the step's mark of completion goes first and comes last
    assert not isinstance(recipe.fuse, Compare)
    data = load_training_set(plan, fused=True)
    try:
        with judging(data, recipe.train.models, recipe.target.task, progress) as heads:
            trained = train(heads, recipe.fuse)
    except ValueError as error:
        raise DataError(str(error)) from None
    storage.remove_tree(layout.at("model"))
    for name, data_bytes in model_files(trained.model).items():
        storage.write_bytes(layout.at("model", name), data_bytes)
    table = trained.predictions
    write_table(layout.at("predictions", "predictions.parquet"), [table], table.schema)
    data_json = json.dumps(trained.metrics, indent=1, allow_nan=False).encode()
    storage.write_bytes(layout.metrics, data_json)
    return trained.metrics
