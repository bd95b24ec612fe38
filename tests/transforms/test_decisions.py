"""Fusion of decisions against naive loops, hand-computed examples and what must always hold."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from transforms.fusion.decisions import (
    SMALLEST,
    DecisionRule,
    fit_rule,
    prior_of,
    weights_by_error,
    weights_by_score,
    weights_by_stacking,
)

SEEDS = st.integers(0, 10_000)
HOW = st.sampled_from(["mean", "product"])


def made(seed, n=40, m=3, k=4, missing=0.3):
    """Posteriors that know something of y; NaN where a modality is absent."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    outputs, present = {}, rng.random((n, m)) >= missing
    for i in range(m):
        logits = rng.normal(size=(n, k)) + (i + 1) * 0.5 * (y[:, None] == np.arange(k))
        p = np.exp(3 * logits)
        outputs[f"m{i}"] = p / p.sum(axis=1, keepdims=True)
        outputs[f"m{i}"][~present[:, i]] = np.nan
    return outputs, present, y, rng.dirichlet(np.full(k, 3.0))


def made_numbers(seed, n=40, m=3, missing=0.3):
    rng = np.random.default_rng(seed)
    y = rng.normal(5, 2, n)
    present = rng.random((n, m)) >= missing
    outputs = {f"m{i}": y + rng.normal(0, 0.5 + i, n) for i in range(m)}
    for i in range(m):
        outputs[f"m{i}"][~present[:, i]] = np.nan
    return outputs, present, y, y.mean()


def naive(how, weights, outputs, present, prior):
    """One record and one class at a time, as the formulas are written."""
    names = list(outputs)
    rows = []
    for i in range(len(present)):
        here = [j for j in range(len(names)) if present[i, j]]
        if not here:
            rows.append(list(prior))
            continue
        w = [weights[j] for j in here]
        if sum(w) == 0:
            w = [1.0 for _ in here]
        row = []
        for c in range(len(prior)):
            said = [max(outputs[names[j]][i, c], SMALLEST) for j in here]
            if how == "mean":
                row.append(sum(a * b for a, b in zip(w, said, strict=True)))
            else:
                v = [a * len(w) / sum(w) for a in w]
                value = prior[c]
                for p, exponent in zip(said, v, strict=True):
                    value *= (p / prior[c]) ** exponent
                row.append(value)
        rows.append([value / sum(row) for value in row])
    return np.array(rows)


@settings(max_examples=50)
@given(how=HOW, seed=SEEDS, k=st.integers(2, 5), m=st.integers(1, 4))
def test_rules_are_the_formulas(how, seed, k, m):
    outputs, present, y, prior = made(seed, m=m, k=k)
    weights = np.random.default_rng(seed).integers(0, 3, m).astype(float)
    weights[0] += 1
    given_weights = dict(zip(outputs, weights, strict=True))
    rule = fit_rule(how, given_weights, outputs, present, y, prior)
    fused = rule.apply(outputs, present)
    np.testing.assert_allclose(fused, naive(how, weights, outputs, present, prior), atol=1e-12)
    np.testing.assert_allclose(fused.sum(axis=1), 1, atol=1e-12)


def test_by_hand():
    a, b = np.array([[0.8, 0.2]]), np.array([[0.4, 0.6]])
    outputs, y = {"a": a, "b": b}, np.array([0])
    both, none = np.ones((1, 2), bool), np.zeros((1, 2), bool)
    prior = np.array([0.5, 0.5])
    mean = fit_rule("mean", "equal", outputs, both, y, prior)
    np.testing.assert_allclose(mean.apply(outputs, both), [[0.6, 0.4]])
    product = fit_rule("product", "equal", outputs, both, y, prior)
    np.testing.assert_allclose(product.apply(outputs, both), [[32 / 44, 12 / 44]])
    # 0.8 * 0.4 / 0.9 to 0.2 * 0.6 / 0.1: the prior is in both posteriors, and counts once
    product = fit_rule("product", "equal", outputs, both, y, np.array([0.9, 0.1]))
    first, second = 0.32 / 0.9, 0.12 / 0.1
    expected = [[first / (first + second), second / (first + second)]]
    np.testing.assert_allclose(product.apply(outputs, both), expected)
    np.testing.assert_allclose(product.apply(outputs, none), [[0.9, 0.1]])
    weighted = fit_rule("mean", {"a": 3, "b": 1}, outputs, both, y, prior)
    np.testing.assert_allclose(weighted.apply(outputs, both), [[0.7, 0.3]])
    # exponents 1.5 and 0.5
    weighted = fit_rule("product", {"a": 3, "b": 1}, outputs, both, y, prior)
    odds = (0.8 / 0.2) ** 1.5 * (0.4 / 0.6) ** 0.5
    np.testing.assert_allclose(weighted.apply(outputs, both)[0, 0], odds / (1 + odds))


def test_product_is_exact_for_independent_modalities():
    """The posterior of both, by Bayes, from the posteriors of each."""
    rng = np.random.default_rng(0)
    prior = np.array([0.7, 0.2, 0.1])
    p_a, p_b = rng.dirichlet(np.ones(5), 3), rng.dirichlet(np.ones(4), 3)  # p(value | class)
    i, j = np.meshgrid(np.arange(5), np.arange(4), indexing="ij")
    i, j = i.ravel(), j.ravel()
    joint = prior * p_a[:, i].T * p_b[:, j].T
    outputs = {"a": prior * p_a[:, i].T, "b": prior * p_b[:, j].T}
    outputs = {name: p / p.sum(axis=1, keepdims=True) for name, p in outputs.items()}
    present = np.ones((20, 2), bool)
    rule = fit_rule("product", "equal", outputs, present, np.zeros(20, int), prior)
    expected = joint / joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(rule.apply(outputs, present), expected, rtol=1e-12)


@settings(max_examples=50)
@given(
    how=HOW,
    learning=st.sampled_from(["equal", "error_covariance", "scores", "stacking"]),
    seed=SEEDS,
    order=st.permutations([0, 1, 2]),
    missing=st.sampled_from([0.0, 0.3, 0.9]),
)
def test_the_order_of_modalities_does_not_matter(how, learning, seed, order, missing):
    outputs, present, y, prior = made(seed, missing=missing)
    names = list(outputs)
    turned = {names[i]: outputs[names[i]] for i in order}
    one = fit_rule(how, learning, outputs, present, y, prior)
    other = fit_rule(how, learning, turned, present[:, order], y, prior)
    np.testing.assert_allclose(one.weights[order], other.weights, atol=1e-6)
    fused = one.apply(outputs, present)
    np.testing.assert_allclose(fused, one.apply(turned, present[:, order]), atol=1e-12)
    np.testing.assert_allclose(fused, other.apply(outputs, present), atol=1e-5)


@settings(max_examples=30)
@given(how=HOW, seed=SEEDS, weight=st.floats(1e-6, 1e6))
def test_equal_weights_are_none(how, seed, weight):
    outputs, present, y, prior = made(seed)
    plain = fit_rule(how, "equal", outputs, present, y, prior)
    same = fit_rule(how, dict.fromkeys(outputs, weight), outputs, present, y, prior)
    np.testing.assert_allclose(
        plain.apply(outputs, present), same.apply(outputs, present), atol=1e-12
    )


@settings(max_examples=30)
@given(how=HOW, seed=SEEDS)
def test_what_is_missing_is_left_out(how, seed):
    outputs, present, y, prior = made(seed, missing=0)
    weights = {"m0": 1.0, "m1": 2.0, "m2": 5.0}
    present[:, 1] = False
    whole = fit_rule(how, weights, outputs, present, y, prior)
    rest = {name: outputs[name] for name in ("m0", "m2")}
    without = fit_rule(how, {"m0": 1.0, "m2": 5.0}, rest, present[:, [0, 2]], y, prior)
    np.testing.assert_allclose(
        whole.apply(outputs, present), without.apply(rest, present[:, [0, 2]]), atol=1e-12
    )


@settings(max_examples=30)
@given(how=HOW, seed=SEEDS, cut=st.integers(0, 40), width=st.integers(1, 7))
def test_a_record_does_not_depend_on_its_neighbours(how, seed, cut, width):
    outputs, present, y, prior = made(seed)
    rule = fit_rule(how, "stacking", outputs, present, y, prior)
    part = slice(cut, cut + width)
    few = rule.apply({name: p[part] for name, p in outputs.items()}, present[part])
    np.testing.assert_array_equal(few, rule.apply(outputs, present)[part])


def test_no_posterior_is_too_small():
    certain = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1e-300, 0.0]])
    outputs = {"a": certain, "b": certain[[1, 0, 2]], "c": certain}
    present = np.ones((3, 3), bool)
    prior = np.array([0.5, 0.5, 0.0])
    rule = fit_rule("product", "equal", outputs, present, np.array([0, 1, 0]), prior)
    fused = rule.apply(outputs, present)
    assert np.isfinite(fused).all()
    np.testing.assert_allclose(fused.sum(axis=1), 1)
    assert fused.argmax(axis=1).tolist() == [0, 1, 0]  # two against one


def test_modalities_without_weight_speak_only_when_alone():
    outputs, _, y, prior = made(0, n=2, m=2, missing=0)
    present = np.array([[True, True], [False, True]])
    rule = fit_rule("mean", {"m0": 1.0, "m1": 0.0}, outputs, present, y, prior)
    fused = rule.apply(outputs, present)
    np.testing.assert_allclose(fused, [outputs["m0"][0], outputs["m1"][1]])


@settings(max_examples=30)
@given(seed=SEEDS, learning=st.sampled_from(["equal", "error_covariance", "scores", "stacking"]))
def test_numbers_are_averaged(seed, learning):
    outputs, present, y, prior = made_numbers(seed)
    rule = fit_rule("mean", learning, outputs, present, y, prior)
    assert rule.weights.min() >= 0
    assert rule.weights.sum() == pytest.approx(1)
    fused = rule.apply(outputs, present)
    for i, here in enumerate(present):
        said = np.array([outputs[f"m{j}"][i] for j in np.flatnonzero(here)])
        w = rule.weights[here]
        if not here.any():
            expected = prior
        elif w.sum() == 0:
            expected = said.mean()
        else:
            expected = w @ said / w.sum()
        assert fused[i] == pytest.approx(expected)


# --- learned weights -------------------------------------------------------------------------


def forecasts(covariance, n=20_000):
    """Numbers whose errors have a covariance of one's choice, to the last digit."""
    rng = np.random.default_rng(0)
    m = len(covariance)
    noise = rng.normal(size=(n, m))
    noise = np.linalg.solve(np.linalg.cholesky(noise.T @ noise / n), noise.T).T
    errors = noise @ np.linalg.cholesky(covariance).T
    y = rng.normal(size=n)
    return {f"m{i}": y + errors[:, i] for i in range(m)}, np.ones((n, m), bool), y


def test_error_weights_of_independent_errors_are_inverse_variances():
    outputs, present, y = forecasts(np.diag([1.0, 4.0, 0.25]))
    found = weights_by_error(outputs, present, y)
    np.testing.assert_allclose(found, np.array([1, 0.25, 4]) / 5.25, atol=1e-9)


def test_error_weights_of_bates_and_granger():
    # w = (s2^2 - r s1 s2) / (s1^2 + s2^2 - 2 r s1 s2) for s = 1, 2 and r = 0.3
    outputs, present, y = forecasts(np.array([[1, 0.6], [0.6, 4]]))
    found = weights_by_error(outputs, present, y)
    np.testing.assert_allclose(found, np.array([3.4, 0.4]) / 3.8, atol=1e-3)
    # r = 0.8 asks for a weight below 0 of the second
    outputs, present, y = forecasts(np.array([[1, 1.6], [1.6, 4]]))
    np.testing.assert_allclose(weights_by_error(outputs, present, y), [1, 0], atol=1e-9)


def test_few_records_say_little_of_how_errors_go_together():
    covariance = np.array([[1, 0.5, 0.5], [0.5, 1.2, 0.1], [0.5, 0.1, 1.5]])
    exact = np.linalg.solve(covariance, np.ones(3))
    diagonal = 1 / covariance.diagonal()
    exact, diagonal = exact / exact.sum(), diagonal / diagonal.sum()
    for n, nearer, farther in ((20_000, exact, diagonal), (6, diagonal, exact)):
        outputs, present, y = forecasts(covariance, n)
        found = weights_by_error(outputs, present, y)
        assert np.abs(found - nearer).max() < np.abs(found - farther).max()


@settings(max_examples=30)
@given(seed=SEEDS, missing=st.sampled_from([0.0, 0.3]))
def test_stacking_is_the_best_of_all_weights(seed, missing):
    outputs, present, y, _ = made(seed, n=60, missing=missing)
    truth = (y[:, None] == np.arange(4)).astype(float)
    used = present.any(axis=1)
    stacked = []
    for i in range(3):
        average = np.nanmean(np.stack(list(outputs.values()))[:, used], axis=0)
        stacked.append(np.where(present[used, i, None], outputs[f"m{i}"][used], average))

    def loss(w):
        return ((sum(a * b for a, b in zip(w, stacked, strict=True)) - truth[used]) ** 2).sum()

    best = minimize(loss, np.full(3, 1 / 3), bounds=[(0, None)] * 3, tol=1e-12).x
    found = weights_by_stacking(outputs, present, y)
    np.testing.assert_allclose(found, best / best.sum(), atol=2e-3)


def test_weights_by_score_are_what_is_above_nothing():
    y = np.array([0, 0, 0, 1, 1])
    right = np.eye(2)[y]
    outputs = {"all": right, "none": 1 - right, "some": right.copy()}
    outputs["some"][4] = [1, 0]
    present = np.ones((5, 3), bool)
    np.testing.assert_allclose(weights_by_score(outputs, present, y), [2 / 3, 0, 1 / 3])
    present[:, 0] = False
    np.testing.assert_allclose(weights_by_score(outputs, present, y), [0, 0, 1])
    numbers = {"a": np.array([1.0, 2, 3]), "b": np.array([2.0, 2, 2]), "c": np.array([1, 2, 4.0])}
    found = weights_by_score(numbers, np.ones((3, 3), bool), np.array([1.0, 2, 3]))
    np.testing.assert_allclose(found, [2 / 3, 0, 1 / 3])


@pytest.mark.parametrize("learn", [weights_by_error, weights_by_score, weights_by_stacking])
def test_weights_where_there_is_nothing_to_learn(learn):
    outputs, present, y, _ = made(0)
    np.testing.assert_allclose(learn(outputs, np.zeros_like(present), y), 1 / 3)
    perfect = np.eye(4)[y]
    same = {"a": perfect, "b": perfect}
    both = np.ones((len(y), 2), bool)
    np.testing.assert_allclose(learn(same, both, y), 0.5, atol=1e-6)
    np.testing.assert_allclose(learn({"a": perfect}, both[:, :1], y), [1.0])


def test_a_modality_that_no_record_has_gets_no_weight_from_errors_and_scores():
    outputs, present, y, _ = made(2, missing=0)
    present[:, 1] = False
    assert weights_by_error(outputs, present, y)[1] == 0
    assert weights_by_score(outputs, present, y)[1] == 0


def test_learned_weights_prefer_who_knows_more():
    outputs, present, y, _ = made(1, n=2000, missing=0.2)
    for learn in (weights_by_error, weights_by_score, weights_by_stacking):
        found = learn(outputs, present, y)
        assert found[0] < found[1] < found[2]
        assert found.sum() == pytest.approx(1)


# --- the value and its errors ----------------------------------------------------------------


def test_a_rule_comes_back_as_it_was():
    for outputs, present, y, prior in (made(3), made_numbers(3)):
        rule = fit_rule("mean", "stacking", outputs, present, y, prior)
        loaded = DecisionRule.from_json(json.loads(json.dumps(rule.to_json(), sort_keys=True)))
        assert loaded.modalities == rule.modalities
        np.testing.assert_array_equal(loaded.apply(outputs, present), rule.apply(outputs, present))


def test_priors():
    np.testing.assert_allclose(prior_of(np.array([0, 2, 2, 2]), 4), [0.25, 0, 0.75, 0])
    assert math.isclose(prior_of(np.array([1.0, 4.0]), None), 2.5)


def test_what_does_not_fit_says_so():
    outputs, present, y, prior = made(0)
    with pytest.raises(ValueError, match="weights are needed of m0, m1, m2; given: m0"):
        fit_rule("mean", {"m0": 1.0}, outputs, present, y, prior)
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="weights must be numbers of 0 or more"):
            fit_rule("mean", {"m0": 1, "m1": 1, "m2": bad}, outputs, present, y, prior)
    with pytest.raises(ValueError, match="not all of them 0"):
        fit_rule("mean", dict.fromkeys(outputs, 0), outputs, present, y, prior)
    numbers, here, values, mean = made_numbers(0)
    with pytest.raises(ValueError, match="the product rule is for classes"):
        fit_rule("product", "equal", numbers, here, values, mean)
    rule = fit_rule("mean", "equal", outputs, present, y, prior)
    with pytest.raises(ValueError, match=r"present must be bool\[n, 3\]"):
        rule.apply(outputs, present.astype(int))
    with pytest.raises(ValueError, match="m1: the rule needs this modality's outputs"):
        rule.apply({"m0": outputs["m0"]}, present[:, :1])
    with pytest.raises(ValueError, match=r"m1: outputs are \[40, 3\], the rule needs \[40, 4\]"):
        rule.apply({**outputs, "m1": outputs["m1"][:, :3]}, present)
