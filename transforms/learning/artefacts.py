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

import numpy as np
from skops.io import dumps, get_untrusted_types, loads

from transforms.learning.model import Model

_PARTS = {"numpy.ndarray", "numpy.float64", "builtins.dict", "builtins.list", "builtins.str"}
_TREES = "sklearn.ensemble._hist_gradient_boosting"
_TREE = f"{_TREES}.predictor.TreePredictor"
_BOOSTED = {
    "builtins.tuple",
    f"{_TREES}.binning._BinMapper",
    _TREE,
    "sklearn._loss.link.Interval",
}
_GAUSSIAN = "transforms.learning.gaussian.GaussianClassifier"
_KERNEL = "transforms.learning.kernel.KernelClassifier"
_MODELS: dict[str, set[str]] = {
    "sklearn.linear_model._logistic.LogisticRegression": set(),
    "sklearn.discriminant_analysis.LinearDiscriminantAnalysis": set(),
    "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis": set(),
    "sklearn.naive_bayes.GaussianNB": set(),
    "sklearn.linear_model._ridge.Ridge": set(),
    _GAUSSIAN: {_GAUSSIAN},  # skops knows what is scikit-learn's, and not our own
    _KERNEL: {_KERNEL},
    "sklearn.dummy.DummyClassifier": set(),  # where all rows that have a modality are of one class
    f"{_TREES}.gradient_boosting.HistGradientBoostingClassifier": {
        *_BOOSTED,
        "sklearn._loss._loss.CyHalfBinomialLoss",
        "sklearn._loss._loss.CyHalfMultinomialLoss",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.link.MultinomialLogit",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss.loss.HalfMultinomialLoss",
    },
    f"{_TREES}.gradient_boosting.HistGradientBoostingRegressor": {
        *_BOOSTED,
        "sklearn._loss._loss.CyHalfSquaredError",
        "sklearn._loss.link.IdentityLink",
        "sklearn._loss.loss.HalfSquaredError",
    },
}
"""The models that may be in a file, and what each may hold besides `_PARTS`."""
_LOADERS = {
    "ObjectNode",
    "DictNode",
    "ListNode",
    "TupleNode",
    "JsonNode",
    "TypeNode",
    "NdArrayNode",
    "LossNode",
}
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
        own = _MODELS.get(model, set())
        refused = (({model} - set(_MODELS)) | (types - _PARTS - own)) | (loaders - _LOADERS)
        if not refused:
            refused = set(get_untrusted_types(data=data)) - own
        if refused:
            raise ValueError(
                "the model file is refused: it holds "
                + ", ".join(sorted(refused))
                + ", which no model of Sensorium contains; train again, or find the right file"
            )
        loaded = loads(data, trusted=[name for name in (_TREE, _GAUSSIAN, _KERNEL) if name in own])
        if _TREE in own:
            _check_trees(loaded)
        return loaded
    except (
        AttributeError,
        BadZipFile,
        IndexError,
        KeyError,
        TypeError,
        UnicodeDecodeError,
        json.JSONDecodeError,
    ) as error:
        raise ValueError(f"not a model file of Sensorium, or a damaged one: {error}") from error


def _check_trees(model: Any) -> None:
    """Make sure that every path through a boosted model's trees ends in a leaf.

    scikit-learn follows the indices of a tree without looking at them, so that a file with bad
    ones could make it read outside of its arrays, or walk in a circle; skops trusts no trees for
    that reason.

    Raises:
        ValueError: a node points at no later node or at no feature, or splits by categories.
    """
    for tree in (tree for trees in model._predictors for tree in trees):
        nodes = tree.nodes
        inner = np.flatnonzero(nodes["is_leaf"] == 0)
        ends = np.stack([nodes["left"][inner], nodes["right"][inner]]).astype(np.int64)
        feature = nodes["feature_idx"][inner]
        if (
            nodes.ndim != 1
            or not len(nodes)
            or (ends <= inner).any()
            or (ends >= len(nodes)).any()
            or (feature < 0).any()
            or (feature >= model.n_features_in_).any()
            or nodes["is_categorical"][inner].any()
        ):
            raise ValueError("not a model file of Sensorium, or a damaged one: a broken tree")


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
