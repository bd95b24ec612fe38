"""The network made of a package's weights: what it sees in photographs, and what is refused."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from sklearn.datasets import load_sample_image

from infra.models.efficientnet_lite import SIZE, write
from infra.models.torch_files import read_state
from transforms.extractors.base import Batch
from transforms.extractors.model.onnx import OnnxOfImages

PHOTOGRAPHS = {  # ImageNet's classes
    "palace": (698, lambda: load_sample_image("china.jpg")),
    "daisy": (985, lambda: load_sample_image("flower.jpg")),
    "Egyptian cat": (285, lambda: skimage.data.chelsea()),
    "espresso": (967, lambda: skimage.data.coffee()),
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "network.onnx"
    write(path)
    return path


def middle(image: np.ndarray) -> np.ndarray:
    """The largest square in the middle."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def extractor(path: Path, output: str) -> OnnxOfImages:
    made = OnnxOfImages(path=str(path), output=output, size=[SIZE, SIZE])
    made.check()
    return made


def test_photographs_are_what_they_show(network: Path) -> None:
    try:
        images = [middle(load()) for _, load in PHOTOGRAPHS.values()]
    except (ModuleNotFoundError, ConnectionError) as error:
        pytest.skip(f"scikit-image would download its photographs: {error}")
    logits = extractor(network, "logits").transform(Batch(images))
    assert logits.shape == (len(images), 1000)
    assert logits.argmax(axis=1).tolist() == [number for number, _ in PHOTOGRAPHS.values()]


def test_features_have_length_1_and_a_black_image_has_some(network: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (50, 80, 3), dtype=np.uint8)
    rows = extractor(network, "features").transform(Batch([np.zeros((9, 9, 3), np.uint8), noise]))
    assert rows.shape == (2, 1280)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)


def test_the_same_bytes_each_time(network: Path, tmp_path: Path) -> None:
    write(tmp_path / "again" / "network.onnx")
    assert (tmp_path / "again" / "network.onnx").read_bytes() == network.read_bytes()


class _Calls:
    def __reduce__(self) -> tuple:
        return print, ("a file of weights must not call anything",)


def test_files_that_are_not_weights_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights.pth"
    for content in (pickle.dumps(_Calls()), pickle.dumps(1), b"PK\x03\x04 a newer file", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights\.pth: "):
            read_state(path)
    assert capsys.readouterr().out == ""


def test_weights_are_read_by_their_strides(tmp_path: Path) -> None:
    """A file as PyTorch 1.5 writes it, of one tensor that is a transposed part of a storage."""
    out = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        out.write(pickle.dumps(value, 2))
    out.write(
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n"
        b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x007X\x03\x00\x00\x00cpu"
        b"K\x0cNtQK\x02K\x03K\x02\x86K\x01K\x03\x86\x89}tRs."
    )
    out.write(pickle.dumps(["7"], 2))
    out.write(np.int64(12).tobytes() + np.arange(12, dtype="<f4").tobytes())
    path = tmp_path / "weights.pth"
    path.write_bytes(out.getvalue())
    (tensor,) = read_state(path).values()
    np.testing.assert_array_equal(tensor, np.arange(2, 8).reshape(2, 3).T)
