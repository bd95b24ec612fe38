"""SIFT words, binary patterns, moments and colours over a grid: against the usual libraries."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.feature import local_binary_pattern
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from transforms.extractors.base import Batch, Extractor
from transforms.extractors.image.color import Color
from transforms.extractors.image.hu import Hu
from transforms.extractors.image.lbp import Lbp
from transforms.extractors.image.resizing import grey, scaled_grey
from transforms.extractors.image.sift import Sift


def images(n: int = 12, seed: int = 0) -> list[np.ndarray]:
    """Shapes on noise, of several sizes: uint8[h, w, 3]."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        height, width = 60 + 7 * i, 90 - 3 * i
        image = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
        for _ in range(6):
            x, y = (int(v) for v in rng.integers(5, 50, 2))
            color = [int(c) for c in rng.integers(80, 255, 3)]
            cv2.circle(image, (x, y), int(rng.integers(3, 12)), color, -1)
            cv2.rectangle(image, (y, x), (y + 9, x + 14), color[::-1], 2)
        out.append(image)
    return out


def fitted(extractor: Extractor, parts: list[list[np.ndarray]]) -> Extractor:
    """Fit in as many rounds as it takes, a part at a time."""
    known: dict[str, np.ndarray] = {}
    for _ in range(extractor.rounds):
        states = [extractor.partial(Batch(part)) for part in parts]
        known |= extractor.finish(extractor.merge(states))
        extractor.load(known)
    return extractor


@pytest.mark.parametrize(("points", "radius"), [(8, 1.0), (8, 2.0), (12, 1.5)])
def test_patterns_are_those_of_scikit_image(points: int, radius: float) -> None:
    lbp = Lbp(points=points, radius=radius, cells=1, size=48)
    found = lbp.transform(Batch(images()))
    bins = points * (points - 1) + 3
    for row, image in zip(found, images(), strict=True):
        small = grey(image, 48)
        with np.errstate(all="ignore"):
            codes = local_binary_pattern(small, points, radius, method="nri_uniform")
        counts = np.bincount(codes.astype(int).ravel(), minlength=bins) / codes.size
        # Bins are numbered in another order; how often each occurs is the same.
        np.testing.assert_allclose(np.sort(row), np.sort(counts), rtol=1e-4, atol=1e-7)


def test_words_are_those_of_opencv_and_scikit_learn() -> None:
    some, options = images(), {"words": 20, "size": 96, "assignment": "hard"}
    found = fitted(Sift(**options), [some[:5], some[5:]]).transform(Batch(some))
    sift = cv2.SIFT_create(nfeatures=500, contrastThreshold=0.04)
    each = [sift.detectAndCompute(scaled_grey(i, 96), None)[1] for i in some]
    each = [np.zeros((0, 128)) if d is None else d[:500] for d in each]
    rows = np.unique(np.concatenate(each).astype(np.uint8), axis=0).astype(np.float64)
    with threadpool_limits(limits=1):
        means = MiniBatchKMeans(20, batch_size=4096, n_init=3, random_state=0).fit(rows)
    words = np.rint(means.cluster_centers_)
    counts = np.zeros((len(some), 20))
    for row, descriptors in enumerate(each):
        for one in descriptors:
            counts[row, np.square(words - one).sum(axis=1).argmin()] += 1
    idf = np.log((1 + len(some)) / (1 + (counts > 0).sum(axis=0))) + 1
    expected = counts * idf
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected / np.where(lengths, lengths, 1), rtol=1e-4)


@pytest.mark.parametrize("assignment", ["soft", "hard"])
def test_any_split_learns_the_same_words(assignment: str) -> None:
    some = images()
    options = {"words": 16, "size": 80, "assignment": assignment, "sample": 150}
    whole = fitted(Sift(**options), [some]).transform(Batch(some))
    parts = fitted(Sift(**options), [some[7:], [], some[:3], some[3:7]]).transform(Batch(some))
    assert whole.tobytes() == parts.tobytes()
    assert np.allclose(np.linalg.norm(whole, axis=1)[whole.any(axis=1)], 1, atol=1e-6)


def test_words_of_nothing() -> None:
    sift = Sift(words=8)
    for _ in range(2):
        known = sift.finish(sift.merge([]))
        sift.load(
            {**known, **({"words": np.zeros((0, 128), np.uint8)} if "idf" in known else {})}
            | ({"spread": np.ones(1)} if "idf" in known else {})
        )
    flat = np.full((40, 40, 3), 7, np.uint8)
    assert not sift.transform(Batch([flat, images(1)[0]])).any()


def test_moments_do_not_change_with_a_turn() -> None:
    (image,) = images(1)
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
    (image,) = images(1)
    color = Color(cells=2, bins=(4, 2, 2))
    (found,) = color.transform(Batch([image]))
    assert len(color.names()) == len(found) == 4 * 16
    height, width = image.shape[:2]
    corner = np.ascontiguousarray(image[: height // 2, : width // 2])
    (own,) = Color(bins=(4, 2, 2)).transform(Batch([corner]))
    np.testing.assert_allclose(found[:16], own, rtol=1e-6)
    (rooted,) = Color(cells=2, bins=(4, 2, 2), root=True).transform(Batch([image]))
    np.testing.assert_allclose(np.square(rooted), found, atol=1e-6)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 99), st.integers(1, 11))
def test_rows_do_not_depend_on_their_batch(seed: int, cut: int) -> None:
    some = images(seed=seed)
    tiny = [np.full((1, 1, 3), 9, np.uint8), np.full((2, 300, 3), 200, np.uint8)]
    for extractor in (Lbp(size=32), Hu(), Color(cells=3), fitted(Sift(words=8, size=64), [some])):
        whole = extractor.transform(Batch([*some, *tiny]))
        parts = [extractor.transform(Batch(part)) for part in (some[:cut], [*some[cut:], *tiny])]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
        assert np.isfinite(whole).all()
        assert whole.dtype == np.float32
        assert whole.shape[1] == len(extractor.names())
