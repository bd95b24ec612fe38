"""Strategies chosen through the command line: why, what is redone, and what a kill leaves."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flows import ROOT, hashes, must, table, times
from test_trees_flow import check_predictions, compare_with_memory
from vectors import metrics_of, write_recipe, write_vectors

COMPARE = {
    "method": "compare",
    "strategies": {
        "side by side": {"method": "concatenate"},
        "product rule": {"method": "average", "of": "decisions"},
        "tree": {"method": "hierarchical"},
    },
}
WEIGHTS = {"method": "weighted", "dimension": 4}
AUTO = {"method": "hierarchical", "tree": "auto"}
CKA = {"method": "hierarchical", "tree": "cka"}


def strategy_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "fitted/strategy.json").read_text())


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set and a run that compares strategies, in `output`."""
    folder = tmp_path_factory.mktemp("compared")
    must("run", write_vectors(folder, COMPARE), "--to", folder / "output")
    return folder


@pytest.fixture
def copy(compared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compared, tmp_path / "copy"))


def everything(output: Path) -> dict[str, str]:
    return hashes(output, "records", "features", "fused", "fitted", "statistics", "model")


@pytest.mark.slow
def test_the_digits_compared(copy_of_digits: Path) -> None:
    output, recipe = copy_of_digits / "output", copy_of_digits / "recipe.yaml"
    features = times(output, "records", "features")
    sets = [f"--set=fuse={json.dumps(COMPARE)}", "--set=train={models: {lda: {}}}"]
    done = must("run", recipe, "--to", output, *sets)
    assert "choose the strategy" in done.stderr
    assert times(output, "records", "features") == features
    found, metrics = strategy_of(output), metrics_of(output)
    assert metrics["strategy"] == found["report"]
    assert [line["name"] for line in found["report"]["strategies"]] == list(COMPARE["strategies"])
    assert found["report"]["reason"] in (output / "report/index.html").read_text()
    alone = [m["cross_validation"]["accuracy"] for m in metrics["modalities"].values()]
    assert metrics["fused"]["cross_validation"]["accuracy"] > max(alone)
    before = times(output, ".")
    assert "Nothing to do" in must("run", recipe, "--to", output, *sets).stderr
    assert times(output, ".") == before


@pytest.fixture
def copy_of_digits(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "digits"))


def test_the_choice_is_told_and_what_follows_is_of_it(compared: Path, tmp_path: Path) -> None:
    output = compared / "output"
    found = strategy_of(output)
    report = found["report"]
    line = next(one for one in report["strategies"] if one["name"] == report["chosen"])
    metrics = metrics_of(output)
    assert metrics["fused"]["cross_validation"]["accuracy"] == line["score"]
    compare_with_memory(output, found["fuse"])
    check_predictions(compared, output, tmp_path / "new")
    assert "method: compare" not in (tmp_path / "new/recipe.yaml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("fuse", "asked"), [(AUTO, "steps"), (CKA, "steps"), (WEIGHTS, "weights")])
def test_other_strategies_redo_the_choice_and_what_follows(
    copy: Path, fuse: dict[str, Any], asked: str
) -> None:
    output = copy / "output"
    before = times(output, "records", "features")
    write_recipe(copy / "recipe.yaml", fuse)
    must("run", copy / "recipe.yaml", "--to", output)
    assert times(output, "records", "features") == before
    found = strategy_of(output)
    assert asked in found["report"]
    assert found["report"]["cross_validation"]["score"] > 0.4
    assert found["fuse"]["method"] == fuse["method"]
    compare_with_memory(output, found["fuse"])
    if fuse is not CKA:
        must("run", copy / "recipe.yaml", "--to", copy / "fresh", "--direct_num_workers=1")
        assert everything(copy / "fresh") == everything(output)
        assert metrics_of(copy / "fresh") == metrics_of(output)


@pytest.mark.slow
def test_other_models_and_other_rows_make_the_choice_anew(copy: Path) -> None:
    output, recipe = copy / "output", copy / "recipe.yaml"
    before = strategy_of(output)
    models = {"models": {"lda": {"shrinkage": [0.5]}}}
    write_recipe(recipe, COMPARE, train=models)
    features = times(output, "features")
    must("run", recipe, "--to", output)
    assert times(output, "features") == features
    after = strategy_of(output)
    assert after["fingerprint"] != before["fingerprint"]
    assert metrics_of(output)["candidates"][0]["options"] == {"shrinkage": 0.5}
    # Fewer labels, one of which is another.
    lines = (copy / "labels.csv").read_text().splitlines()
    (copy / "labels.csv").write_text("\n".join([*lines[:100], lines[100][:-1] + "a"]) + "\n")
    must("run", recipe, "--to", output)
    assert strategy_of(output)["fingerprint"] != after["fingerprint"]
    must("run", recipe, "--to", copy / "fresh")
    assert everything(copy / "fresh") == everything(output)


@pytest.mark.slow
def test_steps_before_the_choice_and_a_choice_that_is_gone(copy: Path) -> None:
    output, recipe = copy / "output", copy / "recipe.yaml"
    must("extract", recipe, "--to", copy / "steps")
    assert not (copy / "steps/fitted").exists()
    must("train", recipe, "--to", copy / "steps")
    assert everything(copy / "steps") == everything(output)
    before = everything(output)
    (output / "fitted/strategy.json").unlink()
    must("run", recipe, "--to", output)
    assert everything(output) == before


@pytest.mark.slow
@pytest.mark.parametrize("after", ["choose the strategy", "strategy.json"])
def test_a_kill_between_the_graphs(compared: Path, tmp_path: Path, after: str) -> None:
    output = tmp_path / "output"
    command = [sys.executable, "-m", "pipelines.cli", "run", str(compared / "recipe.yaml")]
    process = subprocess.Popen(
        [*command, "--to", str(output)],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert any("choose the strategy" in line for line in process.stderr)
    chosen = output / "fitted/strategy.json"
    while after == "strategy.json" and not chosen.exists() and process.poll() is None:
        pass
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    known = chosen.exists()
    features = times(output, "features")
    assert len(features) == 48
    done = must("run", compared / "recipe.yaml", "--to", output)
    assert times(output, "features") == features
    assert ("choose the strategy" in done.stderr) != known
    assert everything(output) == everything(compared / "output")
    assert metrics_of(output) == metrics_of(compared / "output")
    assert len(table(output, "fused")) == 150
