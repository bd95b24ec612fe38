"""The report for people: one HTML file that needs nothing else, neither network nor script."""

from __future__ import annotations

import glob
import html
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from schemas import storage
from schemas.layout import Layout
from schemas.loading import dump_recipe
from schemas.plan import Plan
from schemas.recipe import TARGET
from schemas.tables import metadata, open_parquet, read_table

MOST_CLASSES = 40  # a larger confusion matrix is no longer readable: its largest cells are
EXAMPLES, MOST_KINDS, MOST_CHARACTERS = 3, 20, 300  # of dead letters: keep the page small

MODELS = {
    "logistic": "logistic regression",
    "lda": "linear discriminant analysis",
    "ridge": "ridge regression",
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
COMPARED = {
    "classification": ("accuracy", "balanced_accuracy", "log_loss", "brier"),
    "regression": ("r2", "mae", "rmse"),
}


class Markup(str):
    """Text that is HTML already; all other text is escaped where it enters the page."""

    __slots__ = ()


@dataclass
class Letters:
    """The dead letters of one modality, step and kind: how many, and the first few."""

    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)


AllLetters = dict[str, dict[tuple[str, str], Letters]]
"""modality -> (step, kind) -> its dead letters."""


def write_report(plan: Plan) -> None:
    """Write report/index.html from the audit, the metrics, the dead letters and the recipe.

    The same output gives the same bytes. Metrics are shown if they are there and the recipe
    trains; a prediction has none.

    Raises:
        FileNotFoundError: if the output has no audit yet.
    """
    layout = Layout(plan.output, plan.buckets)
    audit = json.loads(storage.read_bytes(layout.audit))
    metrics = None
    trains = plan.fitted is None and plan.recipe.target is not None and plan.recipe.train
    if trains and storage.exists(layout.metrics):
        metrics = json.loads(storage.read_bytes(layout.metrics))
    letters = _read_letters(layout, audit)
    sections = []
    if metrics is not None:
        sections += [_scores(metrics), _candidates(metrics), _confusion(metrics)]
    sections += [_modalities(plan, layout, audit), _audit(audit, letters), _dead(audit, letters)]
    sections += [_reading(plan, layout, audit), _recipe(plan)]
    css = resources.files("pipelines").joinpath("report.css").read_text(encoding="utf-8")
    title = f"Prediction: {plan.recipe.name}" if plan.fitted is not None else plan.recipe.name
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_e(title)} - Sensorium</title>
<style>
{css}</style>
</head>
<body>
<main>
<header>
<h1>{_e(title)}</h1>
<p>{_lead(plan, audit, metrics)}</p>
{_facts(audit, metrics, letters)}
</header>
{"".join(sections)}</main>
</body>
</html>
"""
    # A path may hold bytes that are no text; they are shown as question marks.
    storage.write_bytes(layout.report, page.encode("utf-8", "replace"))


# --- pieces of HTML --------------------------------------------------------------------------


def _e(value: object) -> str:
    return value if isinstance(value, Markup) else html.escape(str(value))


def _tag(name: str, content: object, kind: str = "") -> Markup:
    return Markup(f'<{name} class="{kind}">{_e(content)}</{name}>' if kind else
                  f"<{name}>{_e(content)}</{name}>")  # fmt: skip


def _section(heading: str, *parts: str) -> Markup:
    return Markup(f"<section>\n<h2>{_e(heading)}</h2>\n" + "\n".join(parts) + "\n</section>\n")


def _table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    numbers: Iterable[int] = (),
    groups: Sequence[tuple[str, int]] = (),
    strong: int | None = None,
) -> Markup:
    """A table whose first column names the rows.

    Args:
        caption: what it shows.
        head: of the columns.
        rows: their cells; text is escaped.
        numbers: columns that are aligned to the right.
        groups: headings over several columns, and how many.
        strong: the row that stands out.
    """
    right = set(numbers)
    kinds = [' class="n"' if i in right else "" for i in range(len(head))]
    above = "".join(
        f'<th scope="colgroup" colspan="{width}">{_e(text)}</th>' if text else
        f'<td colspan="{width}"></td>' for text, width in groups
    )  # fmt: skip
    lines = [f"<tr>{above}</tr>"] if groups else []
    columns = zip(kinds, head, strict=True)
    lines.append("<tr>" + "".join(f'<th scope="col"{k}>{_e(h)}</th>' for k, h in columns) + "</tr>")
    lines.append("</thead>\n<tbody>")
    for i, (first, *cells) in enumerate(rows):
        rest = "".join(f"<td{k}>{_e(c)}</td>" for k, c in zip(kinds[1:], cells, strict=True))
        row = f'<th scope="row">{_e(first)}</th>{rest}</tr>'
        lines.append(('<tr class="strong">' if i == strong else "<tr>") + row)
    body = "\n".join(lines)
    return _scrolling(f"<table>\n<caption>{_e(caption)}</caption>\n<thead>\n{body}", caption)


def _scrolling(table: str, label: str) -> Markup:
    # Reachable by keyboard, since a wide table scrolls on a narrow screen.
    return Markup(
        f'<div class="scroll" role="region" tabindex="0" aria-label="{_e(label)}">\n{table}\n'
        "</tbody>\n</table>\n</div>"
    )


def _number(name: str, value: float | None) -> str:
    """A metric by its name, for people."""
    if value is None:
        return "-"
    if name in ("mae", "rmse"):  # in units of the label, so of any size
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:.3f}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def _mark(good: bool, yes: str, no: str) -> Markup:
    return _tag("span", f"✓ {yes}", "good") if good else _tag("span", f"✗ {no}", "bad")


def _model(chosen: dict[str, Any]) -> str:
    options = ", ".join(f"{name}={value}" for name, value in chosen["options"].items())
    return f"{MODELS.get(chosen['model'], chosen['model'])}, {options}"


# --- what it was -----------------------------------------------------------------------------


def _lead(plan: Plan, audit: dict[str, Any], metrics: dict[str, Any] | None) -> str:
    """One sentence on what this run was, as HTML."""
    recipe = plan.recipe
    names = [m.name for m in plan.modalities]
    some = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    many = "1 modality" if len(names) == 1 else f"{len(names)} modalities"
    start = f"Records of {many} ({_e(some)}) were "
    if not audit["data_set"]:
        features = any("features" in counts for counts in audit["modalities"].values())
        return start + ("turned into features." if features else "ingested.")
    how = recipe.join.how if isinstance(recipe.join.how, str) else f"left: {recipe.join.how.left}"
    start += f"joined by key ({_e(how)} join)"
    fused = f"fused ({_e(recipe.fuse.method)})"
    if plan.fitted is not None:
        return f"{start}, {fused} and judged by the model of {_tag('code', plan.fitted)}."
    if metrics is None or recipe.target is None:
        return f"{start} and {fused}; no model was trained."
    what = "tell the classes of" if metrics["task"] == "classification" else "predict"
    return (
        f"{start}, {fused} and used to train a model to {what} "
        f"{_tag('code', recipe.target.column)}: {_e(_model(metrics['chosen']))}."
    )


def _facts(audit: dict[str, Any], metrics: dict[str, Any] | None, letters: AllLetters) -> str:
    facts: list[tuple[object, str]] = []
    if metrics is not None:
        name = metrics["score"]
        words = METRICS[name]
        cross, test = metrics["fused"]["cross_validation"], metrics["fused"]["test"]
        facts.append((_number(name, cross[name]), f"{words} in cross-validation, fused"))
        if test:
            facts.append((_number(name, test[name]), f"{words} on the test, fused"))
    if audit["data_set"]:
        facts.append((f"{audit['data_set']['fused']:,}", "keys in the fused data set"))
    counted = audit["modalities"].values()
    if not audit["data_set"]:
        facts.append((f"{sum(c['records'] for c in counted):,}", "records"))
    dead, rows = (sum(c[n] for c in counted) for n in ("dead_letters", "rows"))
    facts.append((f"{dead:,}", f"dead letters of {rows:,} rows"))
    facts.append((_mark(not _imbalances(audit, letters), "yes", "no"), "counts add up"))
    items = "".join(f"<div><dt>{_e(w)}</dt><dd>{_e(v)}</dd></div>\n" for v, w in facts)
    return f'<dl class="facts">\n{items}</dl>'


# --- scores ----------------------------------------------------------------------------------


def _compared(metrics: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The fused vector, then each modality alone from the best to the worst."""
    fused = {"chosen": metrics["chosen"], **metrics["fused"]}
    if len(metrics["modalities"]) < 2:
        return [("fused", fused)]
    alone = sorted(
        metrics["modalities"].items(),
        key=lambda item: -(_score(metrics, item[1]) or -math.inf),
    )
    return [("fused", fused), *alone]


def _score(metrics: dict[str, Any], found: dict[str, Any], part: str = "cross_validation") -> Any:
    return found[part][metrics["score"]] if found[part] else None


def _scores(metrics: dict[str, Any]) -> Markup:
    rows = _compared(metrics)
    names = COMPARED[metrics["task"]]
    tested = metrics["fused"]["test"] is not None
    parts = ["cross_validation", *(["test"] if tested else [])]
    lines = [
        [
            label,
            Markup(_e(_model(found["chosen"])) + ("" if found["converged"] else
                   "<br>" + _tag("span", "did not converge", "bad"))),
            *(_number(name, found[part][name]) for part in parts for name in names),
        ]
        for label, found in rows
    ]  # fmt: skip
    heads = ["", "model", *([METRICS[name] for name in names] * len(parts))]
    counts = metrics["rows"]
    groups = [("", 2), (f"cross-validation, {metrics['folds']} folds", len(names))]
    groups += [("test", len(names))] if tested else []
    better = "log loss and Brier score: lower is better" if names[0] == "accuracy" else (
        "R²: higher is better; MAE and RMSE, in units of the label: lower is better")  # fmt: skip
    caption = f"Scores on {counts['train']:,} training rows, each predicted by a model that has " + (
        f"not seen it, and on {counts['test']:,} test rows; {better}."
    )
    return _section(
        "Fused, and each modality alone" if len(rows) > 1 else "Scores",
        f"<p>{_e(_verdict(metrics, rows))}</p>",
        _bars(metrics, rows),
        _table(caption, heads, lines, range(2, len(heads)), groups, strong=0),
        *_unseen(metrics["fused"]["test"]),
    )


def _verdict(metrics: dict[str, Any], rows: list[tuple[str, dict[str, Any]]]) -> str:
    """How the fused vector compares with the best modality alone, in words."""
    if len(rows) < 2:
        return "There is one modality, so there is nothing to compare the fused vector with."
    name, (_, fused), (best, alone) = metrics["score"], rows[0], rows[1]
    ours, theirs = _score(metrics, fused), _score(metrics, alone)
    if ours is None or theirs is None:
        return "The score is not defined for these labels."
    folds = [
        (a[name], b[name])
        for a, b in zip(*(f["cross_validation"]["per_fold"] for f in (fused, alone)), strict=True)
        if a[name] is not None and b[name] is not None
    ]
    ahead, gain = sum(a > b for a, b in folds), ours - theirs
    where = f"{abs(gain):.3f} {'above' if gain > 0 else 'below'} the best modality alone"
    if abs(gain) < 0.0005:
        where = "level with the best modality alone"
    return (
        f"In cross-validation the fused vector reaches {METRICS[name]} {_number(name, ours)}, "
        f"{where} ({best}, {_number(name, theirs)}); it is ahead in {ahead} of {len(folds)} folds."
    )


def _unseen(test: dict[str, Any] | None) -> list[str]:
    unseen = (test or {}).get("unseen_labels") or {}
    if not unseen:
        return []
    some = ", ".join(f"{label} ({n:,})" for label, n in list(unseen.items())[:10])
    more = " and others" if len(unseen) > 10 else ""
    return [
        f'<p class="note">{sum(unseen.values()):,} test rows have a label that no training row '
        f"has, and count as wrong: {_e(_short(some))}{more}.</p>"
    ]


def _bars(metrics: dict[str, Any], rows: list[tuple[str, dict[str, Any]]]) -> Markup:
    """A bar each, with the folds as dots and the test as a diamond."""
    name, words = metrics["score"], METRICS[metrics["score"]]
    folds = [[f[name] for f in r["cross_validation"]["per_fold"]] for _, r in rows]
    tests = [_score(metrics, r, "test") for _, r in rows]
    known = [v for v in [*sum(folds, []), *tests, *(_score(metrics, r) for _, r in rows)] if v]
    low = max(-1.0, min(0.0, math.floor(2 * min(known, default=0.0)) / 2))

    def at(value: float) -> float:
        return round(100 * (min(max(value, low), 1.0) - low) / (1 - low), 2)

    counts = (metrics["fused"]["cross_validation"].get("confusion") or {}).get("matrix")
    base = max(map(sum, counts)) / sum(map(sum, counts)) if counts else 0.0
    line = f'<line class="base" x1="{at(base)}%" x2="{at(base)}%" y1="0" y2="34"/>'
    items = []
    for (label, found), each, test in zip(rows, folds, tests, strict=True):
        score, spread = _score(metrics, found), found["cross_validation"]["standard_deviation"]
        defined = [v for v in each if v is not None]
        value = _number(name, score) + ("" if spread is None else f" ± {spread:.3f}")
        told = f"{label}: {words} {value}" + (
            f"; folds from {min(defined):.3f} to {max(defined):.3f}" if defined else ""
        ) + ("" if test is None else f"; test {test:.3f}")  # fmt: skip
        shapes = '<rect class="track" y="10" width="100%" height="14" rx="3"/>'
        if score is not None:
            left, right = sorted((at(0.0), at(score)))
            shapes += f'<rect class="bar" x="{left}%" y="10" width="{right - left:.2f}%" height="14"/>'
        shapes += line + "".join(f'<circle class="dot" cx="{at(v)}%" cy="17" r="3.5"/>' for v in defined)
        if test is not None:
            shapes += f'<svg x="{at(test)}%" y="17" overflow="visible">{DIAMOND}</svg>'
        small = "" if test is None else _tag("small", f"test {_number(name, test)}")
        items.append(
            f'<li{"" if items else " class=" + chr(34) + "fused" + chr(34)}>'
            f'<span class="name">{_e(label)}</span>'
            f'<svg role="img" aria-label="{_e(told)}">{shapes}</svg>'
            f'<span class="value"><b>{_e(value)}</b>{small}</span></li>'
        )
    step = 0.25 if low == 0 else 0.5
    ticks = [low + i * step for i in range(round((1 - low) / step) + 1)]
    anchors = ["start", *["middle"] * (len(ticks) - 2), "end"]
    axis = "".join(
        f'<text x="{at(t)}%" y="13" text-anchor="{a}">{t:g}</text>'
        for t, a in zip(ticks, anchors, strict=True)
    )
    items.append(
        f'<li class="axis" aria-hidden="true"><span></span><svg>{axis}</svg><span></span></li>'
    )
    base_words = (
        f"always the most frequent label: {base:.3f}" if counts else "always the mean label: 0"
    )
    legend = [
        ('<rect class="bar" y="4" width="18" height="9"/>', f"{words} in cross-validation"),
        ('<circle class="dot" cx="9" cy="8" r="3.5"/>', "each fold"),
        *([(f'<svg x="9" y="8" overflow="visible">{DIAMOND}</svg>', "test")] if any(tests) else []),
        ('<line class="base" x1="9" x2="9" y1="0" y2="16"/>', base_words),
    ]
    keys = "".join(f'<li><svg aria-hidden="true">{s}</svg>{_e(w)}</li>' for s, w in legend)
    note = " Values below -1 are drawn at -1." if min(known, default=0) < -1 else ""
    return Markup(
        f'<figure>\n<ul class="bars">\n{chr(10).join(items)}\n</ul>\n<figcaption>'
        f'<ul class="legend">{keys}</ul>± is the standard deviation over the folds.{note}'
        "</figcaption>\n</figure>"
    )


DIAMOND = '<path class="test" d="M0 -8 L6 0 L0 8 L-6 0 Z"/>'


def _candidates(metrics: dict[str, Any]) -> Markup:
    tie = "log_loss" if metrics["task"] == "classification" else "mae"
    chosen = metrics["chosen"]
    rows = [
        [
            _model(c),
            _number(metrics["score"], c["score"]),
            "-" if c["standard_deviation"] is None else f"{c['standard_deviation']:.3f}",
            _number(tie, c[tie]),
            _mark(c["converged"], "yes", "no"),
            _tag("b", "✓ chosen")
            if (c["model"], c["options"]) == (chosen["model"], chosen["options"])
            else "",
        ]
        for c in metrics["candidates"]
    ]
    heads = [METRICS[metrics["score"]], "± over folds", METRICS[tie], "converged", ""]
    caption = (
        f"Compared on the fused vector by cross-validation; the best {METRICS[metrics['score']]} "
        f"is chosen, at a tie the lower {METRICS[tie]}."
    )
    return _section("Candidates", _table(caption, ["model", *heads], rows, (1, 2, 3)))
