"""Intervals, paired comparisons and the choice between several ways of learning."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from transforms.learning import comparing, metrics
from transforms.learning.comparing import (
    bootstrap,
    classification_metric,
    compare_folds,
    difference,
    regression_metric,
    simplest_of_the_best,
)

SEEDS = st.integers(0, 10_000)


def classified(seed, n, k=3):
    rng = np.random.default_rng(seed)
    classes = np.array([f"c{i}" for i in range(k)])
    labels = rng.choice([*classes, "unseen"], n)
    return labels, rng.dirichlet(np.ones(k), n), classes


@settings(max_examples=30)
@given(seed=SEEDS, n=st.integers(2, 40))
def test_metrics_of_weighted_rows_are_those_of_repeated_rows(seed, n):
    labels, p, classes = classified(seed, n)
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 3, (4, n))
    counts[:, 0] += 1
    counts[0] = 1
    found = classification_metric(labels, p, classes)(counts.astype(float))
    truth, said = rng.normal(1e3, 1, n), rng.normal(1e3, 1, n)
    numbers = regression_metric(truth, said)(counts.astype(float))
    for i, count in enumerate(counts):
        at = np.repeat(np.arange(n), count)
        expected = metrics.classification(labels[at], p[at], classes)
        for name in ("accuracy", "balanced_accuracy", "log_loss", "brier"):
            assert found[name][i] == pytest.approx(expected[name])
        expected = metrics.regression(truth[at], said[at])
        if expected["r2"] is None:
            assert np.isnan(numbers["r2"][i])
        else:
            assert numbers["r2"][i] == pytest.approx(expected["r2"])
        assert numbers["mae"][i] == pytest.approx(expected["mae"])
        assert numbers["rmse"][i] == pytest.approx(expected["rmse"])


def test_interval_of_a_mean_is_about_students():
    right = (np.arange(400) % 4 > 0).astype(float)

    def accuracy(weights):
        return {"accuracy": (weights * right).sum(axis=1) / weights.sum(axis=1)}

    found = bootstrap(accuracy, 400, draws=4000)
    assert json.loads(json.dumps(found)) == found
    assert (found["units"], found["grouped"]) == (400, False)
    low, high = found["intervals"]["accuracy"]
    reach = 1.966 * np.sqrt(0.75 * 0.25 / 399)
    assert low == pytest.approx(0.75 - reach, abs=0.006)
    assert high == pytest.approx(0.75 + reach, abs=0.006)


def test_groups_are_drawn_whole():
    groups = np.repeat(["a", "b", "c", "d"], [5, 1, 3, 2])
    sizes = []

    def sees(weights):
        for name in "abcd":
            own = weights[:, groups == name]
            assert (own == own[:, :1]).all()
        one_each = np.stack([weights[:, groups == name][:, 0] for name in "abcd"])
        assert (one_each.sum(axis=0) == 4).all()
        sizes.append(weights.sum(axis=1))
        return {"rows": weights.sum(axis=1)}

    found = bootstrap(sees, 11, groups, draws=200)
    assert (found["units"], found["grouped"]) == (4, True)
    assert len(np.unique(np.concatenate(sizes))) > 5


def test_rows_that_go_together_make_intervals_wider():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 20)
    y = rng.normal(size=600)
    said = y + rng.normal(size=30)[groups] + 0.1 * rng.normal(size=600)
    metric = regression_metric(y, said)
    alone = bootstrap(metric, 600)["intervals"]["mae"]
    together = bootstrap(metric, 600, groups)["intervals"]["mae"]
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_few_groups_still_cover_the_truth():
    """Six groups: plain percentile intervals hold the mean in 85 % of data sets."""
    rng = np.random.default_rng(0)
    groups, held = np.repeat(np.arange(6), 2), []
    for seed in range(300):
        values = rng.normal(size=6)[groups]

        def mean(weights, values=values):
            return {"mean": (weights * values).sum(axis=1) / weights.sum(axis=1)}

        low, high = bootstrap(mean, 12, groups, draws=300, seed=seed)["intervals"]["mean"]
        held.append(low <= 0 <= high)
    assert 0.9 < np.mean(held) < 0.99


def test_draws_depend_on_the_seed_alone(monkeypatch):
    labels, p, classes = classified(0, 50)
    metric = classification_metric(labels, p, classes)
    first = bootstrap(metric, 50, seed=3)
    assert bootstrap(metric, 50, seed=4) != first
    monkeypatch.setattr(comparing, "_AT_ONCE", 170)  # three draws at a time
    again = bootstrap(metric, 50, seed=3)
    for name, (low, high) in first["intervals"].items():
        assert again["intervals"][name] == pytest.approx([low, high], rel=1e-12)


def test_intervals_that_are_not_defined():
    equal = regression_metric(np.ones(5), np.zeros(5))
    found = bootstrap(equal, 5)["intervals"]
    assert found["r2"] is None
    assert found["mae"] == [1.0, 1.0]
    one_group = bootstrap(equal, 5, np.zeros(5))
    assert one_group["units"] == 1
    assert one_group["intervals"] == {"r2": None, "mae": None, "rmse": None}


def test_a_paired_interval_is_narrower_than_either():
    rng = np.random.default_rng(0)
    y = rng.normal(size=300)
    base = y + rng.normal(size=300)
    one, other = regression_metric(y, base), regression_metric(y, base + 0.1 * (y > 0))
    alone = bootstrap(one, 300)["intervals"]["mae"]
    both = bootstrap(difference(one, other), 300)["intervals"]["mae"]
    assert both[1] - both[0] < 0.3 * (alone[1] - alone[0])
    same = bootstrap(difference(one, one), 300)["intervals"]["r2"]
    assert same == [0.0, 0.0]


# --- folds -----------------------------------------------------------------------------------


def test_corrected_t_test_by_hand():
    first, second = [0.9, 0.8, 0.85, 0.95, 0.9], [0.85, 0.8, 0.8, 0.85, 0.88]
    found = compare_folds(first, second)
    assert json.loads(json.dumps(found)) == found
    d = np.subtract(first, second)
    error = np.sqrt((1 / 5 + 1 / 4) * d.var(ddof=1))
    assert found["folds"] == 5
    assert (found["ahead"], found["behind"]) == (4, 0)
    assert found["difference"] == pytest.approx(0.044)
    assert found["standard_error"] == pytest.approx(error)
    assert found["p_value"] == pytest.approx(2 * stats.t.sf(0.044 / error, 4))
    assert found["p_value"] > stats.ttest_rel(first, second).pvalue
    low, high = found["interval"]
    assert (low < 0 < high) == (found["p_value"] > 0.05)
    other = compare_folds(second, first)
    assert other["p_value"] == pytest.approx(found["p_value"])
    assert other["interval"] == pytest.approx([-high, -low])


def test_equally_good_models_are_seldom_called_different():
    """Out-of-fold scores of two models that know equally much, on rows that come in groups."""
    rng = np.random.default_rng(0)
    n, k, d = 150, 5, 5
    fold = np.arange(n) % k
    called = []
    for _ in range(200):
        y = rng.integers(0, 2, n)
        scores = []
        for _ in range(2):
            X = rng.normal(size=(n, d)) + rng.normal(0, 0.7, (20, d))[np.arange(n) % 20]
            X[:, 0] += y
            own = []
            for f in range(k):
                t = fold != f
                w = np.linalg.lstsq(np.c_[X[t], np.ones(t.sum())], y[t] - 0.5, rcond=None)[0]
                own.append((((X[~t] @ w[:-1] + w[-1]) > 0) == y[~t]).mean())
            scores.append(own)
        called.append((compare_folds(*scores)["p_value"] or 1.0) < 0.05)
    assert np.mean(called) < 0.07


def test_comparisons_that_are_not_defined():
    assert compare_folds([], [])["difference"] is None
    one = compare_folds([0.9, None], [0.8, 0.7])
    assert (one["folds"], one["p_value"], one["standard_error"]) == (1, None, None)
    same = compare_folds([0.9, 0.8], [0.9, 0.8])
    assert (same["p_value"], same["interval"]) == (1.0, [0.0, 0.0])
    steady = compare_folds([0.75, 0.5], [0.5, 0.25])
    assert (steady["difference"], steady["p_value"]) == (0.25, None)


def test_the_simplest_within_one_standard_error_is_chosen():
    hard, easy = 0.6, 0.9
    contenders = {
        "mean": [hard, easy, hard, easy],
        "concatenate": [hard + 0.05, easy + 0.06, hard + 0.06, easy + 0.05],
        "product": [hard + 0.05, easy + 0.06, hard + 0.05, easy + 0.06],
        "deep": [hard + 0.08, easy + 0.05, hard + 0.06, easy + 0.05],
    }
    found = simplest_of_the_best(contenders, "accuracy")
    assert json.loads(json.dumps(found)) == found
    assert found["best"] == "deep"
    assert found["chosen"] == "concatenate"
    assert [c["within"] for c in found["contenders"]] == [False, True, True, True]
    # The folds differ by 0.3, which is no reason to settle for 0.06 less in each of them.
    assert found["contenders"][0]["standard_error"] < 0.02
    assert found["reason"] == (
        "concatenate is the simplest within one standard error of the best: its mean accuracy "
        "of 0.805 is 0.005 behind that of deep, 0.810, with a standard error of 0.013."
    )


def test_reasons_for_the_best():
    clear = {"a": [0.5, 0.6, 0.5], "b": [0.7, 0.8, 0.71], "c": [0.6, 0.6, 0.6]}
    found = simplest_of_the_best(clear, "accuracy")
    assert found["chosen"] == found["best"] == "b"
    assert found["reason"] == (
        "b has the best mean accuracy, 0.737, and nothing simpler is within one standard error of "
        "it: the nearest, a with 0.533, is 0.203 behind, with a standard error of 0.005."
    )
    found = simplest_of_the_best({"a": [0.9, 0.9], "b": [0.8, 0.7]}, "R2")
    assert found["reason"] == "a has the best mean R2, 0.900, and nothing is simpler."
    assert simplest_of_the_best({"a": [0.9]}, "R2")["reason"] == "a has the best mean R2, 0.900."
    equal = simplest_of_the_best({"a": [0.9, 0.8], "b": [0.9, 0.8]}, "R2")
    assert equal["chosen"] == equal["best"] == "a"
    one_fold = simplest_of_the_best({"a": [0.8], "b": [0.9]}, "R2")
    assert one_fold["chosen"] == "b"


def test_folds_without_a_score_are_left_out():
    found = simplest_of_the_best({"a": [0.1, None, 0.1], "b": [0.9, 0.0, 0.9]}, "R2")
    assert [c["mean"] for c in found["contenders"]] == pytest.approx([0.1, 0.9])
    for nothing in ({}, {"a": [], "b": []}, {"a": [None], "b": [0.5]}):
        with pytest.raises(ValueError, match="nothing to choose from"):
            simplest_of_the_best(nothing, "R2")
