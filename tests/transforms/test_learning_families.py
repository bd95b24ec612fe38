"""The families beside logistic regression, LDA and ridge, against scikit-learn's own fits."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.calibration import cross_val_predict
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits
from training_sets import rows

from schemas.options.models import Models
from transforms.learning.calibration import best_scale
from transforms.learning.candidates import Candidate, candidates_of, fit_rows

SHAPES = [(120, 8), (60, 90)]
EVERY = [
    Candidate("logistic", {"C": 0.1}),
    Candidate("lda", {"shrinkage": "auto"}),
    Candidate("naive_bayes", {"smoothing": 1e-9}),
    Candidate("qda", {"components": 5, "shrinkage": 0.3}),
    Candidate("gaussian", {"shrinkage": 0.3}),
    Candidate("svm", {"C": 0.1}),
    Candidate("kernel", {"C": 1.0, "gamma": 1.0}),
    Candidate("boosting", {"learning_rate": 0.1, "iterations": 5, "leaves": 4}),
]


def fitted(model, X, y, fold=None, **options):
    (result,) = fit_rows([Candidate(model, options)], X, y, fold)
    assert result.converged
    assert result.estimator.n_features_in_ == X.shape[1]
    return result.estimator


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("smoothing", [1e-9, 0.1])
def test_naive_bayes_is_that_of_scikit_learn(shape, k, smoothing):
    X, y, Z = rows(*shape, k)
    model = fitted("naive_bayes", X, y, smoothing=smoothing)
    expected = GaussianNB(var_smoothing=smoothing).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(model.predict_proba(Z), expected.predict_proba(Z), atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("components", [3, 7])
def test_qda_is_that_of_scikit_learn_on_whitened_components(shape, k, components):
    X, y, Z = rows(*shape, k)
    options = {"components": components, "shrinkage": 0.2}
    model = fitted("qda", X, y, **options)
    n = len(X)
    pca = PCA(components, whiten=True, svd_solver="full").fit(X.astype(np.float64))
    pca.explained_variance_ *= (n - 1) / n  # it divides by n - 1
    dense = make_pipeline(pca, QuadraticDiscriminantAnalysis(reg_param=0.2))
    whitened = pca.transform(X.astype(np.float64))
    dense[1].fit(whitened, y)
    # Until 1.8 scikit-learn divided by the count less 1 here; what is compared is the count.
    for c in range(k):
        own = whitened[y == c] - whitened[y == c].mean(axis=0)
        values, vectors = np.linalg.eigh(own.T @ own / len(own))
        dense[1].scalings_[c], dense[1].rotations_[c] = 0.8 * values + 0.2, vectors
    np.testing.assert_allclose(model.predict_proba(Z), dense.predict_proba(Z), atol=1e-8)


def test_qda_tells_apart_what_no_line_can():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2)).astype(np.float32)
    y = ((X**2).sum(axis=1) > 1.4).astype(int)
    model = fitted("qda", X, y, components=2, shrinkage=0.01)
    assert (model.predict(X) == y).mean() > 0.9 > 0.7 > max(y.mean(), 1 - y.mean())


def test_qda_with_fewer_rows_than_components():
    X, y, Z = rows(40, 30, 3)
    y[y == 2] = 1
    y[7] = 2  # one row of its class
    for shrinkage in (0.0, 0.1, 1.0):
        model = fitted("qda", X, y, components=100, shrinkage=shrinkage)
        p = model.predict_proba(Z)
        assert np.isfinite(p).all()
        np.testing.assert_allclose(p.sum(axis=1), 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [2, 4])
def test_svm_is_liblinears_with_one_scale(shape, k):
    X, y, Z = rows(*shape, k)
    fold = (np.arange(len(X)) % 3).astype(np.int32)
    model = fitted("svm", X, y, fold, C=0.05)
    mean = X.mean(axis=0, dtype=np.float64)
    T = X.astype(np.float64) - mean
    machine = LinearSVC(C=0.05, dual=False, tol=1e-8, max_iter=10_000)
    held = cross_val_predict(machine, T, y, cv=PredefinedSplit(fold), method="decision_function")
    logits = np.stack([-held / 2, held / 2], axis=1) if k == 2 else held
    scale = best_scale(logits, y)
    decision = machine.fit(T, y).decision_function(Z - mean)
    expected = softmax(scale * decision, axis=1) if k > 2 else expit(scale * decision)
    found = model.predict_proba(Z)
    np.testing.assert_allclose(found if k > 2 else found[:, 1], expected, atol=2e-3)
    np.testing.assert_array_equal(model.predict(Z), machine.predict(Z - mean))


def test_svm_arrives_where_all_rows_keep_their_distance():
    X = np.random.default_rng(0).normal(size=(60, 120)) * np.geomspace(1, 100, 120)
    fitted("svm", X.astype(np.float32), np.arange(60) % 3, C=0.1)  # not with the primal solver


def test_svm_without_folds_deals_rows_out_by_class():
    X, y, Z = rows(100, 5, 4)
    model = fitted("svm", X, y, C=1.0)
    same = fitted("svm", X, y, np.zeros(100, np.int32), C=1.0)  # one fold is none
    np.testing.assert_array_equal(model.predict_proba(Z), same.predict_proba(Z))
    order = np.argsort(y, kind="stable")
    fold = np.empty(100, np.int32)
    fold[order] = np.arange(100) % 5
    same = fitted("svm", X, y, fold, C=1.0)
    np.testing.assert_array_equal(model.predict_proba(Z), same.predict_proba(Z))


def test_svm_with_classes_that_folds_lack():
    X, y, Z = rows(60, 5, 3)
    y[y == 2] = 1
    y[[3, 4]] = 2
    lacking = np.where(y == 2, 0, 1).astype(np.int32)  # the other fold never sees class 2
    each = y.astype(np.int32)  # and here a fold is a class
    two = np.where(y == 0, 0, 1).astype(np.int32)
    for fold in (lacking, each, two, None):
        p = fitted("svm", X, y, fold, C=0.1).predict_proba(Z)
        assert np.isfinite(p).all()
        np.testing.assert_allclose(p.sum(axis=1), 1)


def test_svm_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 6)).astype(np.float32)
    y = (rng.random(4000) < expit(1.5 * X[:, 0] - X[:, 1])).astype(int)
    p = fitted("svm", X[:2000], y[:2000], C=1.0).predict_proba(X[2000:].astype(np.float64))[:, 1]
    for low in (0.1, 0.3, 0.5, 0.7):
        near = (p >= low) & (p < low + 0.2)
        assert y[2000:][near].mean() == pytest.approx(p[near].mean(), abs=0.06)


@pytest.fixture
def one_thread():
    with threadpool_limits(1, user_api="openmp"):
        yield


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [2, 3])
def test_boosting_is_that_of_scikit_learn(shape, k):
    X, y, Z = rows(*shape, k)
    model = fitted("boosting", X, y, learning_rate=0.2, iterations=8, leaves=4)
    given = {"learning_rate": 0.2, "max_iter": 8, "max_leaf_nodes": 4, "early_stopping": False}
    expected = HistGradientBoostingClassifier(**given).fit(X.astype(np.float64), y)
    np.testing.assert_array_equal(model.predict_proba(Z), expected.predict_proba(Z))
    number = X[:, 0].astype(np.float64)
    model = fitted("boosting", X, number, learning_rate=0.2, iterations=8, leaves=4)
    expected = HistGradientBoostingRegressor(**given).fit(X.astype(np.float64), number)
    np.testing.assert_array_equal(model.predict(Z), expected.predict(Z))


def test_boosting_learns_what_no_line_can():
    X = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    model = fitted("boosting", X[:400], y[:400], learning_rate=0.1, iterations=60, leaves=8)
    assert (model.predict(X[400:].astype(np.float64)) == y[400:]).mean() > 0.85


@pytest.mark.parametrize("candidate", EVERY, ids=lambda c: c.model)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_fit_does_not_depend_on_threads_or_chance(candidate, shape):
    X, y, Z = rows(*shape, 3)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="openmp"):
            np.random.seed(threads)
            found.append(fit_rows([candidate], X, y)[0].estimator.predict_proba(Z))
    np.testing.assert_array_equal(*found)


# --- balanced classes ------------------------------------------------------------------------


@pytest.mark.parametrize("candidate", EVERY, ids=lambda c: c.model)
def test_balanced_classes_help_the_rare(candidate):
    rng = np.random.default_rng(0)
    y = (rng.random(600) < 0.08).astype(int)
    X = (rng.normal(size=(600, 4)) + 1.5 * np.outer(y, [1, 0, 0, 0])).astype(np.float32)
    Z = rng.normal((1.5, 0, 0, 0), 1, (200, 4))
    balanced = Candidate(candidate.model, {**candidate.options, "class_weight": "balanced"})
    plain, even = (f.estimator for f in fit_rows([candidate, balanced], X, y))
    recall, better = (plain.predict(Z) == 1).mean(), (even.predict(Z) == 1).mean()
    assert better > 0.6
    assert better > recall + 0.3


def test_balanced_logistic_regression_is_that_of_scikit_learn():
    X, _, Z = rows(60, 90, 3)
    y = np.array([0] * 40 + [1] * 15 + [2] * 5)
    model = fitted("logistic", X, y, C=0.1, class_weight="balanced")
    dense = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8, max_iter=5000)
    dense.fit(X.astype(np.float64), y)
    np.testing.assert_allclose(model.predict_proba(Z), dense.predict_proba(Z), atol=5e-3)


def test_balanced_classes_of_a_likelihood_have_equal_priors():
    X, _, Z = rows(60, 8, 3)
    y = np.array([0] * 40 + [1] * 15 + [2] * 5)
    for c in EVERY[1:5]:
        plain, even = (
            fitted(c.model, X, y, **c.options, **more)
            for more in ({}, {"class_weight": "balanced"})
        )
        odds = plain.predict_proba(Z) / np.array([40, 15, 5])
        expected = odds / odds.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(even.predict_proba(Z), expected, atol=1e-8)


# --- all families ----------------------------------------------------------------------------


@pytest.mark.parametrize("candidate", EVERY, ids=lambda c: c.model)
@pytest.mark.parametrize("shape", [(30, 6), (30, 60)])
def test_output_is_finite_where_features_are_odd(candidate, shape):
    X, y, Z = rows(*shape, 3)
    constant = np.full_like(X, 7)
    some = X.copy()
    some[:, ::2] = -2
    alike = np.ones_like(X) * y[:, None]  # all rows of a class are the same
    for odd in (constant, some, alike, X * 1e6, X * 1e-6):
        p = fit_rows([candidate], odd, y)[0].estimator.predict_proba(Z)
        assert np.isfinite(p).all()
        # Without any variance within classes, naive Bayes normalises numbers of 1e9.
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.filterwarnings("ignore:(?i).*line search")
def test_a_logistic_regression_that_does_not_arrive_says_so(k):
    X, y, _ = rows(300, 20, k)
    y = np.where(np.arange(300) % 5 == 0, (y + 1) % k, y)  # no plane parts them
    for weight in (None, "balanced"):
        candidate = Candidate("logistic", {"C": 1.0, "class_weight": weight})
        near, far = (fit_rows([candidate], X * scale, y)[0] for scale in (1, 1e8))
        assert near.converged
        assert not far.converged


def test_rows_of_one_class():
    X, _, Z = rows(20, 5, 2)
    fits = fit_rows(EVERY, X, np.full(20, 3))
    for one in fits:
        assert one.estimator.classes_.tolist() == [3]
        np.testing.assert_array_equal(one.estimator.predict_proba(Z), 1)


def test_fits_come_in_the_order_of_the_candidates():
    X, y, Z = rows(60, 90, 3)
    turned = EVERY[::-1] + EVERY[:2]
    for candidate, found in zip(turned, fit_rows(turned, X, y), strict=True):
        (alone,) = fit_rows([candidate], X, y)
        np.testing.assert_allclose(
            found.estimator.predict_proba(Z), alone.estimator.predict_proba(Z), atol=1e-12
        )


def test_candidates_are_all_combinations():
    models = Models.model_validate(
        {"qda": {"components": [4, 8], "shrinkage": [0.1, 0.2]}, "svm": {"C": [1]}}
    )
    assert [c.options for c in candidates_of(models, "classification")] == [
        {"components": 4, "shrinkage": 0.1},
        {"components": 4, "shrinkage": 0.2},
        {"components": 8, "shrinkage": 0.1},
        {"components": 8, "shrinkage": 0.2},
        {"C": 1},
    ]
    balanced = Models.model_validate({"logistic": {"C": [1], "class_weight": "balanced"}})
    (one,) = candidates_of(balanced, "classification")
    assert one == Candidate("logistic", {"class_weight": "balanced", "C": 1})


def test_which_model_is_for_which_task():
    everything = Models.model_validate(dict.fromkeys(Models.model_fields))
    for name in Models.model_fields:
        only = Models(**{name: getattr(everything, name)})
        task, other = "classification", "regression"
        if name == "ridge":
            task, other = other, task
        assert {c.model for c in candidates_of(only, task)} == {name}
        if name == "boosting":
            assert {c.model for c in candidates_of(only, other)} == {name}
            continue
        with pytest.raises(ValueError, match=rf"train\.models\.{name} is not for {other}"):
            candidates_of(only, other)
