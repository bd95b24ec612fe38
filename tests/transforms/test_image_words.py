"""Visual words against plain OpenCV and scikit-learn, and where there is little to learn from."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from image_files import fitted, photographs, shapes
from sklearn.cluster import MiniBatchKMeans
from sklearn.feature_extraction.text import TfidfTransformer
from threadpoolctl import threadpool_limits

from transforms.extractors.base import Batch
from transforms.extractors.image.resizing import scaled_grey
from transforms.extractors.image.sift import Sift


def plain(images: list[np.ndarray], words: int, size: int, soft: bool) -> np.ndarray:
    """The same by the libraries alone, without sampling: float64[n, words]."""
    sift = cv2.SIFT_create(nfeatures=500)
    each = [sift.detectAndCompute(scaled_grey(image, size), None)[1] for image in images]
    each = [np.zeros((0, 128), np.float32) if one is None else one[:500] for one in each]
    rows = np.unique(np.concatenate(each), axis=0).astype(float)
    with threadpool_limits(limits=1):
        means = MiniBatchKMeans(words, batch_size=4096, random_state=0).fit(rows)
    means.cluster_centers_ = np.rint(means.cluster_centers_)
    spread = np.square(means.transform(rows).min(axis=1)).mean()
    counts = np.zeros((len(images), words))
    for row, descriptors in enumerate(each):
        for one in means.transform(descriptors.astype(float)) if len(descriptors) else ():
            nearest = np.argsort(one)[: 5 if soft else 1]
            weights = np.exp(-np.square(one[nearest]) / spread)
            counts[row, nearest] += weights / weights.sum()
    return TfidfTransformer().fit_transform(counts).toarray()


@pytest.mark.parametrize("assignment", ["soft", "hard"])
@pytest.mark.parametrize("real", [False, True])
def test_words_are_those_of_opencv_and_scikit_learn(assignment: str, real: bool) -> None:
    images = photographs(40) if real else shapes()
    if not images:
        pytest.skip("the real images are not there")
    sift = Sift(words=20, size=96, assignment=assignment)
    found = fitted(sift, [images[:5], images[5:]]).transform(Batch(images))
    want = plain(images, 20, 96, assignment == "soft")
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-6)
    assert (found > 0).any(axis=1).mean() > 0.8


def test_the_sample_is_bounded_and_of_training_descriptors() -> None:
    sift = Sift(words=8, size=96, sample=50)
    (state,) = [sift.merge([sift.partial(Batch(shapes()[:6])), sift.partial(Batch(shapes()[6:]))])]
    assert state["descriptors"].shape == (50, 128)
    every = Sift(words=8, size=96).partial(Batch(shapes()))["descriptors"]
    assert len(every) > 200
    assert {one.tobytes() for one in state["descriptors"]} < {one.tobytes() for one in every}


def test_no_more_keypoints_than_asked_for() -> None:
    few = Sift(words=8, size=96, keypoints=7).partial(Batch(shapes(4)))["descriptors"]
    assert 0 < len(few) <= 4 * 7


@pytest.mark.parametrize("assignment", ["soft", "hard"])
def test_fewer_descriptors_than_words(assignment: str) -> None:
    (image,) = shapes(1)
    sift = fitted(Sift(words=4000, assignment=assignment), [[image]])
    (row,) = sift.transform(Batch([image]))
    assert len(row) == len(sift.names()) == 4000
    assert np.linalg.norm(row) == pytest.approx(1)


@pytest.mark.parametrize(
    "parts",
    [[], [[]], [[np.full((40, 40, 3), 7, np.uint8)], []]],
    ids=["no part", "no row", "flat"],
)
def test_nothing_to_learn_from_means_zeros(parts: list) -> None:
    sift = fitted(Sift(words=8), parts)
    assert not sift.transform(Batch(shapes(2))).any()


def test_an_image_without_keypoints_is_zeros() -> None:
    sift = fitted(Sift(words=8, size=96), [shapes()])
    rows = sift.transform(Batch([np.full((40, 40, 3), 7, np.uint8), *shapes(1)]))
    assert not rows[0].any()
    assert rows[1].any()
