"""The model of rows that lack modalities, as it is trained and asked."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from training_sets import learn, make, training_set

from schemas.options.fuse import Average, Concatenate
from schemas.options.models import Models
from transforms.fusion.trees import tree_of
from transforms.learning.artefacts import load_model, model_files
from transforms.learning.candidates import Candidate, fit_rows
from transforms.learning.fitting import Gaps

GAUSSIAN = Models.model_validate({"gaussian": {"shrinkage": [0.1]}})
ENDS = (3, 5, 9)


def gapped(n: int = 300, k: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of three parts, of each of which a row lacks some, with junk in what is lacking."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(n) % k)
    mixed = rng.normal(size=(ENDS[-1], ENDS[-1]))
    X = rng.normal(size=(n, ENDS[-1])) @ mixed + 2 * rng.normal(size=(k, ENDS[-1]))[y]
    here = rng.random((n, len(ENDS))) < 0.7
    here[np.arange(n), rng.integers(0, len(ENDS), n)] = True
    X[~np.repeat(here, np.diff(ENDS, prepend=0), axis=1)] = 1e9
    return X, y, here


@pytest.mark.parametrize("balanced", [{}, {"class_weight": "balanced"}])
def test_posteriors_are_those_of_what_a_row_has(balanced):
    X, y, here = gapped()
    y = np.where(y == 2, 1, y)  # classes of unequal size
    candidate = Candidate("gaussian", {"shrinkage": 0.1, **balanced})
    gaps = Gaps(ENDS, here)
    model = fit_rows([candidate], X, y, gaps=gaps)[0].estimator
    found = model.predict_proba(gaps.mark(X))
    priors = [0.5, 0.5] if balanced else np.bincount(y) / len(y)
    for i in range(40):
        own = np.flatnonzero(np.repeat(here[i], np.diff(ENDS, prepend=0)))
        density = [
            multivariate_normal(mean[own], model.covariance_[np.ix_(own, own)]).pdf(X[i, own])
            for mean in model.means_
        ]
        expected = np.array(density) * priors
        np.testing.assert_allclose(found[i], expected / expected.sum(), atol=1e-9)


def test_without_gaps_it_is_lda():
    X, y, _ = gapped()
    X = np.random.default_rng(1).normal(size=X.shape) + np.eye(3, X.shape[1])[y]
    gaussian, lda = (
        fit_rows([Candidate(name, {"shrinkage": 0.2})], X, y)[0].estimator
        for name in ("gaussian", "lda")
    )
    np.testing.assert_allclose(gaussian.predict_proba(X), lda.predict_proba(X), atol=1e-8)


def test_what_stands_in_for_a_gap_does_not_matter():
    X, y, here = gapped()
    gaps, other = Gaps(ENDS, here), X.copy()
    other[X == 1e9] = -3.0
    one, two = (
        fit_rows([Candidate("gaussian", {"shrinkage": 0.1})], rows, y, gaps=gaps)[0].estimator
        for rows in (X, other)
    )
    np.testing.assert_array_equal(one.covariance_, two.covariance_)


def test_rows_without_anything_get_the_prior():
    X, y, here = gapped()
    model = fit_rows([Candidate("gaussian", {"shrinkage": 0.1})], X, y, gaps=Gaps(ENDS, here))[0]
    nothing = np.full((2, ENDS[-1]), np.nan)
    np.testing.assert_allclose(model.estimator.predict_proba(nothing), [[1 / 3] * 3] * 2)
    none = Gaps(ENDS, np.zeros_like(here))
    model = fit_rows([Candidate("gaussian", {"shrinkage": 0.1})], X, y, gaps=none)[0]
    np.testing.assert_allclose(model.estimator.predict_proba(nothing), [[1 / 3] * 3] * 2)


def noisy_pair(n: int = 600):
    """Two modalities with one noise: image alone says little, image less audio nearly all."""
    rng = np.random.default_rng(3)
    code = rng.integers(0, 2, n)
    noise = rng.normal(size=(n, 1))
    blocks = {
        "image": 2 * noise + code[:, None] + 0.1 * rng.normal(size=(n, 1)),
        "audio": 2 * noise + 0.1 * rng.normal(size=(n, 1)),
    }
    present = np.ones((n, 2), bool)
    present[rng.random(n) < 0.4, 1] = False
    return training_set(blocks, np.array(["no", "yes"])[code], present=present)


def test_rows_with_gaps_do_not_spoil_what_is_known_of_the_others():
    data = noisy_pair()
    whole = data.present.all(axis=1) & ~data.test
    score = {}
    for name in ("gaussian", "lda"):
        models = Models.model_validate({name: {"shrinkage": [0.01]}})
        predictions = learn(data, models).predictions
        right = np.array(predictions["prediction"].to_pylist()) == data.labels
        score[name] = right[whole].mean()
    # LDA takes rows whose audio is the training mean for rows that have it.
    assert score["gaussian"] > 0.98 > 0.96 > score["lda"]


@pytest.mark.parametrize(
    "fuse",
    [Concatenate(), Concatenate(pca=2), Average(method="average", dimension=3)],
    ids=["plain", "pca", "mean"],
)
def test_the_saved_model_says_the_same_of_the_test_rows(fuse):
    rng = np.random.default_rng(0)
    present = rng.random((150, 2)) < 0.7
    data = make(present=present)
    trained = learn(data, GAUSSIAN, fuse=fuse)
    (head,) = trained.model.heads
    assert head.sides[-1][1] == head.estimator.n_features_in_
    assert [names for names, _ in head.sides] == (
        [("image", "audio")] if fuse.method == "average" else [("image",), ("audio",)]
    )
    X, _ = data.vectors(~data.test, tree_of(fuse, data.modalities).heads[0])
    files = model_files(trained.model)
    model = load_model(files.__getitem__)
    for one in (trained.model, model):
        labels, probabilities = one.predict(X[data.test], present[data.test])
        saved = trained.predictions.filter(data.test)
        assert saved["prediction"].to_pylist() == labels.tolist()
        said = np.array(saved["probabilities"].to_pylist())
        np.testing.assert_allclose(said, probabilities, atol=1e-12)
    assert model_files(model) == files
