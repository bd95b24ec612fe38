"""Bags of visual words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import cv2
import numpy as np

from schemas.options.image import SiftOptions
from transforms.extractors.base import Batch, Extractor, State
from transforms.extractors.image.resizing import scaled_grey
from transforms.extractors.image.sampling import sample

_NEAREST = 5  # words that a descriptor counts for, if softly assigned
_SEED = 0


class Sift(Extractor):
    """How often each visual word is in the grey image, tf-idf, rows of length 1.

    A visual word is a typical SIFT descriptor: the centre, rounded to whole numbers, of a cluster
    that scikit-learn's `MiniBatchKMeans` finds in the training rows' descriptors. Descriptors of an
    image count for the nearest word alone, or for the five nearest with weights
    exp(-d^2 / s), which sum to 1: d is the distance, and s the mean of d^2 to the nearest word over
    the sample.
    idf is ln((1 + images) / (1 + images with the word)) + 1, that of scikit-learn's
    `TfidfTransformer`.

    It learns in two rounds: the words from a sample of all descriptors, then how many images have
    each. The sample is of those whose hash is smallest, so that neither order nor batches matter.
    Descriptors and words are whole numbers, so squared distances are exact, whatever computes
    them.

    An image without keypoints is all zeros, as are words beyond the number of training descriptors.

    References:
        Lowe: Distinctive image features from scale-invariant keypoints. IJCV 60(2), 2004.
        Sivic, Zisserman: Video Google: a text retrieval approach to object matching in videos.
        ICCV 2003.
        Philbin, Chum, Isard, Sivic, Zisserman: Lost in quantization. CVPR 2008 (soft assignment).
        Sculley: Web-scale k-means clustering. WWW 2010.
    """

    kind: ClassVar[str] = "image"
    rounds = 2

    def __init__(self, **options: Any) -> None:
        self.options = SiftOptions(**options)
        self._words: np.ndarray | None = None
        self._idf: np.ndarray | None = None
        self._spread = 1.0

    def names(self) -> list[str]:
        """Numbers of the words, which have no names."""
        return [f"w{word}" for word in range(self.options.words)]

    def partial(self, batch: Batch) -> State:
        """What a round remembers.

        First round: descriptors, uint8[m, 128], at most `sample`.
        Second: documents, int64[1]; frequency, int64[words], how many of them have a word.
        """
        found = self._descriptors(batch)
        if self._words is None:
            return self._sample(found)
        frequency = np.zeros(self.options.words, np.int64)
        for descriptors in found:
            frequency += self._weights(descriptors) > 0
        return {"documents": np.array([len(batch)]), "frequency": frequency}

    def merge(self, states: Sequence[State]) -> State:
        """A sample of the samples, or sums."""
        if self._words is None:
            return self._sample([state["descriptors"] for state in states])
        out = {"documents": np.zeros(1, np.int64)}
        out["frequency"] = np.zeros(self.options.words, np.int64)
        for state in states:
            for name, total in out.items():
                total += state[name]
        return out

    def finish(self, state: State) -> State:
        """First round: words, uint8[k, 128], k <= `words`, and spread, float64[1].
        Second: idf, float64[words].
        """
        if self._words is None:
            words, spread = _learn_words(state["descriptors"], self.options.words)
            return {"words": words, "spread": np.array([spread])}
        documents = math.log(1 + int(state["documents"][0]))
        # One by one: the bits of NumPy's logarithm depend on the processor.
        idf = [documents - math.log(1 + n) + 1 for n in state["frequency"].tolist()]
        return {"idf": np.array(idf)}

    def load(self, fitted: State) -> None:
        """Take the words and, after the second round, how common they are."""
        self._words, self._spread = fitted["words"], float(fitted["spread"][0])
        self._idf = fitted.get("idf")

    def transform(self, batch: Batch) -> np.ndarray:
        """float32[n, words]; each row has length 1, or is zero."""
        assert self._idf is not None, "load() comes before transform()"
        out = np.zeros((len(batch), self.options.words), np.float32)
        for row, descriptors in enumerate(self._descriptors(batch)):
            weights = self._weights(descriptors) * self._idf
            length = np.sqrt(np.square(weights).sum())
            if length:
                out[row] = weights / length
        return out

    def _descriptors(self, batch: Batch) -> list[np.ndarray]:
        """Of each image, uint8[m, 128]."""
        o = self.options
        sift = cv2.SIFT.create(nfeatures=o.keypoints, contrastThreshold=o.contrast)
        found = []
        for image in batch.items:
            _, descriptors = sift.detectAndCompute(scaled_grey(image, o.size), None)
            if descriptors is None:
                descriptors = np.zeros((0, 128))
            # Whole numbers up to 255. OpenCV keeps more of them where the last ones tie.
            found.append(descriptors[: o.keypoints].astype(np.uint8))
        return found

    def _sample(self, found: Sequence[np.ndarray]) -> State:
        """Some of all different descriptors."""
        return {"descriptors": sample(found, self.options.sample, 128)}

    def _weights(self, descriptors: np.ndarray) -> np.ndarray:
        """float64[words]: how many of an image's descriptors, uint8[m, 128], are of each word."""
        assert self._words is not None
        n = self.options.words
        if not len(descriptors) or not len(self._words):
            return np.zeros(n)
        squares = _squared_distances(descriptors, self._words)
        if self.options.assignment == "hard":
            return np.bincount(squares.argmin(axis=1), minlength=n).astype(np.float64)
        # Distance and word in one number, so that no two are equal, and no tie is left to chance.
        pairs = squares.astype(np.int64) * n + np.arange(len(self._words))
        if pairs.shape[1] > _NEAREST:
            pairs = np.partition(pairs, _NEAREST - 1, axis=1)[:, :_NEAREST]
        pairs.sort(axis=1)
        near, words = np.divmod(pairs, n)
        shares = np.exp((near[:, :1] - near) / self._spread)
        shares /= shares.sum(axis=1, keepdims=True)
        return np.bincount(words.ravel(), shares.ravel(), minlength=n)


def _squared_distances(descriptors: np.ndarray, words: np.ndarray) -> np.ndarray:
    """float32[n, k] from uint8[n, 128] and uint8[k, 128], exact.

    Every number on the way is whole and below 2^24, where single precision is exact, so the
    order in which a matrix product adds up makes no difference.
    """
    a, b = descriptors.astype(np.float32), words.astype(np.float32)
    products = a @ b.T
    return np.square(b).sum(axis=1) - 2 * products + np.square(a).sum(axis=1)[:, None]


def _learn_words(descriptors: np.ndarray, most: int) -> tuple[np.ndarray, float]:
    """Words, uint8[k, 128], and the mean squared distance of a descriptor to the nearest.

    Args:
        descriptors: uint8[m, 128], all different, in any order.
        most: words that are learnt; with no more descriptors than that, each is a word.
    """
    words = rows = np.unique(descriptors, axis=0)  # sorted by their bytes
    if len(rows) > most:
        # Imported late: half a second.
        from sklearn.cluster import MiniBatchKMeans
        from threadpoolctl import threadpool_limits

        clusters = MiniBatchKMeans(most, batch_size=4096, random_state=_SEED)
        with threadpool_limits(limits=1):  # sums depend on the number of threads
            clusters.fit(rows.astype(np.float64))
        words = np.rint(clusters.cluster_centers_).astype(np.uint8)
    nearest = [
        _squared_distances(rows[start : start + 1000], words).min(axis=1)
        for start in range(0, len(rows), 1000)
    ]
    spread = float(np.concatenate(nearest).mean(dtype=np.float64)) if nearest else 0.0
    return words, max(spread, 1.0)  # at least 1: it is divided by
