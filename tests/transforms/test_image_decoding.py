"""Image files of every format become pixels, or it is said why not."""

from __future__ import annotations

import io
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import BACKGROUND, FILES, encode, modality, oriented, picture, png
from PIL import Image, ImageOps

from schemas.recipe import ImageModality
from transforms.extractors.base import BadRecord
from transforms.extractors.image.decoding import decode

MODALITY = modality()


def kind_of(payload: bytes, within: ImageModality = MODALITY) -> str:
    with pytest.raises(BadRecord) as caught:
        decode(payload, within)
    assert caught.value.message
    return caught.value.kind


# --- decoding --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
    ],
)
def test_lossless_formats_give_back_the_pixels(form: str, options: dict[str, Any]) -> None:
    pixels = picture()
    got = decode(encode(pixels, form, **options), MODALITY)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, pixels)


def by_pillow(payload: bytes) -> np.ndarray:
    """float64[height, width, 3]: what Pillow makes of a file, over the background."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(payload)))
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB")).astype(float)
    rgba = np.asarray(image.convert("RGBA")).astype(float)
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + np.array(BACKGROUND) * (1 - alpha)


@pytest.mark.parametrize(
    ("form", "modes", "options"),
    [
        ("PNG", "1 L LA P RGB RGBA", {}),
        ("PNG", "1 L LA P RGB RGBA", {"interlace": 1}),
        ("JPEG", "L RGB CMYK", {"quality": 90}),
        ("JPEG", "L RGB CMYK", {"quality": 90, "progressive": True, "subsampling": 0}),
        ("WEBP", "RGB RGBA", {}),
        ("WEBP", "RGB RGBA", {"lossless": True}),
        ("TIFF", "1 L LA P RGB RGBA CMYK LAB", {}),
        ("TIFF", "1 L LA P RGB RGBA CMYK", {"compression": "tiff_lzw"}),
        ("TIFF", "1", {"compression": "group4"}),
        ("TIFF", "L RGB", {"compression": "jpeg"}),
        ("TIFF", "RGB", {"big_tiff": True}),
        ("BMP", "1 L P RGB RGBA", {}),
        ("GIF", "1 L P RGB RGBA", {}),
    ],
)
def test_every_kind_of_pixel_is_what_pillow_says(form: str, modes: str, options: Any) -> None:
    rgba = Image.fromarray(picture(37, 53, 4))
    for mode in modes.split():
        image = rgba.convert("RGB").convert(mode) if mode in ("CMYK", "LAB") else rgba.convert(mode)
        payload = encode(image, form, **options)
        got = decode(payload, MODALITY).astype(float)
        # Four inks are mixed to within a level.
        assert np.abs(got - by_pillow(payload)).max() <= (1 if mode == "CMYK" else 0.5), mode


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **options)
    return out.getvalue()


@pytest.mark.parametrize("order", "<>")
def test_tiff_of_many_layouts(order: str) -> None:
    pixels = picture(37, 53)
    grey16, rgba16 = (
        np.random.default_rng(0).integers(0, 65536, (37, 53, *c)).astype(np.uint16)
        for c in [(), (4,)]
    )
    planes = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
    planes16 = np.ascontiguousarray(np.moveaxis(rgba16[..., :3], 2, 0))
    rgb = {"photometric": "rgb", "byteorder": order}

    def made(pixels: np.ndarray, **options: Any) -> np.ndarray:
        return decode(tiff(pixels, **{"byteorder": order, **options}), MODALITY)

    tiles = {"tile": (16, 16), "compression": "zlib", "predictor": True}
    np.testing.assert_array_equal(made(pixels, **rgb, **tiles), pixels)
    np.testing.assert_array_equal(made(planes, **rgb, planarconfig="separate"), pixels)
    np.testing.assert_array_equal(made(np.stack([pixels, 255 - pixels]), **rgb), pixels)
    grey8 = pixels[..., 0]
    white = made(grey8, photometric="miniswhite")
    np.testing.assert_array_equal(white, np.repeat(255 - grey8[..., None], 3, 2))
    np.testing.assert_array_equal(made(rgba16[..., :3], **rgb), rgba16[..., :3] >> 8)
    mixed = made(rgba16, **rgb, extrasamples=["unassalpha"])
    alpha = (rgba16[..., 3:] >> 8) / 255
    want = (rgba16[..., :3] >> 8) * alpha + np.array(BACKGROUND) * (1 - alpha)
    assert np.abs(mixed - want).max() <= 0.5
    assert kind_of(tiff(planes16, **rgb, planarconfig="separate")) == "unreadable"
    np.testing.assert_array_equal(made(grey16)[..., 1], grey16 >> 8)


def test_white_may_be_zero_in_sixteen_bits_too() -> None:
    levels = np.arange(0, 65536, 4096, np.uint16).reshape(4, 4)
    got = decode(tiff(levels, photometric="miniswhite", byteorder="<"), MODALITY)
    np.testing.assert_array_equal(got[..., 0], (65535 - levels) >> 8)


def test_twelve_bits_are_not_taken_for_sixteen() -> None:
    levels = np.array([[0, 0x123], [0x456, 0xFFF]])
    packed = b"".join(int((a << 12) + b).to_bytes(3, "big") for a, b in levels.tolist())
    tags = {256: 2, 257: 2, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: len(packed)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed
    payload = header + struct.pack("<H", len(tags)) + directory + bytes(4)
    got = decode(payload, MODALITY)
    np.testing.assert_array_equal(got, np.repeat((levels >> 4)[..., None], 3, 2))


def bmp(width: int, height: int, bits: int, rows: bytes, masks: bytes = b"") -> bytes:
    start = 54 + len(masks)
    file = struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start)
    how = 3 if masks else 0
    return (
        file + struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, how, *[0] * 5) + masks + rows
    )


def test_bmp_of_few_bits_and_from_the_top() -> None:
    levels = np.arange(32, dtype="<u2").reshape(4, 8)
    top = bmp(8, -4, 16, (levels << 10 | 31).tobytes())
    want = np.stack([levels * 255 / 31, levels * 0, levels * 0 + 255], axis=2)
    assert np.abs(decode(top, MODALITY) - want).max() < 1
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    bottom = bmp(8, 4, 16, (levels[::-1] << 11 | 63 << 5).tobytes(), masks)
    want = np.stack([levels * 255 / 31, levels * 0 + 255, levels * 0], axis=2)
    assert np.abs(decode(bottom, MODALITY) - want).max() < 1


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_jpeg_is_what_it_was_but_for_its_loss(options: dict[str, Any]) -> None:
    pixels = picture()
    got = decode(encode(pixels, "JPEG", quality=95, **options), MODALITY)
    assert np.abs(got.astype(int) - pixels).mean() < 3


def test_cmyk_jpeg_becomes_rgb() -> None:
    pixels = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    got = decode(encode(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=95), MODALITY)
    assert np.abs(got.astype(int) - pixels).max() <= 4


@pytest.mark.parametrize("form", ["GIF", "PNG", "TIFF"])
def test_the_first_of_several_frames(form: str) -> None:
    red, blue = (Image.new("RGB", (12, 10), color) for color in ("red", "blue"))
    payload = encode(red, form, save_all=True, append_images=[blue])
    assert Image.open(io.BytesIO(payload)).n_frames == 2
    np.testing.assert_array_equal(decode(payload, MODALITY), np.asarray(red))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_transparent_pixels_are_laid_over_the_background(form: str) -> None:
    pixels = picture(channels=4)
    alpha = pixels[..., 3:].astype(float) / 255
    want = pixels[..., :3] * alpha + np.array(BACKGROUND) * (1 - alpha)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    got = decode(encode(pixels, form, **options), MODALITY)
    assert np.abs(got - want).max() <= 0.5


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette(form: str) -> None:
    image = Image.new("P", (6, 4), 1)
    image.putpalette([0, 0, 0, 250, 20, 30, 0, 0, 255])
    image.putpixel((2, 3), 2)
    got = decode(encode(image, form, transparency=2), MODALITY)
    assert tuple(got[0, 0]) == (250, 20, 30)
    assert tuple(got[3, 2]) == BACKGROUND


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("clear", [None, 1])
def test_grey_png_of_few_bits_and_a_clear_level(depth: int, clear: int | None) -> None:
    levels = np.arange(16).reshape(2, 8) % 2**depth
    bits = (levels[..., None] >> np.arange(depth)[::-1]) & 1
    packed = np.packbits(bits.reshape(2, -1).astype(np.uint8), axis=1)
    extra = () if clear is None else ((b"tRNS", struct.pack(">H", clear)),)
    got = decode(png(packed, 8, depth, 0, *extra), MODALITY)
    want = np.repeat((levels * (255 // (2**depth - 1)))[..., None], 3, axis=2)
    if clear is not None:
        want[levels == clear] = BACKGROUND
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("color_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_of_sixteen_bits_the_upper_eight_are_kept(color_type: int, channels: int) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (5, 7, channels)).astype(">u2")
    if channels in (2, 4):
        values[..., -1] = 65535
    payload = png(values.reshape(5, -1).view(np.uint8), 7, 16, color_type)
    colors = values[..., : 3 if channels >= 3 else 1].astype(int) >> 8
    np.testing.assert_array_equal(decode(payload, MODALITY), np.broadcast_to(colors, (5, 7, 3)))


def test_sixteen_bit_grey_tiff() -> None:
    values = np.random.default_rng(2).integers(0, 65536, (5, 7)).astype(np.uint16)
    got = decode(encode(values, "TIFF"), MODALITY)
    np.testing.assert_array_equal(got, np.repeat((values >> 8)[..., None], 3, axis=2))


def test_an_image_of_floating_point_numbers_is_refused() -> None:
    assert kind_of(encode(np.zeros((4, 4), np.float32), "TIFF")) == "unreadable"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: np.rot90(a[:, ::-1])),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a[:, ::-1], -1)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_the_orientation_of_a_camera_is_applied(form: str, orientation: int, turned: Any) -> None:
    pixels = picture()
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(form, {})
    plain = decode(encode(pixels, form, **options), MODALITY)
    got = decode(encode(pixels, form, exif=oriented(orientation), **options), MODALITY)
    np.testing.assert_array_equal(got, turned(plain))


# --- what cannot be decoded ------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.97])
def test_a_cut_file_is_truncated_and_nothing_is_printed(
    name: str, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    payload = FILES[name]()
    assert decode(payload, MODALITY).shape[2] == 3
    assert kind_of(payload[: max(16, int(share * len(payload)))]) == "truncated"
    assert capfd.readouterr() == ("", "")


@given(data=st.data(), name=st.sampled_from(sorted(FILES)))
@settings(max_examples=150)
def test_damage_gives_pixels_or_a_bad_record_and_nothing_else(
    data: st.DataObject, name: str
) -> None:
    payload = bytearray(FILES[name]())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] = data.draw(st.integers(0, 255))
    try:
        got = decode(bytes(payload), modality(max_pixels=100_000))
    except BadRecord as error:
        kind = error.kind
    else:
        kind = f"{got.dtype} of {got.shape[2]} channels"
    assert kind in ("unreadable", "truncated", "too_large", "uint8 of 3 channels")


def test_damage_to_a_png_is_found_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    payload = bytearray(FILES["png"]())
    payload[payload.index(b"IDAT") + 30] ^= 255
    assert kind_of(bytes(payload)) == "unreadable"
    assert capfd.readouterr() == ("", "")


def test_a_broken_colour_profile_does_not_matter(capfd: pytest.CaptureFixture[str]) -> None:
    pixels = picture()
    got = decode(encode(pixels, "PNG", icc_profile=b"no profile" * 20), MODALITY)
    np.testing.assert_array_equal(got, pixels)
    assert capfd.readouterr() == ("", "")


def test_a_transparent_colour_where_there_is_alpha_already_does_not_matter(
    capfd: pytest.CaptureFixture[str],
) -> None:
    rows = np.array([[9, 8, 7, 255]], np.uint8)
    got = decode(png(rows, 1, 8, 6, (b"tRNS", b"\0\x09\0\x08\0\x07")), MODALITY)
    assert got.tolist() == [[[9, 8, 7]]]
    assert capfd.readouterr() == ("", "")


def test_what_is_not_an_image_is_named_by_its_first_bytes() -> None:
    with pytest.raises(BadRecord, match=r"<svg>") as caught:
        decode(b"<svg></svg>", MODALITY)
    assert caught.value.kind == "unreadable"
    assert kind_of(b"RIFF" + struct.pack("<I", 12) + b"WAVEfmt " + bytes(4)) == "unreadable"


def test_no_bytes() -> None:
    assert kind_of(b"") == "empty"


@pytest.mark.parametrize(
    ("form", "layout", "before"),
    [
        ("PNG", ">II", b"IHDR"),
        ("JPEG", ">HH", b"\xff\xc0\x00\x11\x08"),
        ("BMP", "<II", struct.pack("<I", 40)),
        ("GIF", "<HH", b"GIF87a"),
    ],
)
def test_a_header_that_promises_too_much_costs_nothing(
    form: str, layout: str, before: bytes
) -> None:
    payload = bytearray(encode(picture(), form))
    struct.pack_into(layout, payload, payload.index(before) + len(before), 30_000, 30_000)
    tracemalloc.start()
    try:
        assert kind_of(bytes(payload)) == "too_large"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", ["lossy", "lossless", "extended"])
def test_webp_that_promises_too_much_is_not_opened(form: str) -> None:
    payload = bytearray(encode(picture(), "WEBP", lossless=form == "lossless"))
    if form == "lossy":
        payload[26:30] = struct.pack("<HH", 16_000, 16_000)
    elif form == "lossless":
        payload[21:25] = struct.pack("<I", 15_999 | 15_999 << 14)
    else:
        payload = bytearray(encode(picture(channels=4), "WEBP"))
        payload[24:30] = (15_999).to_bytes(3, "little") * 2
    assert kind_of(bytes(payload)) == "too_large"


def test_a_tile_that_promises_too_much_gets_no_room() -> None:
    payload = tiff(picture(), tile=(16, 16), compression="zlib", photometric="rgb", byteorder="<")
    for tag in (322, 323):
        at = payload.index(struct.pack("<HHI", tag, 4, 1)) + 8
        payload = payload[:at] + struct.pack("<I", 32_768) + payload[at + 4 :]
    assert kind_of(payload) == "too_large"


def test_max_pixels_is_the_largest_that_is_taken() -> None:
    payload = encode(picture(30, 40), "PNG")
    assert decode(payload, modality(max_pixels=1200)).shape == (30, 40, 3)
    assert kind_of(payload, modality(max_pixels=1199)) == "too_large"
