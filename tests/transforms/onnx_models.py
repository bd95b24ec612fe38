"""Small models in ONNX files, written by the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

TYPES = {
    "float": TensorProto.FLOAT,
    "double": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64,
    "string": TensorProto.STRING,
}
Shape = list[int | str]


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def write(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, tuple[str, Shape]],
    outputs: dict[str, tuple[str, Shape]],
    weights: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write a model: nodes, inputs and outputs by name with type and shape, and its weights."""

    def values(of: dict[str, tuple[str, Shape]]) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, TYPES[kind], shape)
            for name, (kind, shape) in of.items()
        ]

    held = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", values(inputs), values(outputs), held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


def write_linear(path: Path, weights: np.ndarray, rows: int | str = "n") -> Path:
    """Rows of numbers x -> x W."""
    d, k = weights.shape
    return write(
        path,
        [node("MatMul", "x w", "y")],
        {"x": ("float", [rows, d])},
        {"y": ("float", [rows, k])},
        {"w": weights.astype(np.float32)},
    )


def write_encoder(path: Path, first: np.ndarray, second: np.ndarray, side: int) -> Path:
    """Grey images of side x side -> max(0, pixels A) B."""
    return write(
        path,
        [
            node("Flatten", "image", "flat"),
            node("MatMul", "flat a", "hidden"),
            node("Relu", "hidden", "active"),
            node("MatMul", "active b", "code"),
        ],
        {"image": ("float", ["n", 1, side, side])},
        {"code": ("float", ["n", second.shape[1]])},
        {"a": first.astype(np.float32), "b": second.astype(np.float32)},
    )
