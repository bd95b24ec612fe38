"""Batches of decoded records."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest
from image_files import encode, modality, picture

from transforms.extractors import batches as of_batches
from transforms.extractors.base import BadRecord
from transforms.extractors.image.decoding import decode


def test_large_images_make_batches_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_batches, "DECODED", 3 * picture().nbytes)
    found: list = [encode(picture(seed=i), "PNG") for i in range(8)]
    found[1], found[7] = b"GIF8 and no more", BadRecord("missing_file", "it is not there")
    rows = pa.table({"key": [f"k{i}" for i in range(8)]})
    plan = SimpleNamespace(recipe=modality())
    batches = list(of_batches._each(plan, rows, iter(found), decode))
    assert [b.rows["key"].to_pylist() for b in batches] == [
        ["k0", "k2", "k3"],
        ["k4", "k5", "k6"],
        [],
    ]
    assert [len(b.batch) for b in batches] == [3, 3, 0]
    for batch in batches:
        for key, image in zip(batch.rows["key"].to_pylist(), batch.batch.items, strict=True):
            assert (image == picture(seed=int(key[1:]))).all()
    lost = [
        (k, bad.kind)
        for b in batches
        for rows, wrong in b.lost
        for k, bad in zip(rows["key"].to_pylist(), wrong, strict=True)
    ]
    assert lost == [("k1", "truncated"), ("k7", "missing_file")]


def test_no_rows_make_no_batch() -> None:
    rows = pa.table({"key": pa.array([], pa.string())})
    assert list(of_batches._each(SimpleNamespace(recipe=modality()), rows, iter([]), decode)) == []
