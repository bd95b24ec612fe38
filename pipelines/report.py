"""The report for people: one HTML file that needs nothing else, no network and no script."""

from __future__ import annotations

import glob
import json
from dataclasses import dataclass, field
from heapq import nsmallest
from importlib import resources
from itertools import product
from typing import Any

import pyarrow.compute as pc

from pipelines.report_html import Markup, escape, mark, section, share, short, table, tag
from pipelines.report_scores import METRICS, model_name, number, score_sections
from pipelines.report_understanding import interval, strategy_sections, understanding_sections
from schemas import storage
from schemas.layout import Layout
from schemas.loading import dump_recipe
from schemas.plan import Plan
from schemas.recipe import TARGET
from schemas.tables import metadata, open_parquet, read_table

EXAMPLES = 3  # of each kind of dead letter
MOST_FILES = 1000  # with dead letters that are read, of a modality and step: a file a bucket
MOST_KINDS = 20  # of dead letters shown: an extractor of one's own may make any number
_LETTER = ["key", "source", "row", "kind", "message"]


@dataclass
class Letters:
    """Dead letters of one modality, step and kind: how many, and the first few."""

    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)


AllLetters = dict[str, dict[tuple[str, str], Letters]]
"""modality -> (step, kind) -> its dead letters."""


def write_report(plan: Plan) -> None:
    """Write report/index.html from the audit, the metrics, the dead letters and the recipe.

    The same output gives the same bytes. Metrics are shown if they are there and the recipe
    trains a model; a prediction has none.

    Raises:
        FileNotFoundError: if the output has no audit.
    """
    layout = Layout(plan.output, plan.buckets)
    audit = json.loads(storage.read_bytes(layout.audit))
    recipe = plan.recipe
    metrics = None
    trains = plan.fitted is None and recipe.target is not None and recipe.train is not None
    if trains and storage.exists(layout.metrics):
        metrics = json.loads(storage.read_bytes(layout.metrics))
    letters, partly = _read_letters(layout, audit)
    problems = _problems(audit, letters, partly)
    sections = [
        *(strategy_sections(metrics) if metrics is not None else []),
        *(score_sections(metrics) if metrics is not None else []),
        *(understanding_sections(metrics) if metrics is not None else []),
        _modalities(plan, layout, audit),
        _audit(audit, letters, partly, problems),
        _dead(audit, letters, partly),
        _reading(plan, layout, audit, metrics is not None),
        section(
            "Recipe",
            "<details>\n<summary>The recipe with every default written out</summary>\n"
            f"<pre><code>{escape(dump_recipe(recipe))}</code></pre>\n</details>",
        ),
    ]
    css = resources.files("pipelines").joinpath("report.css").read_text(encoding="utf-8")
    title = escape(recipe.name if plan.fitted is None else f"Prediction: {recipe.name}")
    # The policy lets nothing be loaded or run, whatever names and messages may hold.
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Sensorium</title>
<style>
{css}</style>
</head>
<body>
<main>
<header>
<h1>{title}</h1>
<p>{_lead(plan, audit, metrics)}</p>
{_facts(audit, metrics, problems)}
</header>
{"".join(sections)}</main>
</body>
</html>
"""
    storage.write_bytes(layout.report, page.encode())


# --- what it was -----------------------------------------------------------------------------


def _lead(plan: Plan, audit: dict[str, Any], metrics: dict[str, Any] | None) -> str:
    """One sentence on what this run was, as HTML."""
    recipe, names = plan.recipe, [m.name for m in plan.modalities]
    some = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    many = "1 modality" if len(names) == 1 else f"{len(names)} modalities"
    start = f"Records of {many} ({escape(some)}) were "
    if not audit["data_set"]:
        extracted = any("features" in counts for counts in audit["modalities"].values())
        return start + ("turned into features." if extracted else "ingested.")
    how = recipe.join.how if isinstance(recipe.join.how, str) else f"left: {recipe.join.how.left}"
    start += f"joined by key ({escape(how)} join)"
    fused = f"fused ({escape(recipe.fuse.method)})"
    if plan.fitted is not None:
        return f"{start}, {fused} and predicted by the model of {tag('code', plan.fitted)}."
    if metrics is None or recipe.target is None:
        return f"{start} and {fused}; no model was trained."
    what = "tell the classes of" if metrics["task"] == "classification" else "predict"
    return (
        f"{start}, {fused} and used to train a model that can {what} "
        f"{tag('code', recipe.target.column)}: {escape(model_name(metrics['chosen']))}."
    )


def _facts(audit: dict[str, Any], metrics: dict[str, Any] | None, problems: list[str]) -> Markup:
    facts: list[tuple[object, str]] = []
    if metrics is not None:
        name = metrics["score"]
        for part, words in (("cross_validation", "in cross-validation"), ("test", "on the test")):
            if metrics["fused"][part]:
                value = number(name, metrics["fused"][part][name])
                sure = interval(metrics, part)
                told = f"{METRICS[name]} {words}, fused" + (f"; {sure}" if sure else "")
                facts.append((value, told))
    counted = audit["modalities"].values()
    records, dead, rows = (sum(c[n] for c in counted) for n in ("records", "dead_letters", "rows"))
    if audit["data_set"]:
        facts.append((f"{audit['data_set']['fused']:,}", "keys in the fused data set"))
    else:
        facts.append((f"{records:,}", "records"))
    facts.append((f"{dead:,}", f"dead letters of {rows:,} rows"))
    facts.append((mark(not problems), "every row is accounted for"))
    items = "".join(f"<div>{tag('dt', w)}{tag('dd', v)}</div>\n" for v, w in facts)
    return Markup(f'<dl class="facts">\n{items}</dl>')


def _modalities(plan: Plan, layout: Layout, audit: dict[str, Any]) -> Markup:
    """What each modality is and the share of keys that have it."""
    keys = audit["data_set"].get("fused", 0)
    slices: dict[str, tuple[int, int]] = {}
    if audit["data_set"] and storage.exists(layout.fused(0)):
        with open_parquet(layout.fused(0)) as file:
            slices = metadata(file.schema_arrow, "slices")
    rows = []
    for modality in plan.modalities:
        name = modality.name
        row = [name, modality.recipe.kind]
        row.append(", ".join(one for one, _ in modality.recipe.extract.named()))
        if audit["data_set"]:
            start, stop = slices.get(name, (0, 0))
            has = audit["modalities"][name].get("present") or 0
            bar = (
                '<svg class="share" aria-hidden="true"><rect class="track" width="100%" '
                'height="10"/><rect class="bar" '
                f'width="{100 * has / keys if keys else 0:.2f}%" height="10"/></svg>'
            )
            width = f"{stop - start:,}" if name in slices else "-"
            row += [width, f"{has:,}", share(has, keys), Markup(bar)]
        rows.append(row)
    heads = ["modality", "kind", "extractors"]
    caption = "What was taken from each modality."
    if audit["data_set"]:
        heads += ["dimensions", "keys that have it", "share", ""]
        caption = f"What was taken from each modality, and how many of the {keys:,} keys have it."
    return section("Modalities", table(caption, heads, rows, (3, 4, 5)))


# --- audit and dead letters ------------------------------------------------------------------


def _read_letters(layout: Layout, audit: dict[str, Any]) -> tuple[AllLetters, set[str]]:
    """Count the dead letters in the files of the modalities and steps that the audit is of.

    Of each modality and step no more than the first `MOST_FILES` files are read.

    Returns:
        The letters, and the names of modalities that have more files than were read.
    """
    found: AllLetters = {name: {} for name in audit["modalities"]}
    partly = set()
    for step, name in product(("extract", "ingest"), audit["modalities"]):
        # Those of a step that this run did not come to are of an earlier run.
        if step == "extract" and "features" not in audit["modalities"][name]:
            continue
        folder = storage.parent(layout.dead_letters(step, name, 0))
        numbers = (layout.bucket_of(file) for file in storage.names_in(folder, layout.prefixes))
        buckets = nsmallest(MOST_FILES + 1, (number for number in numbers if number is not None))
        if len(buckets) > MOST_FILES:
            partly.add(name)
        for bucket in buckets[:MOST_FILES]:
            letters = read_table(layout.dead_letters(step, name, bucket), _LETTER)
            for entry in letters.column("kind").value_counts().to_pylist():
                one = found[name].setdefault((step, entry["values"]), Letters())
                one.count += entry["counts"]
                if wanted := EXAMPLES - len(one.examples):
                    like = letters.filter(pc.equal(letters.column("kind"), entry["values"]))
                    one.examples += like.slice(0, wanted).to_pylist()
    return found, partly


def _lost(
    audit: dict[str, Any], letters: AllLetters, partly: set[str], name: str
) -> tuple[int, int]:
    """Dead letters of a modality: of ingest and of extraction, as the files or the audit count."""
    counts = audit["modalities"][name]
    if name in partly:
        early = counts["rows"] - counts["records"] - counts["duplicates"]
        return early, counts["dead_letters"] - early
    ingest, extract = (
        sum(one.count for (at, _), one in letters[name].items() if at == step)
        for step in ("ingest", "extract")
    )
    return ingest, extract


def _problems(audit: dict[str, Any], letters: AllLetters, partly: set[str]) -> list[str]:
    """What the audit found, and where the dead letters' files do not hold what it counted."""
    problems = list(audit["problems"])
    for name, counts in audit["modalities"].items():
        there = sum(one.count for one in letters[name].values())
        if there != counts["dead_letters"] and name not in partly:
            problems.append(
                f"{name}: {counts['dead_letters']:,} dead letters were counted, but the files in "
                f"dead_letters hold {there:,}"
            )
    return problems


def _audit(
    audit: dict[str, Any], letters: AllLetters, partly: set[str], problems: list[str]
) -> Markup:
    extracted = any("features" in counts for counts in audit["modalities"].values())
    rows = []
    for name, counts in audit["modalities"].items():
        early, late = _lost(audit, letters, partly, name)
        row: list[object] = [f"{name} (labels)" if name == TARGET else name]
        row += [f"{n:,}" for n in (counts["rows"], counts["records"], counts["duplicates"], early)]
        good = counts["rows"] == counts["records"] + counts["duplicates"] + early
        if extracted and "features" in counts:
            row += [f"{n:,}" for n in (counts["records"], counts["features"], counts["pooled"])]
            row.append(f"{late:,}")
            good &= counts["records"] == counts["features"] + counts["pooled"] + late
        elif extracted:
            row += [""] * 4
        rows.append([*row, mark(good, "balanced", "not balanced")])
    heads = ["", "rows", "=\u00a0records", "+\u00a0duplicates", "+\u00a0dead letters"]
    groups = [("", 1), ("ingest", 4)]
    if extracted:
        heads += ["records", "=\u00a0features", "+\u00a0pooled", "+\u00a0dead letters"]
        groups.append(("extract", 4))
    groups.append(("", 1))
    parts = [mark(not problems, "Balanced: nothing was lost silently.", "Not balanced:")]
    if problems:
        parts.append(Markup(f"<ul>{''.join(tag('li', short(one)) for one in problems)}</ul>"))
    caption = "Every row read is a record, a duplicate or a dead letter; every record " + (
        "a feature vector, pooled with others of its key, or a dead letter."
        if extracted
        else "waits for extraction."
    )
    parts.append(table(caption, [*heads, ""], rows, range(1, len(heads)), groups))
    data = audit["data_set"]
    if data:
        good = data["keys"] == data["fused"] + data["dropped"]
        names = {"keys": "keys", "fused": "=\u00a0fused", "dropped": "+\u00a0dropped by the join"}
        more = {"labelled": "with a label", "labels_without_records": "labels without records"}
        names |= more if TARGET in audit["modalities"] else {}
        cells = ["data set", *(f"{data[n]:,}" for n in names)]
        words = ["", *names.values(), ""]
        caption = "Every key is in the fused data set or was dropped by the join."
        line = [*cells, mark(good, "balanced", "not balanced")]
        parts.append(table(caption, words, [line], range(1, len(cells))))
    return section("Audit", *parts)


def _dead(audit: dict[str, Any], letters: AllLetters, partly: set[str]) -> Markup:
    """Dead letters by kind, the most frequent first, with the first few of each."""
    parts: list[str] = []
    for name, kinds in letters.items():
        if not kinds:
            continue
        ordered = sorted(kinds.items(), key=lambda item: (-item[1].count, item[0]))
        rows = [
            [kind, step, f"{one.count:,}", _examples(one)]
            for (step, kind), one in ordered[:MOST_KINDS]
        ]
        count, total = sum(one.count for one in kinds.values()), audit["modalities"][name]["rows"]
        caption = f"{name}: {count:,} of {total:,} rows ({share(count, total)})"
        if name in partly:
            caption = f"{name}: {count:,} in the first {MOST_FILES:,} files of a step with any"
        if len(ordered) > MOST_KINDS:
            caption += f"; the {MOST_KINDS} most frequent of {len(ordered):,} kinds"
        parts.append(table(caption, ["kind", "step", "rows", "the first of them"], rows, (2,)))
    if not parts:
        return section("Dead letters", tag("p", "None: every row could be used."))
    words = "Rows that could not be used, with where they stand; all are in "
    return section("Dead letters", f"<p>{words}{tag('code', 'dead_letters/')}.</p>", *parts)


def _examples(letters: Letters) -> Markup:
    items = []
    for one in letters.examples:
        # `bdi`: a text may turn the direction of reading, but only its own.
        message, source = (tag("bdi", short(one[name])) for name in ("message", "source"))
        key = "no key" if one["key"] is None else f"key {tag('bdi', short(one['key'], 80))}"
        where = tag("span", Markup(f"{source} row {one['row']}, {key}"), "note")
        items.append(f"<li>{message}<br>{where}</li>")
    return Markup(f"<ul>{''.join(items)}</ul>")


# --- how to go on ----------------------------------------------------------------------------


def _reading(plan: Plan, layout: Layout, audit: dict[str, Any], trained: bool) -> Markup:
    """Where the results are, and how to open the fused data set."""
    places = [("records", "records")]
    if any("features" in counts for counts in audit["modalities"].values()):
        places.append(("features", "features"))
    if audit["data_set"]:
        places.append(("fused data set", "fused"))
    if trained or plan.fitted is not None:
        places.append(("predictions", "predictions"))
    if trained:
        places += [("model", "model/model.json"), ("metrics", "report/metrics.json")]
    rows = [[words, tag("code", layout.at(path))] for words, path in places]
    parts: list[str] = [table("Where the results are.", ["", "path"], rows)]
    if audit["data_set"]:
        parts.append(
            "<p>The fused data set is plain Parquet, one row a key: <code>key</code>, "
            "<code>label</code>, <code>group</code>, <code>split</code>, <code>fold</code>, "
            "<code>present</code> (one flag a modality) and <code>fused</code>, the vector. Names "
            "of its dimensions are in the schema's metadata.</p>"
        )
        for tool, code in snippets(layout.at("fused")).items():
            parts += [tag("h3", tool), f"<pre><code>{escape(code)}</code></pre>"]
    return section("How to read the results", *parts)


def snippets(folder: str) -> dict[str, str]:
    """Python that opens a fused data set, by the name of the tool."""
    files = glob.escape(folder) + "/*.parquet"
    sql = "SELECT split, label, count(*) AS keys FROM '{}' GROUP BY ALL ORDER BY ALL"
    query = sql.format(files.replace("'", "''"))
    return {
        "pandas": (
            "import numpy as np\nimport pandas as pd\n\n"
            f"frame = pd.read_parquet({folder!r})\n"
            'X = np.stack(frame["fused"])  # keys x dimensions'
        ),
        "Polars": (
            f"import polars as pl\n\nframe = pl.read_parquet({files!r})\n"
            'X = frame["fused"].to_numpy()  # keys x dimensions'
        ),
        "DuckDB": f"import duckdb\n\nduckdb.sql({query!r})",
    }
