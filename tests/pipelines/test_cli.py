"""The command line: exit codes, one-line causes, help, nothing of Beam's own noise."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from flows import must, sensorium


def test_help_names_every_command() -> None:
    text = must("--help").stdout
    for command in ("run", "validate", "ingest", "extract", "fuse", "train", "predict", "example"):
        assert f"  {command} " in text
    assert "--runner" in must("run", "--help").stdout


def test_schema_is_json() -> None:
    schema = json.loads(must("schema").stdout)
    assert "modalities" in schema["properties"]


def test_example_refuses_a_folder_with_files(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    done = sensorium("example", "digits", tmp_path)
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    assert sensorium("example", "digit", tmp_path / "new").returncode == 2


def test_the_next_command_that_the_example_prints_works_with_spaces(tmp_path: Path) -> None:
    line = must("example", "digits", "my digits", cwd=tmp_path).stdout
    assert line == "Written. Now run:  sensorium run 'my digits/recipe.yaml'\n"


def test_the_counts_printed_add_up_line_by_line(finished: Path) -> None:
    lines = must("run", finished / "recipe.yaml", "--to", finished / "output").stdout.splitlines()
    heading = next(i for i, line in enumerate(lines) if line.split()[:1] == ["rows"])
    assert re.split(r"\s{2,}", lines[heading].strip()) == [
        *("rows", "records", "duplicates", "dead letters"),
        *("features", "pooled", "dead letters", "present"),
    ]
    for line in lines[heading + 1 : heading + 5]:
        rows, records, duplicates, early, features, pooled, late, _ = map(int, line.split()[1:])
        assert rows == records + duplicates + early
        assert records == features + pooled + late


def test_tables_are_not_cut_where_there_is_no_window(finished: Path) -> None:
    args = ("run", finished / "recipe.yaml", "--to", finished / "output")
    lines = must(*args, variables={"COLUMNS": "40"}).stdout.splitlines()
    assert any("model" in line and "test accuracy" in line for line in lines)


def test_validate_prints_the_plan_and_writes_nothing(finished: Path, tmp_path: Path) -> None:
    done = must("validate", finished / "recipe.yaml", "--to", tmp_path / "out")
    assert "hog" in done.stdout
    assert "buckets  16" in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("modalities.image.extract.hog.sise=3", "did you mean 'size'"),
        ("modalities.image.source.path=image.csv", "nearest: 'images.csv'"),
        ("modalities.image.source.uri=fiel", "did you mean 'file'"),
        ("modalities.image.source.key=idd", "did you mean"),
        ("target.column=digits", "has no column 'digits'"),
        ("target.column=kind of it", "labels.csv has no column 'kind of it'; there are: "),
        ("modalities.note.extract={no.such.Extractor: {}}", "no.such"),
        ("split.folds=1", "at least 2"),
        ("name=../up", "name"),
    ],
)
def test_wrong_recipes_end_with_2_and_say_where(finished: Path, change: str, words: str) -> None:
    done = sensorium("validate", finished / "recipe.yaml", "--set", change)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_problems_found_in_files_name_the_line(copy: Path) -> None:
    text = (copy / "recipe.yaml").read_text()
    (copy / "recipe.yaml").write_text(text.replace("images.csv", "imagse.csv"))
    done = sensorium("validate", copy / "recipe.yaml")
    assert done.returncode == 2
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "images.csv" in row)
    assert f"recipe.yaml:{line}: modalities.image.source.path: " in done.stderr
    assert "images.csv" in done.stderr


def test_the_output_must_not_hold_other_files(copy: Path) -> None:
    (copy / "other").mkdir()
    (copy / "other/precious.txt").write_text("mine")
    done = sensorium("run", copy / "recipe.yaml", "--to", copy / "other")
    assert done.returncode == 2
    assert "holds other files" in done.stderr
    done = sensorium("run", copy / "recipe.yaml", "--to", copy)
    assert done.returncode == 2
    assert "choose another" in done.stderr
    assert (copy / "other/precious.txt").read_text() == "mine"
    # What a run leaves that is killed before anything else is nobody's.
    for name in (".job.json.123.tmp", "receipts/.state.json.123.tmp", "run.log"):
        (copy / "begun" / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / "begun" / name).touch()
    must("validate", copy / "recipe.yaml", "--to", copy / "begun")
    (copy / "begun/receipts/mine.pdf").touch()
    assert sensorium("validate", copy / "recipe.yaml", "--to", copy / "begun").returncode == 2


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux's /proc")
def test_an_output_that_cannot_be_written_is_told_before_any_work(finished: Path) -> None:
    done = sensorium("run", finished / "recipe.yaml", "--to", "/proc/self/output")
    assert done.returncode == 2
    assert "/proc/self/output cannot be written" in done.stderr
    assert "--to" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2  # a note and the cause


def test_an_output_that_is_an_input_is_a_file(copy: Path) -> None:
    done = sensorium("validate", copy / "recipe.yaml", "--to", copy / "images.csv")
    assert done.returncode == 2
    assert "images.csv is a file: choose a folder" in done.stderr
    done = sensorium("run", copy / "recipe.yaml", "--to", copy / "images.csv/output")
    assert done.returncode == 2
    assert f"would be below {copy / 'images.csv'}, which is a file" in done.stderr


def test_another_recipe_in_its_place_is_noted(copy: Path) -> None:
    to = ["--to", copy / "output"]
    words = "holds the output of recipe 'digits'"
    assert words not in must("validate", copy / "recipe.yaml", *to).stdout
    done = must("validate", copy / "recipe.yaml", *to, "--set", "name=others")
    assert words in done.stdout


def test_unknown_options_are_not_passed_over(finished: Path) -> None:
    done = sensorium("run", finished / "recipe.yaml", "--direct_num_wrokers=2")
    assert done.returncode == 2
    assert "did you mean '--direct_num_workers'" in done.stderr


def test_nothing_but_our_own_lines_is_printed(finished: Path) -> None:
    stdout, stderr = ((finished.parent / f"{n}.txt").read_text() for n in ("stdout", "stderr"))
    for line in stderr.splitlines():
        assert line.split(" s  ")[-1].startswith(("ingest", "extract", "fuse", "note:")) or (
            line.strip() == "train: done"
        ), line
    assert "data set" in stdout
    assert "The audit balances" in stdout


def test_a_failing_step_is_one_line_and_a_log(copy: Path) -> None:
    shutil.rmtree(copy / "output")
    (copy / "mine.py").write_text(
        "from transforms.extractors.base import Extractor\n"
        "class Broken(Extractor):\n"
        "    kind = 'text'\n"
        "    rounds = 1\n"
        "    def names(self): return ['x']\n"
        "    def partial(self, batch): raise RuntimeError('out of luck')\n"
    )
    text = (copy / "recipe.yaml").read_text()
    start = text.index("    extract:", text.index("  note:"))
    broken = (
        text[:start] + "    extract: {mine.Broken: {}}\n" + text[text.index("  # What one might") :]
    )
    (copy / "recipe.yaml").write_text(broken)
    done = sensorium("run", "recipe.yaml", "--to", "output", cwd=copy)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "out of luck" in last
    assert "note: fit" in last
    assert "Traceback" not in done.stderr
    log = copy / "output/run.log"
    assert str(log) in last
    assert "out of luck" in log.read_text()
    assert "Traceback" in log.read_text()
    # The same where nothing can be written to the log.
    log.unlink()
    log.symlink_to("/dev/full")
    done = sensorium("run", "recipe.yaml", "--to", "output", cwd=copy, timeout=60)
    assert (done.returncode, done.stderr.strip().splitlines()[-1]) == (1, last)
    assert "Traceback" not in done.stderr


def test_a_worker_that_dies_ends_the_run(copy: Path) -> None:
    (copy / "mine.py").write_text(
        "import os, signal\n"
        "from transforms.extractors.base import Extractor\n"
        "class Fatal(Extractor):\n"
        "    kind = 'text'\n"
        "    def names(self): return ['x']\n"
        "    def transform(self, batch): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    text = (copy / "recipe.yaml").read_text()
    start = text.index("    extract:", text.index("  note:"))
    fatal = (
        text[:start] + "    extract: {mine.Fatal: {}}\n" + text[text.index("  # What one might") :]
    )
    (copy / "recipe.yaml").write_text(fatal)
    done = sensorium("run", "recipe.yaml", "--to", "output", cwd=copy)
    assert done.returncode == 1
    assert "a worker process ended with signal 9" in done.stderr
    assert "Traceback" not in done.stderr
