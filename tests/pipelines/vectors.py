"""A small data set of three modalities of vectors, with its recipe, for tests of strategies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from schemas.tables import matrix

DIMS = {"image": 12, "text": 8, "audio": 6}
KEYS = 150


def write_vectors(folder: Path, fuse: dict[str, Any], keys: int = KEYS, **recipe: Any) -> Path:
    """Write the data set, in which every tenth vector is missing, and its recipe.

    Image and audio share noise in which what they say of the label drowns; a few keys have no
    label.
    """
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, keys)
    names = np.array([f"k{i:04d}" for i in range(keys)])
    noise = rng.normal(size=(keys, 3))
    for name, d in DIMS.items():
        # How large numbers are differs, and no component is as large as another.
        X = rng.normal(size=(keys, d)) + np.eye(3, d)[label] * (2.0 if name == "text" else 0.6)
        if name != "text":
            X += 2 * noise @ rng.normal(size=(3, d))
        X = X * np.linspace(1, 9, d) + 5
        here = rng.random(keys) < 0.9
        table = pa.table({"key": names[here], **{f"x{i:02d}": X[here, i] for i in range(d)}})
        pq.write_table(table, folder / f"{name}.parquet")
    lines = [f"{key},{'abc'[c]}" for key, c in zip(names, label, strict=True) if key[-2:] != "77"]
    (folder / "labels.csv").write_text("\n".join(["key,label", *lines]) + "\n")
    return write_recipe(folder / "recipe.yaml", fuse, **recipe)


def write_recipe(path: Path, fuse: dict[str, Any] | None, **recipe: Any) -> Path:
    """Write a recipe for the data set in the same folder."""
    modalities = {name: {"kind": "vector", "source": {"path": f"{name}.parquet"}} for name in DIMS}
    whole: dict[str, Any] = {
        "name": "vectors",
        "modalities": modalities,
        "target": {"source": {"path": "labels.csv"}, "column": "label"},
        "split": {"folds": 4, "test_share": 0.2},
        "train": {"models": {"lda": {}}},
        **recipe,
    }
    if fuse is not None:
        whole["fuse"] = fuse
    path.write_text(yaml.safe_dump(whole, sort_keys=False))
    return path


def metrics_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "report/metrics.json").read_text())


def in_memory(output: Path) -> tuple[pa.Table, dict[str, np.ndarray], np.ndarray]:
    """Fused rows by key, each modality's features of these keys, and who has it: bool[n, m]."""
    from flows import table

    fused = table(output, "fused").sort_by("key")
    keys = fused["key"].to_pylist()
    flags = fused["present"].to_pylist()
    present = np.array([[row[name] for name in DIMS] for row in flags])
    blocks = {}
    for name in DIMS:
        own = table(output, f"features/{name}")
        of = dict(zip(own["key"].to_pylist(), matrix(own["features"]), strict=True))
        nothing = np.full(own["features"].type.list_size, np.nan, np.float32)
        blocks[name] = np.array([of.get(key, nothing) for key in keys])
    return fused, blocks, present
