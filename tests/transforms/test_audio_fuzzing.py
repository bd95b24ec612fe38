"""Damaged recordings of every format: each is a signal or a bad record, in bounded memory.

The files are decoded in a process of its own, since a fault in a C library would end it.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from sounds import RATE, encode, modality, noise

from transforms.extractors.audio.decoding import decode
from transforms.extractors.base import BadRecord

FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("AIFF", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", None),
    ("AU", "PCM_16"),
    ("CAF", "ALAC_16"),
]
EACH = 80  # files a format
KINDS = {"unreadable", "truncated", "too_long", "not_finite", "empty"}
ABSURD = [
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    bytes(4),
    b"\0\0\0\x80",
    b"\x80\0\0\0",
]


def mutated(chance: random.Random, payload: bytes, others: list[bytes]) -> bytes:
    """One of: bits flipped, header bytes changed, cut, another format's header, absurd sizes."""
    out = bytearray(payload)
    how = chance.randrange(5)
    if how == 0:
        for _ in range(chance.randint(1, 20)):
            out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    elif how == 1:
        for _ in range(chance.randint(1, 6)):
            out[chance.randrange(120)] = chance.randrange(256)
    elif how == 2:
        del out[chance.randrange(len(out)) :]
    elif how == 3:
        end = chance.randrange(4, 120)
        out[:end] = chance.choice(others)[:end]
    else:
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(156)
            out[at : at + 4] = chance.choice(ABSURD)
    return bytes(out)


def silence(seconds: int) -> bytes:
    """A few kilobytes of FLAC that are 6 MB a second once decoded."""
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", 192_000, 8, format="FLAC", subtype="PCM_16") as file:
        for _ in range(seconds):
            file.write(np.zeros((192_000, 8), np.int16))
    return out.getvalue()


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def decode_all(files: Iterable[bytes], seconds: float) -> dict[str, Any]:
    """What became of files, and the memory that it took."""
    within = modality(max_seconds=seconds)
    for form, subtype in FORMATS:  # so that libraries are loaded
        decode(encode(noise(5000), form, subtype), within)
    fates: Counter[str] = Counter()
    before = peak()
    for payload in files:
        try:
            got = decode(payload, within)
            fine = 0 < got.size <= seconds * within.rate and np.isfinite(got).all()
            fates["signal" if fine else "a signal that is not as promised"] += 1
        except BadRecord as error:
            fates[error.kind] += 1
    return {"fates": fates, "grown": peak() - before}


def damaged() -> Iterator[bytes]:
    whole = [encode(noise(5000), form, subtype) for form, subtype in FORMATS]
    for number, payload in enumerate(whole):
        for seed in range(EACH):
            yield mutated(random.Random(f"{number} {seed}"), payload, whole)


def run(what: str) -> dict[str, Any]:
    """`decode_all` in a process of its own."""
    folder = Path(__file__).parent
    paths = os.pathsep.join([str(folder.parents[1]), str(folder)])
    done = subprocess.run(
        [sys.executable, __file__, what],
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": paths},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def bound(seconds: float) -> float:
    """What `decode` promises: twice the signal, of 4 bytes a sample, and 64 MB."""
    return 8 * seconds * RATE + 64 * 2**20


def test_damage_gives_a_signal_or_a_bad_record_in_bounded_memory() -> None:
    found = run("damaged")
    assert sum(found["fates"].values()) == EACH * len(FORMATS)
    assert set(found["fates"]) <= {*KINDS, "signal"}
    assert {"signal", "unreadable", "truncated"} <= set(found["fates"])
    assert found["grown"] < bound(10)


def test_a_small_file_that_is_large_once_decoded_stays_small() -> None:
    found = run("silence")
    assert found["fates"] == {"signal": 1}
    assert found["grown"] < bound(60)


if __name__ == "__main__":
    files, seconds = (damaged(), 10) if sys.argv[1] == "damaged" else ([silence(60)], 60)
    sys.stdout.write(json.dumps(decode_all(files, seconds)))
