from __future__ import annotations

import io
import itertools
import struct
import tracemalloc
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from schemas.recipe import ImageModality
from transforms.extractors.base import BadRecord, Batch, Extractor
from transforms.extractors.image.color import Color
from transforms.extractors.image.decoding import decode
from transforms.extractors.image.hog import Hog
from transforms.extractors.image.pixels import Pixels
from transforms.extractors.image.resizing import grey

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


MODALITY = modality()


def picture(height: int = 30, width: int = 40, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A smooth picture, uint8[height, width, channels]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, channels), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


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
    [(3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (2, lambda a: a[:, ::-1])],
)
def test_the_orientation_of_a_camera_is_applied(form: str, orientation: int, turned: Any) -> None:
    pixels = picture()
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(form, {})
    plain = decode(encode(pixels, form, **options), MODALITY)
    got = decode(encode(pixels, form, exif=oriented(orientation), **options), MODALITY)
    np.testing.assert_array_equal(got, turned(plain))


# --- what cannot be decoded ------------------------------------------------------------------

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
@settings(deadline=None, max_examples=150)
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


def test_max_pixels_is_the_largest_that_is_taken() -> None:
    payload = encode(picture(30, 40), "PNG")
    assert decode(payload, modality(max_pixels=1200)).shape == (30, 40, 3)
    assert kind_of(payload, modality(max_pixels=1199)) == "too_large"


# --- features --------------------------------------------------------------------------------

EXTRACTORS = [
    lambda: Hog(),
    lambda: Hog(size=37, orientations=6, cell=5, block=3),
    lambda: Color(),
    lambda: Color(space="lab", bins=[4, 5, 6]),
    lambda: Pixels(),
    lambda: Pixels(size=9, color=True),
]


def pictures() -> list[np.ndarray]:
    sizes = [(64, 64), (28, 28), (1, 1), (200, 33), (20, 150), (70, 90), (1, 300)]
    return [picture(h, w, seed=i) for i, (h, w) in enumerate(sizes)] + [
        np.zeros((40, 40, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8),
    ]


@pytest.mark.parametrize("make", EXTRACTORS)
def test_rows_are_finite_named_and_single_precision(make: Any) -> None:
    extractor: Extractor = make()
    rows = extractor.transform(Batch(pictures()))
    names = extractor.names()
    assert rows.dtype == np.float32
    assert rows.shape == (len(pictures()), len(names))
    assert len(set(names)) == len(names)
    assert np.isfinite(rows).all()
    assert rows.min() >= 0
    assert rows.max() <= 1
    assert extractor.transform(Batch([])).shape == (0, len(names))


@pytest.mark.parametrize("make", EXTRACTORS)
@given(data=st.data())
@settings(deadline=None, max_examples=15)
def test_a_row_does_not_depend_on_its_batch(make: Any, data: st.DataObject) -> None:
    extractor: Extractor = make()
    items = data.draw(st.permutations(pictures()))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(items)))) | {0, len(items)})
    parts = [extractor.transform(Batch(items[a:b])) for a, b in itertools.pairwise(cuts)]
    assert np.concatenate(parts).tobytes() == extractor.transform(Batch(items)).tobytes()


@pytest.mark.parametrize(
    ("size", "orientations", "cell", "block"),
    [(64, 9, 8, 2), (37, 9, 5, 1), (50, 6, 8, 3), (28, 5, 7, 4), (65, 7, 9, 2)],
)
def test_hog_is_that_of_scikit_image(size: int, orientations: int, cell: int, block: int) -> None:
    feature = pytest.importorskip("skimage.feature")
    hog = Hog(size=size, orientations=orientations, cell=cell, block=block)
    want = [
        feature.hog(
            grey(image, size) / 255,
            orientations,
            (cell, cell),
            (block, block),
            block_norm="L2-Hys",
            feature_vector=True,
        )
        for image in pictures()
    ]
    np.testing.assert_allclose(hog.transform(Batch(pictures())), want, rtol=1e-4, atol=1e-7)


def test_hog_finds_the_direction_of_an_edge() -> None:
    upright, level = np.zeros((2, 64, 64, 3), np.uint8)
    upright[:, 36:] = 255
    level[36:] = 255
    hog = Hog()
    names = np.array([name.rsplit("_", 1)[1] for name in hog.names()])
    for image, name in ((upright, "b0"), (level, "b4")):
        (row,) = hog.transform(Batch([image]))
        assert set(names[row > 0]) == {name}


def test_color_counts_pixels() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    image[:, :2] = (255, 0, 0)
    color = Color()
    (row,) = color.transform(Batch([image]))
    found = {name: row[i] for i, name in enumerate(color.names()) if row[i] > 0}
    assert found == pytest.approx({"h0_s0_v0": 0.6, "h0_s2_v2": 0.4})


@pytest.mark.parametrize("make", EXTRACTORS[2:4])
def test_histograms_sum_to_one(make: Any) -> None:
    rows = make().transform(Batch(pictures()))
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-5)


def test_pixels_average_what_they_shrink() -> None:
    image = np.repeat(np.arange(0, 160, 10, dtype=np.uint8).reshape(4, 4)[..., None], 3, axis=2)
    (row,) = Pixels(size=2).transform(Batch([image]))
    np.testing.assert_allclose(row * 255, [25, 45, 105, 125], rtol=1e-6)


def test_pixels_keep_colours_apart_and_in_order() -> None:
    pixels = Pixels(size=1, color=True)
    (row,) = pixels.transform(Batch([np.full((3, 3, 3), (255, 0, 51), np.uint8)]))
    np.testing.assert_allclose(row, [1, 0, 0.2], rtol=1e-6)
    assert pixels.names() == ["y0_x0_r", "y0_x0_g", "y0_x0_b"]
