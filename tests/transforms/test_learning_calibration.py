"""Temperature scaling and the reliability curve."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from transforms.learning.calibration import (
    Temperature,
    best_scale,
    fit_temperature,
    reliability,
)

SEEDS = st.integers(0, 10_000)


def drawn(n, k, scale, seed=0):
    """Logits, and classes that are drawn from the softmax of `scale` times these logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, k))
    p = softmax(scale * logits, axis=1)
    return logits, (rng.random(n)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(max=k - 1)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("k", [2, 5])
def test_the_temperature_that_the_data_were_drawn_with_is_found(scale, k):
    logits, y = drawn(20_000, k, scale)
    found = fit_temperature(softmax(logits, axis=1), y)
    assert found.value == pytest.approx(1 / scale, rel=0.05)


@settings(max_examples=40)
@given(seed=SEEDS, n=st.integers(1, 60), k=st.integers(2, 5), scale=st.floats(0.0, 3.0))
def test_no_scale_on_a_grid_is_better(seed, n, k, scale):
    logits, y = drawn(n, k, scale, seed)
    found = best_scale(logits, y)
    grid = np.concatenate([np.geomspace(1e-3, 1e3, 200), found * np.array([0.999, 1, 1.001])])
    grid = grid[grid >= 1e-3]
    loss = [
        -log_softmax(s * logits, axis=1)[np.arange(n), y].mean() + (s - 1) ** 2 / (2 * n)
        for s in grid
    ]
    at_found = -log_softmax(found * logits, axis=1)[np.arange(n), y].mean()
    assert at_found + (found - 1) ** 2 / (2 * n) <= min(loss) + 1e-9


def test_many_rows_outweigh_the_one_for_no_change():
    logits, y = drawn(5000, 3, 0.5)
    grid = np.linspace(0.4, 0.6, 201)
    loss = [-log_softmax(s * logits, axis=1)[np.arange(len(y)), y].mean() for s in grid]
    assert best_scale(logits, y) == pytest.approx(grid[np.argmin(loss)], abs=2e-3)


@settings(max_examples=40)
@given(seed=SEEDS, value=st.floats(0.02, 50))
def test_the_order_of_classes_stays(seed, value):
    p = np.random.default_rng(seed).dirichlet(np.full(4, 0.5), 30)
    p[0] = [1, 0, 0, 0]
    scaled = Temperature(value).apply(p)
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    assert np.isfinite(scaled).all()
    np.testing.assert_array_equal(scaled.argmax(axis=1), p.argmax(axis=1))
    for before, after in zip(p, scaled, strict=True):
        assert (np.diff(after[np.argsort(before)]) >= 0).all()
    np.testing.assert_array_equal(scaled[3:5], Temperature(value).apply(p[3:5]))


def test_a_temperature_of_1_changes_nothing():
    p = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    np.testing.assert_allclose(Temperature(1.0).apply(p), p, rtol=1e-12)


def test_classes_told_apart_without_an_error_do_not_become_certain():
    y = np.arange(30) % 3
    sure = 0.7 * np.eye(3)[y] + 0.1
    found = fit_temperature(sure, y)
    assert 0.1 < found.value < 1
    assert found.apply(sure).max() < 0.9999


def test_a_model_worse_than_nothing_is_made_to_say_nothing():
    y = np.arange(30) % 3
    wrong = 0.7 * np.eye(3)[(y + 1) % 3] + 0.1
    found = fit_temperature(wrong, y)
    assert found.value == 1000
    np.testing.assert_allclose(found.apply(wrong), 1 / 3, atol=1e-3)
    never = np.eye(3)[(y + 1) % 3]  # the label's probability is 0
    assert np.isfinite(fit_temperature(never, y).apply(never)).all()


def test_towards_a_prior_less_and_less_is_said():
    prior = np.array([0.7, 0.2, 0.1])
    p = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    np.testing.assert_allclose(Temperature(1.0, tuple(prior)).apply(p), p, rtol=1e-12)
    expected = prior * (p / prior) ** 0.25
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(Temperature(4.0, tuple(prior)).apply(p), expected, rtol=1e-12)
    assert np.abs(Temperature(1e6, tuple(prior)).apply(p) - prior).max() < 1e-5
    alike = np.full(3, 1 / 3)
    plain, same = Temperature(2.5).apply(p), Temperature(2.5, tuple(alike)).apply(p)
    np.testing.assert_allclose(same, plain, rtol=1e-12)


def test_a_model_that_knows_nothing_is_brought_to_the_prior():
    rng = np.random.default_rng(0)
    y = (rng.random(2000) < 0.1).astype(int)
    prior = np.array([0.9, 0.1])
    p = softmax(np.log(prior) + rng.normal(0, 2, (2000, 2)), axis=1)
    found = fit_temperature(p, y, prior)
    assert found.value > 10
    np.testing.assert_allclose(found.apply(p).mean(axis=0), prior, atol=0.02)
    never = fit_temperature(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([1, 0]), np.array([1, 0]))
    assert np.isfinite(never.apply(p)).all()


def test_a_temperature_comes_back_as_it_was():
    p, y = softmax(drawn(50, 3, 1)[0], axis=1), np.arange(50) % 3
    for prior in (None, np.array([0.5, 0.3, 0.2])):
        found = fit_temperature(p, y, prior)
        assert Temperature.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_what_cannot_be_fitted_says_so():
    with pytest.raises(ValueError, match="0 rows given"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))
    for bad in (-1, 3):
        with pytest.raises(ValueError, match=f"0 to 2: 1 rows given, classes {bad} to {bad}"):
            fit_temperature(np.full((1, 3), 1 / 3), np.array([bad]))


def test_reliability_by_hand():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.85, 0.15], [0.5, 0.5], [1.0, 0.0]])
    found = reliability(p, np.array([0, 1, 1, 0, -1]), bins=4)
    assert json.loads(json.dumps(found)) == found
    low, high = found["bins"]
    assert (low["low"], low["high"], low["rows"]) == (0.5, 0.75, 1)
    assert (low["confidence"], low["accuracy"]) == (0.5, 1.0)
    assert (high["low"], high["high"], high["rows"], high["accuracy"]) == (0.75, 1.0, 4, 0.5)
    assert high["confidence"] == pytest.approx(3.55 / 4)
    error = 0.5 * 1 / 5 + (3.55 / 4 - 0.5) * 4 / 5
    assert found["expected_calibration_error"] == pytest.approx(error)
    assert found["largest_calibration_error"] == pytest.approx(0.5)


def test_calibration_makes_the_error_small():
    logits, y = drawn(20_000, 4, 0.4)
    p = softmax(logits, axis=1)
    before = reliability(p, y)["expected_calibration_error"]
    after = reliability(fit_temperature(p, y).apply(p), y)["expected_calibration_error"]
    assert after < 0.02 < 0.2 < before
