"""Files of an output: what is written comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.tables import features_schema, packed_vectors, read_features, write_table


@pytest.mark.parametrize("groups", [[], [0], [5], [3, 0, 4]])
def test_features_come_back(tmp_path: Path, groups: list[int]) -> None:
    values = np.random.default_rng(0).normal(size=(sum(groups), 6)).astype(np.float32)
    values = np.asfortranarray(values)[:, ::2]
    values[:1] = [np.inf, -0.0, 1e-45]
    schema, tables, start = features_schema(["a", "b", "c"], {}), [], 0
    for rows in groups:
        keys = [str(row) for row in range(start, start + rows)]
        own = packed_vectors(values[start : start + rows])
        tables.append(pa.table([pa.array(keys, pa.string()), own], schema=schema))
        start += rows
    path = str(tmp_path / "features.parquet")
    write_table(path, tables, schema)
    found = read_features(path)
    assert found.dtype == np.float32
    assert found.shape == values.shape
    assert found.tobytes() == values.tobytes()
    # As README says that they are read.
    alone = [np.frombuffer(row, "<f4") for row in pq.read_table(path)["features"].to_pylist()]
    np.testing.assert_array_equal(np.array(alone).reshape(values.shape), values)
