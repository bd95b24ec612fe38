"""Fisher vectors against scikit-image, SIFT on a grid against OpenCV, and little to learn from."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from image_files import fitted, photographs, shapes
from skimage.feature import fisher_vector
from sklearn.mixture import GaussianMixture

from transforms.extractors.base import Batch
from transforms.extractors.image.dense import COLOR, PLACE, SIFT, describe
from transforms.extractors.image.fisher import Fisher
from transforms.extractors.image.resizing import scaled

SMALL = {"gaussians": 3, "size": 48, "step": 12, "patches": (16, 24)}


def mixture(fisher: Fisher, kind: str) -> GaussianMixture:
    """What was fitted, as scikit-learn's."""
    found = fisher._fitted
    assert found is not None
    model = GaussianMixture(len(found[f"{kind}_weights"]), covariance_type="diag")
    model.weights_, model.means_ = found[f"{kind}_weights"], found[f"{kind}_means"]
    model.covariances_ = found[f"{kind}_variances"]
    model.precisions_cholesky_ = 1 / np.sqrt(model.covariances_)
    return model


def projected(fisher: Fisher, kind: str, image: np.ndarray) -> np.ndarray:
    o, found = fisher.options, fisher._fitted
    assert found is not None
    patches = describe(image, o.size, o.step, o.patches).astype(float)
    if kind == "sift":
        values = patches[:, SIFT]
        values = np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1))
    else:
        values = patches[:, COLOR] / 255
    axes = (values - found[f"{kind}_mean"]) @ found[f"{kind}_axes"]
    return np.hstack([axes, patches[:, PLACE] / 255 - 0.5])


@pytest.mark.parametrize("real", [False, True])
def test_vectors_are_those_of_scikit_image(real: bool) -> None:
    images = photographs(40) if real else shapes()
    if not images:
        pytest.skip("the real images are not there")
    fisher = fitted(Fisher(**SMALL), [images[:5], images[5:]])
    rows = fisher.transform(Batch(images)).reshape(len(images), 2, -1)
    for number, kind in enumerate(("sift", "color")):
        model = mixture(fisher, kind)
        for row, image in zip(rows[:, number], images, strict=True):
            want = fisher_vector(projected(fisher, kind, image), model, improved=True)
            np.testing.assert_allclose(row, want, rtol=1e-4, atol=1e-5)


def test_the_mixture_is_a_maximum_of_the_likelihood_of_the_sample() -> None:
    """One more round of expectation and maximisation leaves it where it is."""
    images = shapes(8)
    fisher = fitted(Fisher(**SMALL), [images])
    rows = np.concatenate([projected(fisher, "sift", image) for image in images])
    model = mixture(fisher, "sift")
    shares = model.predict_proba(rows)
    np.testing.assert_allclose(shares.mean(axis=0), model.weights_, atol=0.02)
    means = shares.T @ rows / shares.sum(axis=0)[:, None]
    np.testing.assert_allclose(means, model.means_, atol=0.02)


def test_descriptors_are_opencv_sift_and_means_and_deviations_of_cells() -> None:
    (image,) = shapes(1)
    image = scaled(image, 64)
    found = describe(image, 64, 16, (24,))
    height, width = image.shape[:2]
    assert len(found) == (height // 16) * (width // 16)
    x0, y0 = (width - 1 - (width // 16 - 1) * 16) // 2, (height - 1 - (height // 16 - 1) * 16) // 2
    row = 1 * (width // 16) + 1  # second point of the second line
    x, y = x0 + 16, y0 + 16
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    _, sift = cv2.SIFT_create().compute(grey, [cv2.KeyPoint(x, y, 4, 0)])
    np.testing.assert_array_equal(found[row, SIFT], sift[0])
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    colors = found[row, COLOR].reshape(4, 4, 6)
    cell = lab[y - 3 - 3 : y - 3 + 3, x + 3 - 3 : x + 3 + 3].astype(float)  # row 1, column 2
    np.testing.assert_allclose(colors[1, 2, :3], cell.mean(axis=(0, 1)), atol=0.51)
    np.testing.assert_allclose(colors[1, 2, 3:], cell.std(axis=(0, 1)), atol=0.51)
    assert found[row, PLACE].tolist() == [y * 255 // (height - 1), x * 255 // (width - 1)]
    assert not found[:, PLACE.stop :].any()


def test_the_sample_is_bounded() -> None:
    fisher = Fisher(**SMALL, sample=40)
    parts = [fisher.partial(Batch(shapes()[:6])), fisher.partial(Batch(shapes()[6:]))]
    assert len(fisher.merge(parts)["patches"]) == 40


def test_kinds_of_descriptors_stand_side_by_side() -> None:
    both = fitted(Fisher(**SMALL), [shapes()])
    rows = both.transform(Batch(shapes(4)))
    alone = fitted(Fisher(**SMALL, descriptors=["color"]), [shapes()])
    half = rows.shape[1] // 2
    np.testing.assert_array_equal(alone.transform(Batch(shapes(4))), rows[:, half:])
    assert both.names()[half:] == alone.names()
    np.testing.assert_allclose(np.linalg.norm(rows[:, half:], axis=1), 1, rtol=1e-5)


ONE = np.full((20, 20, 3), 7, np.uint8)
FEW = {"gaussians": 9, "size": 16, "step": 16, "patches": (16,)}


@pytest.mark.parametrize("parts", [[], [[]], [[ONE]]], ids=["no part", "no row", "one patch"])
def test_nothing_to_learn_from_means_zeros(parts: list) -> None:
    assert not fitted(Fisher(**FEW), parts).transform(Batch(shapes(2))).any()


def test_fewer_patches_than_gaussians() -> None:
    fisher = fitted(Fisher(**FEW), [[ONE, *shapes(2)]])
    rows = fisher.transform(Batch([ONE, *shapes(4)])).reshape(5, 2, -1)
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=2), 1, rtol=1e-5)
    assert np.count_nonzero(rows) <= 5 * 2 * 3 * (2 * 66 + 1)
