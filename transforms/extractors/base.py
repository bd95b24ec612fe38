"""What an extractor is: a batch of decoded records in, float32[n, d] out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

State = dict[str, np.ndarray]
"""A partial or finished fit: arrays by name, of numbers or of text, never of objects."""


class BadRecord(Exception):
    """One record that cannot be used; it becomes a dead letter.

    Args:
        kind: a short name of the kind of error, such as `unreadable`, in snake case.
        message: what is wrong, for a person.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


@dataclass(frozen=True)
class Context:
    """What an extractor may know of its modality besides its own options.

    Attributes:
        columns: the columns of a table or vector, in order, and what each holds
            (`number`, `category`, `time` or `boolean`); empty for other kinds.
        rate: samples a second of decoded audio, or values a second of series; 0 for other kinds.
    """

    columns: dict[str, str] = field(default_factory=dict)
    rate: float = 0


@dataclass
class Batch:
    """Decoded records of one modality, in order.

    Attributes:
        items: what was decoded.
            image: a list of uint8[height, width, 3], red, green, blue;
            audio: a list of float32[samples], mono, at the modality's rate, about -1 to 1;
            text: a list of str;
            table: a pyarrow.Table, numbers as float64, categories as string, times as
                timestamp[us, UTC] and booleans as bool (null: missing);
            vector: float64[n, d];
            series: a list of float64[values], at least one, finite;
            video: a list of lists of frames, each as an image, in the order of time.
        failures: what `fail` was told, by row.
    """

    items: Any
    failures: dict[int, BadRecord] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def fail(self, row: int, kind: str, message: str) -> None:
        """Give up on one row: it becomes a dead letter, whatever is returned for it."""
        self.failures.setdefault(row, BadRecord(kind, message))


class Extractor:
    """Base of all extractors, built-in or a user's own.

    A sub-class says the kind of modality it reads, names its dimensions and turns a batch into
    numbers. A row's numbers must not depend on the other rows of its batch. Raising anything
    in `transform` makes dead letters of the rows that raise when tried alone.

    An extractor with `rounds` of 1 or more also learns from the training rows, in any number of
    processes: `partial` on each batch, `merge` in a fixed order, `finish` once. What `finish`
    returns is saved in the output and given to `load` before the first `transform`, in this
    run and at prediction. With more rounds (inverse document frequencies of words that a first
    round has found, say) it all happens again, each time after `load` of what the rounds before
    have finished.

    Class attributes:
        kind: image, audio, text, table, vector, series or video; one of images also reads the
            frames of videos.
        version: to be raised when the numbers change for the same options.
        rounds: passes over the training rows that it learns from; a property may tell it from
            the options.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    rounds: int = 0
    context: Context = Context()

    def __init__(self, **options: Any) -> None:
        if options:
            raise TypeError(f"{type(self).__name__} has no options, got: {', '.join(options)}")

    def check(self) -> None:
        """Look before work starts, and not in its workers, for what its options alone do not tell.

        Raises:
            ValueError: it cannot work; says what to change in the recipe.
        """

    def uses(self) -> Sequence[Callable]:
        """Classes and functions whose code the numbers depend on, besides its own class."""
        return ()

    def names(self) -> list[str]:
        """Names of the d dimensions, in order; of a fitted extractor, after `load`."""
        raise NotImplementedError(f"{type(self).__name__} must define names()")

    def transform(self, batch: Batch) -> np.ndarray:
        """Numbers of each row, float32[n, d], finite; see `Batch.fail` for rows without any."""
        raise NotImplementedError(f"{type(self).__name__} must define transform()")

    def partial(self, batch: Batch) -> State:
        """What is to be remembered of these training rows."""
        raise NotImplementedError(f"{type(self).__name__} learns, so it must define partial()")

    def merge(self, states: Sequence[State]) -> State:
        """One state for all the rows of several states, which are in a fixed order."""
        raise NotImplementedError(f"{type(self).__name__} learns, so it must define merge()")

    def finish(self, state: State) -> State:
        """What `load` will need, from the state of all training rows."""
        return state

    def load(self, fitted: State) -> None:
        """Take what the `finish` of all rounds so far returned; `partial` of the next round or
        `transform` follows.
        """
