"""Columns of numbers: scaled, ranked or as they are, beside scikit-learn."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from tables import column, columns, fit, merged, table, transformed

from schemas.errors import DataError
from transforms.extractors.base import Batch

X = {"x": "number"}
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def gaps(values: np.ndarray, share: float) -> np.ndarray:
    random = np.random.default_rng(9)
    return np.where(random.random(values.shape) < share, np.nan, values)


@pytest.mark.parametrize("scale", ["standard", "rank", "none"])
def test_as_scikit_learn_does(scale: str) -> None:
    random = np.random.default_rng(0)
    values = np.stack(
        [
            random.normal(3, 2, 3000),
            random.lognormal(size=3000),
            random.integers(0, 9, 3000),
            np.where(random.random(3000) < 0.4, 0, random.exponential(size=3000)),
        ],
        axis=1,
    )
    values = gaps(values, 0.1)
    new = gaps(random.normal(2, 9, (500, 4)), 0.2)
    names = dict.fromkeys("abcd", "number")
    # Scaling and ranks are learnt from the values that are there, so only medians come in after.
    learner = {
        "standard": StandardScaler(),
        "rank": QuantileTransformer(n_quantiles=1001, subsample=None),
        "none": StandardScaler(with_mean=False, with_std=False),
    }[scale]
    imputer = SimpleImputer(strategy="median", add_indicator=True).fit(values)
    learner.fit(values)
    extractor = fit(columns(names, scale=scale), pa.table(dict(zip("abcd", values.T, strict=True))))
    for rows in (values, new):
        filled = imputer.transform(rows)
        expected = {c: learner.transform(filled[:, :4])[:, i] for i, c in enumerate("abcd")}
        expected |= {f"{c} is missing": filled[:, 4 + i] for i, c in enumerate("abcd")}
        found = transformed(extractor, pa.table(dict(zip("abcd", rows.T, strict=True))))
        assert found.keys() == expected.keys()
        for name in found:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_large_tables_as_scikit_learn_does() -> None:
    random = np.random.default_rng(1)
    values = random.gamma(2, 3, 60_000)
    whole = pa.table({"x": values})
    parts = [whole.slice(i, 4096) for i in range(0, len(values), 4096)]
    extractor = fit(columns(X, scale="rank"), *parts)
    learner = QuantileTransformer(n_quantiles=1001, subsample=None).fit(values[:, None])
    expected = learner.transform(values[:, None])[:, 0]
    assert np.abs(transformed(extractor, whole)["x"] - expected).max() < 1e-3
    alone = fit(columns(X, scale="none"), *parts)
    missing = transformed(alone, column("number", None))["x"][0]
    assert abs(missing - np.median(values)) < np.median(values) / 256


def test_ranks_are_shares_of_the_training_rows() -> None:
    extractor = fit(columns(X, scale="rank"), column("number", 1, 2, 2, 2, 9, None))
    found = transformed(extractor, column("number", 1, 2, 9, None, -1e300, 1e300, 5.5))
    np.testing.assert_allclose(found["x"], [0, 0.5, 1, 0.5, 0, 1, 0.875], atol=1e-3)
    assert found["x is missing"] == [0, 0, 0, 1, 0, 0, 0]


@given(training=st.lists(FINITE, max_size=20), rows=st.lists(st.one_of(st.none(), FINITE)))
@example(training=[np.finfo(float).max] * 3 + [-1.0], rows=[0.0])
def test_ranks_are_in_order_and_within_0_and_1(
    training: list[float], rows: list[float | None]
) -> None:
    extractor = fit(columns(X, scale="rank"), column("number", *training))
    found = np.array(transformed(extractor, column("number", *rows))["x"])
    assert ((found >= 0) & (found <= 1)).all()
    known = [row for row in rows if row is not None]
    order = np.argsort(known, kind="stable")
    ranks = found[[row is not None for row in rows]][order]
    assert (np.diff(ranks) >= 0).all()


def test_unscaled_numbers_are_as_they_are() -> None:
    extractor = fit(columns(X, scale="none"), column("number", 10.0, 20.0))
    found = transformed(extractor, column("number", 10.0, 0.1, None))
    assert found == {"x": [10, np.float32(0.1), 15]}


def test_scales_of_single_columns() -> None:
    names = dict.fromkeys("abc", "number")
    training = table(names, *((float(i),) * 3 for i in range(5)))
    extractor = fit(columns(names, scale={"b": "rank", "c": "none"}), training)
    found = transformed(extractor, training)
    np.testing.assert_allclose(found["a"], (np.arange(5) - 2) / np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(found["b"], np.arange(5) / 4, atol=1e-3)
    assert found["c"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.1, -3.7e-12])
def test_constant_columns_are_zero(value: float) -> None:
    kinds = {"a": "number", "b": "number"}
    parts = [table(kinds, *[(value, None)] * n) for n in (3, 7, 1)]
    extractor = fit(columns(kinds), *parts)
    found = transformed(extractor, table(kinds, (value, None), (value + 1, 4.0), (None, None)))
    assert found == {"a": [0, 0, 0], "b": [0, 0, 0], "b is missing": [1, 0, 1]}


def test_scaling_is_exact_far_from_zero() -> None:
    values = np.random.default_rng(0).normal(1e6, 1, 20_000)
    whole = pa.table({"x": values})
    extractor = columns(X)
    state = merged(extractor, [whole.slice(0, 1000)])
    for i in range(1000, len(values), 1000):
        state = extractor.merge([state, extractor.partial(Batch(whole.slice(i, 1000)))])
    fitted = extractor.finish(state)
    np.testing.assert_allclose(fitted["numbers/origin"], values.mean(), rtol=1e-14)
    np.testing.assert_allclose(fitted["numbers/unit"], values.std(), rtol=1e-10)
    extractor.load(fitted)
    expected = StandardScaler().fit_transform(values[:, None])
    np.testing.assert_allclose(extractor.transform(Batch(whole)), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scale", ["standard", "none"])
def test_numbers_too_large_for_the_features_fail_their_row(scale: str) -> None:
    kinds = {"a": "number", "b": "number"}
    extractor = fit(columns(kinds, scale=scale), table(kinds, (1.0, 2.0), (2.0, 4.0)))
    batch = Batch(table(kinds, (1.0, 2.0), (2.0, -1e300)))
    out = extractor.transform(batch)
    assert np.isfinite(out[0]).all()
    assert list(batch.failures) == [1]
    assert batch.failures[1].kind == "overflow"
    assert batch.failures[1].message.startswith("b is -1e+300, too ")


def test_training_numbers_too_large_for_moments_end_the_run() -> None:
    kinds = {"a": "number", "b": "number"}
    parts = [table(kinds, (1.0, 1e300)), table(kinds, (2.0, -1e300))]
    extractor = columns(kinds)
    state = merged(extractor, parts)
    with pytest.raises(DataError, match=r"column 'b' has numbers from -1e\+300 to 1e\+300"):
        extractor.finish(state)
    ranked = fit(columns(kinds, scale="rank"), *parts)
    assert transformed(ranked, parts[0]) == {"a": [0], "b": [1]}


def test_ranks_and_medians_are_those_of_a_pipeline_of_scikit_learn() -> None:
    # Where nothing is missing the order of imputing and ranking makes no difference.
    values = np.random.default_rng(4).normal(size=(2000, 1))
    pipeline = make_pipeline(
        SimpleImputer(strategy="median"), QuantileTransformer(n_quantiles=1001, subsample=None)
    )
    expected = pipeline.fit_transform(values)[:, 0]
    rows = pa.table({"x": values[:, 0]})
    found = transformed(fit(columns(X, scale="rank"), rows), rows)["x"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
