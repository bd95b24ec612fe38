"""Columns of times: what recurs as points on circles, and the days that went by."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.arrays import below, prefixed
from schemas.options.table import Scale
from transforms.extractors.base import Batch, State
from transforms.extractors.table.families import Family, missing_name
from transforms.extractors.table.numbers import Numbers
from transforms.extractors.table.quantiles import extremes

PARTS = ("hour", "weekday", "day", "month")
_MINUTE, _DAY = 60 * 10**6, 86_400 * 10**6  # microseconds
_MONTHS = 31 - 28 + 1  # lengths that a month may have


class Times(Family):
    """Times: sine and cosine of each part that recurs, the days elapsed, a flag for the missing.

    - `hour`: the time of day, to the minute. `weekday`: from Monday. `day`: of the month, which
      is a circle of its own length, so that its last day stands beside the next one's first.
      `month`: of the year. All in UTC. A part that is the same in all training rows, such as the
      time of day of mere dates, is left out.
    - `elapsed`: days since the earliest of the training rows, to be scaled as a number is.

    A missing time is 0 in all sines and cosines, no point of the circle, and the training median
    in `elapsed`; if any was missing in training, a dimension tells.

    Args:
        columns: their names.
        scale: what is done with the elapsed time of each.
    """

    def __init__(self, columns: Sequence[str], scale: Sequence[Scale]) -> None:
        super().__init__(columns)
        self._elapsed = Numbers([f"{name}: elapsed" for name in columns], scale)

    def partial(self, table: pa.Table) -> State:
        """least, most: int64[k, 4], of each part; elapsed/...: of the days, as `Numbers` has it."""
        least = np.full((len(self.columns), len(PARTS)), np.iinfo(np.int64).max)
        most = np.full_like(least, -1)
        for i, name in enumerate(self.columns):
            micros, missing = _micros(table.column(name))
            for j, (place, _) in enumerate(_circles(micros[~missing])):
                least[i, j] = np.min(place, initial=least[i, j])
                most[i, j] = np.max(place, initial=most[i, j])
        elapsed = self._elapsed.partial_values(self._days(table))
        return {"least": least, "most": most, **prefixed("elapsed", elapsed)}

    def merge(self, states: Sequence[State]) -> State:
        """Of all rows together."""
        elapsed = self._elapsed.merge([below("elapsed", state) for state in states])
        return {
            "least": np.min([state["least"] for state in states], axis=0),
            "most": np.max([state["most"] for state in states], axis=0),
            **prefixed("elapsed", elapsed),
        }

    def finish(self, state: State) -> State:
        """varies: bool[k, 4], parts that are kept; elapsed/...: see `Numbers.finish`."""
        elapsed = below("elapsed", state)
        fitted = self._elapsed.finish(elapsed)
        # The earliest day is taken off where nothing else is, so that none is large.
        plain = (self._elapsed.scale == "none") & (elapsed["count"] > 0)
        earliest, _ = extremes(below("quantiles", elapsed))
        fitted["origin"] = np.where(plain, earliest, fitted["origin"])
        return {"varies": state["least"] < state["most"], **prefixed("elapsed", fitted)}

    def load(self, fitted: State) -> None:
        """Take what was fitted."""
        self._kept = [np.flatnonzero(row).tolist() for row in fitted["varies"]]
        elapsed = below("elapsed", fitted)
        self._elapsed.load(elapsed)
        self._flagged = elapsed["flagged"]

    def names(self) -> list[list[str]]:
        """`when: hour sin`, `when: hour cos`, ..., `when: elapsed`, `when is missing`."""
        names = []
        for i, name in enumerate(self.columns):
            own = [f"{name}: {PARTS[j]} {wave}" for j in self._kept[i] for wave in ("sin", "cos")]
            own.append(f"{name}: elapsed")
            names.append([*own, missing_name(name)] if self._flagged[i] else own)
        return names

    def transform(self, batch: Batch, out: Sequence[np.ndarray]) -> None:
        """The waves of each part, and the days."""
        for i, name in enumerate(self.columns):
            micros, missing = _micros(batch.items.column(name))
            circles = _circles(micros)
            for at, j in enumerate(self._kept[i]):
                place, waves = circles[j]
                out[i][:, 2 * at : 2 * at + 2] = waves[place]
            out[i][missing, : 2 * len(self._kept[i])] = 0
        rest = [part[:, 2 * len(kept) :] for part, kept in zip(out, self._kept, strict=True)]
        self._elapsed.transform_values(batch, self._days(batch.items), rest)

    def _days(self, table: pa.Table) -> np.ndarray:
        """Days since 1970, float64[k, n]; NaN where they are missing."""
        days = []
        for name in self.columns:
            micros, missing = _micros(table.column(name))
            days.append(np.where(missing, np.nan, micros / _DAY))
        return np.stack(days)


def _micros(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Microseconds since 1970, int64[n], 0 where they are missing, and where that is."""
    return pc.fill_null(column.cast(pa.int64()), 0).to_numpy(), column.is_null().to_numpy()


def _circles(micros: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Where on the circle of each part times are: places, int64[n], and waves, see `_waves`."""
    day = micros // _DAY
    date = day.astype("datetime64[D]")
    month = date.astype("datetime64[M]")
    start, end = (m.astype("datetime64[D]").astype(np.int64) for m in (month, month + 1))
    return [
        ((micros - day * _DAY) // _MINUTE, _HOUR),
        ((day + 3) % 7, _WEEKDAY),  # 1970 began on a Thursday
        ((end - start - 28) * 31 + day - start, _DAYS),
        (month.astype(np.int64) % 12, _MONTH),
    ]


def _waves(turns: Sequence[float]) -> np.ndarray:
    """Sine and cosine of shares of a turn: float32[n, 2].

    One by one, because the bits of NumPy's sines depend on the processor.
    """
    angles = [2 * math.pi * turn for turn in turns]
    return np.array([[math.sin(angle), math.cos(angle)] for angle in angles], np.float32)


_HOUR = _waves([minute / 1440 for minute in range(1440)])
_WEEKDAY = _waves([day / 7 for day in range(7)])
_DAYS = _waves([day / (28 + length) for length in range(_MONTHS) for day in range(31)])
_MONTH = _waves([month / 12 for month in range(12)])
