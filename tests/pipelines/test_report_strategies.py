"""The report on strategies: which was taken and why, models of several parts, what is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from report_outputs import Page, learn, make_plan, write_audit, write_letters, write_metrics

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
    assert f"accuracy is {found['cross_validation']['score']:.3f}." in page.text
    for line in found["strategies"]:
        assert f"{line['name']} {line['score']:.3f}" in page.text


@pytest.mark.parametrize("tree", ["auto", "cka"])
def test_the_steps_to_a_tree_are_told(plan: Plan, tree: str) -> None:
    metrics = learn(plan, fuse=fuse({"method": "hierarchical", "tree": tree}))
    found, page = metrics["strategy"], report(plan)
    assert found["steps"][0]["groups"] == ["image", "audio", "text"]
    for step in found["steps"]:
        assert f"{' | '.join(step['groups'])} {step['score']:.3f}" in page.text
    assert f"accuracy is {found['cross_validation']['score']:.3f}." in page.text


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
    assert "The other" not in page.text
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


def test_of_many_sets_of_modalities_the_best_each_alone_and_all_are_shown(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out", tuple("abcdef"))
    write_audit(plan)
    write_letters(plan)
    metrics = learn(plan)
    sets = metrics["understanding"]["subsets"]
    for i, line in enumerate(sets):  # the more modalities, the better
        line["score"] = i / 100
    sets[-1]["score"] = None  # but all of them
    write_metrics(plan, metrics)
    _, text = report(plan).text.split("What each modality adds")
    shown, folded = (
        re.findall(r"\b\w(?: \+ \w)*(?= ✓ yes)", part) for part in text.split("The other 46 sets")
    )
    told = [" + ".join(line["modalities"]) for line in sets]
    assert shown == [*told[-2:-12:-1], *told[5::-1], told[-1]]
    assert folded == told[-12:5:-1]
