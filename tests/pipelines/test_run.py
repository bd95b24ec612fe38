"""The whole flow on the example: results, same bytes, resuming, redoing only what changed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from flows import ROOT, hashes, must, sensorium, table, times

from pipelines.example import write_digits
from schemas.tables import matrix


def test_fusion_beats_every_modality_alone(finished: Path) -> None:
    metrics = json.loads((finished / "output/report/metrics.json").read_text())
    fused = metrics["fused"]["cross_validation"]["accuracy"]
    alone = {n: m["cross_validation"]["accuracy"] for n, m in metrics["modalities"].items()}
    assert set(alone) == {"image", "sound", "note", "facts"}
    assert fused > max(alone.values())
    for name in ("accuracy", "balanced_accuracy", "log_loss", "brier"):
        assert np.isfinite(metrics["fused"]["test"][name])
    assert (finished / "output/model/model.skops").stat().st_size > 0


def test_audit_balances_and_agrees_with_the_files(finished: Path) -> None:
    output = finished / "output"
    audit = json.loads((output / "report/audit.json").read_text())
    assert audit["balanced"]
    assert audit["problems"] == []
    for name, counts in audit["modalities"].items():
        rows = len(table(output, f"records/{name}"))
        assert counts["records"] == rows
        if name != "target":
            assert counts["features"] == len(table(output, f"features/{name}"))
            dead = [
                pq.read_table(file)
                for file in sorted((output / "dead_letters").rglob(f"{name}/bucket-*.parquet"))
            ]
            assert counts["dead_letters"] == sum(map(len, dead))
    assert audit["data_set"]["fused"] == len(table(output, "fused"))
    assert sum(counts["dead_letters"] for counts in audit["modalities"].values()) > 0
    assert sum(counts["duplicates"] for counts in audit["modalities"].values()) > 0


def test_fused_files_open_in_other_tools(finished: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    files = str(finished / "output/fused/*.parquet")
    ours = table(finished / "output", "fused")
    frame = pl.read_parquet(files)
    assert frame.height == len(ours)
    assert frame["fused"].dtype == pl.Array(pl.Float32, ours.schema.field("fused").type.list_size)
    rows = duckdb.sql(f"select count(*), count(distinct key) from '{files}'").fetchall()[0]
    assert rows == (len(ours), len(ours))
    names = json.loads(ours.schema.metadata[b"names"])
    slices = json.loads(ours.schema.metadata[b"slices"])
    assert len(names) == ours.schema.field("fused").type.list_size
    assert slices["image"][0] == 0
    assert max(stop for _, stop in slices.values()) == len(names)


def test_keys_are_sorted_and_masks_agree_with_the_features(finished: Path) -> None:
    for file in sorted((finished / "output/fused").glob("*.parquet")):
        keys = pq.read_table(file).column("key").to_pylist()
        assert keys == sorted(keys)
    fused = table(finished / "output", "fused")
    for name in ("image", "sound", "note", "facts"):
        has = {
            k
            for k, p in zip(fused["key"].to_pylist(), fused["present"].to_pylist(), strict=True)
            if p[name]
        }
        assert has == set(table(finished / "output", f"features/{name}")["key"].to_pylist())


def test_scaled_training_rows_have_mean_zero_and_missing_ones_are_zero(finished: Path) -> None:
    fused = table(finished / "output", "fused")
    start, stop = json.loads(fused.schema.metadata[b"slices"])["sound"]
    values = matrix(fused["fused"])[:, start:stop]
    present = np.array([p["sound"] for p in fused["present"].to_pylist()])
    training = np.array(fused["split"].to_pylist()) == "train"
    assert not values[~present].any()
    assert np.abs(values[present & training].mean(axis=0)).max() < 1e-4
    assert np.abs(values[present & ~training].mean(axis=0)).max() > 1e-3


def test_one_and_two_workers_write_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    must("fuse", finished / "recipe.yaml", "--to", tmp_path / "one", "--direct_num_workers=1")
    must("fuse", finished / "recipe.yaml", "--to", tmp_path / "two", "--direct_num_workers=2")
    one = hashes(tmp_path / "one")
    assert one == hashes(tmp_path / "two")
    assert one == hashes(finished / "output")
    assert {name.split("/")[0] for name in one} == {"records", "features", "fused", "fitted"}


def test_another_order_of_rows_gives_the_same_content(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "shuffled", ignore=_no_output))
    rng = random.Random(5)
    for name in ("images.csv", "table.csv", "labels.csv"):
        first, *rows = (folder / name).read_text().splitlines()
        # Which of two duplicates comes first is part of the content, so their order is kept.
        order = sorted(rows, key=lambda row: row.split(",")[0])
        groups: dict[str, list[str]] = {}
        for row in order:
            groups.setdefault(row.split(",")[0], []).append(row)
        # From `rows`, since sorting is stable only in the order they had.
        groups = {k: [r for r in rows if r.split(",")[0] == k] for k in groups}
        keys = list(groups)
        rng.shuffle(keys)
        (folder / name).write_text("\n".join([first, *(r for k in keys for r in groups[k])]) + "\n")
    must("fuse", folder / "recipe.yaml", "--to", folder / "output")
    assert hashes(folder / "output", "fused", "fitted") == hashes(
        finished / "output", "fused", "fitted"
    )


def _no_output(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "output"]


def test_a_second_run_does_nothing(finished: Path) -> None:
    before = times(finished / "output", ".")
    done = must("run", finished / "recipe.yaml", "--to", finished / "output")
    assert "Nothing to do" in done.stderr
    assert "accuracy" in done.stdout
    assert times(finished / "output", ".") == before


def test_a_changed_option_redoes_its_modality_and_what_follows(copy: Path) -> None:
    run = ["fuse", copy / "recipe.yaml", "--to", copy / "output"]
    must(*run)
    folders = ["records", "features/image", "features/note", "features/facts", "features/sound"]
    kept = times(copy / "output", *folders)
    fused = times(copy / "output", "fused")
    done = must(*run, "--set", "modalities.sound.extract.log_mel.segments=3")
    now = times(copy / "output", *folders)
    for name, time_ in now.items():
        assert (time_ == kept[name]) == (not name.startswith("features/sound")), name
    assert all(time_ > fused[name] for name, time_ in times(copy / "output", "fused").items())
    assert "extract image: done (as it was)" in done.stderr
    assert "extract sound: done\n" in done.stderr
    log = (copy / "output/run.log").read_text()
    assert log.count("extract sound, bucket") == 16
    assert "extract sound, bucket 0: done" in log
    assert "extract image, bucket 0: as it was" in log
    assert "ingest sound, bucket 0: as it was" in log
    assert "fuse fused, bucket 0: done" in log
    fresh = copy / "fresh"
    must(*run[:2], "--to", fresh, "--set", "modalities.sound.extract.log_mel.segments=3")
    assert hashes(fresh) == hashes(copy / "output")


def test_a_changed_payload_is_noticed(copy: Path) -> None:
    run = ["fuse", copy / "recipe.yaml", "--to", copy / "output"]
    must(*run)
    before = hashes(copy / "output", "features/image")
    records = table(copy / "output", "records/image")
    path = copy / records["uri"][0].as_py()
    other = copy / records["uri"][1].as_py()
    path.write_bytes(other.read_bytes())
    must(*run)
    after = hashes(copy / "output", "features/image")
    assert sum(before[name] != after[name] for name in before) == 1


def test_a_file_that_was_missing_is_taken_up(copy: Path) -> None:
    run = ["fuse", copy / "recipe.yaml", "--to", copy / "output"]
    must(*run)
    dead = table(copy / "output", "dead_letters/ingest/image").to_pylist()
    missing = next(letter for letter in dead if letter["kind"] == "missing_file")
    fine = table(copy / "output", "records/image")["uri"][0].as_py()
    shutil.copy(copy / fine, copy / missing["uri"])
    must(*run)
    assert missing["key"] in table(copy / "output", "features/image")["key"].to_pylist()


def test_deleted_files_are_made_again(copy: Path) -> None:
    run = ["fuse", copy / "recipe.yaml", "--to", copy / "output"]
    must(*run)
    before = hashes(copy / "output")
    for name in ("features/note", "fused"):
        next((copy / "output" / name).glob("*.parquet")).unlink()
    for name in ("report", "fitted"):
        shutil.rmtree(copy / "output" / name)
    scratch = copy / "output/scratch"  # what a killed run's workers wanted to pass on
    assert not scratch.exists()
    scratch.mkdir()
    (scratch / "old.rows").touch()
    must(*run)
    assert not scratch.exists()
    assert hashes(copy / "output") == before
    report = copy / "output/report/index.html"
    assert (page := report.read_bytes())
    report.unlink()
    assert "Nothing to do" in must(*run).stderr
    assert report.read_bytes() == page


@pytest.mark.slow
def test_another_recipe_leaves_nothing_of_the_old_one(copy: Path) -> None:
    run = ["fuse", copy / "recipe.yaml", "--to", copy / "output"]
    text = (copy / "recipe.yaml").read_text()
    must(*run)
    renamed = copy / "renamed.yaml"
    renamed.write_text(text.replace("\n  sound:\n", "\n  voice:\n"))
    must("fuse", renamed, "--to", copy / "output")
    for folder in ("records", "features", "receipts/ingest", "receipts/extract"):
        assert not (copy / "output" / folder / "sound").exists()
    must("fuse", renamed, "--to", copy / "fresh")
    assert hashes(copy / "fresh") == hashes(copy / "output")


def kill_and_finish(folder: Path, output: Path, seconds: float) -> int:
    """Start a run, kill its whole process group after some time, and run again."""
    command = [sys.executable, "-m", "pipelines.cli", "fuse", str(folder / "recipe.yaml")]
    process = subprocess.Popen(
        [*command, "--to", str(output)],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    must("fuse", folder / "recipe.yaml", "--to", output)
    return process.returncode


def check_kills(finished: Path, tmp_path: Path, kills: int, seed: int) -> None:
    expected = hashes(finished / "output")
    start = time.monotonic()
    must("fuse", finished / "recipe.yaml", "--to", tmp_path / "timed")
    whole = time.monotonic() - start
    rng, killed = random.Random(seed), 0
    for i in range(kills):
        output = tmp_path / f"killed-{i}"
        killed += kill_and_finish(finished, output, rng.uniform(0.2, whole)) != 0
        assert hashes(output) == expected
        left = [p for p in output.rglob("*") if p.name.endswith(".tmp")]
        assert left == []
        shutil.rmtree(output)
    assert killed > 0


def test_killed_runs_go_on_to_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    check_kills(finished, tmp_path, kills=1, seed=1)


@pytest.mark.slow
def test_twenty_killed_runs_go_on_to_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    check_kills(finished, tmp_path, kills=20, seed=2)


def test_embedded_payloads_give_the_same_features(finished: Path, tmp_path: Path) -> None:
    sets = [f"--set=modalities.{name}.payload=embed" for name in ("image", "sound")]
    must("fuse", finished / "recipe.yaml", "--to", tmp_path / "output", *sets)
    assert hashes(tmp_path / "output", "features", "fused") == hashes(
        finished / "output", "features", "fused"
    )
    record = table(tmp_path / "output", "records/image").slice(0, 1).to_pylist()[0]
    assert record["payload"] == (finished / record["uri"]).read_bytes()


@pytest.mark.slow
def test_steps_alone_add_up_to_the_whole(finished: Path, tmp_path: Path) -> None:
    for step, new in (("ingest", "records"), ("extract", "features"), ("fuse", "fused")):
        assert not (tmp_path / "output" / new).exists()
        must(step, finished / "recipe.yaml", "--to", tmp_path / "output")
    assert hashes(tmp_path / "output") == hashes(finished / "output")
    must("train", finished / "recipe.yaml", "--to", tmp_path / "output")
    for name in ("report/metrics.json", "model/model.skops"):
        ours, theirs = (folder / name for folder in (tmp_path / "output", finished / "output"))
        assert ours.read_bytes() == theirs.read_bytes()


def test_predictions_on_the_training_inputs_are_the_models(finished: Path, tmp_path: Path) -> None:
    from transforms.learning.predicting import load_trained, predictions_table

    # No labels are needed: the file with them is gone.
    folder = Path(shutil.copytree(finished, tmp_path / "new", ignore=_no_output))
    (folder / "labels.csv").unlink()
    must("predict", finished / "output", "--recipe", folder / "recipe.yaml", "--to", folder / "out")
    new = pl.read_parquet(folder / "out/predictions/*.parquet").sort("key")
    fused = table(finished / "output", "fused").sort_by("key")
    model = load_trained(str(finished / "output"))
    flags = fused["present"].to_pylist()
    present = np.array([[row[name] for name in model.modalities] for row in flags])
    expected = predictions_table(model, fused["key"], matrix(fused["fused"]), present)
    assert new["key"].to_list() == expected["key"].to_pylist()
    assert new["prediction"].to_list() == expected["prediction"].to_pylist()
    probabilities = np.array(expected["probabilities"].to_pylist())
    assert np.abs(np.array(new["probabilities"].to_list()) - probabilities).max() <= 1e-6
    labels = dict(zip(fused["key"].to_pylist(), fused["label"].to_pylist(), strict=True))
    right = [labels[k] == p for k, p in new.select("key", "prediction").iter_rows()]
    assert np.mean(right) > 0.8


def test_prediction_without_a_modality(finished: Path, tmp_path: Path) -> None:
    text = (finished / "recipe.yaml").read_text()
    import yaml

    recipe = yaml.safe_load(text)
    del recipe["modalities"]["sound"]
    for modality in recipe["modalities"].values():
        modality["source"]["path"] = str(finished / modality["source"]["path"])
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(recipe))
    args = ["--recipe", tmp_path / "new.yaml", "--to", tmp_path / "out"]
    must("predict", finished / "output", *args)
    new = table(tmp_path / "out", "fused")
    assert not any(p["sound"] for p in new["present"].to_pylist())
    assert new["fused"].type == table(finished / "output", "fused")["fused"].type
    assert len(pl.read_parquet(tmp_path / "out/predictions/*.parquet")) == len(new)


def test_prediction_refuses_other_options(finished: Path, tmp_path: Path) -> None:
    args = ["--recipe", finished / "recipe.yaml", "--to", tmp_path / "out"]
    change = "--set=modalities.sound.extract.log_mel.segments=7"
    done = sensorium("predict", finished / "output", *args, change)
    assert done.returncode == 2
    assert "modalities.sound" in done.stderr
    assert not (tmp_path / "out").exists()


def test_predictions_do_not_take_the_place_of_the_model(copy: Path) -> None:
    before = hashes(copy / "output", ".")
    (copy / "link").symlink_to(copy / "output")
    for to in ("output", "link"):
        args = ("--recipe", copy / "recipe.yaml", "--to", copy / to)
        done = sensorium("predict", copy / "output", *args)
        assert done.returncode == 2
        assert "holds the model" in done.stderr
    assert hashes(copy / "output", ".") == before


def test_predictions_need_a_trained_model(finished: Path, tmp_path: Path) -> None:
    args = ("--recipe", finished / "recipe.yaml", "--to", tmp_path / "out")
    done = sensorium("predict", tmp_path / "nothing", *args)
    assert done.returncode == 2
    assert done.stderr == (
        f"{tmp_path / 'nothing'} holds no trained model: run a recipe with a target there first\n"
    )


def test_predictions_need_all_that_was_learnt(copy: Path) -> None:
    for name in ("fitted/fusion.json", "fitted/note.npz"):
        (copy / "output" / name).unlink()
        args = ("--recipe", copy / "recipe.yaml", "--to", copy / "out")
        done = sensorium("predict", copy / "output", *args)
        assert done.returncode == 2
        assert done.stderr.startswith(f"{copy / 'output'} lacks {name}, which predictions need")


def test_the_report_names_files_that_are_there(finished: Path) -> None:
    page = (finished / "output/report/index.html").read_text()
    named = re.findall(rf"<code>({re.escape(str(finished))}[^<]*)</code>", page)
    assert str(finished / "output/model/model.json") in named
    assert all(Path(path).exists() for path in named)


def test_the_example_is_the_same_each_time(finished: Path, tmp_path: Path) -> None:
    write_digits(tmp_path / "again")
    assert hashes(tmp_path / "again", ".") == {
        name: digest for name, digest in hashes(finished, ".").items() if "output/" not in name
    }


def test_a_runner_named_on_the_command_line_writes_the_same_bytes(
    finished: Path, tmp_path: Path
) -> None:
    must("fuse", finished / "recipe.yaml", "--to", tmp_path / "out", "--runner=FnApiRunner")
    assert hashes(tmp_path / "out") == hashes(finished / "output")


def test_an_average_is_over_the_modalities_present(finished: Path, tmp_path: Path) -> None:
    options = "--set=fuse={method: average, dimension: 8, keep_modalities: true}"
    must("fuse", finished / "recipe.yaml", "--to", tmp_path / "out", options)
    fused = table(tmp_path / "out", "fused")
    assert matrix(fused["fused"]).shape == (len(fused), 8)
    assert json.loads(fused.schema.metadata[b"slices"]) == {"image+sound+note+facts": [0, 8]}
    for row in fused.to_pylist():
        for name, present in row["present"].items():
            assert any(row[name]) == present or name == "note"  # a text may have no known word
