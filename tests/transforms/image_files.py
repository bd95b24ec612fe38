"""Pictures and image files for tests, of every format that is read."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from schemas.recipe import ImageModality
from transforms.extractors.base import Batch, Extractor
from transforms.extractors.image.decoding import decode

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Real images, beside the checkout and not part of the project; they may not be there."""

BACKGROUND = (10, 200, 90)


def modality(**fields: Any) -> ImageModality:
    return ImageModality.model_validate(
        {
            "kind": "image",
            "source": {"path": "images.csv", "uri": "path"},
            "extract": {"hog": None},
            "background": BACKGROUND,
            **fields,
        }
    )


def picture(height: int = 30, width: int = 40, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A smooth picture, uint8[height, width, channels]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, channels), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def pictures() -> list[np.ndarray]:
    """Of many sizes, and without and with noise."""
    sizes = [(64, 64), (28, 28), (1, 1), (200, 33), (20, 150), (70, 90), (1, 300)]
    return [picture(h, w, seed=i) for i, (h, w) in enumerate(sizes)] + [
        np.zeros((40, 40, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8),
    ]


def shapes(n: int = 12, seed: int = 0) -> list[np.ndarray]:
    """Discs and frames on noise, which have keypoints: n of several sizes."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        image = rng.integers(0, 60, (60 + 7 * i, 90 - 3 * i, 3), dtype=np.uint8)
        for _ in range(6):
            x, y = (int(v) for v in rng.integers(5, 50, 2))
            color = [int(c) for c in rng.integers(80, 255, 3)]
            cv2.circle(image, (x, y), int(rng.integers(3, 12)), color, -1)
            cv2.rectangle(image, (y, x), (y + 9, x + 14), color[::-1], 2)
        out.append(image)
    return out


def photographs(step: int = 20) -> list[np.ndarray]:
    """Some of the real images, decoded; none where they are not there."""
    paths = [*sorted(DATA.glob("*/images/*.png")), *sorted(DATA.glob("*/images/*.webp"))]
    return [decode(path.read_bytes(), modality()) for path in paths[::step]]


def fitted(extractor: Extractor, parts: Sequence[list[np.ndarray]]) -> Extractor:
    """The extractor after all rounds of its fit, each a part at a time."""
    known: dict[str, np.ndarray] = {}
    for _ in range(extractor.rounds):
        states = [extractor.partial(Batch(part)) for part in parts]
        known |= extractor.finish(extractor.merge(states))
        extractor.load(known)
    return extractor


def encode(pixels: np.ndarray | Image.Image, form: str, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    rows: np.ndarray, width: int, depth: int, color_type: int, *before: tuple[bytes, bytes]
) -> bytes:
    """A PNG file from packed rows of bytes, with chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, color_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = [(b"IHDR", header), *before, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


FILES = {
    "png": lambda: encode(picture(channels=4), "PNG"),
    "png of a camera": lambda: encode(picture(), "PNG", exif=oriented(6)),
    "jpeg": lambda: encode(picture(), "JPEG"),
    "progressive jpeg": lambda: encode(picture(), "JPEG", progressive=True),
    "webp": lambda: encode(picture(channels=4), "WEBP"),
    "tiff": lambda: encode(picture(), "TIFF"),
    "compressed tiff": lambda: encode(picture(), "TIFF", compression="tiff_deflate"),
    "jpeg in a tiff": lambda: encode(picture(), "TIFF", compression="jpeg"),
    "bmp": lambda: encode(picture(), "BMP"),
    "gif": lambda: encode(picture(), "GIF"),
}
"""A small file of each way that images are read."""
