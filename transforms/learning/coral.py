"""Transfer between domains: CORAL, and who is in training when a domain is left out.

CORAL (Sun, Feng & Saenko 2016, "Return of frustratingly easy domain adaptation") maps features
of a source domain so that their covariance is that of the target domain: whitened with one, then
coloured with the other. A model is trained on the mapped rows and used on the target's rows as
they are. It looks at the features of the target domain, never at its labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from transforms.fusion.moments import Moments


@dataclass(frozen=True, eq=False)
class Coral:
    """A fitted map from source to target: (x - source_mean) matrix + target_mean.

    Attributes:
        source_mean: float64[D].
        target_mean: float64[D].
        matrix: float64[D, D].
    """

    source_mean: np.ndarray
    target_mean: np.ndarray
    matrix: np.ndarray

    def apply(self, X: np.ndarray) -> np.ndarray:
        """Rows of the source, float[n, D], as if they were of the target: float32[n, D]."""
        centred = X.astype(np.float64) - self.source_mean
        return (centred @ self.matrix + self.target_mean).astype(np.float32)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All that was fitted, as arrays by name."""
        return {
            "source_mean": self.source_mean,
            "target_mean": self.target_mean,
            "matrix": self.matrix,
        }

    @classmethod
    def load(cls, arrays: Mapping[str, np.ndarray]) -> Coral:
        """What `to_arrays` was called on, bit for bit."""
        return cls(arrays["source_mean"], arrays["target_mean"], arrays["matrix"])


def fit_coral(source: Moments, target: Moments) -> Coral:
    """The map C_s^(-1/2) C_t^(1/2), from the moments of features with their full matrices.

    Covariances are shrunk (see `shrink`) where the paper adds the identity, so that the map does
    not depend on the features' unit. The means are mapped onto each other, too; the paper takes
    features of mean 0.

    Args:
        source: of the source domain's rows, at least one.
        target: of the target domain's rows, at least one.

    Raises:
        ValueError: a domain has no rows, the dimensions differ, or only diagonals are known.
    """
    if not source.count or not target.count:
        raise ValueError("a domain without rows cannot be aligned")
    if source.scatter.shape != target.scatter.shape:
        raise ValueError(
            f"domains of {list(source.scatter.shape)} and {list(target.scatter.shape)} moments"
        )
    own, other = shrink(source), shrink(target)
    if not own.any() or not other.any():
        # A domain whose rows are all alike has no shape to be given, or to give.
        return Coral(source.mean, target.mean, np.eye(len(source.mean)))
    return Coral(source.mean, target.mean, _power(own, -0.5) @ _power(other, 0.5))


def shrink(known: Moments) -> np.ndarray:
    """The covariance, shrunk towards a multiple of the identity by as much as its count asks for.

    Oracle approximating shrinkage (Chen, Wiesel, Eldar & Hero 2010, "Shrinkage algorithms for
    MMSE covariance estimation"), which needs no more than the moments. At least 1e-6 is shrunk,
    so that a covariance other than 0 has an inverse.
    """
    S, n, d = known.covariance(), known.count, len(known.mean)
    level = float(np.trace(S)) / d
    squares = float((S * S).sum()) / d**2
    numerator = squares + level**2
    denominator = (n + 1) * (squares - level**2 / d)
    shrinkage = 1.0 if denominator <= 0 else min(numerator / denominator, 1.0)
    shrinkage = max(shrinkage, 1e-6)
    S *= 1 - shrinkage
    S.flat[:: d + 1] += shrinkage * level
    return S


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """A symmetric positive matrix to some power."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, np.finfo(np.float64).tiny) ** exponent) @ vectors.T


def leave_one_domain_out(
    domain: np.ndarray, test: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Who trains and who is predicted, with each domain left out in turn.

    Args:
        domain: object[n] or str[n], the domain of each row; None or "" where it is not known.
            Such rows take no part, as they may be of the domain left out.
        test: bool[n], rows set aside for the test, which take no part either.

    Yields:
        The domain's name, bool[n] rows to train on and bool[n] rows of the domain.

    Raises:
        ValueError: there are less than two domains.
    """
    name = np.array(["" if one is None else str(one) for one in domain])
    usable = (name != "") & ~test
    names = np.unique(name[usable])
    if len(names) < 2:
        raise ValueError(f"leaving a domain out needs at least two: found {len(names)}")
    for one in names.tolist():
        held = usable & (name == one)
        yield one, usable & ~held, held
