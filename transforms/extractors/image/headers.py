"""What image files say of themselves, read before a library sets room aside or prints complaints.

All raise `BadRecord` where a header is damaged or the file ends too early.
"""

from __future__ import annotations

import struct

from PIL.TiffImagePlugin import TiffImageFile

from transforms.extractors.base import BadRecord

_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TIFF_SIZES |= {16: 8, 17: 8, 18: 8}  # of BigTIFF


def truncated(what: str, detail: str) -> BadRecord:
    """The error of a file that ends too early."""
    return BadRecord("truncated", f"{what} file is cut short: {detail}")


def jpeg_size(payload: bytes) -> tuple[int, int]:
    """Width and height, in the first start of frame (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 9 <= len(payload):
        if payload[at] != 0xFF:
            raise BadRecord("unreadable", f"JPEG file is damaged: no marker at byte {at}")
        marker = payload[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", payload, at + 5)
            return width, height
        if marker in (0xD9, 0xDA):
            raise BadRecord("unreadable", "JPEG file is damaged: no size before the pixels")
        at += 2 + int.from_bytes(payload[at + 2 : at + 4], "big")
    raise truncated("JPEG", f"it ends after {len(payload)} bytes, before its size")


def webp_size(payload: bytes) -> tuple[int, int]:
    """Width and height, in the first chunk (RFC 9649, section 2)."""
    if payload[8:12] != b"WEBP":
        raise BadRecord("unreadable", f"a RIFF file of {payload[8:12]!r}, not of a WebP image")
    if len(payload) < max(30, 8 + int.from_bytes(payload[4:8], "little")):
        raise truncated("WebP", f"{len(payload)} bytes, fewer than its header says")
    chunk = payload[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(payload[24:27], "little"), 1 + int.from_bytes(
            payload[27:30], "little"
        )
    if chunk == b"VP8L":
        bits = int.from_bytes(payload[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", payload, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise BadRecord("unreadable", f"WebP file is damaged: it begins with a chunk {chunk!r}")


def check_tiff_directory(payload: bytes) -> None:
    """Find a cut TIFF or BigTIFF file before libtiff does, which prints what it finds.

    References:
        Adobe: TIFF, revision 6.0, section 2. The BigTIFF file format, awaresystems.be.
    """
    order, big = "<" if payload[:1] == b"I" else ">", payload[2] + payload[3] == 43
    # Where the place of the directory is, and the layout of it, its number of entries, and each.
    place, pointer, number, entry = (8, "Q", "Q", "HHQQ") if big else (4, "I", "H", "HHII")
    needed = place + struct.calcsize(pointer)
    if len(payload) >= needed:
        (start,) = struct.unpack_from(order + pointer, payload, place)
        entries = start + struct.calcsize(number)
        needed = max(needed, entries)
        if len(payload) >= needed:
            (count,) = struct.unpack_from(order + number, payload, start)
            size, inline = struct.calcsize("=" + entry), struct.calcsize(pointer)
            end = entries + size * count
            needed = max(needed, end + inline)
            if len(payload) >= needed:
                for _, kind, values, offset in struct.iter_unpack(
                    order + entry, payload[entries:end]
                ):
                    length = values * _TIFF_SIZES.get(kind, 1)
                    if length > inline:
                        needed = max(needed, offset + length)
    if needed > len(payload):
        raise truncated("TIFF", f"its directory reaches {needed - len(payload)} bytes further")


def check_tiff_pixels(image: TiffImageFile, size: int, max_pixels: int) -> None:
    """The same for the pixels, in strips (tags 273, 279) or tiles (324, 325).

    Args:
        image: opened, not loaded.
        size: of the file, in bytes.
        max_pixels: of a tile too, since libtiff sets room for a whole one aside.
    """
    for offsets, counts in ((273, 279), (324, 325)):
        ends = zip(image.tag_v2.get(offsets, ()), image.tag_v2.get(counts, ()), strict=False)
        needed = max((start + count for start, count in ends), default=0)
        if needed > size:
            raise truncated("TIFF", f"{needed - size} bytes are missing")
    if image.tag_v2.get(284) == 2 and 16 in image.tag_v2.get(258, ()):  # Pillow takes half of each
        raise BadRecord(
            "unreadable", "a TIFF image of 16 bits with a plane a channel; interleave its channels"
        )
    width, height = image.tag_v2.get(322, 0), image.tag_v2.get(323, 0)
    if width * height > max_pixels:
        raise BadRecord("too_large", f"tiles of {width} x {height} pixels, more than max_pixels")
