"""The report on strategies: which was taken and why, models of several parts, what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from report_outputs import Page, learn, make_plan, write_audit, write_letters

from pipelines.report import write_report
from schemas.layout import Layout
from schemas.options.fuse import Average, Compare, Fuse
from schemas.plan import Plan

COMPARE = {
    "method": "compare",
    "strategies": {
        "side by side": {"method": "concatenate"},
        "shared space": {"method": "average", "dimension": 4},
        "a model each": {"method": "weighted", "of": "decisions", "weights": "stacking"},
    },
}


def fuse(written: dict[str, Any]) -> Any:
    return TypeAdapter(Fuse).validate_python(written)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    plan = make_plan(tmp_path / "out", ("image", "audio", "text"))
    write_audit(plan)
    write_letters(plan)
    return plan


def report(plan: Plan) -> Page:
    write_report(plan)
    return Page(Path(Layout(plan.output, plan.buckets).report).read_text(encoding="utf-8"))


def test_strategies_compared_are_told_with_the_reason(plan: Plan) -> None:
    assert isinstance(fuse(COMPARE), Compare)
    metrics = learn(plan, fuse=fuse(COMPARE))
    found = metrics["strategy"]
    assert [line["name"] for line in found["strategies"]] == list(COMPARE["strategies"])
    page = report(plan)
    assert "Strategies compared" in page.text
    assert found["reason"] in page.text
    assert found["chosen"] in found["reason"]
    for line in found["strategies"]:
        assert f"{line['name']} {line['score']:.3f}" in page.text


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_models_of_several_parts(tmp_path: Path, task: str) -> None:
    plan = make_plan(tmp_path / "out", task=task)
    write_audit(plan)
    write_letters(plan)
    metrics = learn(plan, task, fuse=Average(method="average", of="decisions"))
    page = report(plan)
    rule = "product rule" if task == "classification" else "mean rule"
    assert f"{rule}, models=2" in page.text
    assert "Compared on the parts of the fused vector" in page.text
    assert page.text.count("✓ chosen") == len(metrics["heads"]) == 2
    assert "Strategies compared" not in page.text


def test_what_scores_are_made_of(plan: Plan) -> None:
    metrics = learn(plan)
    found = metrics["understanding"]
    page = report(plan)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    low, high = found["intervals"]["cross_validation"]["intervals"]["accuracy"]
    assert low <= metrics["fused"]["cross_validation"]["accuracy"] <= high
    assert f"{low:.3f} to {high:.3f} (95% interval by a bootstrap" in page.text
    assert len(found["subsets"]) == 7
    for line in found["subsets"]:
        assert " + ".join(line["modalities"]) in page.text
    shapley = found["shapley"]
    assert sum(shapley["values"].values()) == pytest.approx(shapley["total"] - shapley["nothing"])
    for value in shapley["values"].values():
        assert f"{value:+.3f}" in page.text
    scores = [line["score"] for line in found["removal"]]
    assert scores[0] >= scores[-1]
    assert all(f"{score:.3f}" in page.text for score in scores)
    assert "image and audio" in page.text
    assert "Expected calibration error" in page.text
