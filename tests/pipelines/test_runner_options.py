"""Options for Beam: from profiles and the command line, checked before anything is done."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from flows import sensorium

from pipelines.commands import Asked, run_recipe
from pipelines.options import RunnerOptions, runner_options
from schemas.problems import RecipeError

PROFILES = """\
profiles:
  cluster: &cluster
    shared: true
    beam:
      runner: flink
      flink_master: flink:8081
      flink_version: 1.20
      flink_submit_uber_jar: true
      no_auth: false
      experiments: [one, two]
      environment_type: PROCESS
      environment_config: {command: /opt/boot, env: {OMP_NUM_THREADS: 1}}
  laptop: {beam: {direct_num_workers: 1}}
"""


def options(folder: Path, *args: str, profile: str | None = "cluster") -> RunnerOptions:
    return runner_options(list(args), str(folder / "recipe.yaml"), profile)


def refusal(folder: Path, *args: str, profile: str | None = "cluster") -> str:
    with pytest.raises(RecipeError) as error:
        options(folder, *args, profile=profile)
    assert len(error.value.problems) == 1
    return str(error.value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with profiles, and none of the user's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "sensorium.yaml").write_text(PROFILES)
    return tmp_path


def test_a_profile_is_written_out_as_on_the_command_line(folder: Path) -> None:
    found = options(folder)
    assert found.shared
    assert found.remote
    assert found.runner == "FlinkRunner"
    assert "--flink_version=1.20" in found.args
    assert "--flink_submit_uber_jar" in found.args
    assert not any("no_auth" in arg for arg in found.args)
    assert found.values["experiments"] == ["one", "two"]
    config = json.loads(found.values["environment_config"])
    assert config == {"command": "/opt/boot", "env": {"OMP_NUM_THREADS": "1"}}


def test_the_command_line_is_passed_on_as_it_is_and_wins(folder: Path) -> None:
    given = ["--flink_master", "other:1", "--experiment=three", "--environment_type=EXTERNAL"]
    found = options(folder, *given)
    assert list(found.args[-4:]) == given
    assert found.values["flink_master"] == "other:1"
    assert found.values["experiments"] == ["three"]  # not added to those of the profile
    assert found.args.count("--environment_type=PROCESS") == 0
    assert found.values["flink_version"] == "1.20"


def test_the_users_own_file_is_looked_at_after_the_one_beside_the_recipe(folder: Path) -> None:
    own = folder / "config/sensorium/sensorium.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("profiles: {laptop: {shared: true}, other: {beam: {direct_num_workers: 3}}}")
    assert options(folder, profile="other").values["direct_num_workers"] == 3
    assert options(folder, profile="laptop").values["direct_num_workers"] == 1
    said = refusal(folder, profile="othr")
    assert "did you mean 'other'" in said
    assert str(own) in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("profiles: {cluster: {sharde: true}}", ":1: profiles.cluster.sharde: unknown field; did"),
        ("profiles: {clustr: {}}", "no profile 'cluster'; did you mean 'clustr'?"),
        ("profiles: {cluster: {beam: {--runner: flink}}}", "write runner, without dashes"),
        ("profiles: {cluster: {beam: {runner: }}}", "runner has no value"),
        ("profiles: {cluster: {beam: {flink_mastr: a}}}", "did you mean '--flink_master'?"),
        ("profiles: {cluster: {beam: {flink_submit_uber_jar: si}}}", "must be true or false"),
        ("profiles: {cluster: {beam: {parallelism: many}}}", "sensorium.yaml: --parallelism: inv"),
        ("profiles: {cluster: {shared: perhaps}}", "must be true or false, got 'perhaps'"),
        ("profile: {cluster: {}}", "did you mean 'profiles'?"),
        ("profiles: {cluster: {beam: [a]}}", "profiles.cluster.beam: must be a mapping"),
        ("", "is empty; it has `profiles`, by name"),
    ],
)
def test_what_is_wrong_in_a_file_of_profiles_is_told_by_line(
    folder: Path, text: str, words: str
) -> None:
    (folder / "sensorium.yaml").write_text(text)
    with pytest.raises(RecipeError) as error:
        options(folder)
    assert words in str(error.value)
    for line in error.value.problems:
        assert str(folder / "sensorium.yaml") in line


def test_no_file_of_profiles_says_where_to_write_one(folder: Path) -> None:
    (folder / "sensorium.yaml").unlink()
    assert f"write {folder}/sensorium.yaml or {folder}/config" in refusal(folder)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--runner=FlinkRuner"], "unknown runner; did you mean 'FlinkRunner'?"),
        (["--runner=spork"], "did you mean 'SparkRunner'?"),
        (["--direct_num_wrokers=2"], "did you mean '--direct_num_workers'?"),
        (["--profil", "laptop"], "did you mean '--profile'?"),
        (["--runner=PrismRunner", "--prism_locatoin=x"], "did you mean '--prism_location'?"),
        (["--runner=FlinkRunner", "--flink_master=a:1", "--flink_verison=2.0"], "flink_version"),
        (["--flink_version=1.5"], "invalid choice: '1.5'"),
        (["--parallelism=many"], "invalid int value: 'many'"),
        (["recipe2.yaml"], "'recipe2.yaml' is neither an option nor the value of one"),
    ],
)
def test_options_that_nobody_knows_are_refused(folder: Path, args: list[str], words: str) -> None:
    assert words in refusal(folder, *args, profile=None)


def test_an_option_of_the_runners_own_is_passed_on(folder: Path) -> None:
    args = ["--runner=FlinkRunner", "--flink_master=a:1", "--object_reuse=true", "--number", "3"]
    found = options(folder, *args, profile=None)
    assert list(found.args) == args
    assert found.unknown == ("--object_reuse=true", "--number", "3")


@pytest.mark.parametrize(
    ("args", "remote"),
    [
        ("", False),
        ("--direct_num_workers=2", False),
        ("--runner=FnApiRunner", False),
        ("--runner=prism", False),
        ("--runner=FlinkRunner", False),  # a small cluster within this machine's job server
        ("--runner=FlinkRunner --flink_master=[local]", False),
        ("--runner=FlinkRunner --flink_master=flink:8081", True),
        ("--runner=FlinkRunner --job_endpoint=flink:8099", True),
        ("--runner=FlinkRunner --flink_master=a:1 --environment_type=LOOPBACK", False),
        ("--runner=SparkRunner --spark_master_url=local[2]", False),
        ("--runner=SparkRunner --spark_master_url=spark://a:7077", True),
        ("--runner=PortableRunner --job_endpoint=embed", False),
        ("--runner=PortableRunner --job_endpoint=a:1", True),
        ("--runner=DataflowRunner", True),
        ("--runner=mine.OwnRunner", True),
    ],
)
def test_which_runners_have_workers_elsewhere(folder: Path, args: str, remote: bool) -> None:
    assert options(folder, *args.split(), profile=None).remote is remote


def test_a_run_takes_its_profile(finished: Path, tmp_path: Path) -> None:
    recipe = (finished / "recipe.yaml").read_text()
    (tmp_path / "recipe.yaml").write_text(recipe.replace("path: ", f"path: {finished}/"))
    (tmp_path / "sensorium.yaml").write_text(PROFILES)
    done = sensorium("run", tmp_path / "recipe.yaml", "--profile", "cluster", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "runner   FlinkRunner (remote)" in done.stdout
    assert not done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml", "sensorium.yaml"]


STRATEGIES = "fuse={method: compare, strategies: {a: {method: concatenate}, b: {method: average}}}"
DATAFLOW = "--runner=DataflowRunner --project=p-1 --region=r --temp_location=gs://b/t"


def dry_run(recipe: Path, output: Path, args: str = "", *sets: str) -> None:
    asked = Asked(args.split(), shared=True, dry_run=True)
    run_recipe(str(recipe), "all", str(output), list(sets), asked)


@pytest.mark.parametrize(
    "args",
    [
        "",
        "--runner=FnApiRunner",
        "--runner=PrismRunner",
        "--runner=FlinkRunner --flink_master=nowhere.invalid:8081 --flink_submit_uber_jar",
        "--runner=SparkRunner --job_endpoint=nowhere.invalid:8099",
        f"{DATAFLOW} --sdk_container_image=gcr.io/p-1/sensorium",
    ],
)
def test_a_dry_run_prints_the_graph_and_does_nothing(
    finished: Path,
    tmp_path: Path,
    args: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "DataflowRunner" not in args and args:
        args += " --environment_type=EXTERNAL --environment_config=localhost:1"
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    dry_run(finished / "recipe.yaml", tmp_path / "out", args)
    said = capsys.readouterr()
    rows = [line.split() for line in said.out.splitlines()]
    image = next(row for row in rows if row[:1] == ["image"])
    audit = json.loads((finished / "output/report/audit.json").read_text())
    assert image[1:5] == ["image", "1", str(audit["modalities"]["image"]["rows"]), "16"]
    for step in ("image: ingest", "sound: extract", "note: fit", "Fuse", "model trained"):
        assert step in said.out
    assert all(line.startswith("note: ") for line in said.err.splitlines())
    assert not (tmp_path / "out").exists()
    assert not os.listdir(tmp_path / "temporary")


def test_a_dry_run_tells_what_is_done_and_what_is_chosen_later(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = finished / "recipe.yaml", finished / "output"
    dry_run(*where)
    image = next(r for r in capsys.readouterr().out.splitlines() if r.startswith("image"))
    assert image.endswith("ingest, extract")
    dry_run(*where, "", STRATEGIES)
    said = capsys.readouterr().out
    assert said.index("graph 1") < said.index("choose the strategy") < said.index("graph 2")
    dry_run(*where, "", "fuse={method: hierarchical, tree: auto}")
    assert "depend on the strategy that is chosen" in capsys.readouterr().out
