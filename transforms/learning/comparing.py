"""How sure scores are, and which of several ways of learning to take.

Results are ready for JSON; null where a number is not defined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from transforms.learning.metrics import SMALLEST_PROBABILITY

Metric = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""float64[b, n], how often each of n rows counts -> numbers by name, float64[b], perhaps NaN."""

_AT_ONCE = 1 << 20  # row counts that are held at a time: 8 MiB


# --- how sure a score is ---------------------------------------------------------------------


def bootstrap(
    metric: Metric,
    rows: int,
    groups: np.ndarray | None = None,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Confidence intervals of any metric, by drawing rows, or whole groups, with replacement.

    The percentile interval (Efron 1979), widened for few units as Student's interval of a mean
    is (Hesterberg 2015, "What teachers should know about the bootstrap"). The models stay as
    they are: what another training set would change is not in it.

    Args:
        metric: see `Metric`.
        rows: n, more than 0.
        groups: [n], the group of each row, of any type that sorts; None: each row for itself.
        draws: number of data sets that are drawn.
        confidence: share of such intervals that should hold the truth.
        seed: another seed, other draws.

    Returns:
        units: number of groups, or of rows.
        grouped: whether groups were drawn.
        draws, confidence: as given.
        intervals: by name, [low, high]; null with less than two units, or where the metric is
            not defined for any draw.
    """
    of_row = np.arange(rows)
    if groups is not None:
        of_row = np.unique(groups, return_inverse=True)[1]
    units = int(of_row.max()) + 1
    rng = np.random.Generator(np.random.PCG64(seed))
    found: dict[str, list[np.ndarray]] = {}
    at_once = max(1, _AT_ONCE // rows)
    for start in range(0, draws, at_once):
        several = min(at_once, draws - start)
        drawn = rng.integers(0, units, (several, units))
        drawn += np.arange(several)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=several * units)
        weights = counts.reshape(several, units)[:, of_row].astype(np.float64)
        for name, values in metric(weights).items():
            found.setdefault(name, []).append(values)
    intervals: dict[str, list[float] | None] = {}
    for name, parts in found.items():
        values = np.concatenate(parts)
        values = values[~np.isnan(values)]
        if units < 2 or not len(values):
            intervals[name] = None
            continue
        widened = stats.t.ppf((1 - confidence) / 2, units - 1) * math.sqrt(units / (units - 1))
        tail = float(stats.norm.cdf(widened))
        intervals[name] = np.quantile(values, [tail, 1 - tail]).tolist()
    return {
        "units": units,
        "grouped": groups is not None,
        "draws": draws,
        "confidence": confidence,
        "intervals": intervals,
    }


def classification_metric(
    labels: np.ndarray, probabilities: np.ndarray, classes: np.ndarray
) -> Metric:
    """The numbers of `metrics.classification`, of rows that count several times or not at all."""
    codes = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    known = classes[codes] == labels
    right = (known & (probabilities.argmax(axis=1) == codes)).astype(np.float64)
    of_label = np.where(known, probabilities[np.arange(len(codes)), codes], 0.0)
    loss = -np.log(np.maximum(of_label, SMALLEST_PROBABILITY))
    brier = (probabilities**2).sum(axis=1) - 2 * of_label + 1
    group = np.unique(labels, return_inverse=True)[1]
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))

    def metric(weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights.sum(axis=1)
        sorted_weights = weights[:, order]
        occurs = np.add.reduceat(sorted_weights, starts, axis=1)
        hits = np.add.reduceat(sorted_weights * right[order], starts, axis=1)
        recall = np.divide(hits, occurs, out=np.zeros_like(hits), where=occurs > 0)
        return {
            "accuracy": (weights * right).sum(axis=1) / total,
            "balanced_accuracy": recall.sum(axis=1) / (occurs > 0).sum(axis=1),
            "log_loss": (weights * loss).sum(axis=1) / total,
            "brier": (weights * brier).sum(axis=1) / total,
        }

    return metric


def regression_metric(labels: np.ndarray, predictions: np.ndarray) -> Metric:
    """The numbers of `metrics.regression`, of rows that count several times or not at all."""
    error = predictions - labels
    y = labels - labels.mean()

    def metric(weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights.sum(axis=1)
        squared = (weights * error**2).sum(axis=1)
        centred = y - ((weights * y).sum(axis=1) / total)[:, None]
        spread = (weights * centred**2).sum(axis=1)
        varies = spread > 1e-12 * total * max(float((y**2).mean()), np.finfo(np.float64).tiny)
        ratio = np.divide(squared, spread, out=np.full_like(spread, np.nan), where=varies)
        return {
            "r2": 1 - ratio,
            "mae": (weights * np.abs(error)).sum(axis=1) / total,
            "rmse": np.sqrt(squared / total),
        }

    return metric


def difference(first: Metric, second: Metric) -> Metric:
    """First less second on the same rows: a bootstrap of it is a paired comparison."""

    def metric(weights: np.ndarray) -> dict[str, np.ndarray]:
        a, b = first(weights), second(weights)
        return {name: a[name] - b[name] for name in a}

    return metric


# --- which of several ------------------------------------------------------------------------

Scores = Sequence[float | None]
"""A score a fold, of the same folds in the same order; null where it is not defined."""


def compare_folds(first: Scores, second: Scores) -> dict[str, Any]:
    """Whether one way of learning is better than another, from both their scores in each fold.

    The corrected resampled t-test (Nadeau & Bengio 2003, "Inference for the generalization
    error"; with 1 / (k - 1) as the ratio of test to training rows of k folds, as in Bouckaert &
    Frank 2004). Folds share most of their training rows, so their differences vary less than
    those of new data would, and the plain paired t-test finds too much. Why not McNemar's test or
    a paired bootstrap of rows: they take rows for independent, which those of a group are not
    (of two equally good models in simulated data with groups, McNemar called 9 to 11 % different
    at a level of 5 %, the plain t-test 8 %, this one 2 to 3 %), they leave out what another
    training set would change, and McNemar's is for accuracy alone. The price is power: with three
    to five folds it takes a large, steady difference. `difference` with `bootstrap` shows
    what the rows alone say.

    Args:
        first: see `Scores`; folds where either is null are left out.
        second: of the same folds.

    Returns:
        folds: k, those compared.
        difference: mean of first less second; null without folds.
        standard_error: of that mean, corrected; null with less than two folds.
        interval: [low, high] of the difference at a confidence of 95 %; null likewise.
        p_value: of a difference as large as this if there were none, two-sided; null with less
            than two folds, or if all differences are the same and not 0, as nothing is known of
            how they vary.
        ahead: folds in which the first is better, `behind`: worse.
    """
    pairs = zip(first, second, strict=True)
    d = np.array([a - b for a, b in pairs if a is not None and b is not None])
    k = len(d)
    mean = float(d.mean()) if k else None
    found: dict[str, Any] = {
        "folds": k,
        "difference": mean,
        "standard_error": None,
        "interval": None,
        "p_value": None,
        "ahead": int((d > 0).sum()),
        "behind": int((d < 0).sum()),
    }
    if mean is None or k < 2:
        return found
    error = math.sqrt((1 / k + 1 / (k - 1)) * float(d.var(ddof=1)))
    reach = float(stats.t.ppf(0.975, k - 1)) * error
    found["standard_error"] = error
    found["interval"] = [mean - reach, mean + reach]
    if not d.any():
        found["p_value"] = 1.0
    elif (d != d[0]).any():
        found["p_value"] = float(2 * stats.t.sf(abs(mean) / error, k - 1))
    return found


def simplest_of_the_best(contenders: Mapping[str, Scores], score: str) -> dict[str, Any]:
    """The simplest contender within one standard error of the best, and why.

    The one-standard-error rule (Breiman, Friedman, Olshen & Stone 1984, "Classification and
    regression trees"), with the standard error of the difference to the best in each fold, as in
    `compare_folds`: contenders meet the same folds, and how hard those are is no reason to
    settle for less.

    Args:
        contenders: scores of each, from the simplest to the most complex; higher is better.
        score: what the score is called, for the reason.

    Returns:
        chosen, best: names; at a tie the best is the simpler.
        reason: a sentence.
        contenders: of each, in the order given: `name`, `mean` (over the folds), `difference`
            and `standard_error` (of the best less it; see `compare_folds`) and `within`, whether
            it is within one standard error of the best.

    Raises:
        ValueError: there are no contenders, or no fold in which all have a score.
    """
    names = list(contenders)
    columns = list(zip(*contenders.values(), strict=True))
    scores = np.array([c for c in columns if None not in c], dtype=np.float64)  # [folds, names]
    if not names or not len(scores):
        raise ValueError("nothing to choose from: no fold in which every contender has a score")
    means = scores.mean(axis=0)
    best = int(means.argmax())
    lines = []
    for i, name in enumerate(names):
        found = compare_folds(scores[:, best].tolist(), scores[:, i].tolist())
        error = found["standard_error"] or 0.0
        lines.append(
            {
                "name": name,
                "mean": float(means[i]),
                "difference": found["difference"],
                "standard_error": found["standard_error"],
                "within": bool(found["difference"] <= error),
            }
        )
    chosen = next(i for i, line in enumerate(lines) if line["within"])
    if chosen == best:
        reason = f"{names[best]} has the best mean {score}, {means[best]:.3f}"
        if best > 0:
            near = max(lines[:best], key=lambda line: line["mean"])
            reason += (
                ", and nothing simpler is within one standard error of it: the nearest, "
                f"{near['name']} with {near['mean']:.3f}, is {near['difference']:.3f} behind, "
                f"with a standard error of {near['standard_error'] or 0.0:.3f}."
            )
        else:
            reason += ", and nothing is simpler." if len(names) > 1 else "."
    else:
        line = lines[chosen]
        reason = (
            f"{line['name']} is the simplest within one standard error of the best: its mean "
            f"{score} of {line['mean']:.3f} is {line['difference']:.3f} behind that of "
            f"{names[best]}, {means[best]:.3f}, with a standard error of "
            f"{line['standard_error']:.3f}."
        )
    return {
        "chosen": names[chosen],
        "best": names[best],
        "reason": reason,
        "contenders": lines,
    }
