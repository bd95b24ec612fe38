"""ModelHandlers of Apache Beam, and what looks like them, as extractors."""

from __future__ import annotations

import functools
import hashlib
import itertools
import pickle
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from apache_beam.ml.inference.sklearn_inference import SklearnModelHandlerNumpy
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import write_linear
from sklearn.linear_model import LinearRegression

from transforms.extractors import identity
from transforms.extractors.base import Batch, Context
from transforms.extractors.extracting import transform_batch
from transforms.extractors.model.handler import (
    Handler,
    HandlerOfAudio,
    HandlerOfImages,
    HandlerOfTables,
    HandlerOfTexts,
    HandlerOfVectors,
)

COLUMNS = Context(columns=dict.fromkeys("abc", "number"))
WEIGHTS = np.random.default_rng(0).normal(size=(3, 5))


def made(cls: type[Handler], name: str, context: Context | None = None, **rest: Any) -> Handler:
    handler = cls(**{"class": name if "." in name else f"{__name__}.{name}", **rest})
    handler.context = context or Context()
    handler.check()
    return handler


# --- handlers of the tests' own ----------------------------------------------------------------


def oblong(image: np.ndarray) -> list[int]:
    height, width, _ = image.shape
    if height == width:
        raise RuntimeError("no squares")
    return [height * width]


class Plain:
    """No class of Beam's, but with its two methods: any record -> what `of` says of it."""

    loads: list[str] = []  # noqa: RUF012  all that was loaded in this process

    def __init__(self, of: str = "shape", tag: str = "") -> None:
        self.of, self.tag = of, tag
        self.calls: list[int] = []

    def load_model(self) -> Any:
        self.loads.append(self.tag)
        return {
            "shape": lambda image: [*image.shape, image.sum()],
            "length": lambda one: [len(one)],
            "spectrum": lambda signal: np.abs(np.fft.rfft(signal, 8)),
            "values": lambda row: [row["number"] or -1.0, len(row["colour"] or "")],
            "matrix": lambda _: np.zeros((2, 2)),
            "picky": oblong,
            "scalar": lambda text: np.float64(len(text)),
            "growing": lambda text: np.zeros(1 + len(text)),
        }[self.of]

    def run_inference(self, batch: Any, model: Any, inference_args: Any = None) -> Any:
        assert inference_args is None
        self.calls.append(len(batch))
        if any(isinstance(one, str) and "bad" in one for one in batch):
            raise RuntimeError("I do not like this one")
        return (SimpleNamespace(inference=model(one)) for one in batch)


class Batching(Plain):
    """Says how many records it takes a call."""

    def batch_elements_kwargs(self) -> dict[str, int]:
        return {"max_batch_size": 4}


def sklearn_on_sums(uri: str) -> Any:
    """A handler of Beam's, with a function before and after the model."""
    handler = SklearnModelHandlerNumpy(uri, max_batch_size=3)
    return handler.with_preprocess_fn(lambda row: row * 2).with_postprocess_fn(
        lambda prediction: prediction.inference + 1
    )


def unbatched(uri: str) -> Any:
    return SklearnModelHandlerNumpy(uri).with_no_batching()


def broken() -> Any:
    raise RuntimeError("no licence")


NOT_ONE = object()
PARTIAL = functools.partial(Plain, of="length")


@pytest.fixture
def linear(tmp_path: Path) -> str:
    """A pickled scikit-learn model, x -> x W."""
    model = LinearRegression(fit_intercept=False).fit(np.eye(3), WEIGHTS)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(model))
    return str(path)


# --- Beam's handlers ---------------------------------------------------------------------------

SKLEARN = "apache_beam.ml.inference.sklearn_inference.SklearnModelHandlerNumpy"


def test_beams_handler_of_scikit_learn_on_vectors(linear: str) -> None:
    handler = made(HandlerOfVectors, SKLEARN, COLUMNS, options={"model_uri": linear})
    rows = np.random.default_rng(1).normal(size=(11, 3))
    got = handler.transform(Batch(rows))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, rows @ WEIGHTS, rtol=1e-4, atol=1e-5)
    assert handler.names() == ["0", "1", "2", "3", "4"]


def test_beams_functions_before_and_after_the_model(linear: str) -> None:
    handler = made(HandlerOfVectors, "sklearn_on_sums", COLUMNS, options={"uri": linear})
    rows = np.random.default_rng(1).normal(size=(11, 3))
    want = 2 * rows @ WEIGHTS + 1
    np.testing.assert_allclose(handler.transform(Batch(rows)), want, rtol=1e-4, atol=1e-5)
    assert handler._rows(handler._loaded[0]) == 3


def test_beams_handler_of_onnx_on_vectors(tmp_path: Path) -> None:
    path = write_linear(tmp_path / "model.onnx", WEIGHTS)
    name = "apache_beam.ml.inference.onnx_inference.OnnxModelHandlerNumpy"
    options = {"model_uri": str(path), "providers": ["CPUExecutionProvider"]}
    handler = made(HandlerOfVectors, name, COLUMNS, options=options, batch=4)
    rows = np.random.default_rng(1).normal(size=(11, 3))
    np.testing.assert_allclose(handler.transform(Batch(rows)), rows @ WEIGHTS, rtol=1e-4, atol=1e-5)


# --- records -----------------------------------------------------------------------------------


def test_each_kind_of_record_reaches_the_handler_as_it_was_decoded() -> None:
    image = np.full((3, 4, 3), 2, np.uint8)
    got = made(HandlerOfImages, "Plain").transform(Batch([image]))
    assert got.tolist() == [[3, 4, 3, 72]]

    signal = np.sin(np.arange(20)).astype(np.float32)
    audio = made(HandlerOfAudio, "Plain", Context(rate=100), options={"of": "spectrum"})
    np.testing.assert_allclose(
        audio.transform(Batch([signal])), [np.abs(np.fft.rfft(signal, 8))], rtol=1e-5
    )

    texts = made(HandlerOfTexts, "Plain", options={"of": "length"})
    assert texts.transform(Batch(["", "abc"])).tolist() == [[0], [3]]

    columns = Context(columns={"number": "number", "colour": "category"})
    table = made(HandlerOfTables, "Plain", columns, options={"of": "values"})
    rows = pa.table({"number": [1.5, None], "colour": [None, "red"]})
    assert table.transform(Batch(rows)).tolist() == [[1.5, 0], [-1, 3]]


def test_a_single_number_is_a_vector_of_one() -> None:
    handler = made(HandlerOfTexts, "Plain", options={"of": "scalar"})
    assert handler.transform(Batch(["ab"])).tolist() == [[2]]


@given(data=st.data())
@settings(max_examples=20)
def test_all_calls_have_the_same_number_of_records(data: st.DataObject) -> None:
    options = {"of": "length", "tag": "calls"}
    asked = data.draw(st.sampled_from([None, 1, 3]))
    name = data.draw(st.sampled_from(["Plain", "Batching"]))
    handler = made(HandlerOfTexts, name, options=options, batch=asked)
    texts = [str(i) * (i % 5) for i in range(13)]
    cuts = sorted(data.draw(st.sets(st.integers(0, 13))) | {0, 13})
    parts = [handler.transform(Batch(texts[a:b])) for a, b in itertools.pairwise(cuts)]
    assert np.concatenate(parts)[:, 0].tolist() == [len(text) for text in texts]
    calls = handler._loaded[0].calls
    assert set(calls[-2:]) == {asked or {"Plain": 1, "Batching": 4}[name]}
    calls.clear()


def test_the_model_is_loaded_once_a_process_and_not_by_checking() -> None:
    options = {"of": "length", "tag": "once"}
    made(HandlerOfTexts, "Plain", options=options)
    assert "once" not in Plain.loads
    handlers = [made(HandlerOfTexts, "Plain", options=options) for _ in range(8)]
    threads = [
        threading.Thread(target=lambda one=one: one.transform(Batch(["a"]))) for one in handlers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Plain.loads.count("once") == 1
    made(HandlerOfTexts, "Plain", options={"of": "length", "tag": "other"}).names()
    assert Plain.loads.count("other") == 1


def test_a_dimension_that_is_given_needs_no_model() -> None:
    options = {"of": "length", "tag": "dimension"}
    handler = made(HandlerOfTexts, "Plain", options=options, dimension=2)
    assert handler.names() == ["0", "1"]
    assert "dimension" not in Plain.loads
    with pytest.raises(ValueError, match="a vector of 1 numbers, not 2"):
        handler.transform(Batch(["a"]))


def test_the_handlers_file_belongs_to_the_identity() -> None:
    used = identity(made(HandlerOfTexts, "Plain"))["uses"]
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert used == [{"class": f"{__name__}.Plain", "sha256": digest}]


# --- what goes wrong ---------------------------------------------------------------------------


def test_records_that_a_handler_does_not_like_are_dead_letters() -> None:
    handler = made(HandlerOfTexts, "Plain", options={"of": "growing"})
    texts = ["", "bad", "", "long"]
    out = np.empty((4, 1), np.float32)
    failed = transform_batch([("handler", handler)], {"handler": (0, 1)}, Batch(texts), out)
    messages = {row: bad.message for row, bad in failed.items()}
    assert messages == {
        1: "handler raised RuntimeError: I do not like this one",
        3: "handler raised ValueError: a vector of 5 numbers, not 1",
    }


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("NOT_ONE", {}, "NOT_ONE is neither a class nor a function"),
        ("PARTIAL", {}, "PARTIAL is neither a class nor a function"),
        ("broken", {}, "broken: RuntimeError: no licence"),
        ("Plain", {"off": 1}, "TypeError: .* unexpected keyword argument 'off'"),
        ("json.JSONDecoder", {}, "makes a JSONDecoder, which is no ModelHandler: no load_model"),
        ("unbatched", {"uri": "a.pkl"}, r"with_no_batching\(\) is not for here: set batch instead"),
        ("surely_not.there", {}, "there is no module 'surely_not'"),
    ],
)
def test_what_is_no_handler_is_refused(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(HandlerOfTexts, name, options=options)


def test_a_prediction_that_is_no_vector_says_what_to_do() -> None:
    handler = made(HandlerOfTexts, "Plain", options={"of": "matrix"}, dimension=4)
    with pytest.raises(ValueError, match=r"of the shape \(2, 2\), not a vector: change it with"):
        handler.transform(Batch(["a"]))


def test_a_handler_that_cannot_be_tried_needs_a_dimension() -> None:
    handler = made(HandlerOfImages, "Plain", options={"of": "picky", "tag": "try"})
    with pytest.raises(ValueError, match=r"a try on an empty record.* no square.*give `dimension`"):
        handler.names()
    handler = made(HandlerOfImages, "Plain", options={"of": "picky", "tag": "try"}, dimension=1)
    assert handler.transform(Batch([np.zeros((2, 3, 3), np.uint8)])).tolist() == [[6]]
