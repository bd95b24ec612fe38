"""Models in ONNX files.

References:
    ONNX: Open Neural Network Exchange, https://onnx.ai; ONNX Runtime, https://onnxruntime.ai.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from schemas.options.model import (
    AudioOnnxOptions,
    BatchOnnxOptions,
    ImageOnnxOptions,
    OnnxOptions,
)
from schemas.problems import counted
from transforms.extractors.base import Batch, Extractor
from transforms.extractors.model.runtime import first_line, load
from transforms.extractors.model.sharing import shared

_TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
}


class Onnx(Extractor):
    """Output of a model in an ONNX file, run by ONNX Runtime on the processor.

    A row's numbers do not depend on the others, to the last bit: all calls have the same number
    of rows, the last one filled up with zeros; and where that is more than one, a model whose
    rows influence each other is refused. (Besides batch statistics and scales of quantised
    numbers, ONNX Runtime's own sums over an axis round differently by a row's place in a call.)
    One thread works on a call. Processors of different makes may round differently.

    What has a length of its own (texts, recordings where neither the options nor the model fix
    their length) goes one by one. An output with more axes than rows and features is pooled.
    Features are the last axis, but of [rows, channels, height, width] the channels.

    Sub-classes say what one kind of record becomes.
    """

    options: OnnxOptions
    Options: ClassVar[type[OnnxOptions]]

    def __init__(self, **options: Any) -> None:
        self.options = self.Options(**options)
        if importlib.util.find_spec("onnxruntime") is None:
            raise ValueError('needs ONNX Runtime: pip install "sensorium[onnx]"')

    # --- of one kind of record ---------------------------------------------------------------

    def _row(self) -> tuple[int, ...] | None:
        """Shape of a row of the input, None where each has a shape of its own.

        Raises:
            ValueError: the model does not fit to the records or the options.
        """
        raise NotImplementedError

    def _inputs(self, items: Any) -> np.ndarray:
        """Some records as the model's input, of any type: [n, ...]; one if `_row()` is None."""
        raise NotImplementedError

    def _example(self) -> Any:
        """A record on which the model may be tried, where `_row()` is None."""
        raise NotImplementedError

    # --- of all ------------------------------------------------------------------------------

    def check(self) -> None:
        """Load the model, try it on zeros, and see that rows do not influence each other."""
        self._width()
        row, rows = self._row(), self._rows()
        if row is None or rows == 1:
            return
        noise = np.random.default_rng(0).random((rows, *row)) * self._scale()
        there, back = self._call(noise), self._call(noise[::-1])[::-1]
        alone = self._call(np.concatenate([noise[:1], np.zeros_like(noise[1:])]))
        same = np.array_equal(there, back, equal_nan=True)
        if not (same and np.array_equal(there[0], alone[0], equal_nan=True)):
            raise ValueError(
                f"{self.options.path}: a row's numbers depend on the other rows of its call, or on "
                f"its place among them: let the model take one row a call (batch: 1), not {rows}"
            )

    def names(self) -> list[str]:
        """Numbers of the features: what they mean, the model does not tell."""
        return [str(i) for i in range(self._width())]

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, d]."""
        rows = 1 if self._row() is None else self._rows()
        out = np.empty((len(batch), self._width()), np.float32)
        for start in range(0, len(batch), rows):
            stop = min(start + rows, len(batch))
            inputs = self._inputs(batch.items[start:stop])
            if stop - start < rows:
                filler = np.zeros((rows - (stop - start), *inputs.shape[1:]), inputs.dtype)
                inputs = np.concatenate([inputs, filler])
            out[start:stop] = self._call(inputs)[: stop - start]
        return out

    @cached_property
    def _model(self) -> tuple[str, Any]:
        """SHA-256 and onnxruntime.InferenceSession, the same for all that name this file."""
        return load(self.options.path, self.options.sha256)

    def _input(self) -> Any:
        """The only input: its name, shape and type."""
        inputs = self._model[1].get_inputs()
        if len(inputs) != 1:
            names = ", ".join(one.name for one in inputs)
            raise ValueError(
                f"{self.options.path}: has {len(inputs)} inputs ({names}), not one: fix the "
                "others within the model, or use a handler"
            )
        return inputs[0]

    def _output(self) -> str:
        outputs = {one.name: one.type for one in self._model[1].get_outputs()}
        name = self.options.output or next(iter(outputs))
        if name not in outputs:
            raise ValueError(
                f"{self.options.path}: has no output {name!r}; it has: {', '.join(outputs)}"
            )
        if not outputs[name].startswith("tensor(") or outputs[name] == "tensor(string)":
            raise ValueError(
                f"{self.options.path}: its output {name!r} is {outputs[name]}, not numbers; "
                f"choose another with `output`: {', '.join(outputs)}"
            )
        return name

    def _dtype(self) -> Any:
        found = self._input().type
        if found not in _TYPES:
            raise ValueError(f"{self.options.path}: its input is {found}, not tensor(float)")
        return _TYPES[found]

    def _shape(self, ranks: Sequence[int], what: str) -> list[int | None]:
        """Shape of the input, with None for what the model leaves open."""
        shape = [size if isinstance(size, int) else None for size in self._input().shape]
        if len(shape) not in ranks:
            raise ValueError(f"{self.options.path}: its input has {len(shape)} axes, not {what}")
        return shape

    def _rows(self) -> int:
        """Rows a call."""
        fixed = self._input().shape[0] if self._input().shape else None
        asked = self.options.batch if isinstance(self.options, BatchOnnxOptions) else 1
        if not isinstance(fixed, int):
            return asked or 1
        if asked not in (None, fixed):
            raise ValueError(
                f"{self.options.path}: takes {counted(fixed, 'row')} a call, so batch cannot be "
                f"{asked}"
            )
        return fixed

    def _scale(self) -> float:
        return 1.0

    def _width(self) -> int:
        """Number of features, found once a process by a try on zeros."""
        options = self.options.model_dump(exclude={"path"})
        key = f"onnx width {self.kind} {self._model[0]} {options} {self.context}"
        return shared(key, self._try)

    def _try(self) -> int:
        row = self._row()
        one_by_one = row is None
        inputs = np.zeros((self._rows(), *row)) if row else self._inputs([self._example()])
        try:
            (raw,) = self._run(inputs)
        except Exception as error:
            raise ValueError(f"{self.options.path}: does not run: {first_line(error)}") from error
        if one_by_one and self.options.pooling == "flatten" and raw.ndim > 2:
            raise ValueError(
                f"{self.options.path}: its output grows with the record, so it cannot be "
                "flattened: choose pooling: mean or max"
            )
        return self._pooled(raw, len(inputs)).shape[1]

    def _run(self, inputs: np.ndarray) -> list[np.ndarray]:
        fed = inputs if inputs.dtype == object else inputs.astype(self._dtype(), copy=False)
        return self._model[1].run([self._output()], {self._input().name: fed})

    def _call(self, inputs: np.ndarray) -> np.ndarray:
        """The model's numbers of one call, float32[n, d]."""
        with np.errstate(over="ignore"):
            (raw,) = self._run(inputs)
        return self._pooled(raw, len(inputs))

    def _pooled(self, raw: np.ndarray, rows: int) -> np.ndarray:
        if raw.ndim == 0 or raw.shape[0] != rows:
            raise ValueError(
                f"{self.options.path}: its output has the shape {raw.shape} for {rows} rows; "
                "its first axis must be rows"
            )
        if raw.ndim > 2 and self.options.pooling != "flatten":
            if self._channels_first() and raw.ndim == 4:
                raw = np.moveaxis(raw, 1, -1)
            raw = np.ascontiguousarray(raw, np.float64).reshape(rows, -1, raw.shape[-1])
            raw = raw.mean(axis=1) if self.options.pooling == "mean" else raw.max(axis=1)
        return raw.reshape(rows, -1).astype(np.float32)

    def _channels_first(self) -> bool:
        return False


class OnnxOfImages(Onnx):
    """A model of images: resized, from 0 to 1 or 8-bit, channels first or last.

    Values are divided by 255, then (value - mean) / std of each channel. A model of 8-bit
    numbers gets them as they are.
    """

    kind: ClassVar[str] = "image"
    Options = ImageOnnxOptions
    options: ImageOnnxOptions

    def _row(self) -> tuple[int, ...]:
        height, width = self._size()
        channels = self._channels()
        return (channels, height, width) if self._channels_first() else (height, width, channels)

    def _inputs(self, items: Any) -> np.ndarray:
        # Imported here: other kinds of models need no image library.
        from transforms.extractors.image.resizing import grey, resize

        size, channels = self._size(), self._channels()
        out = np.empty((len(items), *size, channels), np.uint8)
        for row, image in enumerate(items):
            out[row] = resize(image, size) if channels == 3 else grey(image, size)[..., None]
        scaled = out if self._dtype() == np.uint8 else self._normalised(out)
        return np.ascontiguousarray(np.moveaxis(scaled, 3, 1)) if self._channels_first() else scaled

    def _normalised(self, levels: np.ndarray) -> np.ndarray:
        """(value / 255 - mean) / std, looked up for each of the 256 levels."""
        channels = levels.shape[3]
        mean, std = self.options.mean or (0.0,), self.options.std or (1.0,)
        table = np.linspace(0, 1, 256)[:, None] - np.broadcast_to(mean, channels)
        table = (table / np.broadcast_to(std, channels)).astype(np.float32)
        return np.stack([table[:, c][levels[..., c]] for c in range(channels)], axis=3)

    def _axes(self) -> tuple[int, int, int]:
        """Where channels, height and width are in the input's shape."""
        return (1, 2, 3) if self._channels_first() else (3, 1, 2)

    def _channels_first(self) -> bool:
        return self.options.layout == "NCHW"

    def _size(self) -> tuple[int, int]:
        shape = self._shape([4], f"the 4 of {self.options.layout}")
        own = tuple(shape[axis] for axis in self._axes()[1:])
        size = self.options.size or own
        if None in size:
            raise ValueError(
                f"{self.options.path}: takes images of any size: give size: [height, width]"
            )
        if any(fixed not in (None, asked) for fixed, asked in zip(own, size, strict=True)):
            raise ValueError(f"{self.options.path}: takes images of {own}, not of size {size}")
        return size  # type: ignore[return-value]

    def _channels(self) -> int:
        own = self._shape([4], f"the 4 of {self.options.layout}")[self._axes()[0]]
        asked = {"grey": 1, "rgb": 3, None: None}[self.options.channels]
        channels = asked or own
        if channels is None:
            raise ValueError(
                f"{self.options.path}: takes any number of channels: give channels: grey or rgb"
            )
        if channels not in (1, 3) or own not in (None, channels):
            wanted = f"{self.options.channels} has {channels}" if asked else "images have 1 or 3"
            raise ValueError(
                f"{self.options.path}: takes {own} channels in layout {self.options.layout}, "
                f"{wanted}"
            )
        for name in ("mean", "std"):
            given = getattr(self.options, name)
            if given is not None and len(given) not in (1, channels):
                raise ValueError(f"{name} has {len(given)} numbers for {channels} channels")
            if given is not None and self._dtype() == np.uint8:
                raise ValueError(f"{self.options.path}: takes 8-bit numbers as they are: no {name}")
        return channels

    def _dtype(self) -> Any:
        return np.uint8 if self._input().type == "tensor(uint8)" else super()._dtype()

    def _scale(self) -> float:
        return 255.0 if self._dtype() == np.uint8 else 1.0


class OnnxOfAudio(Onnx):
    """A model of recordings: [rows, samples] or [rows, 1, samples] at the modality's rate."""

    kind: ClassVar[str] = "audio"
    Options = AudioOnnxOptions
    options: AudioOnnxOptions

    def _row(self) -> tuple[int, ...] | None:
        shape = self._shape([2, 3], "2 or 3: rows, perhaps channels, samples")
        if len(shape) == 3 and shape[1] not in (None, 1):
            raise ValueError(f"{self.options.path}: takes {shape[1]} channels, not one")
        own, asked = shape[-1], None
        if self.options.seconds is not None:
            asked = max(1, round(self.options.seconds * self.context.rate))
            if own not in (None, asked):
                raise ValueError(f"{self.options.path}: takes {own} samples, not {asked}")
        samples = asked or own
        if samples is None:
            return None
        return (samples,) if len(shape) == 2 else (1, samples)

    def _inputs(self, items: Any) -> np.ndarray:
        row = self._row()
        if row is None:
            axes = len(self._input().shape)
            return items[0].reshape((1,) * (axes - 1) + (-1,))
        out = np.zeros((len(items), row[-1]), np.float32)
        for i, signal in enumerate(items):
            part = signal[: row[-1]]
            out[i, : len(part)] = part
        return out.reshape(len(items), *row)

    def _example(self) -> np.ndarray:
        return np.zeros(int(self.context.rate), np.float32)


class OnnxOfTexts(Onnx):
    """A model of texts, tensor(string): it brings its own tokeniser. Texts go one by one."""

    kind: ClassVar[str] = "text"
    Options = OnnxOptions

    def _row(self) -> None:
        if self._input().type != "tensor(string)":
            raise ValueError(
                f"{self.options.path}: its input is {self._input().type}, not tensor(string): "
                "put the tokeniser into the model, or use a handler"
            )
        self._shape([1, 2], "1 or 2")

    def _inputs(self, items: Any) -> np.ndarray:
        return np.array(items, object).reshape((1,) * len(self._input().shape))

    def _example(self) -> str:
        return ""


class OnnxOfVectors(Onnx):
    """A model of rows of numbers, [rows, columns]."""

    kind: ClassVar[str] = "vector"
    Options = BatchOnnxOptions

    def _row(self) -> tuple[int]:
        own = self._shape([2], "the 2 of rows and columns")[1]
        if own not in (None, len(self.context.columns)):
            raise ValueError(
                f"{self.options.path}: takes {counted(own, 'column')}, but there are "
                f"{len(self.context.columns)}: {', '.join(self.context.columns)}"
            )
        return (len(self.context.columns),)

    def _inputs(self, items: Any) -> np.ndarray:
        return items


class OnnxOfTables(OnnxOfVectors):
    """A model of rows of numbers; a missing one is NaN."""

    kind: ClassVar[str] = "table"

    def _row(self) -> tuple[int]:
        for name, kind in self.context.columns.items():
            if kind != "number":
                raise ValueError(f"{self.options.path}: takes numbers, but {name!r} is a {kind}")
        return super()._row()

    def _inputs(self, items: Any) -> np.ndarray:
        return np.stack([column.to_numpy() for column in items.columns], axis=1)
