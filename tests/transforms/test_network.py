"""The network of `deep`: both forward passes, what it can learn, and what it must not see."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import networks
import numpy as np
import pytest
from networks import FOLDS, fit, out_of_fold, outputs, rows_of, vectors
from scipy.special import expit
from scipy.special import softmax as softmax_of
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict

from schemas.errors import DataError
from schemas.options.fuse import Deep
from transforms.fusion.fitted import fusion_of
from transforms.fusion.network import Network, network_bytes, network_from, normalised
from transforms.learning.dataset import LabelledRows
from transforms.learning.network.jobs import Job, jobs_of
from transforms.learning.network.survey import Sight, survey

DEEP = Deep(method="deep", dimension=16)
SINGLES = [Job((fold,)) for fold in range(FOLDS)]


def softmax(said: np.ndarray) -> np.ndarray:
    """float64[n, k], of each row."""
    return np.asarray(softmax_of(said, axis=1))


def product() -> LabelledRows:
    """The number is the product of two modalities' only numbers, a quarter of which are gone."""
    rng = np.random.default_rng(2)
    blocks = {name: rng.normal(50, 5, (900, 1)) for name in ("a", "head")}
    label = ((blocks["a"] - 50) * (blocks["head"] - 50))[:, 0] * 40 + 1e6
    return rows_of(blocks, label)


def leaking(fold_0: bool = False) -> LabelledRows:
    """Labels by chance, many dimensions; `fold_0`: the labels of that fold turned round."""
    rng = np.random.default_rng(3)
    blocks = {name: rng.normal(size=(180, 300)) for name in ("a", "b")}
    code = rng.integers(0, 2, 180)
    if fold_0:
        code = np.where(np.arange(180) % FOLDS == 0, 1 - code, code)
    present = rng.random((180, 2)) < 0.8
    present[~present.any(axis=1), 0] = True
    return rows_of(blocks, np.array(["x", "y"])[code], present=present)


QUICK = DEEP.model_copy(update={"epochs": 8})


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, Future[Any]]]:
    """What takes JAX, in two processes side by side."""
    with networks.processes(2) as pool:
        yield {
            "quick": pool.submit(fit, networks.xor(), QUICK, [Job()]),
            "moved": pool.submit(networks.moved),
        }


@pytest.fixture(scope="module")
def learnt() -> Iterator[dict[str, Future[Any]]]:
    """The same of what takes longer."""
    attention = DEEP.model_copy(update={"pooling": "attention"})
    quickly = QUICK.model_copy(update={"pooling": "attention"})
    alone = QUICK.model_copy(update={"auxiliary": 0.0})
    with networks.processes(2) as pool:
        yield {
            "numbers": pool.submit(fit, product(), quickly, [Job()]),
            "without heads": pool.submit(fit, networks.xor(), alone, [Job()]),
            "xor": pool.submit(fit, networks.xor(), DEEP, SINGLES),
            "product": pool.submit(fit, product(), attention, SINGLES),
            "leaking": pool.submit(networks.both, fit, leaking(), leaking(True), QUICK, SINGLES),
            "agreement": pool.submit(networks.both, networks.agreement, "gated", "attention"),
        }


@pytest.mark.slow
def test_the_workers_pass_agrees_with_that_of_training(learnt: Any) -> None:
    assert max(learnt["agreement"].result()) <= 1e-5


@pytest.mark.slow
def test_the_exclusive_or_of_two_modalities_is_learnt(learnt: Any) -> None:
    rows = networks.xor()
    said = out_of_fold(rows, learnt["xor"].result()).argmax(axis=1)
    right = np.array(["other", "same"])[said] == rows.labels
    X = np.hstack(list(rows.blocks.values()))
    plain = cross_val_predict(LogisticRegression(), X, rows.labels, cv=FOLDS) == rows.labels
    assert plain.mean() < 0.6
    assert right.mean() > 0.9


@pytest.mark.slow
def test_numbers_of_one_dimension_and_far_from_0(learnt: Any) -> None:
    rows = product()
    said = out_of_fold(rows, learnt["product"].result())[:, 0]

    def r2(values: np.ndarray) -> float:
        return float(1 - np.square(values - rows.labels).sum() / rows.labels.var() / len(values))

    X = np.hstack(list(rows.blocks.values()))
    assert r2(cross_val_predict(Ridge(), X, rows.labels, cv=FOLDS)) < 0.1
    assert r2(said) > 0.7


@pytest.mark.slow
def test_what_is_held_out_is_not_seen(learnt: Any) -> None:
    rows = leaking()
    fitted, again = learnt["leaking"].result()
    said = out_of_fold(rows, fitted).argmax(axis=1)
    assert abs((np.array(["x", "y"])[said] == rows.labels).mean() - 0.5) < 0.13
    # Other labels of fold 0: the same bytes of what has not seen them.
    same = [
        network_bytes(a.network) == network_bytes(b.network)
        for a, b in zip(fitted, again, strict=True)
    ]
    assert same == [True, False, False]


@pytest.mark.slow
def test_files_rows_and_missing_modalities(found: Any) -> None:
    # Of classes, the fused vector has what the modalities' heads say of each, too.
    look_at(found["quick"].result()[0].network, networks.xor(), width=18)


@pytest.mark.slow
def test_the_same_of_numbers(learnt: Any) -> None:
    look_at(learnt["numbers"].result()[0].network, product(), width=16)


def look_at(network: Network, rows: LabelledRows, width: int) -> None:
    again = network_from(network_bytes(network))
    assert network_bytes(again) == network_bytes(network)
    whole = vectors(again, rows)
    alone = np.concatenate([vectors(again, rows.take(np.array([i]))) for i in (0, 7, 899)])
    assert (whole[[0, 7, 899]] == alone).all()
    # Of what is missing nothing is looked at, and all of it may be missing.
    there = rows.present.copy()
    there[:, 1] = False
    gone = replace(rows, present=there, blocks=dict(rows.blocks))
    assert np.isfinite(vectors(again, replace(rows, present=there & False))).all()
    gone.blocks["head"] = np.full_like(gone.blocks["head"], np.nan)
    fused = fusion_of(again.of(("a",))).apply(rows.blocks, rows.present)
    assert (fused == vectors(again, gone).astype(np.float32)).all()
    assert np.abs(whole - vectors(again, gone)).max() > 0.1
    assert fusion_of(again).slices == {"a+head": (0, width)}
    assert np.isfinite(outputs(again, rows)).all()


@pytest.mark.slow
def test_other_files_and_those_of_another_version_are_refused(found: Any) -> None:
    with pytest.raises(ValueError, match="not a network"):
        network_from(b"nothing of the kind")
    network = found["quick"].result()[0].network
    older = {n: a for n, a in network.weights.items() if not n.startswith("modalities/head/hidden")}
    with pytest.raises(ValueError, match="no array modalities/head/hidden/weights: another ver"):
        network_from(network_bytes(replace(network, weights=older)))


@pytest.mark.slow
def test_the_posterior_is_the_geometric_mean_of_the_heads(found: Any) -> None:
    rows = networks.xor()
    network = found["quick"].result()[0].network
    w, there = network.weights, rows.present.copy()
    there[::3, 0] = False
    there[1::3, 1] = False
    rows = replace(rows, present=there)
    posteriors = [softmax(vectors(network, rows)[:, :16] @ w["head/weights"] + w["head/bias"])]
    for i, name in enumerate(rows.blocks):
        m = {n.removeprefix(f"modalities/{name}/"): a for n, a in w.items()}
        token = normalised(
            ((rows.blocks[name] - m["shift"]) * m["factor"]) @ m["weights"] + m["bias"]
        )
        hidden = token @ m["hidden/weights"] + m["hidden/bias"]
        hidden = hidden * expit(hidden)
        token = normalised(token + hidden @ m["out/weights"] + m["out/bias"])
        token = token * m["gain"] + m["embedding"]
        own = softmax(token @ m["head/weights"] + m["head/bias"])
        posteriors.append(np.where(there[:, [i]], own, 1))
    joint, *own = np.log(posteriors)
    expected = softmax((joint + sum(own) / there.sum(axis=1, keepdims=True)) / 2)
    assert np.abs(softmax(outputs(network, rows)) - expected).max() < 1e-6


@pytest.mark.slow
def test_heads_that_were_not_trained_are_not_asked(learnt: Any) -> None:
    network = learnt["without heads"].result()[0].network
    assert network.width == 16
    assert network.joint_head()[0].shape == (2, 16)


@pytest.mark.slow
def test_what_is_rare_is_not_learnt_as_fast_as_what_is_frequent(found: Any) -> None:
    frequent, rare = found["moved"].result()
    assert 0 < rare < 0.2 * frequent


def test_jobs_are_what_cross_validation_asks_for() -> None:
    assert [job.name for job in jobs_of([0, 2, 5], [])] == [
        "whole", "without-0", "without-2", "without-5",
        "without-0-2", "without-0-5", "without-2-5",
    ]  # fmt: skip
    assert len(jobs_of([0, 1], ["x", "y"])) == 5
    ten = jobs_of(list(range(10)), [])
    assert len(ten) == 1 + 10 + 28
    assert Job((0, 1, 8, 9)) in ten  # blocks of two folds


def test_who_sees_what() -> None:
    rows = leaking()
    rows.domain[:] = np.array(["", "d", "e"])[np.arange(180) // 60]
    seen = survey(("a", "b"), [rows], numbers=False)
    jobs = [Job(), Job((0,)), Job((0, 1)), Job((), "d")]
    domain = np.arange(180) // 60
    fifth = np.arange(180) % 5 == 0
    training, validation = Sight.of(jobs, seen)(rows.fold, domain, fifth)
    assert training.shape == (8, 180)
    assert (training[4] == 1).all()
    assert (training[5] == (rows.fold != 0)).all()
    assert (training[6] == (rows.fold == 2)).all()
    assert (training[7] == (domain == 2)).all()  # rows of no domain may be of any
    assert (validation[1] == (rows.fold == 1)).all()
    assert (validation[2] == ((rows.fold == 2) & fifth)).all()  # no fold can be spared
    assert ((training[:4] + validation) == training[4:]).all()


def test_features_that_are_not_numbers() -> None:
    rows = leaking()
    rows.blocks["b"][4, 7] = np.inf
    rows.present[4] = True
    with pytest.raises(DataError, match="features from b of key 'k00004' are not finite"):
        survey(("a", "b"), [rows], numbers=False)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows() -> None:
    with networks.processes(1) as pool:
        few, many = pool.map(networks.peak, [20_000, 160_000])
    assert many < 1.1 * few
