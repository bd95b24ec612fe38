"""Features of images: what holds of all extractors, and of those by gradients and pixels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import pictures

from transforms.extractors.base import Batch, Extractor
from transforms.extractors.image.color import Color
from transforms.extractors.image.hog import Hog
from transforms.extractors.image.pixels import Pixels
from transforms.extractors.image.resizing import grey

EXTRACTORS = [
    lambda: Hog(),
    lambda: Hog(size=37, orientations=6, cell=5, block=3),
    lambda: Color(),
    lambda: Color(space="lab", bins=[4, 5, 6]),
    lambda: Pixels(),
    lambda: Pixels(size=9, color=True),
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
