"""What is printed after a run."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from report_outputs import learn, make_plan, write_audit, write_metrics
from rich.console import Console

from pipelines.commands import ERR, OUT
from pipelines.summary import print_summary
from schemas.plan import Plan


def summary(plan: Plan) -> str:
    out = io.StringIO()
    print_summary(plan, "train", Console(file=out, width=200))
    return out.getvalue()


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    plan = make_plan(tmp_path / "out")
    write_audit(plan)
    return plan


@pytest.mark.parametrize("console", [OUT, ERR])
def test_names_are_printed_as_they_are(console: Console) -> None:
    with console.capture() as said:
        console.print("/data/:cat:/[b]images[/b]")
    assert said.get() == "/data/:cat:/[b]images[/b]\n"


def test_what_rounds_to_zero_has_no_sign(plan: Plan) -> None:
    metrics = learn(plan)
    metrics["fused"]["cross_validation"]["log_loss"] = -0.0
    metrics["modalities"]["image"]["cross_validation"]["log_loss"] = -1e-9
    write_metrics(plan, metrics)
    told = summary(plan)
    assert " 0.000 " in told
    assert "-0.000" not in told


def test_rows_set_aside_are_spoken_of_where_there_are_any(plan: Plan) -> None:
    metrics = learn(plan)
    assert "test accuracy" in summary(plan)
    assert "over 5 folds; test: rows set aside" in summary(plan)
    for found in (metrics["fused"], *metrics["modalities"].values()):
        found["test"] = None
    write_metrics(plan, metrics)
    told = summary(plan)
    assert "over 5 folds" in told
    assert "set aside" not in told
    assert "test accuracy" not in told


def test_one_is_no_more_than_one(plan: Plan) -> None:
    learn(plan)
    write_audit(plan, keys=1, late=0, labels_without_records=1)
    assert "\n1 key = 1 fused; 1 with a label, 1 label without records." in summary(plan)
