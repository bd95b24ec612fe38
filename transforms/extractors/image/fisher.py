"""Fisher vectors of local descriptors."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from schemas.options.image import FisherOptions
from transforms.extractors.base import Batch, Extractor, State
from transforms.extractors.image.dense import COLOR, PLACE, SIFT, WIDTH, describe
from transforms.extractors.image.sampling import sample

AXES = 64
_SEED = 0
_PARTS = {"sift": SIFT, "color": COLOR}
_SMALLEST_VARIANCE = 1e-4  # of a Gaussian, where that of all descriptors together is 1
_ROUNDS = 100  # of expectation and maximisation


class Fisher(Extractor):
    """Which way a Gaussian mixture of the training rows' patches would move to fit the image's.

    Patches on a dense grid are described by SIFT (square roots of shares) and by means and
    deviations of colours, each projected on 64 principal axes, with the place of the patch beside
    them. For each kind, the gradients of the mixture's mean log-likelihood by its weights, means
    and deviations, normalised by the Fisher information, are followed by signed square roots and
    scaled to length 1: the numbers of scikit-image's `fisher_vector` for the mixture of
    scikit-learn's `GaussianMixture`.

    It learns from a sample of the patches: those whose hash is smallest, so that neither order nor
    batches matter. With fewer patches than Gaussians, the dimensions of those that are missing
    are zero; with fewer than two, all are.

    References:
        Perronnin, Sánchez, Mensink: Improving the Fisher kernel for large-scale image
        classification. ECCV 2010.
        Sánchez, Perronnin, Mensink, Verbeek: Image classification with the Fisher vector: theory
        and practice. IJCV 105(3), 2013.
        Arandjelović, Zisserman: Three things everyone should know to improve object retrieval.
        CVPR 2012 (square roots of SIFT).
    """

    kind: ClassVar[str] = "image"
    rounds = 1

    def __init__(self, **options: Any) -> None:
        self.options = FisherOptions(**options)
        self._fitted: State | None = None

    def names(self) -> list[str]:
        """Kind of descriptor, Gaussian, and its weight (w), mean (m) or deviation (s) by axis."""
        gaussians, axes = range(self.options.gaussians), range(AXES + 2)
        return [
            name
            for kind in self.options.descriptors
            for name in (
                *(f"{kind}_g{g}_w" for g in gaussians),
                *(f"{kind}_g{g}_m{a}" for g in gaussians for a in axes),
                *(f"{kind}_g{g}_s{a}" for g in gaussians for a in axes),
            )
        ]

    def partial(self, batch: Batch) -> State:
        """patches, uint8[m, 232], at most `sample`."""
        return self.merge([{"patches": self._describe(image)} for image in batch.items])

    def merge(self, states: Sequence[State]) -> State:
        """A sample of the samples."""
        found = [state["patches"] for state in states]
        return {"patches": sample(found, self.options.sample, WIDTH)}

    def finish(self, state: State) -> State:
        """Of each kind of descriptor: mean, float64[d], axes, float64[d, 64], and the mixture's
        weights, float64[k], means and variances, float64[k, 66].
        """
        fitted: State = {}
        for kind in self.options.descriptors:
            learnt = _learn(state["patches"], kind, self.options.gaussians)
            fitted |= {f"{kind}_{name}": value for name, value in learnt.items()}
        return fitted

    def load(self, fitted: State) -> None:
        """Take the projections and the mixtures."""
        self._fitted = fitted

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, kinds * gaussians * (2 * 66 + 1)], each kind's part of length 1, or zero."""
        assert self._fitted is not None, "load() comes before transform()"
        kinds, most = self.options.descriptors, self.options.gaussians
        out = np.zeros((len(batch), len(kinds), most * (2 * (AXES + 2) + 1)), np.float32)
        for row, image in enumerate(batch.items):
            patches = self._describe(image)
            for number, kind in enumerate(kinds):
                own = {
                    name: self._fitted[f"{kind}_{name}"]
                    for name in ("mean", "axes", "weights", "means", "variances")
                }
                if len(own["weights"]):
                    projected = _project(patches, kind, own["mean"], own["axes"])
                    out[row, number] = _fisher_vector(
                        projected, own["weights"], own["means"], own["variances"], most
                    )
        return out.reshape(len(batch), len(kinds) * out.shape[2])

    def _describe(self, image: np.ndarray) -> np.ndarray:
        o = self.options
        return describe(image, o.size, o.step, o.patches)


def _prepare(patches: np.ndarray, kind: str) -> np.ndarray:
    """float64[n, d]: square roots of SIFT's shares, or colours from 0 to 1."""
    values = patches[:, _PARTS[kind]].astype(np.float64)
    if kind == "color":
        return values / 255
    return np.sqrt(values / np.maximum(values.sum(axis=1, keepdims=True), 1))


def _project(patches: np.ndarray, kind: str, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """float64[n, 66]: on the axes, and the place, from -0.5 to 0.5."""
    place = patches[:, PLACE] / 255 - 0.5
    return np.concatenate([(_prepare(patches, kind) - mean) @ axes, place], axis=1)


def _learn(patches: np.ndarray, kind: str, most: int) -> State:
    """What `finish` keeps of one kind of descriptor, from uint8[n, 232]."""
    if len(patches) < 2:
        width = _PARTS[kind].stop - _PARTS[kind].start
        return {
            "mean": np.zeros(width),
            "axes": np.zeros((width, AXES)),
            "weights": np.zeros(0),
            "means": np.zeros((0, AXES + 2)),
            "variances": np.zeros((0, AXES + 2)),
        }
    # Imported late: half a second.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    mixture = GaussianMixture(
        min(most, len(patches)),
        covariance_type="diag",
        reg_covar=_SMALLEST_VARIANCE,
        max_iter=_ROUNDS,
        random_state=_SEED,
    )
    with threadpool_limits(limits=1), warnings.catch_warnings():  # sums depend on threads
        warnings.simplefilter("ignore", ConvergenceWarning)  # of few or equal patches
        values = _prepare(patches, kind)
        mean = values.mean(axis=0)
        centred = values - mean
        covariance = centred.T @ centred / len(centred)
        variances, vectors = np.linalg.eigh(covariance)
        axes = vectors[:, ::-1][:, :AXES]
        # All axes together have variance 1, about that of the place.
        axes /= np.sqrt(max(float(variances[-AXES:].sum()), 1e-12))
        mixture.fit(_project(patches, kind, mean, axes))
    return {
        "mean": mean,
        "axes": axes,
        "weights": mixture.weights_,
        "means": mixture.means_,
        "variances": mixture.covariances_,
    }


def _fisher_vector(
    X: np.ndarray, weights: np.ndarray, means: np.ndarray, variances: np.ndarray, most: int
) -> np.ndarray:
    """float64[most * (2 d + 1)] of length 1: the gradients by weights, means and deviations.

    Args:
        X: descriptors, float64[n, d].
        weights: float64[k], k <= most.
        means: float64[k, d].
        variances: float64[k, d].
        most: Gaussians that have dimensions.
    """
    k, d = means.shape
    squares = np.square(X)
    distances = (
        squares @ (1 / variances).T
        - 2 * (X @ (means / variances).T)
        + (np.square(means) / variances).sum(axis=1)
    )
    logs = np.log(weights) - (distances + np.log(variances).sum(axis=1)) / 2
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    total = shares.mean(axis=0)[:, None]
    first, second = shares.T @ X / len(X), shares.T @ squares / len(X)
    by_mean = first - total * means
    by_deviation = total * (variances - np.square(means)) + 2 * first * means - second
    roots = np.sqrt(weights)[:, None]
    out = np.zeros(most * (2 * d + 1))
    out[:k] = (total[:, 0] - weights) / roots[:, 0]
    out[most : most + k * d] = (by_mean / (roots * np.sqrt(variances))).ravel()
    start = most * (1 + d)
    out[start : start + k * d] = (by_deviation / (np.sqrt(2) * roots * variances)).ravel()
    out = np.sign(out) * np.sqrt(np.abs(out))
    return out / max(float(np.linalg.norm(out)), 1e-12)
