"""Small videos, written by the tests."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

CODECS = {
    "motion jpeg.avi": "MJPG",
    "ffv1.avi": "FFV1",
    "mpeg 4.mp4": "mp4v",
    "mpeg 4.mov": "mp4v",
    "mpeg 4.mkv": "mp4v",
    "vp8.webm": "VP80",
    "vp9.webm": "VP90",
    "flash.flv": "FLV1",
    "mpeg 4.ts": "mp4v",
    "windows media.wmv": "WMV2",
}
"""Names of files, whose endings say the container, and codecs."""


def numbered(count: int) -> list[np.ndarray]:
    """Frames of 32 x 48 that show their number, at most 63, as six bars: light is 1."""
    bits = (np.arange(count)[:, None] >> np.arange(6)) & 1
    bars = np.repeat(20 + 200 * bits, 8, axis=1).astype(np.uint8)
    return [np.broadcast_to(row[None, :, None], (32, 48, 3)).copy() for row in bars]


def numbers(frames: Sequence[np.ndarray]) -> list[int]:
    """The numbers that frames show."""
    light = np.array(frames).reshape(len(frames), 32, 6, 8, 3).mean(axis=(1, 3, 4)) > 120
    return (light @ (1 << np.arange(6))).tolist()


def moving(count: int, height: int = 48, width: int = 64, seed: int = 0) -> list[np.ndarray]:
    """A smooth picture that moves to the right."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return [np.roll(picture, 3 * i, axis=1) for i in range(count)]


def write_video(path: Path, frames: Sequence[np.ndarray], codec: str | None = None) -> bytes:
    """Write frames, red, green, blue, at 10 a second; returns the file."""
    height, width = frames[0].shape[:2]
    fourcc = cv2.VideoWriter.fourcc(*(codec or CODECS[path.name]))
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, 10.0, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path.read_bytes()


def gif(frames: Sequence[np.ndarray]) -> bytes:
    out = io.BytesIO()
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(out, "GIF", save_all=True, append_images=rest, duration=100)
    return out.getvalue()


def turned(mp4: bytes) -> bytes:
    """The same MP4 with the note of a camera that was held upright: turn it to the right."""
    at = mp4.index(b"tkhd") - 4 + 48  # ISO/IEC 14496-12, 8.3.2: the matrix
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    return mp4[:at] + matrix + mp4[at + len(matrix) :]


def told(avi: bytes, count: int) -> bytes:
    """The same AVI with another number of frames in its headers."""
    out = bytearray(avi)
    struct.pack_into("<I", out, avi.index(b"avih") + 8 + 16, count)
    struct.pack_into("<I", out, avi.index(b"strh") + 8 + 32, count)
    return bytes(out)
