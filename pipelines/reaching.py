"""Before anything is submitted: can the runner's workers see the data, is the runner there?

Each refusal is one line that says what to do. Every wait is bounded by `SECONDS`.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from pipelines.options import MAGIC_FLINK_MASTERS, RunnerOptions, is_slip, option_names
from pipelines.running import RunFailed
from schemas import storage
from schemas.plan import Plan
from schemas.problems import RecipeError, nearest

SECONDS = 10.0  # for each answer that is waited for; --job_server_timeout makes it shorter
NO_DATAFLOW = 'DataflowRunner needs a package that is not installed: pip install "sensorium[gcp]"'


def check_options(plan: Plan, options: RunnerOptions) -> list[str]:
    """Check what can be told without asking anybody; `check_runner` asks.

    A package that only submission needs is no more than a note here.

    Returns:
        Notes for a person.

    Raises:
        RecipeError: if the runner cannot be used like that.
    """
    if not options.runner:
        return []
    notes = _check_class(options)
    if not options.remote:
        return notes
    if not options.shared:
        _check_shared(plan, options)
    _check_workers(options)
    value = options.values
    if options.runner == "PortableRunner" and not value["job_endpoint"]:
        raise RecipeError(
            ["PortableRunner needs the address of a job server: add --job_endpoint=HOST:PORT"]
        )
    if _own_job_server(options):
        _check_job_server_jar(options)
    return notes + [
        f"Beam's Python SDK does not know {name}: it is passed on to the runner"
        for name in options.unknown
        if name.startswith("--") and not value["job_endpoint"]
    ]


def check_runner(options: RunnerOptions) -> list[str]:
    """Ask the runner whether it is there and fits; returns at once for local workers.

    Returns:
        Notes for a person.

    Raises:
        RecipeError: if an option is wrong.
        RunFailed: if the runner does not answer, or does not fit.
    """
    if not options.remote:
        return []
    if options.runner.endswith("DataflowRunner") and _check_dataflow(options):
        raise RunFailed(NO_DATAFLOW)
    value = options.values
    seconds = min(SECONDS, float(value["job_server_timeout"] or SECONDS))
    if value["job_endpoint"]:
        groups = _ask_job_server(value["job_endpoint"], seconds)
        _check_kind(options, set(groups.values()))
        _check_unknown(options, set(groups))
        return []
    if options.runner == "FlinkRunner":
        return _check_flink(options, seconds)
    if options.runner == "SparkRunner":
        _check_spark(options, seconds)
    return []


def _check_kind(options: RunnerOptions, groups: set[str]) -> None:
    """A job server of Flink has options of Flink; of which version of Beam it is, none tells."""
    own = options.runner.removesuffix("Runner")
    kinds = {found[1] for g in groups if (found := re.match(r"org.apache.beam.runners.(\w+)", g))}
    if own in ("Flink", "Spark") and kinds and own.lower() not in kinds:
        other = ", ".join(sorted(kinds))
        raise RunFailed(
            f"the job server at {options.values['job_endpoint']} is for {other}, not {own}: "
            "correct --runner or --job_endpoint"
        )


def _check_unknown(options: RunnerOptions, known: set[str]) -> None:
    """Options that Beam does not know must be the job server's; Python's own tells of none."""
    for arg in options.unknown:
        name = arg.partition("=")[0]
        if name.startswith("--") and (name not in known if known else is_slip(name)):
            where = f"nor the job server at {options.values['job_endpoint']}"
            near = nearest(name, [*option_names(), *known])
            raise RecipeError([f"{name}: neither Beam {where} has such an option{near}"])


# --- what can be told from here ------------------------------------------------------------------


def _check_class(options: RunnerOptions) -> list[str]:
    """The runner can be imported, and Beam finds its options complete."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
    from apache_beam.runners.runner import create_runner

    name = options.values["runner"]
    if options.runner.endswith("DataflowRunner"):
        return _check_dataflow(options)
    try:
        runner = create_runner(name)
    except ImportError as error:
        raise RecipeError([f"{name} needs a package that is not installed: {error}"]) from None
    except (AttributeError, ValueError):
        raise RecipeError([f"--runner={name}: there is no such class"]) from None
    errors = PipelineOptionsValidator(PipelineOptions(list(options.args)), runner).validate()
    if errors:
        words = "; ".join(error.rstrip(".") for error in errors)
        raise RecipeError([f"{options.runner} cannot be used like that: {words}"])
    binary = options.values["prism_location"]
    if options.runner == "PrismRunner" and binary and not _there(binary):
        raise RecipeError([f"--prism_location={binary}: there is no such file"])
    return []


def _check_dataflow(options: RunnerOptions) -> list[str]:
    """What Dataflow needs; Beam's own validation would ask Google's services already."""
    needed = ("project", "region", "temp_location")
    missing = [f"--{name}" for name in needed if not options.values[name]]
    if missing:
        raise RecipeError([f"{options.runner} needs {', '.join(missing)} as well"])
    temporary = options.values["temp_location"]
    if not temporary.startswith("gs://"):
        raise RecipeError([f"--temp_location={temporary}: must be gs://BUCKET/FOLDER"])
    try:
        there = importlib.util.find_spec("google.cloud.dataflow") is not None
    except ModuleNotFoundError:
        there = False
    return [] if there else [NO_DATAFLOW]


def _check_shared(plan: Plan, options: RunnerOptions) -> None:
    hidden = [f"the {what} {path}" for what, path in _paths(plan) if storage.is_local(path)]
    if hidden:
        more = f" (and {len(hidden) - 1} more)" if len(hidden) > 1 else ""
        raise RecipeError(
            [
                f"{hidden[0]}{more} is on this machine, where the workers of {options.runner} "
                "may not see it: use a URL (s3://, gs://, hdfs://; --to for the output), or, if "
                "it is mounted at the same place on every worker, say so with --shared"
            ]
        )


def _paths(plan: Plan) -> Iterator[tuple[str, str]]:
    """Everything that workers read or write, and what it is."""
    yield "output", plan.output
    sources = [m.source for m in plan.modalities] + ([plan.target] if plan.target else [])
    yield from dict.fromkeys(("input", file) for source in sources for file in source.files)
    for modality in plan.modalities:
        model = getattr(modality.recipe.extract, "onnx", None)
        if model is not None:
            yield "model", model.path
    if plan.fitted is not None:
        yield "trained output", plan.fitted


def _check_workers(options: RunnerOptions) -> None:
    """Workers in containers: an image with this package, of this Python and Beam; or a command."""
    import apache_beam as beam

    value = options.values
    kind, config = str(value["environment_type"] or "DOCKER").upper(), value["environment_config"]
    if kind == "PROCESS" and config:
        try:
            command = json.loads(config)["command"]
        except (ValueError, TypeError, KeyError):
            command = None
        if not command:
            raise RecipeError(
                [
                    f"--environment_config={config}: of processes it must be JSON with a command, "
                    'such as {"command": "/opt/sensorium/boot"}'
                ]
            )
    if kind != "DOCKER":
        return
    named = [o for o in value["environment_options"] or () if o.startswith("docker_container_i")]
    image = config or value["sdk_container_image"]
    image = image or (named[0].partition("=")[2] if named else None)
    brought = any(value[n] for n in ("setup_file", "extra_packages", "requirements_file"))
    if image is None and not brought:
        raise RecipeError(
            [
                "the workers would run Beam's own image, which has not this package: name an "
                "image that has it with --sdk_container_image=IMAGE (infra/image builds one), or "
                "workers that are there with --environment_type=EXTERNAL or PROCESS"
            ]
        )
    tag = re.search(r"beam_python(\d+\.\d+)_sdk:(\d+\.\d+\.\d+)$", image or "")
    own = f"{sys.version_info.major}.{sys.version_info.minor}", beam.__version__
    if tag and tag.groups() != own:
        raise RecipeError(
            [
                f"the workers' image {image} has Python {tag[1]} and Beam {tag[2]}, here are "
                f"{own[0]} and {own[1]}: they must be the same, so take "
                f"beam_python{own[0]}_sdk:{own[1]}"
            ]
        )


def _own_job_server(options: RunnerOptions) -> bool:
    """Whether Beam is going to start a job server, a Java process, on this machine."""
    value = options.values
    kind = {"FlinkRunner": "flink", "SparkRunner": "spark"}.get(options.runner)
    return bool(kind) and not value["job_endpoint"] and not value[f"{kind}_submit_uber_jar"]


def _check_job_server_jar(options: RunnerOptions) -> None:
    value, kind = options.values, options.runner.removesuffix("Runner").lower()
    java = value["job_server_java_launcher"]
    if shutil.which(java) is None:
        raise RecipeError(
            [
                f"there is no {java} on this machine, which {options.runner} starts its job "
                f"server with: install Java, or name a job server that runs with --job_endpoint, "
                f"or let the cluster do it with --{kind}_submit_uber_jar"
            ]
        )
    jar = value[f"{kind}_job_server_jar"]
    if jar and not _there(jar):
        raise RecipeError([f"--{kind}_job_server_jar={jar}: there is no such file"])


def _there(path: str) -> bool:
    """Whether a local file is there; URLs are not looked at."""
    return "://" in path or os.path.exists(path)


# --- asking --------------------------------------------------------------------------------------


def _connect(address: str, option: str, seconds: float, what: str) -> None:
    """See whether something listens at HOST:PORT.

    Raises:
        RecipeError: if that is no address.
        RunFailed: if nothing does.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise RecipeError([f"--{option}={address}: must be HOST:PORT, such as localhost:8099"])
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds):
            pass
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or error
        raise RunFailed(
            f"there is no {what} at {address} ({str(reason).lower()}): start it, or correct "
            f"--{option}"
        ) from None


def _ask_job_server(endpoint: str, seconds: float) -> dict[str, str]:
    """Options that a job server knows, with their dashes -> the Java class they belong to."""
    _connect(endpoint, "job_endpoint", seconds, "job server")
    import grpc
    from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

    with grpc.insecure_channel(endpoint) as channel:
        stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
        request = beam_job_api_pb2.DescribePipelineOptionsRequest()
        try:
            answer = stub.DescribePipelineOptions(request, timeout=seconds)
        except grpc.RpcError as error:
            late = error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            how = f"does not answer within {seconds:g} s" if late else "is no Beam job server"
            raise RunFailed(
                f"what listens at {endpoint} {how} ({error.code().name.lower()}): look at it, or "
                "correct --job_endpoint"
            ) from None
    return {f"--{option.name}": option.group for option in answer.options}


def _get(url: str, option: str, seconds: float, what: str) -> dict[str, Any]:
    """The JSON that a REST API answers, whatever its status.

    Raises:
        RunFailed: if nothing answers, or something else.
    """
    parts = urlsplit(url)
    address = parts.netloc if parts.port else f"{parts.netloc}:{443 if 's' in parts.scheme else 80}"
    _connect(address, option, seconds, what)
    try:
        try:
            with urllib.request.urlopen(url, timeout=seconds) as answer:
                data = json.loads(answer.read(1 << 20))
        except urllib.error.HTTPError as error:
            data = json.loads(error.read(1 << 20))
        if not isinstance(data, dict):
            raise ValueError("no mapping")
    except (OSError, ValueError, http.client.HTTPException) as error:
        late = "timed out" in str(error)
        how = f"does not answer within {seconds:g} s" if late else f"is no {what}"
        raise RunFailed(
            f"what listens at {address} {how}: look at it, or correct --{option}"
        ) from None
    return data


def _check_flink(options: RunnerOptions, seconds: float) -> list[str]:
    from apache_beam.options.pipeline_options import FlinkRunnerOptions

    value = options.values
    master = value["flink_master"].strip().rstrip("/")
    assert master not in MAGIC_FLINK_MASTERS
    base = master if re.match("https?://", master) else f"http://{master}"
    what = "Flink REST API"
    version = _get(f"{base}/v1/config", "flink_master", seconds, what).get("flink-version")
    if not version:
        raise RunFailed(f"what listens at {master} is no {what}: correct --flink_master")
    minor = ".".join(str(version).split(".")[:2])
    jar = value["flink_job_server_jar"]
    if jar:
        named = re.search(r"flink-(\d+\.\d+)-job-server", os.path.basename(jar))
        if named and named[1] != minor:
            raise RunFailed(
                f"the cluster at {master} is Flink {version}, and {jar} is for {named[1]}: take "
                f"Beam's job server for {minor}"
            )
    elif minor not in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS:
        known = ", ".join(FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS)
        raise RunFailed(
            f"the cluster at {master} is Flink {version}, and this Beam works with {known}: use "
            "such a cluster, or name a job server for it with --flink_job_server_jar"
        )
    elif _own_job_server(options) and value["flink_version"] != minor:
        raise RunFailed(
            f"the cluster at {master} is Flink {version}, and the job server would be for "
            f"{value['flink_version']}: add --flink_version={minor}"
        )
    overview = _get(f"{base}/v1/overview", "flink_master", seconds, what)
    if overview.get("slots-total") == 0:
        return [f"the Flink cluster at {master} has no TaskManager yet: the job waits for one"]
    return []


def _check_spark(options: RunnerOptions, seconds: float) -> None:
    value = options.values
    if value["spark_submit_uber_jar"]:
        rest = value["spark_rest_url"]
        if not rest or not re.match("https?://", rest):
            raise RecipeError(
                ["--spark_submit_uber_jar needs --spark_rest_url, such as http://HOST:6066"]
            )
        # All its answers name the version, even that there is nothing at this path.
        version = _get(f"{rest.rstrip('/')}/", "spark_rest_url", seconds, "Spark REST API").get(
            "serverSparkVersion"
        )
        if not version:
            raise RunFailed(f"what listens at {rest} is no Spark REST API: correct it")
        if str(version).partition(".")[0] != value["spark_version"]:
            raise RunFailed(
                f"the cluster at {rest} is Spark {version}, and this Beam works with Spark "
                f"{value['spark_version']}: use such a cluster"
            )
        return
    master = value["spark_master_url"]
    if not master.startswith("spark://"):
        return  # YARN, Kubernetes and the like are found by Spark's own configuration
    failed: RunFailed | None = None
    for address in master.removeprefix("spark://").split(","):  # standby masters
        try:
            _connect(address, "spark_master_url", seconds, "Spark master")
            return
        except RunFailed as error:
            failed = failed or error
    assert failed is not None
    raise failed
