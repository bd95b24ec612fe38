"""Outputs as a run would leave them, and a reader of HTML, for the tests of the report."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.layout import Layout
from schemas.options.models import Models
from schemas.plan import ModalityPlan, Plan, SourcePlan
from schemas.recipe import Recipe
from schemas.tables import fused_schema, vectors, write_table
from transforms.audit import audit_of
from transforms.extractors.base import BadRecord
from transforms.fusion.strategies import fit_rows
from transforms.fusion.trees import Tree
from transforms.learning.choosing import choose
from transforms.learning.problem import TrainingSet
from transforms.learning.training import judging, train
from transforms.records.letters import dead_letters, write_dead_letters

BUCKETS = 16
VOID = {"meta", "br", "link", "img", "hr"}
SHAPES = {"rect", "circle", "line", "path"}


def make_plan(
    output: Path,
    modalities: tuple[str, ...] = ("image", "audio"),
    task: str | None = "classification",
    column: str = "digit",
    **changes: Any,
) -> Plan:
    recipe: dict[str, Any] = {
        "name": "digits",
        "modalities": {
            name: {"kind": "vector", "source": {"path": f"{name}.csv", "key": "key"}}
            for name in modalities
        },
    }
    if task is not None:
        recipe["target"] = {
            "source": {"path": "labels.csv", "key": "key"},
            "column": column,
            "task": task,
        }
    parsed = Recipe.model_validate(recipe)
    source = SourcePlan(("/d/a.csv",), ("a.csv",), "csv", "key")
    plans = tuple(ModalityPlan(n, parsed.modalities[n], source) for n in modalities)
    plan = Plan(parsed, str(output), BUCKETS, plans, source if task else None, {})
    return replace(plan, **changes)


def write_audit(
    plan: Plan, keys: int = 150, upto: str = "fuse", late: int = 1, **more: int
) -> None:
    """An audit in which each modality loses 4 rows, `late` of them in extraction."""
    totals: dict[tuple[str, str, str], int] = {}

    def count(step: str, name: str, **counts: int) -> None:
        totals.update({(step, name, n): c for n, c in counts.items()})

    for name in plan.branches:
        early = 0 if name == "target" or not keys else 4 - late
        rows = keys + early + (2 if keys else 0)
        count("ingest", name, rows=rows, records=keys, duplicates=rows - keys - early)
        count("ingest", name, dead_letters=early)
        if name != "target" and upto != "ingest":
            lost = late if keys else 0
            count("extract", name, records=keys, features=keys - lost, pooled=0, dead_letters=lost)
    if upto == "fuse":
        count("fuse", "fused", keys=keys, fused=keys, dropped=0, labelled=keys)
        count("fuse", "fused", labels_without_records=0)
        for m in plan.modalities:
            count("fuse", "fused", **{f"present/{m.name}": keys - late if keys else 0})
    totals.update({("fuse", "fused", name): n for name, n in more.items()})
    data = json.dumps(audit_of(totals, plan))
    path = Path(Layout(plan.output, plan.buckets).audit)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data)


def write_letters(plan: Plan, message: str = "not an image", key: str = "d0001") -> None:
    """The 4 dead letters of each modality that `write_audit` counts."""
    layout = Layout(plan.output, plan.buckets)
    for m in plan.modalities:
        for step, kinds in (("ingest", ["missing_file", "no_key", "no_key"]), ("extract", ["odd"])):
            for i, kind in enumerate(kinds):
                row = pa.table(
                    {
                        "key": pa.array([None if kind == "no_key" else key], pa.string()),
                        "source": ["a.csv"],
                        "row": pa.array([17 + i], pa.int64()),
                    }
                )
                bad = [BadRecord(kind, f"{message} {i}")]
                write_dead_letters(
                    layout.dead_letters(step, m.name, i), [dead_letters(row, step, bad)]
                )


def learn(
    plan: Plan,
    task: Any = "classification",
    labels: list[str] | None = None,
    n: int = 150,
    fuse: Any = None,
) -> dict[str, Any]:
    """Train on synthetic vectors, in which the first modality tells more, and write the metrics."""
    rng = np.random.default_rng(1)
    names = tuple(m.name for m in plan.modalities)
    known = np.array(labels or ["ant", "bee", "cat"])
    code = np.arange(n) % len(known)
    blocks = {
        name: (
            rng.normal(size=(n, 12))
            + (1.5 if i == 0 else 0.6)
            * np.random.default_rng(i).normal(size=(len(known), 12))[code]
        ).astype(np.float32)
        for i, name in enumerate(names)
    }
    present = np.ones((n, len(names)), bool)
    test = rng.random(n) < 0.2
    data = TrainingSet(
        keys=np.array([f"k{i}" for i in range(n)]),
        labels=known[code] if task == "classification" else blocks[names[0]].sum(axis=1) * 1e4,
        fold=np.where(test, -1, rng.permutation(n) % 5).astype(np.int32),
        test=test,
        blocks=blocks,
        present=present,
        fit=lambda rows, part: fit_rows(
            Tree((part,)), "mean", blocks, present, rows, {m: list("abcdefghijkl") for m in names}
        ),
    )
    models = Models.model_validate(
        {"lda": {"shrinkage": ["auto", 0.5]}} if task == "classification" else {}
    )
    with judging(data, models, task) as heads:
        choice = choose(heads, fuse or plan.recipe.fuse)
        metrics = train(heads, choice.fuse).metrics
    if choice.report:
        metrics["strategy"] = choice.report
    write_metrics(plan, metrics)
    return metrics


def write_metrics(plan: Plan, metrics: dict[str, Any]) -> None:
    path = Path(Layout(plan.output, plan.buckets).metrics)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metrics))


def write_fused(plan: Plan) -> None:
    """Fused files of three rows each, six dimensions a modality."""
    names = [m.name for m in plan.modalities]
    layout, width = Layout(plan.output, plan.buckets), 6 * len(names)
    slices = {name: (6 * i, 6 * i + 6) for i, name in enumerate(names)}
    dims = [f"x{i}" for i in range(width)]
    schema = fused_schema(dict.fromkeys(names, 6), False, dims, slices, False)
    for bucket in range(plan.buckets):
        columns = [
            [f"k{bucket}-{i}" for i in range(3)],
            ["ant", "bee", None],
            [None] * 3,
            ["train", "test", "train"],
            pa.array([0, None, 1], pa.int32()),
            [dict.fromkeys(names, True)] * 3,
            vectors(np.ones((3, width), np.float32)),
        ]
        write_table(layout.fused(bucket), [pa.table(columns, schema=schema)], schema)


# --- reading it --------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks that every tag is closed in its order, and keeps text, tags and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SHAPES | VOID
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]
