"""Damaged videos: each is decoded or refused, at a bounded cost, and always in the same way."""

from __future__ import annotations

import hashlib
import platform
import random
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from videos import moving, write_video

from schemas.recipe import VideoModality
from transforms.extractors.base import BadRecord
from transforms.extractors.video import decoding
from transforms.extractors.video.reader import BYTES_A_PIXEL, BYTES_BESIDES

MODALITY = VideoModality.model_validate(
    {
        "kind": "video",
        "source": {"path": "videos.csv"},
        "extract": {"hog": None},
        "max_pixels": 200_000,
        "max_frames": 1000,
    }
)
FILES = {"motion jpeg.avi": "MJPG", "png.avi": "PNG ", "mpeg 4.mp4": "mp4v", "vp8.webm": "VP80"}
EACH = 100  # mutations of each file
SIZES = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\x40\0", b"\x40\0\x40\0", b"\0\x40\0\x40"]


def mutated(payload: bytes, other: bytes, rng: random.Random) -> bytes:
    """Flipped bits, a cut, another file's header, absurd sizes near the start, or a hole."""
    out = bytearray(payload)
    how = rng.choice(["flip", "cut", "header", "sizes", "hole"])
    if how == "flip":
        for _ in range(rng.choice([1, 3, 30, 300])):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del out[rng.randrange(len(out)) :]
    elif how == "header":
        size = rng.choice([8, 32, 256, 1024])
        out[:size] = other[:size]
    elif how == "sizes":
        for _ in range(3):
            at = rng.randrange(min(len(out), 2000))
            out[at : at + 4] = rng.choice(SIZES)
    else:
        at = rng.randrange(len(out))
        size = rng.choice([10, 1000, 10_000])
        out[at : at + size] = bytes(len(out[at : at + size]))
    return bytes(out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / name, moving(30), codec) for name, codec in FILES.items()]


def fate(payload: bytes) -> tuple[str, str]:
    """`frames` and a hash of their pixels, or the kind of error and its message."""
    try:
        frames = decoding.decode(payload, MODALITY)
    except BadRecord as bad:
        return bad.kind, bad.message
    assert all(frame.dtype == np.uint8 and frame.shape[2] == 3 for frame in frames)
    return "frames", hashlib.sha256(b"".join(frame.tobytes() for frame in frames)).hexdigest()


def fresh_process() -> int:
    """Peak of memory of a process that reads videos, which has read none: bytes."""
    decoding._READER = decoding._Reader()
    fate(b"RIFF\0\0\0\0AVI ")
    return peak()


def peak() -> int:
    """Most memory that the process that reads had at any time, in bytes."""
    process = decoding._READER._process
    assert process is not None
    assert process.poll() is None, "the process that reads has died"
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="bounds memory on Linux only")
def test_damaged_videos(whole: list[bytes]) -> None:
    rng = random.Random(0)
    payloads = [mutated(payload, rng.choice(whole), rng) for payload in whole for _ in range(EACH)]
    before = fresh_process()
    first = decoding._READER._process
    fates = [fate(payload) for payload in payloads]
    allowed = BYTES_A_PIXEL * MODALITY.max_pixels + BYTES_BESIDES + max(map(len, payloads))
    assert peak() - before < allowed
    assert decoding._READER._process is first, "the process that reads has died"
    kinds = Counter(kind for kind, _ in fates)
    assert kinds.keys() <= {"frames", "unreadable", "truncated", "too_large", "too_long"}
    assert kinds["frames"] > EACH / 2
    assert kinds["unreadable"] > EACH / 4
    # Nothing is left of what was read before: in another order, all have the same fate.
    fresh_process()
    assert [fate(payload) for payload in reversed(payloads)] == fates[::-1]


def claiming(payload: bytes, side: int) -> bytes:
    """A video of PNG images whose own headers claim to be large, the container's not."""
    out = bytearray(payload)
    at = out.find(b"IHDR")
    while at >= 0:
        struct.pack_into(">II", out, at + 4, side, side)
        struct.pack_into(">I", out, at + 17, zlib.crc32(out[at : at + 17]))
        at = out.find(b"IHDR", at + 4)
    return bytes(out)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="bounds memory on Linux only")
def test_a_header_that_promises_too_much_costs_little(whole: list[bytes]) -> None:
    payload = claiming(whole[1], 16_000)
    before = fresh_process()
    assert fate(payload)[0] in ("too_large", "unreadable")
    assert peak() - before < BYTES_A_PIXEL * MODALITY.max_pixels + BYTES_BESIDES + len(payload)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its allocator fills memory")
def test_what_was_in_memory_before_does_not_show(whole: list[bytes]) -> None:
    # Images that are said to be interlaced and are not: FFmpeg leaves pixels as they were.
    payload = bytearray(whole[1])
    at = payload.find(b"IHDR")
    while at >= 0:
        payload[at + 16] = 1
        at = payload.find(b"IHDR", at + 4)
    decoding._READER = decoding._Reader()
    fates = set()
    for other in whole:
        fates.add(fate(bytes(payload)))
        fate(other)
    decoding._READER = decoding._Reader()
    fates.add(fate(bytes(payload)))
    assert [kind for kind, _ in fates] == ["frames"]
