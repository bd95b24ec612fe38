"""The bare work of a synthetic set in Daft: the same extractors as its user-defined functions.

python -m infra.benchmarks.with_daft FOLDER OUTPUT
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import cv2
import daft
import numpy as np
import pyarrow as pa

from infra.benchmarks.bare import AUDIO, IMAGES
from transforms.extractors.audio import decoding as audio_decoding
from transforms.extractors.audio.log_mel import LogMel
from transforms.extractors.base import Batch, Context
from transforms.extractors.image import decoding as image_decoding
from transforms.extractors.image.hog import Hog
from transforms.extractors.table.columns import Columns
from transforms.extractors.text.tfidf import Tfidf

WIDTH = 2104


def main(folder: str, output: str) -> None:
    """Do the whole job."""
    cv2.setNumThreads(1)
    images = daft.read_csv(f"{folder}/images.csv").with_column_renamed("path", "png")
    sounds = daft.read_csv(f"{folder}/audio.csv").with_column_renamed("path", "wav")
    texts, tables = (daft.read_csv(f"{folder}/{name}.csv") for name in ("text", "table"))
    rows = images.join(sounds, on="key").join(texts, on="key").join(tables, on="key")

    text, table = Tfidf(dimension=256), Columns()
    table.context = Context(columns=dict.fromkeys("abcd", "number"))
    words = texts.to_arrow().column("text").to_pylist()
    text.load(text.finish(text.merge([text.partial(Batch(words))])))
    numbers = tables.to_arrow().select(list("abcd"))
    table.load(table.finish(table.merge([table.partial(Batch(numbers))])))
    hog, mel = Hog(size=64), LogMel(segments=1)
    mel.context = Context(rate=16_000)

    def read(path: str) -> bytes:
        with open(os.path.join(folder, path), "rb") as file:
            return file.read()

    @daft.func.batch(return_dtype=daft.DataType.fixed_size_list(daft.DataType.float32(), WIDTH))
    def fuse(png: Any, wav: Any, words: Any, a: Any, b: Any, c: Any, d: Any) -> pa.Array:
        columns = {n: s.to_arrow() for n, s in zip("abcd", (a, b, c, d), strict=True)}
        parts = (
            hog.transform(Batch([image_decoding.decode(read(p), IMAGES) for p in png.to_pylist()])),
            mel.transform(Batch([audio_decoding.decode(read(p), AUDIO) for p in wav.to_pylist()])),
            text.transform(Batch(words.to_pylist())),
            table.transform(Batch(pa.table(columns))),
        )
        flat = pa.array(np.hstack(parts).astype(np.float32).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, WIDTH)

    arguments = [daft.col(name) for name in ("png", "wav", "text", *"abcd")]
    fused = rows.select("key", fuse(*arguments).alias("fused"))
    fused.write_parquet(output)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
