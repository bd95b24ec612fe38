"""A trained model as files and back: JSON, and estimators in the skops format; no pickle.

model.json says which estimator reads which slice of the fused vector, and what becomes of what
they say. A model with one head has its estimator in model.skops, others in HEAD.skops each.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

from skops.io import dumps, get_untrusted_types, loads

from transforms.learning.model import Model

_MODELS = {
    "sklearn.linear_model._logistic.LogisticRegression",
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
    "sklearn.linear_model._ridge.Ridge",
}
_PARTS = {"numpy.ndarray", "numpy.float64", "builtins.dict", "builtins.list", "builtins.str"}
_LOADERS = {"ObjectNode", "DictNode", "ListNode", "JsonNode", "TypeNode", "NdArrayNode"}
_SCHEMA = "schema.json"


def model_files(model: Model) -> dict[str, bytes]:
    """The files of a model, by name: same model and versions of libraries, same bytes."""
    alone = len(model.heads) == 1
    names = {h.name: "model.skops" if alone else f"{h.name}.skops" for h in model.heads}
    files = {names[head.name]: estimator_bytes(head.estimator) for head in model.heads}
    return {"model.json": json.dumps(model.to_json(names), indent=1).encode(), **files}


def load_model(read: Callable[[str], bytes]) -> Model:
    """The model whose files are read by name.

    Raises:
        ValueError: a file is damaged, or holds what no model of ours needs.
    """
    try:
        data = json.loads(read("model.json"))
        files = [head["file"] for head in data["heads"]]
        return Model.from_json(data, {file: load_estimator(read(file)) for file in files})
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"not a model of Sensorium, or a damaged one: {error}") from error


def estimator_bytes(model: Any) -> bytes:
    """An estimator as a skops file.

    Skops names things by their address in memory and dates its files; here they are numbered in
    the order of their appearance, and undated.
    """
    raw = dumps(model)
    out = io.BytesIO()
    with ZipFile(io.BytesIO(raw)) as source, ZipFile(out, "w") as target:
        schema = json.loads(source.read(_SCHEMA))
        names: dict[str, str] = {}
        for number, node in enumerate(_nodes(schema), start=1):
            if "__id__" in node:
                node["__id__"] = number
            if "file" in node:
                node["file"] = names.setdefault(node["file"], f"array-{len(names):02d}.npy")
        for old, new in names.items():
            target.writestr(_undated(new), source.read(old))
        target.writestr(_undated(_SCHEMA), json.dumps(schema, indent=1))
    return out.getvalue()


def load_estimator(data: bytes) -> Any:
    """The scikit-learn estimator that `estimator_bytes` saved.

    Nothing is constructed before every type in the file is known to be one that our models need.

    Raises:
        ValueError: the bytes are no such file, or it holds other types.
    """
    try:
        with ZipFile(io.BytesIO(data)) as source:
            schema = json.loads(source.read(_SCHEMA))
        model = _type_name(schema)
        types = {_type_name(node) for node in _nodes(schema)} - {model}
        loaders = {str(node.get("__loader__")) for node in _nodes(schema)}
        refused = (({model} - _MODELS) | (types - _PARTS)) | (loaders - _LOADERS)
        if not refused:
            refused = set(get_untrusted_types(data=data))
        if refused:
            raise ValueError(
                "the model file is refused: it holds "
                + ", ".join(sorted(refused))
                + ", which no model of Sensorium contains; train again, or find the right file"
            )
        return loads(data)
    except (BadZipFile, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"not a model file of Sensorium, or a damaged one: {error}") from error


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """All descriptions of objects in a skops schema, outer before inner."""
    if isinstance(value, dict):
        if "__class__" in value:
            yield value
        for inner in value.values():
            yield from _nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _nodes(inner)


def _type_name(node: dict[str, Any]) -> str:
    return f"{node['__module__']}.{node['__class__']}"


def _undated(name: str) -> ZipInfo:
    info = ZipInfo(name)  # 1980-01-01
    info.create_system = 3  # the same on every platform
    return info
