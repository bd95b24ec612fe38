"""The report's sections on a trained model: scores, candidates, confusion matrix."""

from __future__ import annotations

import math
from typing import Any

from pipelines.report_html import Markup, escape, mark, scrolling, section, share, short, table, tag
from schemas.problems import counted

MOST_CLASSES = 40  # a larger confusion matrix cannot be read: its largest errors are listed
MOST_ERRORS = 30
DENSE = 16  # from this number of classes on, the matrix is set small

MODELS = {
    "logistic": "logistic regression",
    "lda": "linear discriminant analysis",
    "naive_bayes": "naive Bayes",
    "qda": "quadratic discriminant analysis",
    "gaussian": "normal distributions by EM",
    "svm": "linear support vector machine",
    "kernel": "kernel machine",
    "boosting": "gradient boosting",
    "ridge": "ridge regression",
    "network": "joint head of the network",
}
METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log loss",
    "brier": "Brier score",
    "r2": "R²",
    "mae": "MAE",
    "rmse": "RMSE",
}
_SHOWN = {
    "classification": ("accuracy", "balanced_accuracy", "log_loss", "brier"),
    "regression": ("r2", "mae", "rmse"),
}
_BETTER = {
    "classification": "Accuracies: higher is better; log loss and Brier score: lower.",
    "regression": "R²: higher is better; MAE and RMSE, in units of the label: lower.",
}
_TEST = '<path class="test" d="M0 0 L-6 -10 L6 -10 Z"/>'

Rows = list[tuple[str, dict[str, Any]]]


def model_name(chosen: dict[str, Any]) -> str:
    """A candidate in words, such as `logistic regression, C=0.1`."""
    return ", ".join([MODELS.get(chosen["model"], chosen["model"]), *_options(chosen)])


def _options(chosen: dict[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in chosen["options"].items()]


def number(name: str, value: float | None) -> str:
    """A metric, by its name, for people; what rounds to zero has no sign."""
    if value is None:
        return "-"
    if name in ("mae", "rmse"):  # in units of the label, so of any size
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e12 else f"{value:.4g}"
    return f"{value:z.3f}"


def score_sections(metrics: dict[str, Any]) -> list[Markup]:
    """All sections on the scores, from metrics.json."""
    sections = [_scores(metrics), _candidates(metrics)]
    if metrics["task"] == "classification":
        sections.append(_confusion(metrics))
    return sections


# --- fused, and each modality alone ----------------------------------------------------------


def _compared(metrics: dict[str, Any]) -> Rows:
    """The fused vector, then each modality alone from the best to the worst."""
    fused = {"chosen": metrics["chosen"], **metrics["fused"]}
    if len(metrics["modalities"]) < 2:
        return [("fused", fused)]

    def rank(item: tuple[str, dict[str, Any]]) -> float:
        score = _score(metrics, item[1])
        return math.inf if score is None else -score

    return [("fused", fused), *sorted(metrics["modalities"].items(), key=rank)]


def _score(metrics: dict[str, Any], found: dict[str, Any], part: str = "cross_validation") -> Any:
    return found[part][metrics["score"]] if found[part] else None


def _scores(metrics: dict[str, Any]) -> Markup:
    rows, names, counts = _compared(metrics), _SHOWN[metrics["task"]], metrics["rows"]
    parts = {"cross_validation": f"cross-validation, {metrics['folds']} folds"}
    if metrics["fused"]["test"]:
        parts["test"] = "test"
    lines = [
        [
            label,
            Markup(
                escape(" ".join([found["chosen"]["model"], *_options(found["chosen"])]))
                + ("" if found["converged"] else f"<br>{tag('span', '✗ did not converge', 'bad')}")
            ),
            *(number(name, found[part][name]) for part in parts for name in names),
        ]
        for label, found in rows
    ]
    heads = ["", "model", *([METRICS[name] for name in names] * len(parts))]
    caption = (
        f"Cross-validation: {counts['train']:,} training rows, each predicted by a model that "
        f"has not seen it. {_not_nested(metrics)}"
        + (f"Test: {counted(counts['test'], 'row')} set aside. " if counts["test"] else "")
        + _BETTER[metrics["task"]]
    )
    groups = [("", 2), *((words, len(names)) for words in parts.values())]
    return section(
        "Fused, and each modality alone" if len(rows) > 1 else "Scores",
        tag("p", _verdict(metrics, rows)),
        _bars(metrics, rows),
        table(caption, heads, lines, range(2, len(heads)), groups, strong=0),
        _unseen(metrics["fused"]["test"]),
    )


def _not_nested(metrics: dict[str, Any]) -> str:
    """What is to be said where choices are judged on the rows that they were made on."""
    if metrics.get("nested", True):
        return ""
    return (
        "Candidate, temperature and weights were chosen on these same predictions, which makes "
        "the scores look a little better than they are"
        + ("; three folds or more avoid that. " if metrics["folds"] < 3 else ". ")
    )


def _verdict(metrics: dict[str, Any], rows: Rows) -> str:
    """How the fused vector compares with the best modality alone, in words."""
    if len(rows) < 2:
        return "There is one modality, so the fused vector has nothing to be compared with."
    name, (_, fused), (best, alone) = metrics["score"], rows[0], rows[1]
    ours, theirs = _score(metrics, fused), _score(metrics, alone)
    if ours is None or theirs is None:
        return "The score is not defined, since all labels are equal."
    folds = [
        (a[name], b[name])
        for a, b in zip(*(f["cross_validation"]["per_fold"] for f in (fused, alone)), strict=True)
        if a[name] is not None and b[name] is not None
    ]
    gain = ours - theirs
    where = f"{abs(gain):.3f} {'above' if gain > 0 else 'below'}"
    if abs(gain) < 0.0005:
        where = "level with"
    return (
        f"In cross-validation the fused vector reaches {METRICS[name]} {number(name, ours)}, "
        f"{where} the best modality alone ({best}, {number(name, theirs)}). It is ahead in "
        f"{sum(a > b for a, b in folds)} of {len(folds)} folds."
    )


def _unseen(test: dict[str, Any] | None) -> str:
    unseen = (test or {}).get("unseen_labels")
    if not unseen:
        return ""
    some = ", ".join(f"{label} ({n:,})" for label, n in list(unseen.items())[:10])
    more = " and others" if len(unseen) > 10 else ""
    return tag(
        "p",
        f"Counted as wrong: {counted(sum(unseen.values()), 'test row')} with a label that no "
        f"training row has: {short(some)}{more}.",
        "note",
    )


# --- bars ------------------------------------------------------------------------------------


def _bars(metrics: dict[str, Any], rows: Rows) -> Markup:
    """A bar each, with the folds as dots on it and the test as a triangle above it.

    Positions are percentages, so that the drawing follows the width of the page and its text
    does not shrink.
    """
    name, words = metrics["score"], METRICS[metrics["score"]]
    folds = [_defined(f[name] for f in found["cross_validation"]["per_fold"]) for _, found in rows]
    scores = [_score(metrics, found) for _, found in rows]
    tests = [_score(metrics, found, "test") for _, found in rows]
    known = _defined([*(v for each in folds for v in each), *scores, *tests])
    lowest = min(known, default=0.0)
    low = max(-1.0, min(0.0, math.floor(2 * lowest) / 2))  # R² has no lower end

    def at(value: float) -> float:
        return round(100 * (min(max(value, low), 1.0) - low) / (1 - low), 2)

    base, base_words = 0.0, "always the mean label: 0"
    if metrics["task"] == "classification":
        matrix = metrics["fused"]["cross_validation"]["confusion"]["matrix"]
        base = max(map(sum, matrix)) / sum(map(sum, matrix))
        base_words = f"always the most frequent label: {base:.3f}"
    items: list[str] = []
    for (label, found), each, score, test in zip(rows, folds, scores, tests, strict=True):
        spread = found["cross_validation"]["standard_deviation"]
        value = number(name, score) + ("" if spread is None else f" ± {spread:.3f}")
        told = f"{label}: {words} {value}"
        told += f"; folds from {min(each):z.3f} to {max(each):z.3f}" if each else ""
        told += f"; test {test:z.3f}" if test is not None else ""
        shapes = '<rect class="track" y="10" width="100%" height="14"/>'
        if score is not None:
            left, right = sorted((at(0.0), at(score)))
            shapes += f'<rect class="bar" x="{left}%" y="10" '
            shapes += f'width="{right - left:.2f}%" height="14"/>'
        shapes += f'<line class="base" x1="{at(base)}%" x2="{at(base)}%" y1="1" y2="33"/>'
        if test is not None:
            shapes += f'<svg class="at" x="{at(test)}%" y="11">{_TEST}</svg>'
        shapes += "".join(f'<circle class="dot" cx="{at(v)}%" cy="17" r="3.5"/>' for v in each)
        small = "" if test is None else tag("small", f"test {number(name, test)}")
        items.append(
            f'<li class="{"alone" if items else "fused"}">{tag("span", label, "name")}'
            f'<svg role="img" aria-label="{escape(told)}">{shapes}</svg>'
            f'<span class="value"><b>{escape(value)}</b>{small}</span></li>'
        )
    step = 0.25 if low == 0 else 0.5
    ticks = [low + i * step for i in range(round((1 - low) / step) + 1)]
    ends = {low: "start", 1.0: "end"}
    axis = "".join(
        f'<text x="{at(t)}%" y="13" text-anchor="{ends.get(t, "middle")}">{t:g}</text>'
        for t in ticks
    )
    items.append(
        f'<li class="axis" aria-hidden="true"><span></span><svg>{axis}</svg><span></span></li>'
    )
    legend = [
        ('<rect class="bar" y="4" width="18" height="9"/>', f"{words} in cross-validation"),
        ('<circle class="dot" cx="9" cy="8" r="3.5"/>', "each fold"),
        ('<line class="base" x1="9" x2="9" y1="0" y2="16"/>', base_words),
    ]
    if _defined(tests):
        legend.insert(2, (f'<svg class="at" x="9" y="13">{_TEST}</svg>', "test"))
    keys = "".join(
        f'<li><svg aria-hidden="true">{drawn}</svg>{escape(meaning)}</li>'
        for drawn, meaning in legend
    )
    note = " Values below -1 are drawn at -1." if lowest < -1 else ""
    bars = "\n".join(items)
    return Markup(
        f'<figure>\n<ul class="bars">\n{bars}\n</ul>\n<figcaption><ul class="legend">{keys}</ul>'
        f"<p>± is the standard deviation over the folds.{note}</p></figcaption>\n</figure>"
    )


def _defined(values: Any) -> list[float]:
    return [v for v in values if v is not None]


# --- candidates and confusion ----------------------------------------------------------------


def _candidates(metrics: dict[str, Any]) -> Markup:
    name = metrics["score"]
    tie = "log_loss" if metrics["task"] == "classification" else "mae"
    several = len(metrics["heads"]) > 1
    rows = [
        [
            *([c["head"]] if several else []),
            model_name(c),
            number(name, c["score"]),
            number(name, c["standard_deviation"]),
            number(tie, c[tie]),
            mark(c["converged"]),
            "✓ chosen" if c["chosen"] else "",
        ]
        for c in metrics["candidates"]
    ]
    caption = (
        f"Compared on the {'parts of the ' if several else ''}fused vector by cross-validation. "
        f"The best {METRICS[name]} is chosen; at a tie, the lower {METRICS[tie]}."
    )
    heads = ["model", METRICS[name], "± over folds", METRICS[tie], "converged", ""]
    if several:
        return section("Candidates", table(caption, ["part", *heads], rows, (2, 3, 4)))
    best = next(i for i, c in enumerate(metrics["candidates"]) if c["chosen"])
    return section("Candidates", table(caption, heads, rows, (1, 2, 3), strong=best))


def _confusion(metrics: dict[str, Any]) -> Markup:
    part = "test" if metrics["fused"]["test"] else "cross_validation"
    rows = "test rows" if part == "test" else "training rows, predicted out of fold"
    found = metrics["fused"][part]["confusion"]
    labels, matrix = found["labels"], found["matrix"]
    draw = _matrix if len(labels) <= MOST_CLASSES else _errors
    return section("Which labels are told apart", draw(labels, matrix, rows))


def _matrix(labels: list[str], matrix: list[list[int]], rows: str) -> Markup:
    """The confusion matrix as a table; colours repeat what the numbers say."""
    up = "up" if max(map(len, labels)) > 4 else "n"
    heads = "".join(
        f'<th scope="col" class="{up}" title="{escape(label)}"><span>{escape(short(label, 60))}'
        "</span></th>"
        for label in labels
    )
    lines = []
    for i, (label, counts) in enumerate(zip(labels, matrix, strict=True)):
        total = sum(counts)
        cells = []
        for j, (other, count) in enumerate(zip(labels, counts, strict=True)):
            kind = "hit" if i == j else "miss" if count else "zero"
            # The root makes rare errors visible; the cap keeps the number readable on the colour.
            shade = f' style="--s:{0.6 * math.sqrt(count / total):.2f}"' if count else ""
            told = f"{share(count, total)} of {total:,} {short(label, 60)}: predicted "
            told += short(other, 60)
            cells.append(f'<td class="{kind}"{shade} title="{escape(told)}">{count:,}</td>')
        lines.append(
            f'<tr><th scope="row" title="{escape(label)}">{escape(short(label, 60))}</th>'
            f"{''.join(cells)}"
            f'<td class="sum">{total:,}</td><td class="sum">{share(counts[i], total)}</td></tr>'
        )
    caption = (
        f"Confusion matrix of {sum(map(sum, matrix)):,} {rows}. A row is the true label, a column "
        "the prediction; framed cells are right. The colour is a cell's share of its row: point "
        "at a cell to read it."
    )
    dense = " dense" if len(labels) >= DENSE else ""
    body = "\n".join(lines)
    return scrolling(
        f'<table class="matrix{dense}">\n{tag("caption", tag("span", caption))}\n<thead>\n'
        f'<tr><td></td><th scope="colgroup" colspan="{len(labels)}">predicted</th>'
        f'<td colspan="2"></td></tr>\n<tr><th scope="col">true</th>{heads}'
        '<th scope="col">rows</th><th scope="col">right</th></tr>\n</thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table>",
        "Confusion matrix",
    )


def _errors(labels: list[str], matrix: list[list[int]], rows: str) -> Markup:
    """The most frequent errors, where there are too many labels for a matrix."""
    cells = [
        (count, i, j)
        for i, counts in enumerate(matrix)
        for j, count in enumerate(counts)
        if count and i != j
    ]
    cells.sort(key=lambda cell: (-cell[0], cell[1], cell[2]))
    lines = [
        [
            short(labels[i]),
            short(labels[j]),
            f"{count:,}",
            share(count, sum(matrix[i])),
            share(matrix[i][i], sum(matrix[i])),
        ]
        for count, i, j in cells[:MOST_ERRORS]
    ]
    caption = (
        f"The most frequent of {sum(count for count, _, _ in cells):,} errors in "
        f"{sum(map(sum, matrix)):,} {rows}, with {len(labels):,} labels; the whole confusion "
        "matrix is in metrics.json."
    )
    heads = ["true", "predicted", "rows", "share of the label", "right of the label"]
    return table(caption, heads, lines, (2, 3, 4))
