"""Recipes of real data sets, with the scores that they must reach.

The data are not part of the project: they are looked for in ../shared/data beside the checkout,
and these tests are skipped where they are not there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flows import ROOT, must, table

from infra.models.efficientnet_lite import write

DATA = ROOT.parent / "shared" / "data"
pytestmark = pytest.mark.slow


def run(name: str, output: Path, *arguments: str, data: str | None = None) -> dict[str, Any]:
    """Run a recipe and return its metrics."""
    if not (DATA / (data or name)).is_dir():
        pytest.skip(f"the data set {DATA / (data or name)} is not there")
    must("run", ROOT / "tests" / "recipes" / f"{name}.yaml", "--to", output, *arguments)
    audit = json.loads((output / "report/audit.json").read_text())
    assert audit["balanced"]
    assert audit["data_set"]["fused"] == len(table(output, "fused"))
    return json.loads((output / "report/metrics.json").read_text())


def accuracies(metrics: dict[str, Any]) -> tuple[float, dict[str, float]]:
    """Cross-validated accuracy, fused and of each modality alone."""
    alone = {n: m["cross_validation"]["accuracy"] for n, m in metrics["modalities"].items()}
    return metrics["fused"]["cross_validation"]["accuracy"], alone


def test_emoji(tmp_path: Path) -> None:
    fused, alone = accuracies(run("emoji", tmp_path / "output"))
    assert set(alone) == {"image", "text", "table"}
    assert fused >= 0.80
    assert fused > max(alone.values())


def test_emoji_network(tmp_path: Path) -> None:
    network = tmp_path / "network.onnx"
    write(network)
    place = f"modalities.image.extract.onnx.path={network}"
    metrics = run("emoji_network", tmp_path / "output", "--set", place, data="emoji")
    fused, alone = accuracies(metrics)
    assert alone["image"] >= 0.70
    assert fused > max(alone.values())


def test_digits_av(tmp_path: Path) -> None:
    metrics = run("digits_av", tmp_path / "output")
    fused, alone = accuracies(metrics)
    assert metrics["folds"] == 6
    assert fused >= 0.92
    assert alone["audio"] >= 0.82
    assert fused > max(alone.values())
    fused_rows = table(tmp_path / "output", "fused")
    speakers = set(
        zip(fused_rows["group"].to_pylist(), fused_rows["fold"].to_pylist(), strict=True)
    )
    assert len(speakers) == 6  # one fold a speaker, one speaker a fold


def test_digits_av_kernel(tmp_path: Path) -> None:
    metrics = run("digits_av_kernel", tmp_path / "output", data="digits_av")
    fused, alone = accuracies(metrics)
    assert alone["image"] >= 0.91  # 0.88 by planes
    assert fused >= 0.975
    assert fused > max(alone.values())


def test_mfeat(tmp_path: Path) -> None:
    fused, alone = accuracies(run("mfeat", tmp_path / "output"))
    assert len(alone) == 6
    assert fused >= 0.975


def test_wesnoth(tmp_path: Path) -> None:
    metrics = run("wesnoth", tmp_path / "output")
    audit = json.loads((tmp_path / "output/report/audit.json").read_text())
    assert audit["modalities"]["audio"]["pooled"] > 0
    present = {n: c.get("present") for n, c in audit["modalities"].items()}
    assert present["image"] < audit["data_set"]["fused"]
    assert present["audio"] < audit["data_set"]["fused"]
    fused, alone = accuracies(metrics)
    assert fused >= 0.70
    assert fused > max(alone.values())
