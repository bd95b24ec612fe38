"""The Gaussian model of rows that lack modalities, against EM and densities row by row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patterned import DIMS, cut, make, matrix, numbers
from scipy.stats import multivariate_normal

from schemas.arrays import load_arrays, save_arrays
from schemas.recipe import TARGET
from transforms.fusion.collecting import Rows, collect
from transforms.fusion.em import fit_gaussian
from transforms.fusion.missing import Gaussian
from transforms.learning.closed_form import lda, normal_equations, ridge


def row_by_row(
    x: np.ndarray, y: np.ndarray, k: int, shrinkage: float, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """EM on the rows themselves (NaN: missing): means float64[k, D] and covariance."""
    n, d = x.shape
    mean = np.stack([np.nanmean(x[y == c], axis=0) for c in range(k)])
    level = np.nanmean((x - mean[y]) ** 2, axis=0).mean()
    covariance = np.diag(np.nanmean((x - mean[y]) ** 2, axis=0))
    prior = n * shrinkage / (1 - shrinkage)
    for _ in range(steps):
        filled, extra = x.copy(), np.zeros((d, d))
        for i in range(n):
            o = ~np.isnan(x[i])
            m = ~o
            b = np.linalg.solve(covariance[np.ix_(o, o)], covariance[np.ix_(o, m)]).T
            filled[i, m] = mean[y[i], m] + b @ (x[i, o] - mean[y[i], o])
            extra[np.ix_(m, m)] += covariance[np.ix_(m, m)] - b @ covariance[np.ix_(o, m)]
        mean = np.stack([filled[y == c].mean(axis=0) for c in range(k)])
        step = filled - mean[y]
        covariance = (step.T @ step + extra + prior * level * np.eye(d)) / (n + prior)
    return mean, covariance


def likelihood(model: Gaussian, rows: Rows) -> np.ndarray:
    """Log density of what each training row has, of its class and its prior: float64[n]."""
    x = matrix(rows)
    found = np.zeros(len(x))
    for i in np.flatnonzero(rows.fold >= 0):
        c = 0 if rows.y is None or not model.classes else int(rows.y[i])
        o = ~np.isnan(x[i])
        if c >= 0 and o.any():
            own = multivariate_normal(model.mean[c, o], model.covariance[np.ix_(o, o)])
            found[i] = own.logpdf(x[i, o]) + np.log(model.prior[c])
    return found


@pytest.mark.parametrize("shrinkage", [0.0, 0.2])
def test_each_step_is_that_of_em_row_by_row(shrinkage: float) -> None:
    rows = make(0, 120, unlabelled=False, missing=0.4)
    used = (rows.fold >= 0) & rows.present.any(axis=1)
    assert rows.y is not None
    for steps in (1, 7):
        model, history = fit_gaussian(collect([rows]), shrinkage, tolerance=0, most=steps)
        mean, covariance = row_by_row(matrix(rows)[used], rows.y[used], 3, shrinkage, steps)
        assert len(history) == steps + 1
        np.testing.assert_allclose(model.mean, mean, atol=1e-9)
        np.testing.assert_allclose(model.covariance, covariance, atol=1e-9)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    missing=st.sampled_from([0.0, 0.2, 0.6]),
    shrinkage=st.sampled_from([0.0, 0.1, 0.9]),
    offset=st.sampled_from([0.0, 1e4]),
)
def test_likelihood_never_falls(seed: int, missing: float, shrinkage: float, offset: float) -> None:
    rows = make(seed, 300, missing=missing, offset=offset)
    _, history = fit_gaussian(collect([rows]), shrinkage, tolerance=0, most=40)
    assert np.diff(history).min(initial=0) > -1e-10 * max(map(abs, history))


def test_the_likelihood_is_that_of_the_rows_and_at_its_highest() -> None:
    rows = make(1, 300)
    known = collect([rows])
    model, history = fit_gaussian(known, 0.0, tolerance=1e-13, most=3000)
    expected = likelihood(model, rows)
    n = np.count_nonzero(expected)
    assert model.log_likelihood(known) == pytest.approx(expected.sum(), rel=1e-10)
    prior = np.log(model.prior) @ (model.prior * n)
    assert history[-1] * n + prior == pytest.approx(expected.sum(), rel=1e-10)
    rng = np.random.default_rng(0)
    for _ in range(20):
        turn = np.eye(9) + 0.01 * rng.normal(size=(9, 9))
        moved = replace(
            model,
            mean=model.mean + 0.01 * rng.normal(size=model.mean.shape),
            covariance=turn @ model.covariance @ turn.T,
        )
        assert moved.log_likelihood(known) < model.log_likelihood(known)


def test_of_complete_rows_it_is_lda() -> None:
    rows = make(2, 300, missing=0, unlabelled=False)
    known = collect([rows])
    for shrinkage in (0.0, 0.3):
        model, history = fit_gaussian(known, shrinkage)
        assert len(history) <= 3
        expected = lda(known.by_class(), shrinkage).predict_proba(matrix(rows))
        found = model.posteriors(rows.blocks, rows.present)
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_posteriors_densities_and_means_are_those_of_each_row() -> None:
    rows = make(3, 150, missing=0.4)
    model, _ = fit_gaussian(collect([rows]), 0.1)
    posterior = model.posteriors(rows.blocks, rows.present)
    density = model.log_density(rows.blocks, rows.present)
    filled = np.hstack(list(model.fill(rows.blocks, rows.present).values()))
    for x, p, log, whole in zip(matrix(rows), posterior, density, filled, strict=True):
        o = ~np.isnan(x)
        m = ~o
        joint = model.prior.copy()
        if o.any():
            own = model.covariance[np.ix_(o, o)]
            joint *= [multivariate_normal(mean[o], own).pdf(x[o]) for mean in model.mean]
        np.testing.assert_allclose(p, joint / joint.sum(), atol=1e-9)
        assert log == pytest.approx(np.log(joint.sum()), abs=1e-8)
        b = model.covariance[np.ix_(m, o)] @ np.linalg.pinv(model.covariance[np.ix_(o, o)])
        means = [c[m] + b @ (x[o] - c[o]) for c in model.mean]
        np.testing.assert_allclose(whole[m], p @ np.array(means), rtol=1e-5, atol=1e-5)
        assert np.array_equal(whole[o], x[o].astype(np.float32))


def test_no_row_depends_on_the_others() -> None:
    rows = make(4, 300, missing=0.4)
    model, _ = fit_gaussian(collect([rows]), 0.1)
    posterior = model.posteriors(rows.blocks, rows.present)
    filled = model.fill(rows.blocks, rows.present)
    for a, b in ((0, 1), (17, 40), (299, 300), (5, 5)):
        part = cut(rows, a, b)
        assert np.array_equal(model.posteriors(part.blocks, part.present), posterior[a:b])
        again = model.fill(part.blocks, part.present)
        assert all(np.array_equal(again[m], filled[m][a:b]) for m in DIMS)


def test_what_is_filled_in_is_nearer_than_the_mean() -> None:
    rows = make(5, 600, missing=0, unlabelled=False, test=False)
    present = np.random.default_rng(0).random(rows.present.shape) > 0.3
    known = collect([replace(rows, present=present)])
    model, _ = fit_gaussian(known, 0.01)
    filled = np.hstack(list(model.fill(rows.blocks, present).values()))
    lacking = ~np.repeat(present, list(DIMS.values()), axis=1)
    error = np.square(filled - matrix(rows))[lacking].mean()
    assert error < 0.6 * np.square(known.mean() - matrix(rows))[lacking].mean()


def test_a_modality_that_is_not_given_is_filled_in_for_all() -> None:
    rows = make(6, 100, missing=0)
    model, _ = fit_gaussian(collect([rows]), 0.1)
    # In another order, and with one the model does not know.
    fewer = {"video": rows.blocks["audio"], "text": rows.blocks["text"]}
    found = model.fill(fewer, np.ones((100, 2), bool))
    assert list(found) == list(DIMS)
    none = model.fill(rows.blocks, np.tile([False, False, True], (100, 1)))
    assert all(np.array_equal(found[m], none[m]) for m in DIMS)


def test_a_number_to_predict_is_filled_in_by_regression() -> None:
    rows = numbers(make(7, 300, missing=0, unlabelled=False))
    known = collect([rows])
    model, _ = fit_gaussian(known, 0.0)
    assert (model.classes, model.prior.tolist()) == ((), [1.0])
    expected = ridge(normal_equations(known), 0.0).decision(matrix(rows))
    found = model.fill(rows.blocks, rows.present)[TARGET][:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert (model.posteriors(rows.blocks, rows.present) == 1).all()


def test_classes_and_modalities_that_no_row_has() -> None:
    rows = make(8, 100, classes=("a", "b", "never"), missing=0.3)
    assert rows.y is not None
    rows.present[:, 1] = False
    rows = replace(rows, y=np.where(rows.y == 2, -1, rows.y))
    model, history = fit_gaussian(collect([rows]), 0.1)
    assert np.isfinite(history).all()
    found = model.posteriors(rows.blocks, rows.present)
    assert (found[:, 2] == 0).all()
    assert np.isfinite(found).all()
    filled = model.fill(rows.blocks, rows.present)
    assert all(np.isfinite(block).all() for block in filled.values())


def test_what_cannot_be_fitted() -> None:
    rows = make(9, 100, missing=0)
    rows.blocks["image"][:, 1] = rows.blocks["image"][:, 0]
    with pytest.raises(ValueError, match="singular: shrink it"):
        fit_gaussian(collect([rows]), 0.0)
    fit_gaussian(collect([rows]), 0.01)
    with pytest.raises(ValueError, match="no rows"):
        fit_gaussian(collect([replace(rows, y=np.full(100, -1))]))


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    rows = make(10, 80)
    model, _ = fit_gaussian(collect([rows]))
    path = str(tmp_path / "model.npz")
    save_arrays(path, model.to_arrays("m"))
    loaded = Gaussian.from_arrays("m", load_arrays(path))
    found, expected = (m.posteriors(rows.blocks, rows.present) for m in (loaded, model))
    assert np.array_equal(found, expected)
