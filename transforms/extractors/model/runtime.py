"""Models loaded by ONNX Runtime, each once a process."""

from __future__ import annotations

import hashlib
from typing import Any

from schemas import storage
from transforms.extractors.model.sharing import shared


def load(path: str, sha256: str | None) -> tuple[str, Any]:
    """A model that is ready to run on one thread of the processor.

    Args:
        path: of its file, or an fsspec URL.
        sha256: what the hash of its content must be, or None. Where it is known, the file is
            read once a process.

    Returns:
        SHA-256 of the file and an onnxruntime.InferenceSession, the same for the same content.

    Raises:
        ValueError: the file is another one, or no model.
        FileNotFoundError: there is no file.
    """
    if sha256 is not None:
        return sha256, shared(
            f"onnx {sha256}", lambda: _open(path, storage.read_bytes(path), sha256)
        )
    data = storage.read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    return digest, shared(f"onnx {digest}", lambda: _open(path, data, digest))


def _open(path: str, data: bytes, sha256: str) -> Any:
    import onnxruntime

    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(f"{path}: its SHA-256 is {found}, not {sha256}")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.use_deterministic_compute = True
    settings.log_severity_level = 4  # what goes wrong is raised, and need not be printed as well
    try:
        return onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ValueError(
            f"{path}: not a model that ONNX Runtime {onnxruntime.__version__} can load: "
            f"{first_line(error)}"
        ) from error


def first_line(error: Exception) -> str:
    """What an error says, without what follows it."""
    return str(error).strip().partition("\n")[0]
