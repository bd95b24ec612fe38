"""The bare work of a synthetic set: the same extractors in plain processes, no framework.

    python -m infra.benchmarks.bare FOLDER OUTPUT PROCESSES

What Sensorium is compared with. The manifests are read and joined by key, each process takes an
equal share of the keys, and writes its part of the fused table with the same Parquet options.
Nothing is resumable, bounded in memory or counted, and no record may be bad.
"""

from __future__ import annotations

import os
import sys

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from schemas.recipe import AudioModality, ImageModality
from schemas.tables import vector_type, vectors, write_table
from transforms.extractors.audio import decoding as audio_decoding
from transforms.extractors.audio.log_mel import LogMel
from transforms.extractors.base import Batch, Context
from transforms.extractors.image import decoding as image_decoding
from transforms.extractors.image.hog import Hog
from transforms.extractors.table.columns import Columns
from transforms.extractors.text.tfidf import Tfidf

BATCH = 64
ROWS = 2000  # of a written file
IMAGES = ImageModality.model_validate(
    {"kind": "image", "source": {"path": "a.csv"}, "extract": {"hog": None}}
)
AUDIO = AudioModality.model_validate(
    {"kind": "audio", "source": {"path": "a.csv"}, "extract": {"log_mel": None}}
)


def work(folder: str, output: str, rows: pa.Table, number: int, channel: Connection) -> None:
    """Fit and transform one process's share of the keys."""
    cv2.setNumThreads(1)
    pa.set_cpu_count(1)
    text, table = Tfidf(dimension=256), Columns()
    table.context = Context(columns=dict.fromkeys("abcd", "number"))
    hog, mel = Hog(size=64), LogMel(segments=1)
    mel.context = Context(rate=16_000)
    words = rows.column("text").to_pylist()
    numbers = rows.select(list("abcd"))
    channel.send((text.partial(Batch(words)), table.partial(Batch(numbers))))
    fitted_text, fitted_table = channel.recv()
    text.load(fitted_text)
    table.load(fitted_table)

    png, wav = rows.column("png").to_pylist(), rows.column("wav").to_pylist()
    width = sum(len(e.names()) for e in (hog, mel, text, table))
    fields = [pa.field("key", pa.string(), nullable=False)]
    schema = pa.schema([*fields, pa.field("fused", vector_type(width), nullable=False)])
    for first in range(0, len(rows), ROWS):
        keys = rows.column("key").slice(first, ROWS)
        fused = np.empty((len(keys), width), np.float32)
        for start in range(first, first + len(keys), BATCH):
            stop = min(start + BATCH, first + len(keys))
            images = [image_decoding.decode(_read(folder, p), IMAGES) for p in png[start:stop]]
            sounds = [audio_decoding.decode(_read(folder, p), AUDIO) for p in wav[start:stop]]
            parts = (
                hog.transform(Batch(images)),
                mel.transform(Batch(sounds)),
                text.transform(Batch(words[start:stop])),
                table.transform(Batch(numbers.slice(start, stop - start))),
            )
            fused[start - first : stop - first] = np.hstack(parts)
        path = os.path.join(output, f"part-{number}-{first // ROWS:04d}.parquet")
        write_table(path, [pa.table([keys, vectors(fused)], schema=schema)], schema)


def _read(folder: str, path: str) -> bytes:
    with open(os.path.join(folder, path), "rb") as file:
        return file.read()


def main(folder: str, output: str, processes: int) -> None:
    """Do the whole job."""
    os.makedirs(output, exist_ok=True)
    rows = None
    for name, columns in (
        ("images", {"path": "png"}),
        ("audio", {"path": "wav"}),
        ("text", {"text": "text"}),
        ("table", dict(zip("abcd", "abcd", strict=True))),
    ):
        one = pa_csv.read_csv(os.path.join(folder, f"{name}.csv"))
        one = one.rename_columns(["key", *columns.values()])
        rows = one if rows is None else rows.join(one, "key")
    assert rows is not None
    rows = rows.sort_by("key").combine_chunks()
    share = -(-len(rows) // processes)
    running = []
    for number in range(processes):
        ours, theirs = Pipe()
        part = rows.slice(number * share, share)
        process = Process(target=work, args=(folder, output, part, number, theirs))
        process.start()
        running.append((process, ours))
    states = [channel.recv() for _, channel in running]
    text, table = Tfidf(dimension=256), Columns()
    table.context = Context(columns=dict.fromkeys("abcd", "number"))
    fitted = (
        text.finish(text.merge([one for one, _ in states])),
        table.finish(table.merge([one for _, one in states])),
    )
    for _, channel in running:
        channel.send(fitted)
    for process, _ in running:
        process.join()
        if process.exitcode:
            sys.exit(process.exitcode)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
