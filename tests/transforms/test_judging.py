"""Decisions above heads: against loops over rows, with modalities missing, saved and loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from training_sets import LDA, RIDGE, learn, make, training_set

from schemas.options.fuse import Average, Concatenate, Hierarchical, Node, Weighted
from schemas.options.models import Models
from transforms.fusion.decisions import SMALLEST
from transforms.fusion.strategies import fit_rows as fit_fusion
from transforms.fusion.trees import tree_of
from transforms.learning.artefacts import load_model, model_files
from transforms.learning.calibration import fit_temperature
from transforms.learning.candidates import fit_rows
from transforms.learning.judging import Judged, judge
from transforms.learning.problem import TrainingSet
from transforms.learning.training import judging

MEAN = Average(method="average", of="decisions", rule="mean")
PRODUCT = Average(method="average", of="decisions", rule="product")
GIVEN = {"image": 3.0, "audio": 1.0, "text": 0.0}


def weighted(weights: Any, rule: str) -> Weighted:
    return Weighted(method="weighted", of="decisions", weights=weights, rule=rule)


def tree(*parts: Any, **options: Any) -> Node:
    return Node(parts=list(parts), **options)


def hierarchical(*parts: Any, **options: Any) -> Hierarchical:
    return Hierarchical(method="hierarchical", tree=tree(*parts, of="decisions", **options))


FUSES = {
    "mean": MEAN,
    "product": PRODUCT,
    "given, mean": weighted(GIVEN, "mean"),
    "given, product": weighted(GIVEN, "product"),
    "stacking": weighted("stacking", "mean"),
    "errors": weighted("error_covariance", "product"),
    "scores": weighted("scores", "product"),
    "features below": hierarchical(tree("image", "text", dimension=3), "audio"),
    "decisions below": hierarchical(tree("image", "audio", of="decisions", rule="mean"), "text"),
    "side by side": Concatenate(),
    "components": Concatenate(pca=2),
}


def three(task: str = "classification", n: int = 150, lost: float = 0.3) -> TrainingSet:
    """Three modalities of which a third is missing, and ten rows that have none."""
    data = make(n=n, widths=(4, 5, 3), task=task)
    rng = np.random.default_rng(5)
    data.present[:] = rng.random(data.present.shape) >= lost
    data.present[20:30] = False
    return data


def judged_of(data: TrainingSet, fuse: Any, models: Models = LDA, task: Any = None) -> Judged:
    with judging(data, models, task or "classification") as heads:
        return judge(heads, tree_of(fuse, data.modalities))


# --- against loops ---------------------------------------------------------------------------


def naive_decision(
    said: list[np.ndarray], here: np.ndarray, weights: list[float], prior: np.ndarray, rule: str
) -> np.ndarray:
    """Kittler et al. 1998, row by row and class by class."""
    out = np.zeros((len(here), len(prior)))
    for i, row in enumerate(here):
        there = [m for m in range(len(said)) if row[m]]
        if not there:
            out[i] = prior
            continue
        shares = np.array([weights[m] for m in there], float)
        if not shares.any():
            shares[:] = 1
        shares /= shares.sum()
        for c in range(len(prior)):
            if rule == "mean":
                out[i, c] = sum(w * said[m][i, c] for w, m in zip(shares, there, strict=True))
            else:
                out[i, c] = prior[c]
                for w, m in zip(shares * len(there), there, strict=True):
                    out[i, c] *= (max(said[m][i, c], SMALLEST) / prior[c]) ** w
        out[i] /= out[i].sum()
    return out


def naive_head(data: TrainingSet, name: str, y: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """One modality, scaled and modelled on the rows that have it; the prior for other rows."""
    here = data.present[:, data.modalities.index(name)]
    known, X = rows & here, data.blocks[name].astype(np.float64)
    X = ((X - X[known].mean(axis=0)) / X[known].std(axis=0)).astype(np.float32)
    with judging(data, LDA, "classification") as heads:
        (fitted,) = fit_rows(heads.candidates, X[known], y[known])
    out = np.tile(np.bincount(y[rows], minlength=3) / rows.sum(), (len(y), 1))
    out[here] = fitted.estimator.predict_proba(X[here].astype(np.float64))
    return out


def naive(data: TrainingSet, rule: str, weights: dict[str, float]) -> np.ndarray:
    """Nested cross-validation of equal or given weights, fold by fold."""
    y = np.unique(data.labels, return_inverse=True)[1]
    names, train = data.modalities, ~data.test
    output = np.zeros((len(y), 3))
    own = [weights[name] for name in names]
    for fold in range(4):
        held, rest = data.fold == fold, train & (data.fold != fold)
        prior = np.bincount(y[rest], minlength=3) / rest.sum()
        once, twice = [], []
        for i, name in enumerate(names):
            here = data.present[:, i]
            seen = np.zeros((len(y), 3))
            for other in set(range(4)) - {fold}:
                model = naive_head(data, name, y, rest & (data.fold != other))
                seen[data.fold == other] = model[data.fold == other]
            heat = fit_temperature(seen[rest & here], y[rest & here], prior)
            for said, raw in ((twice, seen), (once, naive_head(data, name, y, rest))):
                hot = raw.copy()
                hot[here] = heat.apply(np.maximum(raw[here], 1e-300))
                said.append(hot)
        any_here = data.present.any(axis=1)
        seen = naive_decision(twice, data.present, own, prior, rule)
        heat = fit_temperature(seen[rest & any_here], y[rest & any_here])
        found = naive_decision(once, data.present, own, prior, rule)
        found[any_here] = heat.apply(found[any_here])
        output[held] = found[held]
    return output


@pytest.mark.parametrize("rule", ["mean", "product"])
@pytest.mark.parametrize("weights", [None, GIVEN], ids=["equal", "given"])
def test_nested_decisions_are_those_of_a_loop(rule: Any, weights: Any) -> None:
    data = three(n=100)
    fuse = weighted(weights, rule) if weights else Average(method="average", of="decisions")
    fuse = fuse.model_copy(update={"rule": rule})
    found = judged_of(data, fuse).output[~data.test]
    expected = naive(data, rule, weights or dict.fromkeys(data.modalities, 1.0))[~data.test]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_decisions_of_decisions_are_those_of_a_loop() -> None:
    data = three()
    judged = judged_of(data, FUSES["decisions below"])
    rng = np.random.default_rng(0)
    said = {name: rng.dirichlet(np.ones(3), 150) for name in data.modalities}
    here = {name: data.present[:, i] for i, name in enumerate(data.modalities)}
    decision = judged.decision
    assert decision is not None
    (below,) = decision.parts
    both = data.present[:, :2]
    inner = naive_decision([said["image"], said["audio"]], both, [1, 1], below.rule.prior, "mean")
    inner[both.any(axis=1)] = below.temperature.apply(inner[both.any(axis=1)])
    top = np.stack([both.any(axis=1), data.present[:, 2]], axis=1)
    outer = naive_decision([inner, said["text"]], top, [1, 1], decision.rule.prior, "product")
    outer[top.any(axis=1)] = decision.temperature.apply(outer[top.any(axis=1)])
    np.testing.assert_allclose(decision.apply(said, here), outer, rtol=1e-9)


# --- who has nothing to say ------------------------------------------------------------------


@pytest.mark.parametrize("fuse", FUSES.values(), ids=FUSES)
def test_a_row_without_modalities_gets_the_prior(fuse: Any) -> None:
    data = three()
    result = learn(data, LDA, fuse=fuse)
    said = np.array(result.predictions["probabilities"].to_pylist())
    y = np.unique(data.labels, return_inverse=True)[1]
    nothing = ~data.present.any(axis=1)
    assert 0 < (nothing & data.test).sum() < nothing.sum()
    for rows, known in (
        (nothing & data.test, ~data.test),
        *((nothing & (data.fold == f), ~data.test & (data.fold != f)) for f in range(4)),
    ):
        prior = np.bincount(y[known], minlength=3) / known.sum()
        np.testing.assert_allclose(said[rows], np.tile(prior, (rows.sum(), 1)), rtol=1e-9)
    probabilities = result.model.predict(
        np.full((2, result.model.heads[-1].stop), np.nan, np.float32), np.zeros((2, 3), bool)
    )[1]
    np.testing.assert_allclose(probabilities, np.tile(said[nothing & data.test][0], (2, 1)))


def test_a_number_without_modalities_is_the_mean_label() -> None:
    data = three("regression")
    table = learn(data, RIDGE, "regression", MEAN).predictions
    nothing = ~data.present.any(axis=1) & data.test
    expected = np.asarray(data.labels)[~data.test].mean()
    np.testing.assert_allclose(table.filter(nothing)["prediction"].to_numpy(), expected)


def test_models_of_a_modality_see_only_rows_that_have_it() -> None:
    data, other = three(), three()
    lacks = ~other.present[:, 1]
    other.blocks["audio"][lacks] = np.nan
    a, b = (judged_of(d, PRODUCT).output for d in (data, other))
    np.testing.assert_array_equal(a, b)


# --- the model is what was trained -----------------------------------------------------------


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("fuse", FUSES.values(), ids=FUSES)
def test_a_loaded_model_says_of_test_rows_what_training_said(fuse: Any, task: Any) -> None:
    data = three(task)
    result = learn(data, LDA if task == "classification" else RIDGE, task, fuse)
    names = {m: [f"x{i}" for i in range(b.shape[1])] for m, b in data.blocks.items()}
    whole = tree_of(fuse, data.modalities)
    fusion = fit_fusion(whole, "mean", data.blocks, data.present, ~data.test, names)
    X = fusion.apply(data.blocks, data.present)
    model = load_model(model_files(result.model).__getitem__)
    slices = {head.name: (head.start, head.stop) for head in model.heads}
    assert slices == fusion.of_heads()
    predicted, probabilities = model.predict(X, data.present)
    table = result.predictions
    saved = np.array(table["prediction"].to_pylist())[data.test]
    if task == "regression":
        assert probabilities is None
        np.testing.assert_allclose(predicted[data.test], saved, rtol=1e-6)
        return
    assert probabilities is not None
    assert predicted[data.test].tolist() == saved.tolist()
    said = np.array(table["probabilities"].to_pylist())[data.test]
    np.testing.assert_allclose(probabilities[data.test], said, atol=1e-6)
    none = model.predict(X[:0], data.present[:0])
    assert none[0].shape == (0,)
    assert none[1] is not None
    assert none[1].shape == (0, 3)


# --- what decisions are worth ----------------------------------------------------------------


@pytest.mark.parametrize("fuse", [MEAN, PRODUCT, FUSES["scores"], FUSES["decisions below"]])
def test_rare_classes_are_not_guessed_by_models_that_know_nothing(fuse: Any) -> None:
    rng = np.random.default_rng(1)
    n = 200
    rare = rng.random(n) < 0.15
    blocks = {m: rng.normal(size=(n, d)) for m, d in (("image", 100), ("audio", 60), ("text", 30))}
    data = training_set(blocks, np.where(rare, "rare", "usual"), folds=5)
    output = judged_of(data, fuse).output[~data.test]
    usual = ~rare[~data.test]
    assert (output.argmax(axis=1) == usual).mean() > usual.mean() - 0.03
    loss = -np.log(output[np.arange(len(usual)), usual.astype(int)]).mean()
    prior = -(np.log(usual.mean()) * usual.mean() + np.log(1 - usual.mean()) * (1 - usual.mean()))
    assert loss < prior + 0.03


def test_weights_follow_what_modalities_are_worth() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    blocks = {
        "image": rng.normal(size=(300, 3)) + 2 * np.eye(3)[y],
        "audio": rng.normal(size=(300, 3)) + 1 * np.eye(3)[y],
        "text": rng.normal(size=(300, 3)),
    }
    data = training_set(blocks, np.array(["a", "b", "c"])[y])
    for learned in ("scores", "stacking", "error_covariance"):
        decision = judged_of(data, weighted(learned, "mean")).decision
        assert decision is not None
        image, audio, text = decision.rule.weights
        assert image > audio > text >= 0
        assert text < 0.2
