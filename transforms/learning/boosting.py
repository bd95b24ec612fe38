"""Gradient boosting of trees on histograms, for classes and for numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from transforms.learning.fitting import Family, Fitted, Rows


def fit_boosting(options: list[dict[str, Any]], rows: Rows) -> list[Fitted]:
    """Boosted trees of the log loss or of the squared error (Ke et al. 2017, LightGBM).

    All rounds are done: stopping early would set rows aside by chance and not by fold.
    """
    found = []
    for chosen in options:
        given = {
            "learning_rate": chosen["learning_rate"],
            "max_iter": chosen["iterations"],
            "max_leaf_nodes": chosen["leaves"],
            "early_stopping": False,
            "random_state": 0,  # draws nothing here, but must not be left to chance
        }
        if np.issubdtype(rows.y.dtype, np.integer):
            weight = chosen.get("class_weight")
            model = HistGradientBoostingClassifier(class_weight=weight, **given)
        else:
            model = HistGradientBoostingRegressor(**given)
        # One thread, as fits run side by side.
        with threadpool_limits(1, user_api="openmp"):
            model.fit(rows.values, rows.y)
        # What only the fit needs, and a file should not hold.
        model._feature_subsample_rng = model._random_seed = None
        model._bin_mapper.random_state = None
        if hasattr(model, "_label_encoder"):
            model._label_encoder = None
        found.append(Fitted(model))
    return found


BOOSTING = Family(fit_boosting, tasks=("classification", "regression"), rotation_invariant=False)
