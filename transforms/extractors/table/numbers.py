"""Columns of numbers: scaled, ranked or as they are, with medians for those that are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from schemas.arrays import below, prefixed
from schemas.errors import DataError
from schemas.options.table import Scale
from transforms.extractors.base import Batch, State
from transforms.extractors.table import quantiles
from transforms.extractors.table.families import Family, missing_name

KNOTS = np.linspace(0, 1, 1001)  # shares whose quantiles ranks are told from


class Numbers(Family):
    """Numbers: one dimension a column, and one that tells what was missing, if any in training.

    - `standard`: (value - mean) / deviation; 0 in a column that is one number in training.
    - `rank`: the share of training rows below the value, from 0 to 1, told from 1,001 quantiles
      and linear between them; of a value that is several quantiles, the middle one, but 0 of the
      least value and 1 of the greatest. The same numbers as those of scikit-learn's
      `QuantileTransformer(n_quantiles=1001)` without its sub-sampling. (Rather than normal scores:
      what is outside of the training rows' range stays in 0 to 1, as categories and booleans
      are, and no infinity has to be cut.)
    - `none`: the value.

    What is missing is the training median, 0 if there is none, treated alike.

    Moments are merged by the formulae of Chan, Golub & LeVeque, so values with a mean of 1e6 and
    a deviation of 1 lose nothing; of other parts they are the same up to rounding. For medians
    and ranks, and how exact they are, see `quantiles`.

    Args:
        columns: their names.
        scale: what is done with each.

    References:
        Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample
        variances. Stanford, STAN-CS-79-773, 1979.
    """

    def __init__(self, columns: Sequence[str], scale: Sequence[Scale]) -> None:
        super().__init__(columns)
        self.scale = np.array(scale, str)
        self._fitted: State = {}

    def partial(self, table: pa.Table) -> State:
        """See `partial_values`."""
        return self.partial_values(self._values(table))

    def partial_values(self, values: np.ndarray) -> State:
        """Counts and moments, see `merge`, of float64[k, n], NaN where they are missing."""
        missing = np.isnan(values)
        count = (~missing).sum(axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.where(missing, 0, values).sum(axis=1) / np.maximum(count, 1)
            centred = np.where(missing, 0, values - mean[:, None])
            scatter = np.square(centred).sum(axis=1)
        known = [row[~gap] for row, gap in zip(values, missing, strict=True)]
        return {
            "count": count,
            "missing": missing.sum(axis=1),
            "mean": mean,
            "scatter": scatter,
            **prefixed("quantiles", quantiles.summarise(known)),
        }

    def merge(self, states: Sequence[State]) -> State:
        """Counts and moments of all rows together.

        Returns:
            count, missing: int64[k]; mean, scatter (sum of squares around the mean): float64[k];
            and quantiles/..., see `quantiles.summarise`.
        """
        counts, means, scatters = (
            np.stack([state[name] for state in states]) for name in ("count", "mean", "scatter")
        )
        count = counts.sum(axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            # Around a mean, not around 0, so that the weighted sum loses no digits.
            origin = means[counts.argmax(axis=0), np.arange(means.shape[1])]
            steps = np.where(counts > 0, means - origin, 0)
            step = (counts * steps).sum(axis=0) / np.maximum(count, 1)
            scatter = (scatters + counts * np.square(steps - step)).sum(axis=0)
        summaries = [below("quantiles", state) for state in states]
        return {
            "count": count,
            "missing": np.sum([state["missing"] for state in states], axis=0),
            "mean": origin + step,
            "scatter": scatter,
            **prefixed("quantiles", quantiles.merge(summaries)),
        }

    def finish(self, state: State) -> State:
        """What is needed to transform.

        Returns:
            median, origin (subtracted), unit (divided by; 0: the result is 0): float64[k];
            flagged: bool[k], whether a dimension tells where they are missing; knots:
            float64[ranked columns, 1001], quantiles.

        Raises:
            DataError: numbers are too large for float64 to hold their moments.
        """
        summary = below("quantiles", state)
        least, most = quantiles.extremes(summary)
        deviation = np.sqrt(state["scatter"] / np.maximum(state["count"], 1))
        standard, ranked = self.scale == "standard", self.scale == "rank"
        usable = ~standard | (np.isfinite(state["mean"]) & np.isfinite(deviation))
        for at in np.flatnonzero(~usable).tolist():
            raise DataError(
                f"column {self.columns[at]!r} has numbers from {least[at]:g} to {most[at]:g}, too "
                "far apart to average them; correct or remove the outermost, or use `scale: rank`"
            )
        # Rounding gives equal numbers a tiny scatter, so that alone does not tell.
        deviation[least >= most] = 0
        found = quantiles.quantiles(summary, np.append(KNOTS, 0.5))
        return {
            "median": found[:, -1],
            "origin": np.where(standard, state["mean"], 0),
            "unit": np.where(standard, deviation, 1),
            "flagged": state["missing"] > 0,
            "knots": found[ranked, :-1],
        }

    def load(self, fitted: State) -> None:
        """Take what was fitted."""
        self._fitted = fitted

    def names(self) -> list[list[str]]:
        """`age`, `age is missing`."""
        flagged = self._fitted["flagged"].tolist()
        return [
            [name, missing_name(name)] if flag else [name]
            for name, flag in zip(self.columns, flagged, strict=True)
        ]

    def transform(self, batch: Batch, out: Sequence[np.ndarray]) -> None:
        """A row with a number too large for float32 fails."""
        self.transform_values(batch, self._values(batch.items), out)

    def transform_values(self, batch: Batch, values: np.ndarray, out: Sequence[np.ndarray]) -> None:
        """The numbers of float64[k, n], NaN where they are missing."""
        fitted = self._fitted
        missing = np.isnan(values)
        values = np.where(missing, fitted["median"][:, None], values)
        origin, unit = fitted["origin"][:, None], fitted["unit"][:, None]
        with np.errstate(over="ignore"):
            scaled = (values - origin) / np.where(unit > 0, unit, 1)
            results = np.where(unit > 0, scaled, 0).astype(np.float32)
        ranked = np.flatnonzero(self.scale == "rank")
        for at, knots in zip(ranked.tolist(), fitted["knots"], strict=True):
            results[at] = _ranks(values[at], knots)
        for i, place in enumerate(out):
            place[:, 0] = results[i]
            if fitted["flagged"][i]:
                place[:, 1] = missing[i]
        for at, row in zip(*np.nonzero(np.isinf(results)), strict=True):
            what = "too large for a 32-bit number"
            if self.scale[at] == "standard":
                what = f"too far from the training mean, {origin[at, 0]:g}, to be scaled"
            batch.fail(int(row), "overflow", f"{self.columns[at]} is {values[at, row]:g}, {what}")

    def _values(self, table: pa.Table) -> np.ndarray:
        """The columns, float64[k, n]; NaN where they are missing."""
        return np.stack([table.column(name).to_numpy() for name in self.columns])


def scales(columns: Sequence[str], scale: Scale | Mapping[str, Scale]) -> list[Scale]:
    """What the option `scale` says of each column."""
    if isinstance(scale, Mapping):
        return [scale.get(name, "standard") for name in columns]
    return [scale] * len(columns)


def _ranks(values: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Ranks of float64[n] among ascending quantiles, float64[1001]; see `Numbers`."""
    # Quarters, exact but for the least of numbers, so that no difference is infinite.
    values, knots = values / 4, knots / 4
    rising = np.interp(values, knots, KNOTS)
    falling = np.interp(-values, -knots[::-1], -KNOTS[::-1])
    # Between knots far apart the rounding of a straight line can leave its ends.
    middle = np.clip((rising - falling) / 2, 0, 1)
    return np.where(values <= knots[0], 0, np.where(values >= knots[-1], 1, middle))
