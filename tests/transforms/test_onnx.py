"""Models in ONNX files as extractors: numbers as NumPy makes them, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import node, write, write_linear

from transforms.extractors.base import Batch, Context, Extractor
from transforms.extractors.extracting import transform_batch
from transforms.extractors.model.onnx import (
    Onnx,
    OnnxOfAudio,
    OnnxOfImages,
    OnnxOfTables,
    OnnxOfTexts,
    OnnxOfVectors,
)
from transforms.extractors.video.frames import OnFrames

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(5, 3, 3, 3)).astype(np.float32)
WEIGHTS = RNG.normal(size=(7, 4)).astype(np.float32)
COLUMNS = Context(columns={f"c{i}": "number" for i in range(7)})


def made(cls: type[Onnx], path: Path, context: Context | None = None, **options: Any) -> Onnx:
    extractor = cls(path=str(path), **options)
    extractor.context = context or Context()
    extractor.check()
    return extractor


def pictures(sizes: list[tuple[int, int]]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes]


SIZES = [(12, 10), (30, 7), (1, 1), (12, 10), (64, 90), (5, 40), (12, 10)]


def write_identity(
    path: Path, shape: list[int | str], kind: str = "float", out: list[int | str] | None = None
) -> Path:
    return write(
        path, [node("Identity", "x", "y")], {"x": (kind, shape)}, {"y": (kind, out or shape)}
    )


@pytest.fixture(scope="module")
def convolution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of any size -> maps of 5 features, half as high and wide."""
    return write(
        tmp_path_factory.mktemp("models") / "convolution.onnx",
        [node("Conv", "x k", "y", strides=[2, 2], pads=[1, 1, 1, 1])],
        {"x": ("float", ["n", 3, "h", "w"])},
        {"y": ("float", ["n", 5, "h2", "w2"])},
        {"k": KERNEL},
    )


# --- numbers -----------------------------------------------------------------------------------


def convolved(image: np.ndarray, mean: list[float], std: list[float]) -> np.ndarray:
    """float64[5, 6, 5]: the model `convolution` on an image of 12 x 10, in plain NumPy."""
    x = (image / 255 - mean) / std
    x = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))[::2, ::2]
    return np.einsum("yxcij,kcij->kyx", windows, KERNEL.astype(np.float64))


@pytest.mark.parametrize("pooling", ["mean", "max", "flatten"])
def test_maps_of_images_are_pooled_over_height_and_width(convolution: Path, pooling: str) -> None:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    onnx = made(
        OnnxOfImages,
        convolution,
        size=[12, 10],
        channels="rgb",
        mean=mean,
        std=std,
        pooling=pooling,
        batch=3,
    )
    images = pictures(SIZES)
    resized = [
        cv2.resize(i, (10, 12), interpolation=cv2.INTER_AREA) if i.shape[:2] == (64, 90) else i
        for i in images
    ]
    got = onnx.transform(Batch(images))
    for at in (0, 3, 4, 6):
        want = convolved(resized[at], mean, std)
        pooled = {"mean": want.mean((1, 2)), "max": want.max((1, 2)), "flatten": want.ravel()}
        np.testing.assert_allclose(got[at], pooled[pooling], rtol=1e-4, atol=1e-4)
    assert onnx.names() == [str(i) for i in range(got.shape[1])]


def test_images_of_the_models_own_size_grey_and_channels_last(tmp_path: Path) -> None:
    path = write_identity(tmp_path / "a.onnx", ["n", 12, 10, 1])
    onnx = made(OnnxOfImages, path, layout="NHWC", pooling="flatten")
    images = pictures([(12, 10)] * 3)
    want = np.stack([cv2.cvtColor(i, cv2.COLOR_RGB2GRAY).ravel() / 255 for i in images])
    np.testing.assert_allclose(onnx.transform(Batch(images)), want, rtol=1e-6)


def test_channels_first_and_last_are_the_same_image(tmp_path: Path) -> None:
    first = write_identity(tmp_path / "a.onnx", ["n", 3, 12, 10])
    last = write_identity(tmp_path / "b.onnx", ["n", 12, 10, 3])
    images = Batch(pictures([(12, 10)] * 2))
    a = made(OnnxOfImages, first, pooling="flatten").transform(images)
    b = made(OnnxOfImages, last, layout="NHWC", pooling="flatten").transform(images)
    np.testing.assert_array_equal(
        a.reshape(2, 3, 12, 10), b.reshape(2, 12, 10, 3).transpose(0, 3, 1, 2)
    )
    assert made(OnnxOfImages, first).transform(images) == pytest.approx(
        made(OnnxOfImages, last, layout="NHWC").transform(images), rel=1e-6
    )


def test_a_model_of_bytes_gets_the_levels(tmp_path: Path) -> None:
    path = write_identity(tmp_path / "a.onnx", ["n", 3, 4, 4], "uint8")
    (image,) = pictures([(4, 4)])
    got = made(OnnxOfImages, path, pooling="flatten").transform(Batch([image]))
    np.testing.assert_array_equal(got[0], image.transpose(2, 0, 1).ravel())


@pytest.mark.parametrize("kind", ["float", "double", "float16"])
def test_numbers_of_any_width(tmp_path: Path, kind: str) -> None:
    path = write_identity(tmp_path / "a.onnx", ["n", 7], kind)
    rows = RNG.normal(size=(20, 7))
    got = made(OnnxOfVectors, path, COLUMNS).transform(Batch(rows))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, rows, rtol=1e-3 if kind == "float16" else 1e-6)


@pytest.mark.parametrize("rows", ["n", 1, 5])
def test_vectors_with_any_number_of_rows_a_call(tmp_path: Path, rows: int | str) -> None:
    onnx = made(OnnxOfVectors, write_linear(tmp_path / "a.onnx", WEIGHTS, rows), COLUMNS)
    matrix = RNG.normal(size=(23, 7))
    np.testing.assert_allclose(
        onnx.transform(Batch(matrix)), matrix @ WEIGHTS, rtol=1e-4, atol=1e-5
    )


def test_a_missing_number_of_a_table_is_nan_and_a_dead_letter(tmp_path: Path) -> None:
    onnx = made(OnnxOfTables, write_linear(tmp_path / "a.onnx", WEIGHTS), COLUMNS)
    columns = RNG.normal(size=(7, 3))
    table = pa.table({f"c{i}": pa.array(column) for i, column in enumerate(columns)})
    np.testing.assert_allclose(onnx.transform(Batch(table)), columns.T @ WEIGHTS, rtol=1e-4)
    table = table.set_column(2, "c2", pa.array([1.0, None, 2.0]))
    out = np.empty((3, 4), np.float32)
    failed = transform_batch([("onnx", onnx)], {"onnx": (0, 4)}, Batch(table), out)
    assert {row: bad.kind for row, bad in failed.items()} == {1: "not_finite"}


def test_the_output_that_is_named_and_one_number_a_row(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.onnx",
        [node("Neg", "x", "minus"), node("ReduceSum", "x axis", "sum", keepdims=0)],
        {"x": ("float", ["n", 7])},
        {"minus": ("float", ["n", 7]), "sum": ("float", ["n"])},
        {"axis": np.array([1])},
    )
    rows = RNG.normal(size=(9, 7))
    first = made(OnnxOfVectors, path, COLUMNS).transform(Batch(rows))
    np.testing.assert_allclose(first, -rows, rtol=1e-6)
    total = made(OnnxOfVectors, path, COLUMNS, output="sum").transform(Batch(rows))
    np.testing.assert_allclose(total, rows.sum(1, keepdims=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channel", [False, True])
def test_recordings_are_cut_and_filled_up(tmp_path: Path, channel: bool) -> None:
    shape: list[int | str] = ["n", 1, "t"] if channel else ["n", "t"]
    path = write_identity(tmp_path / "a.onnx", shape)
    onnx = made(OnnxOfAudio, path, Context(rate=100), seconds=0.5, pooling="flatten")
    signals = [RNG.normal(size=n).astype(np.float32) for n in (20, 50, 80)]
    want = [np.pad(s, (0, 60))[:50] for s in signals]
    np.testing.assert_array_equal(onnx.transform(Batch(signals)), want)
    static = write_identity(tmp_path / "b.onnx", [*shape[:-1], 50])
    onnx = made(OnnxOfAudio, static, Context(rate=100), pooling="flatten")
    np.testing.assert_array_equal(onnx.transform(Batch(signals)), want)


def test_recordings_of_their_own_length_are_pooled_over_time(tmp_path: Path) -> None:
    kernel = RNG.normal(size=(6, 1, 10)).astype(np.float32)
    path = write(
        tmp_path / "a.onnx",
        [
            node("Unsqueeze", "x axis", "channel"),
            node("Conv", "channel k", "map", strides=[5]),
            node("Transpose", "map", "y", perm=[0, 2, 1]),
        ],
        {"x": ("float", [1, "t"])},
        {"y": ("float", [1, "w", 6])},
        {"k": kernel, "axis": np.array([1])},
    )
    onnx = made(OnnxOfAudio, path, Context(rate=100))
    signals = [RNG.normal(size=n).astype(np.float32) for n in (20, 57, 200)]
    want = [
        (np.lib.stride_tricks.sliding_window_view(s, 10)[::5] @ kernel[:, 0].T).mean(0)
        for s in signals
    ]
    np.testing.assert_allclose(onnx.transform(Batch(signals)), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [["n"], ["n", 1]])
def test_texts_go_to_a_model_that_knows_their_words(tmp_path: Path, shape: list[int | str]) -> None:
    path = write(
        tmp_path / "a.onnx",
        [
            node("Reshape", "x flat", "one"),
            node(
                "TfIdfVectorizer",
                "one",
                "counts",
                mode="TF",
                min_gram_length=1,
                max_gram_length=1,
                max_skip_count=0,
                ngram_counts=[0],
                ngram_indexes=[0, 1, 2],
                pool_strings=["red", "green", "blue"],
            ),
            node("Reshape", "counts rows", "y"),
        ],
        {"x": ("string", shape)},
        {"y": ("float", [1, 3])},
        {"flat": np.array([-1]), "rows": np.array([1, 3])},
    )
    got = made(OnnxOfTexts, path).transform(Batch(["green", "", "blue", "violet"]))
    assert got.tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]]


# --- properties --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def extractors(tmp_path_factory: pytest.TempPathFactory, convolution: Path) -> dict[str, Extractor]:
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(2)
    layers = [rng.normal(size=size).astype(np.float32) for size in ((7, 50), (50, 33))]
    deep = write(
        folder / "deep.onnx",
        [node("MatMul", "x a", "h"), node("Tanh", "h", "t"), node("MatMul", "t b", "y")],
        {"x": ("float", ["n", 7])},
        {"y": ("float", ["n", 33])},
        {"a": layers[0], "b": layers[1]},
    )
    images = made(OnnxOfImages, convolution, size=[12, 10], channels="rgb", batch=5)
    return {
        "vectors": made(OnnxOfVectors, deep, COLUMNS, batch=16),
        "vectors, one by one": made(OnnxOfVectors, deep, COLUMNS),
        "images": images,
        "videos": OnFrames(images, "mean"),
    }


ITEMS: dict[str, list[Any]] = {
    "vectors": list(RNG.normal(size=(40, 7))),
    "images": pictures(SIZES),
    "videos": [pictures(SIZES[:n]) for n in (1, 3, 2, 7)],
}


@pytest.mark.parametrize("name", ["vectors", "vectors, one by one", "images", "videos"])
@given(data=st.data())
@settings(max_examples=15)
def test_a_row_does_not_depend_on_its_batch(
    extractors: dict[str, Extractor], name: str, data: st.DataObject
) -> None:
    extractor, kind = extractors[name], name.partition(",")[0]
    items = data.draw(st.permutations(ITEMS[kind]))

    def batch(some: list[Any]) -> Batch:
        return Batch(np.array(some).reshape(-1, 7)) if kind == "vectors" else Batch(some)

    cuts = sorted(data.draw(st.sets(st.integers(0, len(items)))) | {0, len(items)})
    parts = [extractor.transform(batch(items[a:b])) for a, b in itertools.pairwise(cuts)]
    whole = extractor.transform(batch(items))
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert whole.shape == (len(items), len(extractor.names()))
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()


# --- what is refused ---------------------------------------------------------------------------

AUDIO = Context(rate=100)


@pytest.mark.parametrize(
    ("cls", "shape", "options", "message"),
    [
        (OnnxOfImages, ["n", 3, "h", "w"], {}, "takes images of any size: give size"),
        (OnnxOfImages, ["n", "c", 8, 8], {}, "takes any number of channels: give channels"),
        (OnnxOfImages, ["n", 3, 8, 8], {"size": [9, 8]}, r"takes images of \(8, 8\), not of size"),
        (OnnxOfImages, ["n", 8, 8, 3], {}, "takes 8 channels in layout NCHW, images have 1 or 3"),
        (OnnxOfImages, ["n", 3, 8, 8], {"channels": "grey"}, "takes 3 channels .* grey has 1"),
        (OnnxOfImages, ["n", 3, 8, 8], {"mean": [0.5, 0.5]}, "mean has 2 numbers for 3 channels"),
        (OnnxOfImages, ["n", 3], {}, "has 2 axes, not the 4 of NCHW"),
        (OnnxOfImages, [4, 3, 8, 8], {"batch": 2}, "takes 4 rows a call, so batch cannot be 2"),
        (OnnxOfAudio, ["n", 2, "t"], {}, "takes 2 channels, not one"),
        (OnnxOfAudio, ["n", 30], {"seconds": 1}, "takes 30 samples, not 100"),
        (OnnxOfAudio, ["n", 1, "t"], {"pooling": "flatten"}, "output grows with the record"),
        (OnnxOfVectors, ["n", 8], {}, "takes 8 columns, but there are 7: c0, c1"),
        (OnnxOfVectors, ["n", 7], {"output": "z"}, "has no output 'z'; it has: y"),
        (OnnxOfVectors, ["n", 7], {"sha256": "0" * 64}, "its SHA-256 is [0-9a-f]{64}, not 0000"),
        (OnnxOfTexts, ["n", 7], {}, r"its input is tensor\(float\), not tensor\(string\)"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    tmp_path: Path, cls: type[Onnx], shape: list[int | str], options: dict, message: str
) -> None:
    path = write_identity(tmp_path / "a.onnx", shape)
    with pytest.raises(ValueError, match=message):
        made(cls, path, AUDIO if cls is OnnxOfAudio else COLUMNS, **options)


def test_categories_whole_numbers_and_several_inputs_are_refused(tmp_path: Path) -> None:
    linear = write_linear(tmp_path / "a.onnx", WEIGHTS)
    with pytest.raises(ValueError, match="takes numbers, but 'colour' is a category"):
        made(OnnxOfTables, linear, Context(columns={"colour": "category"}))
    whole = write_identity(tmp_path / "b.onnx", ["n", 7], "int64")
    with pytest.raises(ValueError, match=r"its input is tensor\(int64\), not tensor\(float\)"):
        made(OnnxOfVectors, whole, COLUMNS)
    both = write(
        tmp_path / "c.onnx",
        [node("Add", "a b", "y")],
        {"a": ("float", ["n", 7]), "b": ("float", ["n", 7])},
        {"y": ("float", ["n", 7])},
    )
    with pytest.raises(ValueError, match=r"has 2 inputs \(a, b\), not one"):
        made(OnnxOfVectors, both, COLUMNS)


def test_what_is_no_model_is_refused_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no model at all")
    with pytest.raises(ValueError, match=r"not a model that ONNX Runtime .* can load"):
        made(OnnxOfVectors, tmp_path / "a.onnx", COLUMNS)
    assert capfd.readouterr() == ("", "")


def test_rows_that_influence_each_other_are_refused_unless_they_go_one_by_one(
    tmp_path: Path,
) -> None:
    path = write(
        tmp_path / "a.onnx",
        [node("ReduceMax", "x", "most", axes=[0], keepdims=1), node("Sub", "x most", "y")],
        {"x": ("float", ["n", 7])},
        {"y": ("float", ["n", 7])},
    )
    with pytest.raises(
        ValueError, match=r"depend on the other rows of its call, .*batch: 1., not 4"
    ):
        made(OnnxOfVectors, path, COLUMNS, batch=4)
    got = made(OnnxOfVectors, path, COLUMNS).transform(Batch(RNG.normal(size=(3, 7))))
    assert not got.any()


def test_a_row_on_which_the_model_fails_is_a_dead_letter(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.onnx",
        [
            node("Cast", "x", "whole", to=7),
            node("Gather", "table whole", "y"),
        ],
        {"x": ("float", ["n", 1])},
        {"y": ("float", ["n", 1])},
        {"table": np.array([5, 6, 7], np.float32)},
    )
    onnx = made(OnnxOfVectors, path, Context(columns={"a": "number"}))
    out = np.empty((4, 1), np.float32)
    batch = Batch(np.array([[0.0], [99.0], [2.0], [1.0]]))
    failed = transform_batch([("onnx", onnx)], {"onnx": (0, 1)}, batch, out)
    assert out[[0, 2, 3], 0].tolist() == [5, 7, 6]
    assert list(failed) == [1]
    assert failed[1].kind == "extractor_error"
    assert "onnx raised" in failed[1].message
