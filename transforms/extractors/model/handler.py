"""ModelHandlers of Apache Beam.

References:
    Apache Beam: ModelHandler of apache_beam.ml.inference.base, and those beside it for PyTorch,
    TensorFlow, Hugging Face, scikit-learn, XGBoost and ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from schemas.options.model import HandlerOptions
from transforms.extractors.base import Batch, Extractor
from transforms.extractors.importing import find
from transforms.extractors.model.sharing import shared

_METHODS = ("load_model", "run_inference")


class Handler(Extractor):
    """Vectors that a ModelHandler makes of decoded records.

    The handler is whatever has `load_model()`, called once a process, and `run_inference(batch,
    model, inference_args)`, where a batch is a list of records and the result one prediction a
    record: a vector, or a PredictionResult whose `inference` is one. Where it has them, its
    `set_environment_vars`, `get_preprocess_fns`, `get_postprocess_fns` and
    `batch_elements_kwargs` (for max_batch_size) do what they do in Beam's RunInference. This
    package need not import Beam for it.

    All calls have the same number of records, the last one filled up with copies of its last
    one, so that numbers do not change with the length of a batch. Whether more than one record
    a call leave each other's numbers alone, to the last bit, is the handler's affair.

    Sub-classes say what one kind of record becomes.
    """

    def __init__(self, **options: Any) -> None:
        self.options = HandlerOptions(**options)
        self._make = find(self.options.class_)
        if not (callable(self._make) and hasattr(self._make, "__qualname__")):
            raise ValueError(f"{self.options.class_} is neither a class nor a function")

    # --- of one kind of record ---------------------------------------------------------------

    def _records(self, items: Any) -> list[Any]:
        """What the handler gets of a batch's items."""
        return items

    def _example(self) -> Any:
        """A record, empty but sound, on which the handler is tried."""
        raise NotImplementedError

    # --- of all ------------------------------------------------------------------------------

    def check(self) -> None:
        """Make the handler, without its model, which may start what a fork does not survive."""
        self._new_handler()

    def uses(self) -> Sequence[Callable]:
        """The handler's class, or the function that makes it."""
        return [self._make]

    def names(self) -> list[str]:
        """Numbers of the features: what they mean, a handler does not tell."""
        return [str(i) for i in range(self._width())]

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, d]."""
        out = np.empty((len(batch), self._width()), np.float32)
        for row, vector in enumerate(self._predict(self._records(batch.items))):
            if len(vector) != out.shape[1]:
                raise ValueError(f"a vector of {len(vector)} numbers, not {out.shape[1]}")
            out[row] = vector
        return out

    @property
    def _key(self) -> str:
        return f"handler {self.options.class_} {self.options.options}"

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The handler and its model, the same for all that name it with the same options."""

        def load() -> tuple[Any, Any]:
            handler = self._new_handler()
            if hasattr(handler, "set_environment_vars"):
                handler.set_environment_vars()
            return handler, handler.load_model()

        return shared(self._key, load)

    def _new_handler(self) -> Any:
        name = self.options.class_
        try:
            handler = self._make(**self.options.options)
        except Exception as error:  # it is a user's, and may raise anything
            raise ValueError(f"{name}: {type(error).__name__}: {error}") from error
        for method in _METHODS:
            if not callable(getattr(handler, method, None)):
                made = type(handler).__name__
                raise ValueError(f"{name} makes a {made}, which is no ModelHandler: no {method}()")
        if hasattr(handler, "should_skip_batching") and handler.should_skip_batching():
            raise ValueError(f"{name}: with_no_batching() is not for here: set batch instead")
        return handler

    def _width(self) -> int:
        if self.options.dimension is not None:
            return self.options.dimension

        def look() -> int:
            try:
                return len(self._predict([self._example()])[0])
            except Exception as error:  # it is a user's, and may raise anything
                raise ValueError(
                    f"{self.options.class_}: a try on an empty record, to find the length of its "
                    f"vectors, raised {type(error).__name__}: {error}; give `dimension`"
                ) from error

        return shared(f"{self._key} width {self.kind} {self.options.batch} {self.context}", look)

    def _rows(self, handler: Any) -> int:
        """Records a call."""
        if self.options.batch is not None:
            return self.options.batch
        told = handler.batch_elements_kwargs() if hasattr(handler, "batch_elements_kwargs") else {}
        return told.get("max_batch_size", 1)

    def _predict(self, records: Sequence[Any]) -> list[np.ndarray]:
        """A vector of each record, float32[d]."""
        handler, model = self._loaded
        rows = self._rows(handler)
        ready = [_apply(_functions(handler, "get_preprocess_fns"), one) for one in records]
        vectors: list[np.ndarray] = []
        for start in range(0, len(ready), rows):
            part = ready[start : start + rows]
            filled = part + part[-1:] * (rows - len(part))
            found = list(handler.run_inference(filled, model, None))
            if len(found) != rows:
                raise ValueError(f"{len(found)} predictions for {rows} records")
            vectors += [self._vector(handler, one) for one in found[: len(part)]]
        return vectors

    def _vector(self, handler: Any, prediction: Any) -> np.ndarray:
        prediction = _apply(_functions(handler, "get_postprocess_fns"), prediction)
        with np.errstate(over="ignore"):
            vector = np.asarray(getattr(prediction, "inference", prediction), np.float32)
        if vector.ndim > 1:
            raise ValueError(
                f"a prediction of the shape {vector.shape}, not a vector: change it with the "
                "handler's with_postprocess_fn()"
            )
        return vector.reshape(-1)


def _functions(handler: Any, name: str) -> list[Callable[[Any], Any]]:
    return list(getattr(handler, name)()) if hasattr(handler, name) else []


def _apply(functions: list[Callable[[Any], Any]], value: Any) -> Any:
    for function in functions:
        value = function(value)
    return value


class HandlerOfImages(Handler):
    """Records are uint8[height, width, 3], red, green, blue, of any size."""

    kind: ClassVar[str] = "image"

    def _example(self) -> np.ndarray:
        return np.zeros((64, 64, 3), np.uint8)


class HandlerOfAudio(Handler):
    """Records are float32[samples], mono, at the modality's rate."""

    kind: ClassVar[str] = "audio"

    def _example(self) -> np.ndarray:
        return np.zeros(int(self.context.rate), np.float32)


class HandlerOfTexts(Handler):
    """Records are str."""

    kind: ClassVar[str] = "text"

    def _example(self) -> str:
        return ""


class HandlerOfTables(Handler):
    """Records are dict: column -> float, str, or None where it is missing."""

    kind: ClassVar[str] = "table"

    def _records(self, items: Any) -> list[dict[str, Any]]:
        return items.to_pylist()

    def _example(self) -> dict[str, Any]:
        return {n: 0.0 if kind == "number" else "" for n, kind in self.context.columns.items()}


class HandlerOfVectors(Handler):
    """Records are float32[d]."""

    kind: ClassVar[str] = "vector"

    def _records(self, items: Any) -> list[np.ndarray]:
        with np.errstate(over="ignore"):
            return list(items.astype(np.float32))

    def _example(self) -> np.ndarray:
        return np.zeros(len(self.context.columns), np.float32)
