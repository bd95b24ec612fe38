"""Damaged images of every format: each is pixels or a bad record, in bounded memory.

The files are decoded in a process of its own, since a fault in a C library would end it.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import resource
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from image_files import encode, modality, oriented, picture
from PIL import Image

from transforms.extractors.base import BadRecord
from transforms.extractors.image.decoding import decode

EACH = 60  # damaged files of each of these
MAX_PIXELS = 100_000
ROOM = 256 * 2**20  # bytes of addresses: who asks for more, for a size in a header, gets none
LARGE = (900, 1200)  # of images whose memory is measured
KINDS = {"pixels", "unreadable", "truncated", "too_large", "empty"}
ABSURD = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def whole(height: int = 30, width: int = 40) -> list[bytes]:
    """A file of each way that images are read."""
    rgba = picture(height, width, 4)
    rgb = np.ascontiguousarray(rgba[..., :3])
    image = Image.fromarray(rgb)
    two: dict[str, Any] = {"save_all": True, "append_images": [image.rotate(180)]}
    return [
        encode(rgba, "PNG"),
        encode(rgb, "PNG", exif=oriented(6)),
        encode(rgb, "PNG", interlace=1),
        encode(image.quantize(16), "PNG", transparency=3),
        cv2.imencode(".png", rgba.astype(np.uint16) * 257)[1].tobytes(),
        encode(rgb, "JPEG", exif=oriented(6)),
        encode(rgb, "JPEG", progressive=True),
        encode(image.convert("CMYK"), "JPEG"),
        encode(rgba, "WEBP", exif=oriented(6)),
        encode(rgba, "WEBP", lossless=True),
        encode(rgb, "WEBP", **two),
        encode(rgb, "TIFF"),
        encode(rgba, "TIFF", compression="tiff_lzw"),
        encode(rgb, "TIFF", compression="tiff_deflate", **two),
        encode(rgb, "TIFF", compression="jpeg"),
        encode(rgb, "TIFF", big_tiff=True),
        encode(rgb[..., 0].astype(np.uint16) * 257, "TIFF"),
        encode(image.convert("1"), "TIFF", compression="group4"),
        tiled(rgb),
        encode(rgb, "BMP"),
        encode(image.quantize(16), "BMP"),
        encode(rgb, "GIF", **two),
    ]


def tiled(rgb: np.ndarray) -> bytes:
    """A compressed TIFF file of tiles."""
    out = io.BytesIO()
    tifffile.imwrite(out, rgb, tile=(16, 16), compression="zlib", photometric="rgb")
    return out.getvalue()


def damaged(payload: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Some bits, sizes or parts of a file changed, its end cut off, or another's beginning."""
    out, how = bytearray(payload), chance.randrange(6)
    start = chance.randrange(len(out))
    length = min(chance.randint(1, 64), len(out) - start)
    if how == 0:
        for _ in range(chance.randint(1, 8)):
            out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    elif how == 1:
        del out[start:]
    elif how == 2:
        end = chance.choice([4, 8, 16, 32, 64])
        out[:end] = chance.choice(others)[:end]
    elif how == 3:  # in headers, or in TIFF's directories, which come last
        for _ in range(chance.randint(1, 3)):
            form = chance.choice(["<H", ">H", "<I", ">I"])
            at = chance.randrange(min(200, len(out))) if chance.random() < 0.7 else start
            most = 0xFFFF if form[1] == "H" else 0xFFFFFFFF
            if at + struct.calcsize(form) <= len(out):
                struct.pack_into(form, out, at, chance.choice(ABSURD) & most)
    elif how == 4:
        out[start : start + length] = out[start : start + length] * chance.choice([0, 2])
    else:
        out[start : start + length] = chance.randbytes(length)
    if out.startswith(b"\x89PNG") and chance.random() < 0.8:
        mend_checksums(out)
    return bytes(out)


def mend_checksums(png: bytearray) -> None:
    """So that what is damaged is also looked at."""
    at = 8
    while at + 12 <= len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        if end > len(png):
            return
        png[end - 4 : end] = struct.pack(">I", zlib.crc32(png[at + 4 : end - 4]))
        at = end


def peak() -> int:
    """The most memory that this process has had, in bytes.

    Not `ru_maxrss`, which begins with what the process that started it had.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024


def decode_damaged(seed: int) -> dict[str, Any]:
    """What became of damaged files, and how much memory it took."""
    files, within = whole(), modality(max_pixels=MAX_PIXELS)
    for payload in files:  # so that libraries are loaded
        decode(payload, within)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    before, fates = peak(), Counter[str]()
    for number, payload in enumerate(files):
        for i in range(EACH):
            file = damaged(payload, files, random.Random(f"{seed} {number} {i}"))
            try:
                pixels = decode(file, within)
            except BadRecord as error:
                fates[error.kind if error.message else "an error without a message"] += 1
            else:
                fine = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
                fine &= 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
                fates["pixels" if fine else "pixels that are not as promised"] += 1
    return {"fates": fates, "grown": peak() - before}


def decode_large(folder: Path) -> dict[str, Any]:
    """The shapes of large images, and how much memory it took beyond what small ones take."""
    for payload in whole():
        decode(payload, modality())
    before = peak()
    shapes = [decode(path.read_bytes(), modality()).shape for path in sorted(folder.iterdir())]
    return {"shapes": shapes, "grown": peak() - before}


def run(what: str, *args: str) -> dict[str, Any]:
    """One of the above in a process of its own."""
    folder = Path(__file__).parent
    paths = os.pathsep.join([str(folder.parents[1]), str(folder)])
    done = subprocess.run(
        [sys.executable, __file__, what, *args],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_damaged_files_are_pixels_or_bad_records() -> None:
    found = run("damaged", "0")
    fates = found["fates"]
    assert sum(fates.values()) == EACH * len(whole()) >= 300
    assert set(fates) <= KINDS
    assert min(fates["pixels"], fates["unreadable"], fates["truncated"], fates["too_large"]) > 10
    assert found["grown"] < 32 * 2**20


@pytest.mark.slow
def test_memory_is_bounded_by_the_pixels(tmp_path: Path) -> None:
    files = whole(*LARGE)
    for number, payload in enumerate(files):
        (tmp_path / f"{number:02}").write_bytes(payload)
    found = run("large", str(tmp_path))
    assert {tuple(shape) for shape in found["shapes"]} == {(*LARGE, 3), (*LARGE[::-1], 3)}
    assert found["grown"] < 32 * LARGE[0] * LARGE[1] + max(map(len, files)) + 2**23


if __name__ == "__main__":
    work = {
        "damaged": lambda seed: decode_damaged(int(seed)),
        "large": lambda f: decode_large(Path(f)),
    }
    json.dump(work[sys.argv[1]](sys.argv[2]), sys.stdout)
