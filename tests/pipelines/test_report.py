"""The report: what it says, that it is sound HTML, and that nothing in it can be taken for HTML."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from report_outputs import (
    BUCKETS,
    Page,
    learn,
    make_plan,
    write_audit,
    write_fused,
    write_letters,
    write_metrics,
)

from pipelines.report import snippets, write_report
from schemas.layout import Layout
from schemas.loading import load_recipe
from schemas.plan import Plan
from transforms.extractors.base import BadRecord
from transforms.records.letters import dead_letters, write_dead_letters

NASTY = "<script>alert('x')</script>&amp;\"' \u202e"


def report(plan: Plan) -> Page:
    write_report(plan)
    return Page(Path(Layout(plan.output, plan.buckets).report).read_text(encoding="utf-8"))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """An output with everything a report can show."""
    plan = make_plan(tmp_path / "out")
    write_audit(plan)
    write_letters(plan)
    write_fused(plan)
    return plan


# --- tests -------------------------------------------------------------------------------------


def test_a_whole_run(plan: Plan) -> None:
    metrics = learn(plan)
    page = report(plan)
    for found in (metrics["fused"], *metrics["modalities"].values()):
        for part in ("cross_validation", "test"):
            for name in ("accuracy", "balanced_accuracy", "log_loss", "brier"):
                assert f"{found[part][name]:.3f}" in page.text
    for candidate in metrics["candidates"]:
        assert f"{candidate['score']:.3f}" in page.text
    assert "joined by key (outer join), fused (concatenate) and used to train" in page.text
    fused, alone = (
        m["cross_validation"]["accuracy"]
        for m in (metrics["fused"], metrics["modalities"]["image"])
    )
    assert (fused > alone) == ("above the best modality alone (image" in page.text)
    assert "✓ Balanced" in page.text
    assert "Not balanced" not in page.text
    assert "dimensions" in page.text
    assert "99.3%" in page.text  # 149 of 150 keys have an image
    assert "✓ chosen" in page.text


def test_modalities_are_listed_from_the_best(plan: Plan) -> None:
    metrics = learn(plan)
    metrics["modalities"]["image"]["cross_validation"]["accuracy"] = 0.0
    write_metrics(plan, metrics)
    page = report(plan)
    told = [svg["aria-label"] for svg in page.all("svg") if svg.get("role") == "img"]
    assert [words.partition(":")[0] for words in told if words] == ["fused", "audio", "image"]


def test_it_is_one_file_that_loads_nothing_and_is_the_same_again(plan: Plan) -> None:
    learn(plan)
    page = report(plan)
    path = Path(Layout(plan.output, plan.buckets).report)
    first = path.read_bytes()
    write_report(plan)
    assert path.read_bytes() == first
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "a")
        assert not {"src", "href", "data"} & set(attrs)
        assert not any(name.startswith("on") for name in attrs)
    assert not re.search(r"url\(|@import|https?:", first.decode())


def test_tables_and_drawings_have_names(plan: Plan) -> None:
    learn(plan)
    page = report(plan)
    assert len(page.all("caption")) == len(page.all("table")) > 5
    assert all(th["scope"] in ("col", "row", "colgroup") for th in page.all("th"))
    outer = [svg for svg in page.all("svg") if svg.get("class") != "at"]
    assert all("aria-label" in s or s.get("aria-hidden") == "true" or s == {} for s in outer)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1


def test_confusion_matrix_has_numbers_and_shares(plan: Plan) -> None:
    metrics = learn(plan)
    found = metrics["fused"]["test"]["confusion"]
    page = report(plan)
    cells = [td for td in page.all("td") if "predicted" in (td.get("title") or "")]
    shown = [td["title"] for td in cells]
    expected = []
    for label, row in zip(found["labels"], found["matrix"], strict=True):
        for other, count in zip(found["labels"], row, strict=True):
            share = f"{count / sum(row):.1%}" if sum(row) else "-"
            expected.append(f"{share} of {sum(row)} {label}: predicted {other}")
    assert shown == expected
    assert f"Confusion matrix of {metrics['rows']['test']} test rows" in page.text


def test_without_a_test_the_confusion_is_out_of_fold(plan: Plan) -> None:
    metrics = learn(plan)
    for found in (metrics["fused"], *metrics["modalities"].values()):
        found["test"] = None
    metrics["rows"]["test"] = 0
    write_metrics(plan, metrics)
    page = report(plan)
    assert "training rows, predicted out of fold" in page.text
    assert "on the test" not in page.text


@pytest.mark.parametrize("classes", [2, 40])
def test_a_matrix_of_few_and_many_classes(plan: Plan, classes: int) -> None:
    learn(plan, labels=[f"class number {i}" for i in range(classes)], n=classes * 20)
    page = report(plan)
    assert (
        len([td for td in page.all("td") if "predicted" in (td.get("title") or "")]) == classes**2
    )


def test_more_classes_than_a_matrix_can_show(plan: Plan) -> None:
    metrics = learn(plan, labels=[f"c{i:02d}" for i in range(41)], n=410)
    page = report(plan)
    matrix = np.array(metrics["fused"]["test"]["confusion"]["matrix"])
    errors = matrix.sum() - np.trace(matrix)
    assert f"The most frequent of {errors} errors in {matrix.sum()} test rows" in page.text


def test_labels_that_training_never_saw(plan: Plan) -> None:
    metrics = learn(plan)
    metrics["fused"]["test"]["unseen_labels"] = {"dog": 3}
    write_metrics(plan, metrics)
    assert "3 test rows with a label that no training row has: dog (3)." in report(plan).text


def test_a_model_that_did_not_converge_is_told(plan: Plan) -> None:
    metrics = learn(plan)
    assert "did not converge" not in report(plan).text
    metrics["modalities"]["audio"]["converged"] = False
    write_metrics(plan, metrics)
    assert "✗ did not converge" in report(plan).text


def test_regression(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out", task="regression")
    write_audit(plan)
    write_letters(plan)
    metrics = learn(plan, task="regression")
    page = report(plan)
    for name in ("R²", "MAE", "RMSE"):
        assert name in page.text
    assert f"{metrics['fused']['cross_validation']['r2']:.3f}" in page.text
    assert f"{metrics['fused']['test']['rmse']:,.0f}" in page.text
    assert "Confusion" not in page.text
    assert "predict digit" in page.text


def test_scores_far_below_zero_or_not_defined(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out", task="regression")
    write_audit(plan)
    write_letters(plan)
    metrics = learn(plan, task="regression")
    metrics["modalities"]["audio"]["cross_validation"]["r2"] = -7.5
    metrics["fused"]["test"]["r2"] = None
    metrics["fused"]["cross_validation"]["per_fold"][0]["r2"] = None
    write_metrics(plan, metrics)
    page = report(plan)
    assert "-7.500" in page.text
    assert "Values below -1 are drawn at -1." in page.text
    assert "of 4 folds" in page.text
    for shape in page.all("rect") + page.all("circle"):
        for name in ("x", "cx", "width"):
            if (shape.get(name) or "").endswith("%"):
                assert 0 <= float(str(shape[name])[:-1]) <= 100


def test_what_rounds_to_zero_has_no_sign(plan: Plan) -> None:
    metrics = learn(plan)
    metrics["fused"]["cross_validation"]["log_loss"] = -0.0
    metrics["candidates"][0]["log_loss"] = -1e-9
    metrics["understanding"]["shapley"]["values"]["image"] = -1e-9
    write_metrics(plan, metrics)
    page = report(plan)
    assert "-0.000" not in page.text
    assert "image +0.000" in page.text


def test_one_modality_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out", modalities=("image",))
    write_audit(plan)
    write_letters(plan)
    learn(plan)
    page = report(plan)
    assert "There is one modality" in page.text
    assert len([svg for svg in page.all("svg") if svg.get("role") == "img"]) == 1


def test_no_target(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out", task=None)
    write_audit(plan)
    write_letters(plan)
    page = report(plan)
    assert "no model was trained" in page.text
    assert "accuracy" not in page.text
    assert "✓ Balanced" in page.text


def test_metrics_of_another_recipe_are_not_shown(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out")
    write_audit(plan)
    write_letters(plan)
    learn(plan)
    assert "Candidates" in report(plan).text
    for other in (
        replace(plan, recipe=plan.recipe.model_copy(update={"train": None})),
        replace(plan, fitted="/somewhere/trained"),
    ):
        assert "Candidates" not in report(other).text


def test_prediction(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out", task=None, fitted="/somewhere/trained")
    write_audit(plan)
    write_letters(plan)
    page = report(plan)
    assert "Prediction: digits" in page.text
    assert "predicted by the model of /somewhere/trained" in page.text
    assert str(tmp_path / "out" / "predictions") in page.text


@pytest.mark.parametrize(("upto", "did"), [("ingest", "ingested"), ("extract", "into features")])
def test_a_run_that_stopped_early(tmp_path: Path, upto: str, did: str) -> None:
    plan = make_plan(tmp_path / "out")
    # Letters of extraction may be there from a former run: `ingest` alone does not count them.
    write_audit(plan, upto=upto, late=1)
    write_letters(plan)
    page = report(plan)
    assert did in page.text
    assert "✓ Balanced" in page.text
    assert "pandas" not in page.text
    assert ("pooled" in page.text) == (upto == "extract")


def test_zero_keys(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out", task=None)
    write_audit(plan, keys=0)
    page = report(plan)
    assert "keys in the fused data set 0" in page.text
    assert "how many of the 0 keys have it" in page.text
    assert "None: every row could be used." in page.text
    assert "nan" not in page.text


def test_without_an_audit_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"audit\.json"):
        write_report(make_plan(tmp_path / "out"))


def test_what_does_not_add_up_is_told(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out")
    write_audit(plan, dropped=5)
    write_letters(plan)
    page = report(plan)
    assert "Not balanced: keys are not fused + dropped by the join" in page.text.replace("✗ ", "")
    assert "Balanced: nothing" not in page.text


def test_dead_letters_that_are_gone_are_told(plan: Plan) -> None:
    Path(Layout(plan.output, BUCKETS).dead_letters("extract", "image", 0)).unlink()
    page = report(plan)
    assert "image: 4 dead letters were counted, but the files in dead_letters hold 3" in page.text
    assert "✗ not balanced" in page.text


def test_dead_letters_by_kind_with_the_first_of_each(plan: Plan) -> None:
    page = report(plan)
    assert "image: 4 of 155 rows (2.6%)" in page.text
    first = page.text.split("image: 4 of 155 rows")[1]
    assert first.index("no_key") < first.index("missing_file")  # two of them come before one
    assert "a.csv row 18, no key" in page.text
    assert "a.csv row 17, key d0001" in page.text
    assert "not an image 1" in page.text


def test_any_number_of_kinds_keeps_the_page_small(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "out", modalities=("image",), task=None)
    write_audit(plan)
    write_letters(plan)
    many = 1000
    rows = pa.table(
        {
            "key": [f"k{i}" for i in range(many)],
            "source": ["a.csv"] * many,
            "row": pa.array(range(many), pa.int64()),
        }
    )
    wrong = [BadRecord(f"kind_{i}", "x" * 10_000) for i in range(many)]
    path = Layout(plan.output, BUCKETS).dead_letters("extract", "image", 9)
    write_dead_letters(path, [dead_letters(rows, "extract", wrong)])
    page = report(plan)
    assert "the 20 most frequent of 1,003 kinds" in page.text
    assert Path(Layout(plan.output, BUCKETS).report).stat().st_size < 60_000


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / NASTY.replace("/", "_"), column=NASTY)
    write_audit(plan)
    write_letters(plan, message=NASTY, key=NASTY)
    learn(plan, labels=["ant", NASTY, "</title></style><img src=x onerror=alert(1)>"])
    page = report(plan)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "a"}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    words = re.sub(r"\s+", " ", NASTY)
    assert page.text.count(words) >= 5  # target, labels, keys, messages, recipe


def test_the_recipe_is_there_and_loads(plan: Plan, tmp_path: Path) -> None:
    write_report(plan)
    page = Path(Layout(plan.output, BUCKETS).report).read_text()
    code = re.search(r"<summary>.*?<code>(.*?)</code>", page, re.S)
    assert code is not None
    (tmp_path / "recipe.yaml").write_text(html.unescape(code[1]))
    assert load_recipe(str(tmp_path / "recipe.yaml")) == plan.recipe


@pytest.mark.parametrize(
    ("tool", "module"), [("Polars", "polars"), ("DuckDB", "duckdb"), ("pandas", "pandas")]
)
@pytest.mark.parametrize("folder", ["out", "it's [odd]"])
def test_the_code_shown_reads_the_data_set(
    tmp_path: Path, tool: str, module: str, folder: str
) -> None:
    pytest.importorskip(module)
    plan = make_plan(tmp_path / folder)
    write_audit(plan)
    write_letters(plan)
    write_fused(plan)
    code = snippets(str(tmp_path / folder / "fused"))[tool]
    assert re.sub(r"\s+", " ", code) in report(plan).text
    shown = "print(X.shape)" if tool != "DuckDB" else ""
    body = (
        code
        if tool != "DuckDB"
        else code.replace("duckdb.sql(", "print(duckdb.sql(") + ".fetchall())"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{body}\n{shown}"], capture_output=True, text=True, check=True
    )
    expected = "(48, 12)" if tool != "DuckDB" else "('train', 'ant', 16)"
    assert expected in done.stdout


def test_a_browser_shows_it(plan: Plan, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium, which is not installed")
    metrics = learn(plan)
    write_report(plan)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    path = Path(Layout(plan.output, BUCKETS).report)
    done = subprocess.run(
        [*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    dom = done.stdout
    assert f"{metrics['fused']['cross_validation']['accuracy']:.3f}" in dom
    # The browser's own reading has the same tables: nothing was closed or moved on the way.
    for tag in ("table", "tr", "td", "th", "svg", "rect", "section", "li"):
        assert len(re.findall(f"<{tag}[ >]", dom)) == len(Page(path.read_text()).all(tag)), tag
