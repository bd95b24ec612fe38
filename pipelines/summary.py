"""What is printed: the plan before a run, and the summary after it."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.planning import Checked
from pipelines.report_scores import number
from schemas import storage
from schemas.layout import Layout
from schemas.options.base import Options
from schemas.options.fuse import Compare, Deep, Strategy
from schemas.plan import Plan
from schemas.problems import counted
from schemas.recipe import TARGET


def print_plan(checked: Checked, console: Console) -> None:
    """The plan of a recipe that was found right."""
    plan, recipe = checked.plan, checked.plan.recipe
    table = Table(box=None, pad_edge=False)
    for heading in ("modality", "kind", "files", "rows", "extract", "duplicates"):
        table.add_column(heading, justify="right" if heading in ("files", "rows") else "left")
    for modality in plan.modalities:
        table.add_row(
            modality.name,
            modality.recipe.kind,
            f"{len(modality.source.files):,}",
            f"{checked.rows[modality.name]:,}",
            ", ".join(name for name, _ in modality.recipe.extract.named()),
            modality.recipe.duplicates,
        )
    console.print(f"Recipe {recipe.name} is right.\n")
    console.print(table)
    how = recipe.join.how if isinstance(recipe.join.how, str) else f"left: {recipe.join.how.left}"
    lines = [
        f"join     {how}, missing: {recipe.join.missing}",
        f"fuse     {describe_fuse(recipe.fuse)}",
    ]
    if recipe.target is not None:
        rows = checked.rows[TARGET]
        lines.append(
            f"target   {recipe.target.column} ({recipe.target.task}), {counted(rows, 'row')}"
        )
        group = f", groups of {recipe.split.group} kept whole" if recipe.split.group else ""
        folds = "one a group" if recipe.split.folds == "group" else recipe.split.folds
        lines.append(f"split    test {recipe.split.test_share:.0%}, folds: {folds}{group}")
    lines += [f"buckets  {plan.buckets}", f"output   {plan.output}"]
    console.print("\n" + "\n".join(lines))
    for note in checked.notes:
        console.print(f"note: {note}")


def describe_fuse(fuse: Options) -> str:
    """A strategy in a few words."""
    if isinstance(fuse, Compare):
        return f"compare {', '.join(fuse.strategies)}"
    if isinstance(fuse, Deep):
        return f"deep, {fuse.dimension} dimensions, {fuse.pooling} pooling, scale: {fuse.scale}"
    assert isinstance(fuse, Strategy)
    words = [str(getattr(fuse, "method", ""))]
    if getattr(fuse, "of", None) == "decisions":
        words.append(f"decisions by the {getattr(fuse, 'rule', '')} rule")
    return ", ".join([*words, f"scale: {fuse.scale}"])


def print_summary(plan: Plan, upto: str, console: Console) -> None:
    """Counts, scores and where the results are."""
    layout = Layout(plan.output, plan.buckets)
    audit = json.loads(storage.read_bytes(layout.audit))
    console.print()
    console.print(_counts(audit))
    data_set = audit["data_set"]
    if data_set:
        dropped = f", {data_set['dropped']:,} dropped by the join" if data_set["dropped"] else ""
        unused = data_set["labels_without_records"]
        text = f"\n{counted(data_set['keys'], 'key')} = {data_set['fused']:,} fused{dropped}"
        if plan.target is not None:
            text += f"; {data_set['labelled']:,} with a label"
            text += f", {counted(unused, 'label')} without records" if unused else ""
        console.print(text + ". The audit balances.")
    else:
        console.print("\nThe audit balances.")
    if upto == "train":
        console.print()
        console.print(_scores(json.loads(storage.read_bytes(layout.metrics))))
    console.print()
    for words, path in _places(plan, layout, audit, upto):
        console.print(f"{words:<13}{path}")


def _counts(audit: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    lines = {name: _by_step(counts) for name, counts in audit["modalities"].items()}
    columns = max(lines.values(), key=len)
    table.add_column("")
    for column in columns:
        table.add_column(column.split(": ")[-1], justify="right")
    for modality, line in lines.items():
        table.add_row(modality, *(f"{line[c]:,}" if c in line else "" for c in columns))
    return table


def _by_step(counts: dict[str, int]) -> dict[str, int]:
    """Counts of a modality, with each step's dead letters beside what they add up with."""
    early = counts["rows"] - counts["records"] - counts["duplicates"]
    line = {name: counts[name] for name in ("rows", "records", "duplicates")}
    line["ingest: dead letters"] = early
    if "features" in counts:
        line |= {name: counts[name] for name in ("features", "pooled")}
        line["extract: dead letters"] = counts["dead_letters"] - early
    if "present" in counts:
        line["present"] = counts["present"]
    return line


def _scores(metrics: dict[str, Any]) -> Table:
    """Fused beside each modality alone, in cross-validation and on the test split, if any."""
    classes = metrics["task"] == "classification"
    names = ["accuracy", "balanced_accuracy", "log_loss"] if classes else ["r2", "mae", "rmse"]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("model")
    for name in names:
        table.add_column(f"{name.replace('_', ' ')}", justify="right")
    tested = bool(metrics["fused"]["test"])
    if tested:
        table.add_column(f"test {names[0]}", justify="right")
    rows = {"fused": metrics["fused"] | {"chosen": metrics["chosen"]}} | metrics["modalities"]
    for label, found in rows.items():
        cross, test = found["cross_validation"], found["test"] or {}
        options = ", ".join(f"{k}={v}" for k, v in found["chosen"]["options"].items())
        table.add_row(
            label,
            f"{found['chosen']['model']} {options}",
            *(number(name, cross[name]) for name in names),
            *([number(names[0], test.get(names[0]))] if tested else []),
        )
    table.caption = f"cross-validation over {metrics['folds']} folds"
    if tested:
        table.caption += "; test: rows set aside"
    table.caption_justify = "left"
    return table


def _places(plan: Plan, layout: Layout, audit: dict[str, Any], upto: str) -> list[tuple[str, str]]:
    places = [("records", layout.at("records"))]
    if upto != "ingest":
        places.append(("features", layout.at("features")))
    if upto in ("fuse", "train"):
        places.append(("data set", layout.at("fused")))
    if plan.fitted is not None:
        places.append(("predictions", layout.at("predictions")))
    if upto == "train":
        places += [("model", layout.model), ("metrics", layout.metrics)]
    if any(counts["dead_letters"] for counts in audit["modalities"].values()):
        places.append(("dead letters", layout.at("dead_letters")))
    return [*places, ("report", layout.report)]
