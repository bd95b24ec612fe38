"""Closed-form models and their curves, against scikit-learn on the rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from patterned import DIMS, make, matrix, numbers
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB

from schemas.options.fuse import Concatenate, Scale
from transforms.fusion.collecting import Rows, collect
from transforms.fusion.components import axes_of_covariance
from transforms.fusion.statistics import ClassMoments, Statistics
from transforms.fusion.strategies import Learnt, assemble, fit_pass, fit_rows
from transforms.fusion.trees import tree_of
from transforms.learning.candidates import Candidate
from transforms.learning.candidates import fit_rows as in_memory
from transforms.learning.closed_form import (
    Model,
    Whitened,
    lda,
    naive_bayes,
    normal_equations,
    qda,
    ridge,
)
from transforms.learning.curves import expected_errors, lda_curve, ridge_curve, standardiser


@pytest.fixture(scope="module")
def rows() -> Rows:
    return make(0, 600, missing=0, unlabelled=False, test=False)


@pytest.fixture(scope="module")
def known(rows: Rows) -> Statistics:
    return collect([rows], "class")


@pytest.fixture(scope="module")
def classes(known: Statistics) -> ClassMoments:
    return known.by_class()


def test_principal_components(rows: Rows, known: Statistics) -> None:
    moments = known.moments()
    axes = axes_of_covariance(moments.covariance(), np.ones(9), 5)
    expected = PCA(5, svd_solver="full").fit(matrix(rows)).components_
    expected *= np.sign((expected * axes).sum(axis=1))[:, None]
    np.testing.assert_allclose(axes, expected, atol=1e-8)


@pytest.mark.parametrize("shrinkage", [0.0, 0.01, 0.5, 1.0])
def test_lda(rows: Rows, classes: ClassMoments, shrinkage: float) -> None:
    x = matrix(rows)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(x, rows.y)
    model = lda(classes, shrinkage)
    np.testing.assert_allclose(model.predict_proba(x), theirs.predict_proba(x), atol=1e-8)
    # The same scores but for what all classes share.
    mine, others = model.decision(x), theirs.decision_function(x)
    np.testing.assert_allclose(mine - mine[:, :1], others - others[:, :1], rtol=1e-8, atol=1e-8)


def test_priors_are_a_matter_of_the_scores_alone(rows: Rows, classes: ClassMoments) -> None:
    x, priors = matrix(rows), np.array([0.5, 0.2, 0.3])
    change = np.log(priors) - np.log(classes.count / 600)
    for fit_one in (
        lambda priors=None: lda(classes, 0.1, priors),
        lambda priors=None: naive_bayes(classes, priors=priors),
        lambda priors=None: qda(Whitened.of(classes, 9), 5, 0.1, priors),
    ):
        np.testing.assert_allclose(
            fit_one(priors).decision(x), fit_one().decision(x) + change, rtol=1e-9
        )


@pytest.mark.parametrize("smoothing", [1e-9, 0.1])
def test_naive_bayes(rows: Rows, classes: ClassMoments, smoothing: float) -> None:
    x = matrix(rows)
    theirs = GaussianNB(var_smoothing=smoothing).fit(x, rows.y)
    model = naive_bayes(classes, smoothing)
    np.testing.assert_allclose(model.predict_proba(x), theirs.predict_proba(x), atol=1e-8)
    np.testing.assert_allclose(model.decision(x), theirs.predict_joint_log_proba(x), rtol=1e-8)


def test_qda_without_shrinkage_is_that_of_scikit_learn(rows: Rows, classes: ClassMoments) -> None:
    x = matrix(rows)
    theirs = QuadraticDiscriminantAnalysis(solver="eigen").fit(x, rows.y)
    model = qda(Whitened.of(classes, 9), 9, 0.0)
    np.testing.assert_allclose(model.predict_proba(x), theirs.predict_proba(x), atol=1e-8)


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("components", [3, 9, 100])
def test_qda_is_that_of_the_rows(
    rows: Rows, classes: ClassMoments, components: int, shrinkage: float
) -> None:
    options = {"components": components, "shrinkage": shrinkage}
    x = matrix(rows)
    (theirs,) = in_memory([Candidate("qda", options)], x, rows.y)
    # Of more components the first are the same.
    model = qda(Whitened.of(classes, components + 2), components, shrinkage)
    np.testing.assert_allclose(
        model.predict_proba(x), theirs.estimator.predict_proba(x), rtol=1e-8, atol=1e-8
    )


def test_qda_needs_the_moments_of_each_class(rows: Rows) -> None:
    with pytest.raises(ValueError, match="only pooled second moments"):
        Whitened.of(collect([rows]).by_class(), 3)


@pytest.mark.parametrize("alpha", [0.0, 1e-3, 10.0, 1e5])
def test_ridge(rows: Rows, alpha: float) -> None:
    x, told = matrix(rows), numbers(rows)
    model = ridge(normal_equations(collect([told])), alpha)
    theirs = Ridge(alpha=alpha).fit(x, told.y)
    np.testing.assert_allclose(model.decision(x), theirs.predict(x), rtol=1e-8)
    assert rows.y is not None
    indicators = np.eye(3)[rows.y]
    model = ridge(normal_equations(collect([rows])), alpha)
    theirs = Ridge(alpha=alpha).fit(x, indicators)
    np.testing.assert_allclose(model.decision(x), theirs.predict(x), rtol=1e-8, atol=1e-10)
    probabilities = model.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities >= 0).all()


def models(known: Statistics, told: Rows) -> list[Model]:
    classes = known.by_class()
    regression = ridge(normal_equations(collect([told])), 1.0)
    return [
        lda(classes, 0.1),
        naive_bayes(classes),
        qda(Whitened.of(classes, 5), 5, 0.1),
        ridge(normal_equations(known), 1.0),
        regression,
    ]


def test_no_row_depends_on_the_others(rows: Rows, known: Statistics) -> None:
    x = matrix(rows)[:300]
    for model in models(known, numbers(rows)):
        whole = model.decision(x)
        for part in (slice(0, 1), slice(100, 170), slice(299, 300), slice(0, 0)):
            assert np.array_equal(model.decision(x[part]), whole[part])


def test_classes_without_rows_have_no_probability(rows: Rows) -> None:
    told = replace(rows, classes=("ash", "birch", "cedar", "never"))
    known, x = collect([told], "class"), matrix(rows)
    fewer = models(collect([rows], "class"), numbers(rows))
    for model, expected in zip(models(known, numbers(rows))[:3], fewer, strict=False):
        found = model.predict_proba(x)
        assert (found[:, 3] == 0).all()
        np.testing.assert_allclose(found[:, :3], expected.predict_proba(x), atol=1e-12)


def test_nothing_varies_within_classes() -> None:
    x = np.repeat(np.array([[1.0, 2.0], [3.0, 4.0]]), 10, axis=0).astype(np.float32)
    same = Rows({"a": x}, np.ones((20, 1), bool), np.zeros(20), np.repeat([0, 1], 10), ("p", "q"))
    classes = collect([same], "class").by_class()
    for model in (lda(classes, 0.1), naive_bayes(classes), qda(Whitened.of(classes, 2), 2, 0.0)):
        assert (model.predict_proba(x).argmax(axis=1) == same.y).all()


# --- curves --------------------------------------------------------------------------------------


def folded(rows: Rows, scale: Scale) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each fold: which rows are in it, and all rows as the fusion fitted to the others."""
    names = {m: [f"{m}{i}" for i in range(d)] for m, d in DIMS.items()}
    found = []
    for fold in range(4):
        others = (rows.fold >= 0) & (rows.fold != fold)
        tree = tree_of(Concatenate(scale=scale), list(DIMS))
        fusion = fit_rows(tree, "mean", rows.blocks, rows.present, others, names)
        leaves = fusion.heads[0].parts
        # As the fusion does it, but in float64.
        mean = np.concatenate([b.fill if b.mean is None else b.mean for b in leaves])
        ones = [b.dimension for b in leaves if b.factor is None]
        factor = [np.ones(sum(ones)), *(b.factor for b in leaves if b.factor is not None)]
        x = (np.nan_to_num(matrix(rows) - mean)) * np.concatenate(factor)
        found.append((rows.fold == fold, x))
    return found


@pytest.mark.parametrize("scale", ["standard", "block", "none"])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_ridge_curve(scale: Scale, missing: float) -> None:
    rows = numbers(make(1, 300, missing=missing))
    alphas = [1e-3, 1.0, 100.0, 1e4]
    found = ridge_curve(collect([rows]), alphas, scale)
    labelled = np.isfinite(rows.y)
    for k, (held, x) in enumerate(folded(rows, scale)):
        others = (rows.fold >= 0) & ~held & labelled
        assert found.rows[k] == (held & labelled).sum()
        for i, alpha in enumerate(alphas):
            model = Ridge(alpha=alpha).fit(x[others], rows.y[others])
            error = (rows.y - model.predict(x))[held & labelled]
            # `none` fills by a mean that the fusion rounds to float32.
            assert found.error[i, k] == pytest.approx(
                np.square(error).sum(), rel=1e-5 if scale == "none" and missing else 1e-8
            )
    assert found.best in alphas


def test_ridge_curve_of_classes() -> None:
    rows = make(2, 300, missing=0.3, unlabelled=False)
    assert rows.y is not None
    found = ridge_curve(collect([rows]), [0.1, 10.0])
    for k, (held, x) in enumerate(folded(rows, "standard")):
        others = (rows.fold >= 0) & ~held
        for i, alpha in enumerate([0.1, 10.0]):
            model = Ridge(alpha=alpha).fit(x[others], np.eye(3)[rows.y[others]])
            error = np.eye(3)[rows.y[held]] - model.predict(x[held])
            assert found.error[i, k] == pytest.approx(np.square(error).sum(), rel=1e-8)


def test_expected_errors_are_those_of_normal_scores() -> None:
    """On many rows of two normal classes they are the errors that there are."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 40_000)
    x = rng.normal(size=(40_000, 3)) * [1, 2, 0.5] + y[:, None] * [1.0, 0.5, -0.2]
    rows = Rows({"a": x}, np.ones((len(x), 1), bool), y * 0, y, ("p", "q"))
    known = collect([rows]).by_class()
    for shrinkage in (0.0, 0.9):
        model = lda(known, shrinkage)
        wrong = (model.decision(x).argmax(axis=1) != y).sum()
        assert expected_errors(model, known) == pytest.approx(wrong, rel=0.02)


def test_expected_errors_tell_apart_what_is_nearly_chance() -> None:
    """Ten classes that hardly differ: most rows are wrong, but not as many by every model."""
    rng = np.random.default_rng(5)
    y = rng.integers(0, 10, 4000)
    x = rng.normal(size=(4000, 5)) + 0.3 * rng.normal(size=(10, 5))[y]
    rows = Rows({"a": x}, np.ones((len(x), 1), bool), y * 0, y, tuple("abcdefghij"))
    known = collect([rows]).by_class()
    good = lda(known, 0.0)
    bad = replace(good, coef=good.coef + rng.normal(size=good.coef.shape))
    right = [(m.decision(x).argmax(axis=1) == y).mean() for m in (good, bad)]
    told = [1 - expected_errors(m, known) / len(x) for m in (good, bad)]
    assert right[1] < right[0] < 0.3
    assert told[1] < told[0] < 0.3


def test_lda_curve_finds_a_shrinkage_that_is_nearly_the_best() -> None:
    """Few rows for their dimensions: much is lost without shrinking, and with too much of it."""
    rng = np.random.default_rng(4)
    d, n, k = 60, 240, 4
    mix = np.eye(d) + 0.5 * rng.normal(size=(d, d)) / np.sqrt(d)
    y = rng.integers(0, k, 20_000)
    x = (rng.normal(size=(k, d))[y] * 0.25 + rng.normal(size=(len(y), d))) @ mix
    fold = np.where(np.arange(len(y)) < n, rng.integers(0, 5, len(y)), -1)
    rows = Rows({"a": x}, np.ones((len(y), 1), bool), fold, y, tuple("pqrs"))
    known = collect([rows])
    grid = [0.0, 0.001, 0.01, 0.1, 0.5, 0.99]
    found = lda_curve(known, grid)
    fill, shift, factor = standardiser(known, "standard", "mean")
    classes = known.filled(fill).scaled(shift, factor).by_class()
    test = fold < 0
    right = []
    for shrinkage in grid:
        scores = lda(classes, shrinkage).decision((x[test] - shift) * factor)
        right.append((scores.argmax(axis=1) == y[test]).mean())
    assert max(right) - right[0] > 0.01 < max(right) - right[-1]
    assert right[grid.index(found.best)] > max(right) - 0.01


def test_standardiser_is_what_the_fusion_fits() -> None:
    rows = make(5, 200)
    known = collect([rows])
    names = {m: [f"{m}{i}" for i in range(d)] for m, d in DIMS.items()}
    moments = {m: known.moments([m]) for m in DIMS}
    for scale in ("standard", "block"):
        tree = tree_of(Concatenate(scale=scale), list(DIMS))
        fusion = assemble(tree, fit_pass(tree, "mean", 0, moments, DIMS, Learnt()), names)
        fill, shift, factor = standardiser(known, scale, "mean")
        expected = (np.where(np.isnan(matrix(rows)), fill, matrix(rows)) - shift) * factor
        fused = fusion.apply(rows.blocks, rows.present)
        np.testing.assert_allclose(fused, expected, rtol=1e-6, atol=1e-6)
    zero, _, _ = standardiser(known, "none", "zero")
    assert not zero.any()


def test_the_models_of_a_subset_are_those_of_its_rows() -> None:
    rows = make(6, 300, missing=0, unlabelled=False, test=False)
    known = collect([rows]).subset(["image", "text"])
    x = np.hstack([rows.blocks["image"], rows.blocks["text"]])
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1).fit(x, rows.y)
    model = lda(known.by_class(), 0.1)
    np.testing.assert_allclose(model.predict_proba(x), theirs.predict_proba(x), atol=1e-6)
