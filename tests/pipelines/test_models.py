"""Deep models through the command line: one encoder of two modalities, and what can go wrong."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from flows import ROOT, hashes, must, sensorium, table, times
from sklearn.datasets import load_digits
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPClassifier

sys.path.insert(0, str(ROOT / "tests/transforms"))
from onnx_models import write_encoder, write_linear

KEYS = 120
RECIPE = """\
name: pairs
modalities:
  first:
    kind: image
    source: {path: first.csv}
    extract: {onnx: &encoder {path: models/encoder.onnx, mean: [0.25], std: [0.5], batch: 8}}
  second:
    kind: image
    source: {path: second.csv}
    extract: {onnx: *encoder}
target: {source: {path: labels.csv}, column: sum}
split: {folds: 3, test_share: 0.2}
train: {models: {lda: {}}}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of digits as images, an encoder that was trained on others, and a run in `output`."""
    folder = tmp_path_factory.mktemp("pairs")
    digits = load_digits()
    levels = np.round(digits.images / 16 * 255).astype(np.uint8)
    inputs = (levels.reshape(len(levels), -1) / 255 - 0.25) / 0.5
    network = MLPClassifier((24,), max_iter=60, random_state=0)
    with pytest.warns(UserWarning, match="converge"):
        network.fit(inputs[2 * KEYS :], digits.target[2 * KEYS :])
    (folder / "models").mkdir()
    first, second = network.coefs_[0], np.linalg.qr(network.coefs_[1])[0][:, :9]
    write_encoder(folder / "models/encoder.onnx", first, second, 8)
    np.savez(folder / "truth.npz", inputs=inputs[: 2 * KEYS], first=first, second=second)
    rows: dict[str, list[str]] = {
        "first": ["key,uri"],
        "second": ["key,uri"],
        "labels": ["key,sum"],
    }
    for i in range(KEYS):
        for name, at in (("first", i), ("second", KEYS + i)):
            cv2.imwrite(str(folder / f"{name}{i}.png"), levels[at])
            rows[name].append(f"k{i},{name}{i}.png")
        rows["labels"].append(f"k{i},{(digits.target[i] + digits.target[KEYS + i]) % 2}")
    for name, lines in rows.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    must("run", folder / "recipe.yaml", "--to", folder / "output")
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy without the output, to change."""
    copy = shutil.copytree(trained, tmp_path / "pairs", ignore=shutil.ignore_patterns("output"))
    return Path(copy)


def features(output: Path, name: str) -> np.ndarray:
    """float32[KEYS, d], in the order of keys k0, k1 and so on."""
    rows = {row["key"]: row["features"] for row in table(output, f"features/{name}").to_pylist()}
    return np.array([rows[f"k{i}"] for i in range(KEYS)])


def test_one_model_gives_two_modalities_common_features(trained: Path, tmp_path: Path) -> None:
    output = trained / "output"
    truth = np.load(trained / "truth.npz")
    codes = np.maximum(truth["inputs"] @ truth["first"], 0) @ truth["second"]
    np.testing.assert_allclose(features(output, "first"), codes[:KEYS], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features(output, "second"), codes[KEYS:], rtol=1e-4, atol=1e-5)
    names = json.loads(table(output, "features/first").schema.metadata[b"names"])
    assert names == [f"onnx.{i}" for i in range(9)]
    # The written recipe runs from anywhere.
    written = yaml.safe_load((output / "recipe.yaml").read_text())
    for name in ("first", "second"):
        options = written["modalities"][name]["extract"]["onnx"]
        assert options["path"] == str(trained / "models/encoder.onnx")
        assert options["sha256"] is None
    must("extract", output / "recipe.yaml", "--to", tmp_path / "one", "--direct_num_workers=1")
    assert hashes(tmp_path / "one", "features") == hashes(output, "features")


def test_a_changed_model_redoes_features_and_a_moved_one_does_not(folder: Path) -> None:
    output = folder / "output"
    must("extract", folder / "recipe.yaml", "--to", output)
    before, records = features(output, "first"), times(output, "records")
    features_before = times(output, "features")
    (folder / "models").rename(folder / "weights")
    text = RECIPE.replace("models/encoder", "weights/encoder")
    (folder / "recipe.yaml").write_text(text)
    done = must("extract", folder / "recipe.yaml", "--to", output)
    assert "Nothing to do" in done.stderr
    assert times(output, "features") == features_before
    truth = np.load(folder / "truth.npz")
    write_encoder(folder / "weights/encoder.onnx", truth["first"], -truth["second"], 8)
    must("extract", folder / "recipe.yaml", "--to", output)
    np.testing.assert_allclose(features(output, "first"), -before, rtol=1e-5, atol=1e-6)
    assert times(output, "records") == records


def test_predictions_need_the_same_model_wherever_it_lies(trained: Path, tmp_path: Path) -> None:
    new = tmp_path
    for name in ("first", "second"):
        lines = (trained / f"{name}.csv").read_text().replace(f",{name}", f",{trained}/{name}")
        (new / f"{name}.csv").write_text(lines)
    text = RECIPE.replace("models/encoder.onnx", "same.onnx")
    (new / "recipe.yaml").write_text(text[: text.index("target:")])
    shutil.copy(trained / "models/encoder.onnx", new / "same.onnx")
    to = ["--recipe", new / "recipe.yaml", "--to"]
    must("predict", trained / "output", *to, new / "predictions")
    found = table(new / "predictions", "predictions")
    assert len(found) == KEYS
    truth = np.load(trained / "truth.npz")
    write_encoder(new / "same.onnx", truth["first"], 2 * truth["second"], 8)
    done = sensorium("predict", trained / "output", *to, new / "others")
    assert done.returncode == 2
    assert "are not those that the model was trained with" in done.stderr


# --- what is wrong with a recipe ---------------------------------------------------------------


def refused(folder: Path, text: str, **options: object) -> str:
    (folder / "recipe.yaml").write_text(text)
    done = sensorium("validate", folder / "recipe.yaml", **options)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_model_that_is_not_there_or_is_none_is_told_by_line(folder: Path) -> None:
    missing = refused(folder, RECIPE.replace("encoder.onnx", "decoder.onnx"))
    assert f"there is no file {folder}/models/decoder.onnx" in missing
    assert "recipe.yaml:6: modalities.first.extract.onnx.path: " in missing
    (folder / "models/encoder.onnx").write_bytes(b"nothing of the kind")
    assert "not a model that ONNX Runtime" in refused(folder, RECIPE)
    write_linear(folder / "models/encoder.onnx", np.eye(3))
    assert "modalities.second.extract.onnx: " in refused(folder, RECIPE)
    pinned = RECIPE.replace("batch: 8", f"sha256: {'fe' * 32}")
    digest = hashlib.sha256((folder / "models/encoder.onnx").read_bytes()).hexdigest()
    assert f"onnx.sha256: the SHA-256 of {folder}/models/encoder.onnx is {digest}" in refused(
        folder, pinned
    )


def test_without_onnx_runtime_the_recipe_is_wrong_and_says_what_to_install(folder: Path) -> None:
    hidden = folder / "hidden"
    hidden.mkdir()
    # What an environment without the package is like for Python.
    (hidden / "sitecustomize.py").write_text("import sys; sys.modules['onnxruntime'] = None")
    environment = {**os.environ, "PYTHONPATH": f"{hidden}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "run", str(folder / "recipe.yaml")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 2
    assert 'pip install "sensorium[onnx]"' in done.stderr
    assert "Traceback" not in done.stderr


# --- handlers ----------------------------------------------------------------------------------

HANDLER = """\
import numpy as np
from apache_beam.ml.inference.base import PredictionResult
from apache_beam.ml.inference.sklearn_inference import SklearnModelHandlerNumpy

def sums(uri):
    handler = SklearnModelHandlerNumpy(uri, max_batch_size=4)
    return handler.with_preprocess_fn(lambda image: image.mean(axis=(0, 2)) / 255)
"""


@pytest.mark.slow
def test_a_handler_of_beam_through_the_command_line(folder: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(8, 3))
    model = LinearRegression(fit_intercept=False).fit(np.eye(8), weights)
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    (folder / "handlers.py").write_text(HANDLER)
    onnx = RECIPE[RECIPE.index("extract: {onnx: &") : RECIPE.index("\n  second")]
    its = f"options: {{uri: {folder}/model.pkl}}, dimension: 3"
    own = f"extract: {{handler: {{class: handlers.sums, {its}}}}}"
    text = RECIPE.replace(onnx, own).replace(
        "{onnx: *encoder}", "{onnx: {path: models/encoder.onnx}}"
    )
    (folder / "recipe.yaml").write_text(text)
    output = folder / "output"
    run = ["extract", "recipe.yaml", "--to", output]
    options = {"cwd": folder, "variables": {"PYTHONPATH": str(ROOT)}}  # Beam's need pandas
    done = sensorium(*run, **options)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    images = [cv2.imread(str(folder / f"first{i}.png")) for i in range(KEYS)]
    want = np.array([image.mean(axis=(0, 2)) / 255 for image in images]) @ weights
    np.testing.assert_allclose(features(output, "first"), want, rtol=1e-4, atol=1e-5)
    # Its file belongs to what the features depend on.
    (folder / "handlers.py").write_text(HANDLER.replace("/ 255", "/ 510"))
    done = sensorium(*run, **options)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(features(output, "first"), want / 2, rtol=1e-4, atol=1e-5)
    assert not list((output / "dead_letters").rglob("*.parquet"))


def test_a_handler_that_fails_on_a_record_makes_it_a_dead_letter(folder: Path) -> None:
    (folder / "handlers.py").write_text(
        "class Picky:\n"
        "    def load_model(self):\n"
        "        return 100\n"
        "    def run_inference(self, batch, model, inference_args=None):\n"
        "        if any(image.mean() > model for image in batch):\n"
        "            raise RuntimeError('too light for me')\n"
        "        return [image.mean(axis=(0, 1)) for image in batch]\n"
    )
    text = RECIPE.replace("{onnx: *encoder}", "{handler: {class: handlers.Picky, batch: 3}}")
    (folder / "recipe.yaml").write_text(text + "max_dead_letters: 1\n")
    done = sensorium("extract", "recipe.yaml", "--to", "output", cwd=folder)
    assert done.returncode == 0, done.stderr
    light = {
        f"k{i}" for i in range(KEYS) if cv2.imread(str(folder / f"second{i}.png")).mean() > 100
    }
    letters = [
        letter
        for file in (folder / "output/dead_letters/extract/second").glob("*.parquet")
        for letter in pq.read_table(file).to_pylist()
    ]
    assert {letter["key"] for letter in letters} == light
    assert {letter["message"] for letter in letters} == {
        "handler raised RuntimeError: too light for me"
    }
    assert 0 < len(light) < KEYS
