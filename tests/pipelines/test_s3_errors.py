"""What is wrong with a store shows before work starts: in one line that says what to do."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flows import ROOT, sensorium
from s3_server import KEYS, Bucket, free_port
from vectors import write_vectors

from pipelines.commands import Asked, run_recipe
from schemas import storage
from schemas.errors import StorageError
from schemas.problems import RecipeError


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_vectors(tmp_path, {"method": "concatenate"}, keys=30)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], None]]:
    """Sets variables of AWS clients anew, with clients that have not looked at others."""

    def set_all(variables: dict[str, str]) -> None:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        storage.disconnect()

    yield set_all
    storage.disconnect()


def one_line(said: str) -> str:
    """The only line that was said."""
    lines = said.strip().splitlines()
    assert len(lines) == 1, said
    return lines[0]


def test_without_the_extra_for_s3(recipe: Path) -> None:
    # A process that finds no s3fs: what a plain installation is like.
    code = "import sys; sys.modules['s3fs'] = None; from pipelines.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(recipe), "--to", "s3://bucket/out"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "pip install 'sensorium[s3]'" in one_line(done.stderr)


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="gcsfs is installed")
def test_without_the_extra_for_gcs(recipe: Path) -> None:
    with pytest.raises(StorageError, match=r"pip install 'sensorium\[gcs\]'"):
        run_recipe(str(recipe), "all", "gs://bucket/out", [], Asked([]))


def test_without_credentials(s3: Bucket, recipe: Path, tmp_path: Path) -> None:
    variables = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "HOME": str(tmp_path),  # none in ~/.aws either
    }
    done = sensorium("run", recipe, "--to", f"{s3.url}/out", variables=variables)
    assert done.returncode == 1
    said = one_line(done.stderr)
    assert "no credentials" in said
    assert "AWS_ACCESS_KEY_ID" in said
    assert "AWS_PROFILE" in said


def test_with_wrong_credentials(
    s3: Bucket, recipe: Path, fresh: Callable[[dict[str, str]], None]
) -> None:
    fresh({**KEYS, "AWS_ENDPOINT_URL": s3.gate.url, "AWS_SECRET_ACCESS_KEY": "wrong"})
    with pytest.raises(StorageError, match=r"access is denied.*must allow to read, write"):
        run_recipe(str(recipe), "all", f"{s3.url}/out", [], Asked([]))


@pytest.mark.parametrize("place", ["output", "recipe", "input"])
def test_without_the_bucket(place: str, s3: Bucket, recipe: Path) -> None:
    there = s3.url + "/out"
    args = {
        "output": (str(recipe), "s3://no-such-bucket/out", []),
        "recipe": ("s3://no-such-bucket/recipe.yaml", there, []),
        "input": (
            str(recipe),
            there,
            ["modalities.image.source.path=s3://no-such-bucket/image.parquet"],
        ),
    }
    path, to, sets = args[place]
    with pytest.raises(StorageError, match="s3://no-such-bucket: there is no such bucket: create"):
        run_recipe(path, "all", to, sets, Asked([]))


def test_nobody_listens_at_the_endpoint(recipe: Path) -> None:
    variables = {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    done = sensorium("run", recipe, "--to", "s3://bucket/out", variables=variables)
    assert done.returncode == 1
    said = one_line(done.stderr)
    assert "does not answer" in said
    assert variables["AWS_ENDPOINT_URL"] in said
    assert "check AWS_ENDPOINT_URL" in said


@pytest.mark.slow
def test_the_endpoint_never_answers(recipe: Path, fresh: Callable[[dict[str, str]], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fresh({**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"})
        with pytest.raises(StorageError, match="does not answer"):
            run_recipe(str(recipe), "all", "s3://bucket-of-silence/out", [], Asked([]))


def test_a_store_that_is_away_makes_no_dead_letters(
    fresh: Callable[[dict[str, str]], None],
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    fresh({**KEYS, "AWS_ENDPOINT_URL": url, "AWS_MAX_ATTEMPTS": "1"})
    with pytest.raises(StorageError, match="does not answer"):
        storage.read_many(["s3://bucket/a.png", "s3://bucket/b.png"], 100)


def test_payloads_are_read_up_to_a_bound(s3: Bucket) -> None:
    for name, data in {"a": b"12345", "empty": b""}.items():
        storage.write_bytes(f"{s3.url}/{name}", data)
    paths = [f"{s3.url}/{name}" for name in ("a", "missing", "empty", "a")]
    a, missing, empty, again = storage.read_many(paths, 3)
    assert (a, empty, again) == (b"123", b"", b"123")
    assert isinstance(missing, FileNotFoundError)


def test_unknown_stores_are_mistakes_of_the_command_line(recipe: Path) -> None:
    with pytest.raises(RecipeError, match="nosuch:// is no kind of storage"):
        run_recipe(str(recipe), "all", "nosuch://out", [], Asked([]))


def test_an_output_that_holds_other_files_is_refused(s3: Bucket, recipe: Path) -> None:
    storage.write_bytes(f"{s3.url}/out/thesis.tex", b"")
    with pytest.raises(RecipeError, match="holds other files"):
        run_recipe(str(recipe), "all", f"{s3.url}/out", [], Asked([]))


def test_missing_files_are_told_with_the_nearest(s3: Bucket, recipe: Path) -> None:
    url = s3.take(recipe.parent, "in")
    with pytest.raises(RecipeError, match=r"no such file.*recipe\.yaml"):
        run_recipe(f"{url}/recipes.yaml", "all", None, [], Asked([]))
    with pytest.raises(RecipeError, match=r"is a folder; did you mean .*in/recipe\.yaml"):
        run_recipe(url, "all", None, [], Asked([]))
    sets = ["modalities.image.source.path=images.parquet"]
    with pytest.raises(RecipeError, match=r"there is no such file.*image\.parquet"):
        run_recipe(f"{url}/recipe.yaml", "all", None, sets, Asked([]))
