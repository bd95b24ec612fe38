"""Extractors of images against the usual libraries, and against what is known of an image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from image_files import photographs, pictures, shapes
from skimage.feature import hog as skimage_hog
from skimage.feature import local_binary_pattern

from transforms.extractors.base import Batch
from transforms.extractors.image.color import Color
from transforms.extractors.image.hog import Hog
from transforms.extractors.image.hu import Hu
from transforms.extractors.image.lbp import Lbp
from transforms.extractors.image.pixels import Pixels
from transforms.extractors.image.resizing import grey


@pytest.mark.parametrize(
    ("size", "orientations", "cell", "block"),
    [(64, 9, 8, 2), (37, 9, 5, 1), (50, 6, 8, 3), (28, 5, 7, 4), (65, 7, 9, 2)],
)
def test_hog_is_that_of_scikit_image(size: int, orientations: int, cell: int, block: int) -> None:
    images = pictures() + photographs()
    hog = Hog(size=size, orientations=orientations, cell=cell, block=block)
    want = [
        skimage_hog(
            grey(image, size) / 255,
            orientations,
            (cell, cell),
            (block, block),
            block_norm="L2-Hys",
            feature_vector=True,
        )
        for image in images
    ]
    np.testing.assert_allclose(hog.transform(Batch(images)), want, rtol=1e-4, atol=1e-7)


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


@pytest.mark.parametrize("space", ["hsv", "lab"])
def test_histograms_sum_to_one(space: str) -> None:
    rows = Color(space=space).transform(Batch(pictures()))
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


@pytest.mark.parametrize(
    ("points", "radius", "size", "cells"),
    [(8, 1, 64, 4), (8, 2, 48, 1), (12, 1.5, 33, 2), (16, 2, 64, 3), (5, 3.3, 20, 1), (4, 1, 8, 8)],
)
def test_patterns_are_those_of_scikit_image(
    points: int, radius: float, size: int, cells: int
) -> None:
    bins = points * (points - 1) + 3
    images = pictures() + photographs()
    want = []
    for image in images:
        codes = local_binary_pattern(grey(image, size), points, radius, "nri_uniform").astype(int)
        parts = [
            codes[y * size // cells : (y + 1) * size // cells, x * size // cells :][
                :, : (x + 1) * size // cells - x * size // cells
            ]
            for y in range(cells)
            for x in range(cells)
        ]
        want.append(
            np.concatenate([np.bincount(p.ravel(), minlength=bins) / p.size for p in parts])
        )
    found = Lbp(points=points, radius=radius, size=size, cells=cells).transform(Batch(images))
    np.testing.assert_allclose(found, want, rtol=1e-6)
    rooted = Lbp(points=points, radius=radius, size=size, cells=cells, root=True)
    np.testing.assert_allclose(rooted.transform(Batch(images)), np.sqrt(want), rtol=1e-6)


def test_moments_do_not_change_with_a_turn() -> None:
    (image,) = shapes(1)
    hu = Hu()
    upright, turned, large = (
        hu.transform(Batch([one]))[0]
        for one in (image, np.rot90(image).copy(), cv2.resize(image, None, fx=2, fy=2))
    )
    np.testing.assert_allclose(turned[:6], upright[:6], atol=1e-3)
    assert np.abs(large[:2] - upright[:2]).max() < 0.1
    expected = cv2.HuMoments(cv2.moments(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) / 255.0)).ravel()
    np.testing.assert_allclose(
        upright, np.sign(expected) * np.log10(1 + 1e10 * np.abs(expected)), rtol=1e-4, atol=1e-5
    )
    assert not hu.transform(Batch([np.zeros((9, 9, 3), np.uint8)])).any()


def test_colours_over_a_grid() -> None:
    (image,) = shapes(1)
    color = Color(cells=2, bins=(4, 2, 2))
    (found,) = color.transform(Batch([image]))
    assert len(color.names()) == len(found) == 4 * 16
    height, width = image.shape[:2]
    corner = np.ascontiguousarray(image[: height // 2, : width // 2])
    (own,) = Color(bins=(4, 2, 2)).transform(Batch([corner]))
    np.testing.assert_allclose(found[:16], own, rtol=1e-6)
    (rooted,) = Color(cells=2, bins=(4, 2, 2), root=True).transform(Batch([image]))
    np.testing.assert_allclose(np.square(rooted), found, atol=1e-6)
