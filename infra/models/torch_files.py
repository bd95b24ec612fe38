"""Weights in files of PyTorch, read without PyTorch, and without running what is in them."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
}


class _Tensor:
    """A view of a storage, which comes later in the file."""

    def __init__(self, storage: str, offset: int, shape: tuple, strides: tuple, *_: Any) -> None:
        self.storage, self.offset = storage, offset
        self.shape, self.strides = shape, strides


class _Unpickler(pickle.Unpickler):
    """Knows tensors, storages and ordered dictionaries, and makes nothing else."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.types: dict[str, np.dtype] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not among what weights are made of")

    def persistent_load(self, pid: Any) -> str:
        kind, dtype, key, _, _, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"not a storage: {kind!r}")
        self.types[key] = dtype
        return key


def read_state(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a state dictionary that `torch.save` of PyTorch 1.5 or earlier wrote.

    Args:
        path: of the file.

    Returns:
        Arrays by name, in the file's order.

    Raises:
        ValueError: the file is not of that form.
    """
    with open(path, "rb") as file:
        try:
            if _Unpickler(file).load() != _MAGIC:
                raise ValueError(f"{path}: not a file of PyTorch 1.5 or earlier")
            _Unpickler(file).load()  # version of the protocol
            if not _Unpickler(file).load()["little_endian"]:
                raise ValueError(f"{path}: its numbers are big-endian")
            unpickler = _Unpickler(file)
            tensors = unpickler.load()
            storages = {}
            for key in _Unpickler(file).load():
                count = int(np.frombuffer(file.read(8), "<i8")[0])
                dtype = unpickler.types[key]
                storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
        except (pickle.UnpicklingError, EOFError) as error:
            raise ValueError(f"{path}: {error}") from error
    return {name: _array(tensor, storages[tensor.storage]) for name, tensor in tensors.items()}


def _array(tensor: _Tensor, storage: np.ndarray) -> np.ndarray:
    steps = [stride * storage.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, steps)
    return view.copy()
