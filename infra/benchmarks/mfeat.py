"""Decisions of one model a view, fused: the figures of the multiple features data set.

    python -m infra.benchmarks.mfeat FOLDER

FOLDER holds fou.csv, fac.csv, kar.csv, pix.csv, zer.csv and mor.csv (2,000 handwritten digits in
six views; UCI, "Multiple Features"), with the label in the last column. Ten random splits, 160
records a class to train on and 40 to test. A view is scaled to mean 0 and deviation 1 on the
training records; its model is LDA with the shrinkage of Ledoit and Wolf. Weights and temperatures
are learned from outputs of five folds within the training records, and on these folds `compare`
chooses between views side by side, the mean rule and the product rule. Errors are means over the
splits, in percent, with the standard error of that mean.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from schemas.options.fuse import Average, Compare, Concatenate
from schemas.options.models import Models
from transforms.fusion.decisions import fit_rule, prior_of
from transforms.fusion.fitted import Fusion
from transforms.fusion.strategies import fit_rows as fit_fusion
from transforms.fusion.trees import Part, Tree, tree_of
from transforms.learning.calibration import fit_temperature
from transforms.learning.candidates import Candidate, fit_rows
from transforms.learning.choosing import choose
from transforms.learning.judging import judge
from transforms.learning.problem import TrainingSet
from transforms.learning.training import finish, judging

VIEWS = ("fou", "fac", "kar", "pix", "zer", "mor")
SPLITS, FOLDS, TRAIN, CLASSES = 10, 5, 160, 10
COMPARED = Compare(
    method="compare",
    strategies={
        "side by side": Concatenate(),
        "mean": Average(method="average", of="decisions", rule="mean"),
        "product": Average(method="average", of="decisions", rule="product"),
    },
)
WEIGHTS: tuple[Any, ...] = ("equal", "error_covariance", "scores", "stacking")

Outputs = dict[str, np.ndarray]


def load(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Features of each view, float64[2000, d], and the classes, int64[2000]."""
    tables = {v: np.loadtxt(folder / f"{v}.csv", delimiter=",", skiprows=1) for v in VIEWS}
    return {v: t[:, :-1] for v, t in tables.items()}, tables[VIEWS[0]][:, -1].astype(np.int64)


def split(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool[n], the training records: as many of each class."""
    train = np.zeros(len(y), bool)
    for c in range(CLASSES):
        train[rng.permutation(np.flatnonzero(y == c))[:TRAIN]] = True
    return train


def scaled(X: np.ndarray, train: np.ndarray) -> np.ndarray:
    """To mean 0 and deviation 1 on the training records."""
    deviation = X[train].std(axis=0)
    return (X - X[train].mean(axis=0)) / np.where(deviation > 0, deviation, 1)


def lda(X: np.ndarray, y: np.ndarray, train: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Posteriors of the records asked for, float64[m, 10]."""
    X = scaled(X, train)
    (fitted,) = fit_rows([Candidate("lda", {"shrinkage": "auto"})], X[train], y[train])
    return fitted.estimator.predict_proba(X[asked])


def chosen(
    views: dict[str, np.ndarray], y: np.ndarray, train: np.ndarray, fold: np.ndarray
) -> tuple[str, np.ndarray]:
    """Name of the strategy that `compare` takes, and what it says of all records.

    Args:
        views: features.
        y: classes.
        train: bool[n].
        fold: of the training records, in their order.
    """
    blocks = {v: X.astype(np.float32) for v, X in views.items()}
    present = np.ones((len(y), len(views)), bool)
    folds = np.full(len(y), -1, np.int32)
    folds[train] = fold

    def fit(rows: np.ndarray, part: Part) -> Fusion:
        names = {v: [str(i) for i in range(blocks[v].shape[1])] for v in part.modalities}
        return fit_fusion(Tree((part,)), "mean", blocks, present, rows, names)

    keys, labels = np.arange(len(y)).astype(str), y.astype(str)
    data = TrainingSet(keys, labels, folds, ~train, blocks, present, fit)
    models = Models.model_validate({"lda": {"shrinkage": ["auto"]}})
    with judging(data, models, "classification") as heads:
        choice = choose(heads, COMPARED)
        judged = judge(heads, tree_of(choice.fuse, data.modalities))
        return choice.report["chosen"], finish(heads, judged)[1]


def errors_of(
    views: dict[str, np.ndarray], y: np.ndarray, seed: int
) -> tuple[dict[str, float], str]:
    """Shares of test records that are wrong, by what was done; and what `compare` took."""
    rng = np.random.default_rng(seed)
    train = split(y, rng)
    test = np.flatnonzero(~train)
    rows = np.flatnonzero(train)
    fold = rng.permutation(np.arange(len(rows)) % FOLDS)

    def out_of_fold(X: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), CLASSES))
        for k in range(FOLDS):
            others = np.zeros(len(y), bool)
            others[rows[fold != k]] = True
            found[fold == k] = lda(X, y, others, rows[fold == k])
        return found

    plain: Outputs = {v: lda(X, y, train, test) for v, X in views.items()}
    held: Outputs = {v: out_of_fold(X) for v, X in views.items()}
    found = {v: wrong(p, y[test]) for v, p in plain.items()}
    together = np.hstack([scaled(X, train) for X in views.values()])
    found["side by side"] = wrong(lda(together, y, train, test), y[test])

    temperatures = {v: fit_temperature(p, y[rows]) for v, p in held.items()}
    tempered = {v: temperatures[v].apply(p) for v, p in plain.items()}
    tempered_held = {v: temperatures[v].apply(p) for v, p in held.items()}
    prior = prior_of(y[rows], CLASSES)
    here, here_held = (np.ones((len(r), len(VIEWS)), bool) for r in (test, rows))
    for how in ("product", "mean"):
        for name, out, known in (("", plain, held), (", calibrated", tempered, tempered_held)):
            for weights in WEIGHTS:
                rule = fit_rule(how, weights, known, here_held, y[rows], prior)
                words = "" if weights == "equal" else f", weights by {weights}"
                found[f"{how}{name}{words}"] = wrong(rule.apply(out, here), y[test])
    taken, said = chosen(views, y, train, fold)
    found["chosen by compare"] = wrong(said[test], y[test])
    return found, taken


def wrong(output: np.ndarray, y: np.ndarray) -> float:
    """Share of records that are not the most probable class."""
    return float((output.argmax(axis=1) != y).mean())


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    views, y = load(folder)
    errors: dict[str, list[float]] = defaultdict(list)
    with threadpool_limits(1):  # the sums of BLAS depend on its number of threads
        for seed in range(SPLITS):
            found, taken = errors_of(views, y, seed)
            for name, value in found.items():
                errors[name].append(100 * value)
            print(
                f"seed {seed}: product {100 * found['product']:.2f} %, "
                f"mean {100 * found['mean']:.2f} %, "
                f"chosen ({taken}) {100 * found['chosen by compare']:.2f} %",
                flush=True,
            )
    for name, values in errors.items():
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        print(f"{name:<48}{np.mean(values):6.2f} ± {error:.2f} %")


if __name__ == "__main__":
    main()
