"""Training as a whole: what it reports, what it never sees, what it refuses."""

import json
import warnings
from itertools import combinations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits
from training_sets import LDA, RIDGE, learn, make

from schemas.options.fuse import Average, Concatenate
from schemas.options.models import LdaOptions, LogisticOptions, Models, RidgeOptions
from transforms.learning import linear, training
from transforms.learning.artefacts import model_files

RAW = Concatenate(scale="none")


def test_report_of_a_classification():
    data = make()
    told = []
    result = learn(data, Models(), progress=told.append)
    m = result.metrics
    assert json.loads(json.dumps(m, allow_nan=False)) == m
    assert m["classes"] == result.model.classes.tolist() == ["ant", "bee", "cat"]
    assert m["rows"] == {"train": 120, "test": 30}
    assert m["folds"] == 4
    assert [c["model"] for c in m["candidates"]] == ["logistic"] * 3 + ["lda"]
    assert all(c["converged"] for c in m["candidates"])
    best = max(m["candidates"], key=lambda c: (c["score"], -c["log_loss"]))
    assert [c for c in m["candidates"] if c["chosen"]] == [best]
    assert m["chosen"] == {"model": best["model"], "options": best["options"]}
    assert {c["head"] for c in m["candidates"]} == {"image+audio"}
    assert m["heads"]["image+audio"]["chosen"] == m["chosen"]
    assert m["heads"]["image+audio"]["temperature"] > 0
    assert m["decision"] is None
    cv = m["fused"]["cross_validation"]
    assert cv["accuracy"] > 0.75
    assert [f["fold"] for f in cv["per_fold"]] == [0, 1, 2, 3]
    assert sum(f["rows"] for f in cv["per_fold"]) == cv["rows"] == 120
    scores = [f["accuracy"] for f in cv["per_fold"]]
    assert cv["standard_deviation"] == pytest.approx(np.std(scores, ddof=1))
    assert np.sum(m["fused"]["test"]["confusion"]["matrix"]) == 30
    alone = m["modalities"]
    assert set(alone) == {"image", "audio"}
    accuracy = {k: v["cross_validation"]["accuracy"] for k, v in alone.items()}
    assert accuracy["image"] > accuracy["audio"]
    # Four folds and six pairs of them, of three heads.
    assert told[9] == "image+audio: 10 of 10 fits"
    assert told[29] == "audio: 10 of 10 fits"
    assert len(told) == 31


def test_report_of_a_regression():
    result = learn(make(task="regression"), Models(), "regression")
    m = result.metrics
    assert json.loads(json.dumps(m, allow_nan=False)) == m
    assert m["classes"] is None
    assert result.model.classes is None
    assert [c["options"]["alpha"] for c in m["candidates"]] == [0.1, 1, 10, 100, 1000]
    assert m["heads"]["image+audio"]["temperature"] == 1
    assert m["fused"]["cross_validation"]["r2"] > 0.95
    assert m["fused"]["test"]["r2"] > 0.95
    assert m["modalities"]["audio"]["test"]["r2"] < 0.5
    assert result.predictions.schema.field("prediction").type == "double"
    assert "probabilities" not in result.predictions.column_names


def test_report_of_decisions():
    fuse = Average(method="average", of="decisions")
    m = learn(make(), Models(), fuse=fuse).metrics
    assert json.loads(json.dumps(m, allow_nan=False)) == m
    assert m["chosen"] == {"model": "product rule", "options": {"models": 2}}
    assert [c["head"] for c in m["candidates"]] == ["image"] * 4 + ["audio"] * 4
    for name, head in m["heads"].items():
        own = [c for c in m["candidates"] if c["head"] == name and c["chosen"]]
        assert [{"model": c["model"], "options": c["options"]} for c in own] == [head["chosen"]]
        assert m["modalities"][name]["chosen"] == head["chosen"]
    assert m["decision"]["rule"]["weights"] == [0.5, 0.5]
    m = learn(make(task="regression"), RIDGE, "regression", fuse).metrics
    assert m["chosen"] == {"model": "mean rule", "options": {"models": 2}}


def test_models_named_are_the_ones_compared():
    models = Models(lda=LdaOptions(shrinkage=(0.1, "auto")), logistic=LogisticOptions(C=(5.0, 0.5)))
    m = learn(make(), models).metrics
    assert [next(iter(c["options"].values())) for c in m["candidates"]] == [5.0, 0.5, 0.1, "auto"]
    with pytest.raises(ValueError, match=r"train\.models\.ridge is not for classification"):
        learn(make(), Models(ridge=RidgeOptions()))


def test_whatever_is_fitted_sees_only_its_own_rows():
    data = make()
    learn(data)
    everyone = frozenset(np.flatnonzero(~data.test).tolist())
    folds = [frozenset(np.flatnonzero(data.fold == f).tolist()) for f in range(4)]
    rows = {everyone, *(everyone - f for f in folds)}
    rows |= {everyone - a - b for a, b in combinations(folds, 2)}
    assert set(data.fit.calls) == {
        (some, part) for some in rows for part in ("image+audio", "image", "audio")
    }


def test_test_rows_change_nothing_but_their_own_score():
    data, other = make(), make()
    for block in other.blocks.values():
        block[other.test] = 1000.0
    other.labels[other.test] = "ant"
    a, b = (learn(d, Models()) for d in (data, other))
    assert model_files(a.model) == model_files(b.model)
    assert a.metrics["candidates"] == b.metrics["candidates"]
    assert a.metrics["fused"]["cross_validation"] == b.metrics["fused"]["cross_validation"]
    assert a.metrics["fused"]["test"] != b.metrics["fused"]["test"]


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("widths", [(5, 7), (300, 100)])
def test_the_model_gives_the_predictions_in_the_table(task, widths):
    data = make(task=task, widths=widths)
    result = learn(data, Models(), task)
    table = result.predictions
    assert table["key"].to_pylist() == data.keys.tolist()
    assert table["split"].to_pylist() == np.where(data.test, "test", "train").tolist()
    assert table["fold"].to_pylist() == data.fold.tolist()
    assert table["label"].to_pylist() == data.labels.tolist()
    (head,) = result.model.heads
    assert head.estimator.coef_.shape[-1] == sum(widths)

    with training.judging(data, Models(), task) as heads:
        (part,) = training.tree_of(Concatenate(), data.modalities).heads
    X, _ = heads.problem.data.vectors(~data.test, part)
    predictions, probabilities = result.model.predict(X[data.test], data.present[data.test])
    saved = table.filter(data.test)
    if task == "regression":
        assert probabilities is None
        np.testing.assert_allclose(saved["prediction"].to_numpy(), predictions, rtol=1e-8)
        return
    assert saved["prediction"].to_pylist() == predictions.tolist()
    assert json.loads(table.schema.metadata[b"classes"]) == result.metrics["classes"]
    assert str(table.schema.field("probabilities").type) == "fixed_size_list<item: double>[3]"
    np.testing.assert_allclose(saved["probabilities"].to_pylist(), probabilities, atol=1e-9)
    np.testing.assert_allclose(np.sum(table["probabilities"].to_pylist(), axis=1), 1)


def test_out_of_fold_predictions_come_from_the_other_folds():
    data = make(task="regression")
    table = learn(data, RIDGE, "regression", RAW).predictions
    held = data.fold == 2
    rows = ~data.test & ~held
    X = np.hstack(list(data.blocks.values())).astype(np.float64)
    centred = X[rows] - X[rows].mean(axis=0)
    y = data.labels[rows]
    coef = np.linalg.solve(centred.T @ centred + np.eye(X.shape[1]), centred.T @ (y - y.mean()))
    expected = (X[held] - X[rows].mean(axis=0)) @ coef + y.mean()
    np.testing.assert_allclose(table.filter(held)["prediction"].to_numpy(), expected, rtol=1e-9)


def test_one_modality_is_fused_once():
    data = make(widths=(5,))
    m = learn(data).metrics
    # Without each of four folds, each of six pairs; on all rows, for the fused and for itself.
    assert len(data.fit.calls) == 12
    assert m["modalities"]["image"] == {"chosen": m["chosen"], **m["fused"]}


def test_without_test_rows():
    data = make(test=np.zeros(150, bool), fold=(np.arange(150) % 3).astype(np.int32))
    result = learn(data, Models())
    assert result.metrics["fused"]["test"] is None
    assert result.metrics["modalities"]["audio"]["test"] is None
    assert result.metrics["rows"] == {"train": 150, "test": 0}
    assert set(result.predictions["split"].to_pylist()) == {"train"}


def test_a_class_in_one_fold_only_is_never_predicted_there():
    data = make()
    data.labels[data.labels == "cat"] = "bee"
    data.labels = data.labels.astype(object)
    rare = np.flatnonzero(data.fold == 1)[:2]
    data.labels[rare] = "zebra"
    result = learn(data, Models())
    cv = result.metrics["fused"]["cross_validation"]
    assert cv["confusion"]["labels"] == ["ant", "bee", "zebra"]
    assert cv["confusion"]["matrix"][2][2] == 0
    assert cv["unseen_labels"] == {}
    assert np.isfinite(cv["log_loss"])
    probabilities = np.array(result.predictions["probabilities"].to_pylist())
    # A temperature leaves of 0 what it leaves of the smallest number that counts.
    assert (probabilities[data.fold == 1, 2] < 1e-3).all()
    assert (probabilities[data.fold == 0, 2] > 1e-3).any()


def test_folds_with_one_class_each_can_be_learnt_from():
    data = make()
    data.labels = np.where(data.fold % 2 == 0, "even", "odd")
    data.fold = np.where(data.test, -1, data.fold % 2).astype(np.int32)
    m = learn(data).metrics
    assert m["fused"]["cross_validation"]["accuracy"] == 0
    # Always sure and always wrong: calibrated, no more is said than that both are possible.
    assert m["heads"]["image+audio"]["temperature"] == pytest.approx(1000)
    assert m["fused"]["cross_validation"]["brier"] == pytest.approx(0.5, abs=0.05)


def test_a_label_of_the_test_alone_counts_as_wrong():
    data = make()
    data.labels = data.labels.astype(object)
    strange = np.flatnonzero(data.test)[:3]
    data.labels[strange] = "bat"
    before = learn(make(), Models()).metrics["fused"]["test"]
    after = learn(data, Models()).metrics
    assert after["classes"] == ["ant", "bee", "cat"]
    tested = after["fused"]["test"]
    assert tested["unseen_labels"] == {"bat": 3}
    assert before["unseen_labels"] == {}
    assert tested["confusion"]["labels"] == ["ant", "bee", "cat", "bat"]
    assert sum(tested["confusion"]["matrix"][3][:3]) == 3
    assert tested["accuracy"] <= 27 / 30


def test_constant_features_and_a_modality_that_tells_nothing():
    data = make()
    data.blocks["audio"][:] = 3.0
    m = learn(data, Models()).metrics
    assert m["fused"]["cross_validation"]["accuracy"] > 0.7
    y = data.labels[~data.test]
    most = max((y == c).mean() for c in set(y))
    assert m["modalities"]["audio"]["cross_validation"]["accuracy"] <= most


def test_features_that_are_the_label():
    data = make(widths=(3, 7))
    data.blocks["image"][:] = data.labels[:, None] == ["ant", "bee", "cat"]
    m = learn(data, Models(lda=LdaOptions(shrinkage=("auto", 0.0)))).metrics
    alone = m["modalities"]["image"]
    assert alone["cross_validation"]["accuracy"] == alone["test"]["accuracy"] == 1


def test_the_first_of_equals_is_chosen():
    models = Models(ridge=RidgeOptions(alpha=(3.0, 3.0)))
    m = learn(make(task="regression"), models, "regression").metrics
    assert m["chosen"]["options"] == {"alpha": 3.0}
    assert [c["chosen"] for c in m["candidates"]] == [True, False]
    data = make()
    models = Models(lda=LdaOptions(shrinkage=(0.5, "auto")), logistic=LogisticOptions(C=(1.0,)))
    for block in data.blocks.values():
        block[:] = 0.0  # all that is left is how often each class occurs
    m = learn(data, models).metrics
    assert len({c["score"] for c in m["candidates"]}) == 1
    chosen = next(c for c in m["candidates"] if c["chosen"])
    assert chosen["log_loss"] == min(c["log_loss"] for c in m["candidates"])


def test_a_fold_without_a_score_is_null():
    data = make(task="regression")
    lone = np.flatnonzero(~data.test)[0]
    data.fold[lone] = 9
    cv = learn(data, Models(), "regression").metrics["fused"]["cross_validation"]
    assert cv["per_fold"][-1]["fold"] == 9
    assert cv["per_fold"][-1]["r2"] is None
    assert cv["per_fold"][-1]["mae"] >= 0
    assert cv["standard_deviation"] >= 0


def test_same_result_whatever_the_threads(monkeypatch):
    results = []
    for threads in (1, 2):
        monkeypatch.setattr(training, "_MOST_THREADS", threads)
        with threadpool_limits(threads):
            results.append(learn(make(widths=(200, 40)), Models()))
    one, two = results
    assert one.metrics == two.metrics
    assert one.predictions.equals(two.predictions)
    assert model_files(one.model) == model_files(two.model)


def test_a_solver_that_did_not_arrive_is_reported_and_silent(monkeypatch):
    monkeypatch.setattr(linear, "MAX_ITERATIONS", 5)
    data = make(widths=(60, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        m = learn(data, Models(logistic=LogisticOptions(C=(1.0,)))).metrics
    assert m["candidates"][0]["converged"] is False
    assert m["fused"]["converged"] is False
    assert m["modalities"]["audio"]["converged"] is True


def test_what_cannot_be_learnt_says_so():
    cases = [
        ({"labels": np.full(150, "ant")}, "nothing to learn: every label of the 120 .* is 'ant'"),
        ({"test": np.arange(150) > 0}, "nothing to learn: 1 labelled row for"),
        ({"test": np.ones(150, bool)}, "nothing to learn: 0 labelled rows"),
        ({"fold": np.full(150, 3, np.int32)}, "at least 2 folds, all are in fold 3"),
        ({"fold": np.full(150, -1, np.int32)}, "key 'k0001' is for training but is in no fold"),
    ]
    for changes, message in cases:
        with pytest.raises(ValueError, match=message):
            learn(make(**changes))
    with pytest.raises(ValueError, match=r"every label of the 120 training rows is 2\.5"):
        learn(make(labels=np.full(150, 2.5)), RIDGE, "regression")
    labels = np.arange(150.0)
    labels[7] = np.nan
    with pytest.raises(ValueError, match="the label of key 'k0007' is nan"):
        learn(make(labels=labels), RIDGE, "regression")


def test_fused_vectors_must_be_numbers():
    data = make()
    data.blocks["audio"][:, 3] = np.where(data.test, 3e38, 1e-30 * np.arange(150))
    with pytest.raises(ValueError, match=r"key 'k0000' from image\+audio has values"):
        learn(data, LDA)
    data = make(widths=(5, 0))
    with pytest.raises(ValueError, match="the fused vector of audio has no dimensions"):
        learn(data)


def test_two_rows_are_enough():
    data = make(
        n=2, labels=np.array([1.0, 2.0]), test=np.zeros(2, bool), fold=np.array([0, 1], np.int32)
    )
    table = learn(data, Models(), "regression").predictions
    assert table["prediction"].to_pylist() == [2.0, 1.0]
