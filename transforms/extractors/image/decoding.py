"""Images: from the bytes of a file to pixels."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import cv2
import numpy as np
from PIL import Image, ImageFile, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from schemas.recipe import ImageModality
from transforms.extractors.base import BadRecord
from transforms.extractors.image.headers import (
    check_tiff_directory,
    check_tiff_pixels,
    jpeg_size,
    truncated,
    webp_size,
)

# What is wrong with a file goes into its dead letter, with its key, not to the console without
# it. OpenCV 4 and 5 differ in where they keep the function; 0 is silence in both.
(cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel)(0)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_READERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"RIFF": WebPImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"II+\0": TiffImageFile,  # BigTIFF
    b"BM": BmpImageFile,
    b"GIF8": GifImageFile,
}
# Chunks that change pixels. Colour profiles, texts and further frames are left out: libpng
# prints its complaints about them.
_PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_AT_ONCE = 1 << 16  # pixels laid over the background at once: their copies stay in the cache
# Everything Pillow's readers let through on damaged files, found by fuzzing them.
_PILLOW_ERRORS: tuple[type[Exception], ...] = (OSError, SyntaxError, ValueError, TypeError)
_PILLOW_ERRORS += (LookupError, EOFError, ArithmeticError, AttributeError, RuntimeError)
_PILLOW_ERRORS += (struct.error, zlib.error)


def decode(payload: bytes, modality: ImageModality) -> np.ndarray:
    """Turn the bytes of an image file into pixels.

    PNG, JPEG, WebP, TIFF, BMP and GIF; of several frames or pages, the first. Transparent pixels
    are laid over the modality's background; of 16 bits a channel the upper 8 are kept; the
    orientation noted by a camera is applied. The size in the header is compared with
    `max_pixels` before anything is decoded, and decoding takes at most 32 bytes a pixel besides
    the file (WebP; 6 are usual for JPEG).

    Args:
        payload: the file.
        modality: gives `max_pixels` and `background`.

    Returns:
        uint8[height, width, 3], red, green, blue.

    Raises:
        BadRecord: `empty` (no bytes), `unreadable`, `truncated` or `too_large`.
    """
    if not payload:
        raise BadRecord("empty", "the file has no bytes")
    if payload.startswith(_PNG):
        return _decode_png(payload, modality)
    if payload.startswith(_JPEG):
        return _decode_jpeg(payload, modality)
    for start, reader in _READERS.items():
        if payload.startswith(start):
            return _decode_by_pillow(reader, payload, modality)
    known = "PNG, JPEG, WebP, TIFF, BMP or GIF"
    raise BadRecord("unreadable", f"not a {known} file: it starts with {payload[:12]!r}")


def _check_size(width: int, height: int, modality: ImageModality) -> None:
    if width <= 0 or height <= 0:
        raise BadRecord("unreadable", f"an image of {width} x {height} pixels")
    if width * height > modality.max_pixels:
        limit = modality.max_pixels
        raise BadRecord("too_large", f"{width} x {height} pixels are more than max_pixels, {limit}")


def _decode_png(payload: bytes, modality: ImageModality) -> np.ndarray:
    if len(payload) < 33:
        raise truncated("PNG", "it ends within its header")
    if payload[12:16] != b"IHDR":
        raise BadRecord("unreadable", "PNG file does not begin with its header (IHDR)")
    width, height, depth, color_type = struct.unpack_from(">IIBB", payload, 16)
    _check_size(width, height, modality)
    alpha, clear, oriented = color_type in (4, 6), 0, False
    kept: list[bytes | memoryview] = [_PNG]
    view, at, name = memoryview(payload), len(_PNG), b""
    while name != b"IEND":
        if at + 12 > len(payload):
            raise truncated("PNG", f"it ends after {len(payload)} bytes without an end (IEND)")
        length, name = struct.unpack_from(">I4s", payload, at)
        end = at + 12 + length
        if end > len(payload):
            raise truncated(
                "PNG", f"{end - len(payload)} bytes are missing in {name.decode('latin-1')}"
            )
        if name in _PNG_KEPT and not (name == b"tRNS" and color_type >= 4):
            if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
                raise BadRecord("unreadable", f"PNG file is damaged: checksum of {name!r}")
            if name == b"tRNS":
                alpha, clear = True, int.from_bytes(view[at + 8 : at + 10], "big")
            kept.append(view[at:end])
        oriented |= name == b"eXIf"
        at = end
    if oriented:  # which OpenCV does not apply together with alpha
        return _decode_by_pillow(PngImageFile, payload, modality)
    flags = cv2.IMREAD_UNCHANGED if alpha else cv2.IMREAD_COLOR_RGB
    pixels = _decode_by_opencv(b"".join(kept), flags)
    if pixels is None:
        raise BadRecord("unreadable", "PNG file is damaged: its pixels cannot be decompressed")
    if not alpha:
        return pixels
    if pixels.ndim == 2:  # one level of grey is clear, which OpenCV passes over
        top = np.iinfo(pixels.dtype).max
        opaque = pixels != clear * (top // (2**depth - 1))
        pixels = cv2.merge([pixels, pixels, pixels, opaque * pixels.dtype.type(top)])
    if pixels.dtype == np.uint16:
        pixels >>= 8
        pixels = pixels.astype(np.uint8)
    return _over_background(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA), modality)


def _decode_jpeg(payload: bytes, modality: ImageModality) -> np.ndarray:
    width, height = jpeg_size(payload)
    _check_size(width, height, modality)
    pixels = _decode_by_opencv(payload, cv2.IMREAD_COLOR_RGB)
    if pixels is not None:
        return pixels
    if b"\xff\xd9" not in payload[payload.rfind(b"\xff\xda") :]:
        raise truncated("JPEG", f"it ends after {len(payload)} bytes without an end marker")
    raise BadRecord("unreadable", "JPEG file is damaged, or of a kind that is hardly ever used")


def _decode_by_opencv(payload: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(payload, np.uint8), flags)
    except cv2.error as error:
        raise BadRecord("unreadable", f"OpenCV cannot decode it: {error.err}") from error


def _decode_by_pillow(
    reader: type[ImageFile.ImageFile], payload: bytes, modality: ImageModality
) -> np.ndarray:
    if reader is TiffImageFile:
        check_tiff_directory(payload)
    if reader is WebPImageFile:  # which sets room aside for the whole image when it is opened
        _check_size(*webp_size(payload), modality)
    # The readers are called by themselves: Image.open would add a limit of its own to max_pixels.
    try:
        image: Image.Image = reader(io.BytesIO(payload))
        _check_size(*image.size, modality)
        if isinstance(image, TiffImageFile):
            check_tiff_pixels(image, len(payload), modality.max_pixels)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I;16"):
            return cv2.cvtColor(_upper_eight_bits(image), cv2.COLOR_GRAY2RGB)
        if image.mode in ("I", "F"):
            raise BadRecord(
                "unreadable",
                "an image of signed, 32-bit or floating-point numbers; convert it to 8 or 16 bits",
            )
        if image.has_transparency_data:
            return _over_background(np.asarray(image.convert("RGBA")), modality)
        return np.asarray(image.convert("RGB"))
    except Image.DecompressionBombError as error:  # a GIF frame far larger than its header says
        raise BadRecord("too_large", f"{reader.format} file: {error}") from error
    except _PILLOW_ERRORS as error:
        message = f"{reader.format} file: {str(error) or type(error).__name__}"
        cut = isinstance(error, EOFError) or "truncated" in message.lower()
        cut |= reader is GifImageFile and not payload.endswith(b";")
        raise BadRecord("truncated" if cut else "unreadable", message) from error


def _upper_eight_bits(image: Image.Image) -> np.ndarray:
    """uint8[h, w] of grey levels of 9 to 16 bits."""
    levels, bits = np.asarray(image), 16
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(258, (16,))[0]
        if image.tag_v2.get(262) == 0:  # white is zero, which Pillow minds in 8 bits only
            levels = (1 << bits) - 1 - levels
    return (levels >> (bits - 8)).astype(np.uint8)


def _over_background(rgba: np.ndarray, modality: ImageModality) -> np.ndarray:
    """Lay uint8[h, w, 4] over the background, rounding to the nearest."""
    out = np.empty((*rgba.shape[:2], 3), np.uint8)
    background = np.array(modality.background, np.uint16)
    rows = max(1, _AT_ONCE // rgba.shape[1])
    for top in range(0, len(rgba), rows):
        part = rgba[top : top + rows]
        alpha = part[..., 3:].astype(np.uint16)
        mixed = part[..., :3] * alpha + background * (255 - alpha) + 127
        out[top : top + rows] = mixed // 255
    return out
