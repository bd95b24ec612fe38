"""Fusion of decisions: one model a modality, and one answer of what they say.

Of a record, with the posteriors p_m(c) of the modalities m that are present (Kittler, Hatef, Duin
& Matas 1998, "On combining classifiers"):

    mean:     p(c) = sum_m w_m p_m(c) / sum_m w_m
    product:  p(c) ~ prior(c) prod_m (p_m(c) / prior(c))^v_m,  v_m = w_m / mean of the present w

The product is what independence of the modalities within a class gives: each posterior holds the
prior, which must count once. Numbers (a regression) have a mean only. A record without any
modality gets the prior, or the mean label; one whose modalities all have weight 0 is fused as if
their weights were equal.

Weights are given, or learned from out-of-fold outputs, one number a modality; see the functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Outputs = Mapping[str, np.ndarray]
"""What one model a modality says of n records: float64[n, k] posteriors, or float64[n] numbers.
Rows where the modality is absent hold arbitrary numbers, even NaN."""

How = Literal["mean", "product"]
Learning = Literal["equal", "error_covariance", "scores", "stacking"]

SMALLEST = float(np.finfo(np.float64).eps)
"""Posteriors and priors below it count as much in a product: one that is 0, by underflow or
because a model has never seen the class, is no proof."""


@dataclass(frozen=True, eq=False)
class DecisionRule:
    """A fitted rule: a value that is saved, and the very same at prediction.

    Attributes:
        how: `mean` or `product`.
        modalities: their names, in order.
        weights: float64[m], 0 or more, of sum 1.
        prior: float64[k], of the classes; float64[], the mean label, for a regression.
    """

    how: How
    modalities: tuple[str, ...]
    weights: np.ndarray
    prior: np.ndarray

    def apply(self, outputs: Outputs, present: np.ndarray) -> np.ndarray:
        """Fuse n records; what is said of one does not depend on the others.

        Args:
            outputs: of each modality of the rule. Others are ignored.
            present: bool[n, len(outputs)], a column a modality, in the order of `outputs`.

        Returns:
            float64[n, k] posteriors, whose rows sum to 1, or float64[n].

        Raises:
            ValueError: a modality is lacking, or a shape is wrong.
        """
        here = _present(self.modalities, outputs, present)
        for name in self.modalities:
            if outputs[name].shape != (len(here), *self.prior.shape):
                raise ValueError(
                    f"{name}: outputs are {list(outputs[name].shape)}, the rule needs "
                    f"{[len(here), *self.prior.shape]}"
                )
        shares = _shares(self.weights, here)
        if self.prior.ndim == 0:
            fused = np.zeros(len(here))
            for i, name in enumerate(self.modalities):
                fused += shares[:, i] * np.where(here[:, i], outputs[name], 0.0)
            return np.where(here.any(axis=1), fused, self.prior)
        if self.how == "mean":
            fused = np.zeros((len(here), len(self.prior)))
            for i, name in enumerate(self.modalities):
                fused += shares[:, i, None] * np.where(here[:, i, None], outputs[name], 0.0)
            fused[~here.any(axis=1)] = self.prior
        else:
            prior = _log(self.prior)
            exponents = shares * here.sum(axis=1, keepdims=True)
            fused = np.tile(prior, (len(here), 1))
            for i, name in enumerate(self.modalities):
                said = np.where(here[:, i, None], outputs[name], self.prior)
                fused += exponents[:, i, None] * (_log(said) - prior)
            fused = np.exp(fused - fused.max(axis=1, keepdims=True))
        return fused / fused.sum(axis=1, keepdims=True)

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "how": self.how,
            "modalities": list(self.modalities),
            "weights": self.weights.tolist(),
            "prior": self.prior.tolist(),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> DecisionRule:
        """What `to_json` was called on, bit for bit."""
        return cls(
            found["how"],
            tuple(found["modalities"]),
            np.array(found["weights"], dtype=np.float64),
            np.array(found["prior"], dtype=np.float64),
        )


def fit_rule(
    how: How,
    weights: Learning | Mapping[str, float],
    outputs: Outputs,
    present: np.ndarray,
    y: np.ndarray,
    prior: np.ndarray | float,
) -> DecisionRule:
    """A rule for the modalities of `outputs`.

    Args:
        how: `mean` or, for classes only, `product`.
        weights: a weight a modality, 0 or more; or how they are learned.
        outputs: of n records that each modality's model has not seen: out of fold.
        present: bool[n, m], in the order of `outputs`.
        y: int64[n], numbers of classes, or float64[n].
        prior: float64[k], of the classes, or the mean label: see `prior_of`.

    Raises:
        ValueError: weights do not fit the modalities, or the rule does not fit the task.
    """
    names = tuple(outputs)
    prior = np.asarray(prior, dtype=np.float64)
    if how == "product" and prior.ndim == 0:
        raise ValueError("the product rule is for classes: numbers have no product")
    if isinstance(weights, str):
        learn = {
            "equal": lambda *_: np.full(len(names), 1 / len(names)),
            "error_covariance": weights_by_error,
            "scores": weights_by_score,
            "stacking": weights_by_stacking,
        }[weights]
        found = learn(outputs, present, y)
    else:
        if set(weights) != set(names):
            raise ValueError(
                f"weights are needed of {', '.join(names)}; given: {', '.join(weights)}"
            )
        found = np.array([weights[name] for name in names], dtype=np.float64)
        if not (np.isfinite(found).all() and (found >= 0).all() and found.sum() > 0):
            raise ValueError("weights must be numbers of 0 or more, and not all of them 0")
        found /= found.sum()
    return DecisionRule(how, names, found, prior)


def prior_of(y: np.ndarray, classes: int | None) -> np.ndarray:
    """Share of each of k classes, float64[k], or the mean label, float64[]; y as in `fit_rule`."""
    if classes is None:
        return np.array(y.mean())
    return np.bincount(y, minlength=classes) / len(y)


# --- learning weights ------------------------------------------------------------------------


def weights_by_error(outputs: Outputs, present: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The weights of the mean of least squared error, given the errors' second moments S.

    Bates & Granger 1969, "The combination of forecasts": minimise w'Sw with sum w = 1, here also
    w >= 0. The error of a posterior is its distance to 1 for the label, to 0 for other classes;
    products of two modalities' errors are summed over classes. Entries of S are means over the
    records with both modalities; those off the diagonal are shrunk by what their own variance
    over records asks for (Schafer & Strimmer 2005, "A shrinkage approach to large-scale
    covariance matrix estimation", target D), and negative eigenvalues, which entries from
    different records can give, are raised.

    Returns:
        float64[m] of sum 1. A modality that no record has gets 0.
    """
    here, said, truth = _aligned(outputs, present, y)
    errors = np.where(here.T[:, :, None], said - truth, 0.0)
    m = len(errors)
    moments, noise = np.zeros((m, m)), np.zeros((m, m))
    for i in range(m):
        for j in range(i, m):
            both = here[:, i] & here[:, j]
            n = int(both.sum())
            if n:
                products = (errors[i, both] * errors[j, both]).sum(axis=1)
                moments[i, j] = moments[j, i] = products.mean()
                # Of an entry from one record nothing is known: it counts as noise alone.
                noise[i, j] = products.var(ddof=1) / n if n > 1 else moments[i, j] ** 2
    squares = float(np.square(np.triu(moments, 1)).sum())
    shrinkage = min(float(np.triu(noise, 1).sum()) / squares, 1.0) if squares > 0 else 1.0
    diagonal = moments.diagonal().copy()
    moments *= 1 - shrinkage
    np.fill_diagonal(moments, diagonal)

    known = here.any(axis=0)
    found = np.zeros(m)
    if known.any():
        # w'Sw / 2 - 1'w has its least at the same w, up to its length.
        found[known] = _least(moments[np.ix_(known, known)], np.ones(int(known.sum())))
    return _normalised(found)


def weights_by_score(outputs: Outputs, present: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights in proportion to what each modality's score is above that of saying nothing.

    The score is accuracy less the share of the most frequent class, or R2, over the records that
    have the modality; where it is below 0 the weight is 0.

    Returns:
        float64[m] of sum 1; equal weights if no modality is better than nothing.
    """
    names = tuple(outputs)
    here = _present(names, outputs, present)
    found = np.zeros(len(names))
    for i, name in enumerate(names):
        rows = here[:, i]
        if not rows.any():
            continue
        said, truth = outputs[name][rows], y[rows]
        if said.ndim == 2:
            most = np.bincount(truth).max() / len(truth)
            found[i] = (said.argmax(axis=1) == truth).mean() - most
        else:
            total = float(np.square(truth - truth.mean()).sum())
            found[i] = 1 - float(np.square(said - truth).sum()) / total if total > 0 else 0.0
    return _normalised(np.maximum(found, 0.0))


def weights_by_stacking(outputs: Outputs, present: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Non-negative least squares of the truth on the outputs, then scaled to sum 1.

    Wolpert 1992, "Stacked generalization"; Breiman 1996, "Stacked regressions", for why weights
    must not be negative. For classes the truth is 1 for the label and 0 for the others; numbers
    are taken less the mean label. An absent modality says what those present say on average, which
    is what leaving it out comes to; records without any are left out.

    Returns:
        float64[m] of sum 1; equal weights if all would be 0.
    """
    used = present.any(axis=1)
    if not used.any():
        return _normalised(np.zeros(len(outputs)))
    rows = {name: said[used] for name, said in outputs.items()}
    here, said, truth = _aligned(rows, present[used], y[used])
    mask = here.T[:, :, None]
    if not np.issubdtype(y.dtype, np.integer):
        said, truth = np.where(mask, said - truth.mean(), 0.0), truth - truth.mean()
    filled = np.where(mask, said, said.sum(axis=0) / here.sum(axis=1)[:, None])
    # The normal equations hold all that the solver needs, in m numbers squared.
    gram = np.array([[(a * b).sum() for b in filled] for a in filled])
    return _normalised(_least(gram, np.array([(a * truth).sum() for a in filled])))


def _least(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The w >= 0 of least w'Aw / 2 - b'w, for a symmetric A and a vector b."""
    from scipy.optimize import nnls

    root = _root(matrix)
    return nnls(root, np.linalg.solve(root.T, vector), maxiter=100 * len(vector))[0]


def _root(matrix: np.ndarray) -> np.ndarray:
    """An upper R with R'R = the symmetric matrix, small and negative eigenvalues raised."""
    values, vectors = np.linalg.eigh(matrix)
    largest = max(float(values[-1]), 0.0)
    if largest == 0:
        return np.eye(len(matrix))
    raised = np.sqrt(np.maximum(values, 1e-9 * largest))
    return np.linalg.qr((vectors * raised).T).R


def _normalised(weights: np.ndarray) -> np.ndarray:
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(weights), 1 / len(weights))


# --- what all share --------------------------------------------------------------------------


def _present(names: tuple[str, ...], outputs: Outputs, present: np.ndarray) -> np.ndarray:
    """bool[n, m], the columns of `present` of some modalities."""
    if present.ndim != 2 or present.shape[1] != len(outputs) or present.dtype != np.bool_:
        raise ValueError(
            f"present must be bool[n, {len(outputs)}], a column a modality, "
            f"not {present.dtype}{list(present.shape)}"
        )
    columns = {name: i for i, name in enumerate(outputs)}
    lacking = [name for name in names if name not in columns]
    if lacking:
        raise ValueError(f"{lacking[0]}: the rule needs this modality's outputs")
    return present[:, [columns[name] for name in names]]


def _shares(weights: np.ndarray, here: np.ndarray) -> np.ndarray:
    """float64[n, m], the weights of those present, of sum 1; zeros where none is."""
    shares = np.where(here, weights, 0.0)
    without = shares.sum(axis=1) == 0
    shares[without] = here[without]
    total = shares.sum(axis=1, keepdims=True)
    return np.divide(shares, total, out=shares, where=total > 0)


def _aligned(
    outputs: Outputs, present: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who is present, bool[n, m]; outputs float64[m, n, k], 0 where absent; truth float64[n, k].

    For numbers, k = 1.
    """
    here = _present(tuple(outputs), outputs, present)
    said = np.stack([one.reshape(len(here), -1) for one in outputs.values()])
    if np.issubdtype(y.dtype, np.integer):
        truth = (y[:, None] == np.arange(said.shape[2])).astype(np.float64)
    else:
        truth = y.reshape(-1, 1)
    return here, np.where(here.T[:, :, None], said, 0.0), truth


def _log(values: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(values, SMALLEST))
