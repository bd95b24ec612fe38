"""Before submission: storage that all workers see, a runner that is there, versions that fit."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import apache_beam as beam
import grpc
import pytest
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from flows import sensorium

from pipelines.options import runner_options
from pipelines.planning import make_plan
from pipelines.reaching import check_options, check_runner
from pipelines.running import RunFailed
from schemas.errors import DataError
from schemas.loading import locate_recipe
from schemas.plan import Plan
from schemas.problems import RecipeError
from transforms.ingest import parts_of, versions

FLINK = "--runner=FlinkRunner --flink_submit_uber_jar --flink_master="
WORKERS = "--environment_type=EXTERNAL --environment_config=localhost:50000"


@pytest.fixture(scope="module")
def plan(finished: Path) -> Plan:
    recipe, place = locate_recipe(str(finished / "recipe.yaml"))
    checked = make_plan(recipe, str(finished / "recipe.yaml"), str(finished / "output"), place)
    return checked.plan


def refused(plan: Plan, args: str, shared: bool = True) -> str:
    options = runner_options(args.split(), "recipe.yaml", shared=shared)
    with pytest.raises(RecipeError) as error:
        check_options(plan, options)
    assert len(error.value.problems) == 1
    assert "\n" not in str(error.value)
    return str(error.value)


def unreachable(args: str) -> str:
    options = runner_options(f"{args} {WORKERS} --job_server_timeout=1".split(), "recipe.yaml")
    with pytest.raises(RunFailed) as error:
        check_runner(options)
    assert "\n" not in str(error.value)
    return str(error.value)


def reached(args: str) -> list[str]:
    return check_runner(runner_options(f"{args} {WORKERS}".split(), "recipe.yaml"))


# --- storage and images ----------------------------------------------------------------------


def test_local_paths_are_refused_unless_they_are_shared(plan: Plan) -> None:
    args = f"--runner=PortableRunner --job_endpoint=cluster:8099 {WORKERS}"
    said = refused(plan, args, shared=False)
    assert f"the output {plan.output} (and " in said
    assert "--shared" in said
    assert "--to" in said
    said = refused(replace(plan, output="s3://bucket/out"), args, shared=False)
    assert f"the input {plan.modalities[0].source.files[0]}" in said
    assert check_options(plan, runner_options(args.split(), "r.yaml", shared=True)) == []


def test_local_paths_are_fine_where_all_workers_are_here(plan: Plan) -> None:
    for args in ("", "--runner=FnApiRunner", "--runner=FlinkRunner --environment_type=LOOPBACK"):
        assert check_options(plan, runner_options(args.split(), "r.yaml")) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("", "the workers would run Beam's own image, which has not this package"),
        ("--sdk_container_image=apache/beam_python3.9_sdk:2.77.0", "has Python 3.9 and Beam 2.77"),
        ("--environment_config=me/beam_python3.11_sdk:2.50.0", "and Beam 2.50.0, here are"),
        ("--environment_type=PROCESS", "process_command is required"),
        ('--environment_type=PROCESS --environment_config={"comand":"a"}', "JSON with a command"),
        ("--environment_type=PROCESS --environment_config=/opt/boot", "JSON with a command"),
        ("--environment_type=EXTERNAL", "external_service_address is required"),
    ],
)
def test_workers_that_cannot_work_are_refused(plan: Plan, args: str, words: str) -> None:
    assert words in refused(plan, f"--runner=PortableRunner --job_endpoint=c:1 {args}")


def test_images_of_this_python_and_beam_or_of_ones_own_are_taken(plan: Plan) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for image in (f"beam_python{version}_sdk:{beam.__version__}", "me/mine:1"):
        args = ["--runner=PortableRunner", "--job_endpoint=c:1", f"--sdk_container_image={image}"]
        assert check_options(plan, runner_options(args, "r.yaml", shared=True)) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("--runner=PortableRunner", "add --job_endpoint=HOST:PORT"),
        ("--runner=FlinkRunner --flink_master=f:1 --job_server_java_launcher=jaba", "no jaba on"),
        ("--runner=FlinkRunner --flink_master=f:1 --flink_job_server_jar=no.jar", "no such file"),
        ("--runner=PrismRunner --prism_location=no/prism", "--prism_location=no/prism: there is"),
        ("--runner=mine.own.Runner", "mine.own.Runner needs a package that is not installed"),
        ("--runner=json.JSONRunner", "there is no such class"),
        ("--runner=DataflowRunner --project=p", "needs --region, --temp_location as well"),
        (
            "--runner=DataflowRunner --project=p --region=r --temp_location=/tmp",
            "must be gs://BUCKET/FOLDER",
        ),
    ],
)
def test_what_a_runner_lacks_is_told(
    plan: Plan, args: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert words in refused(plan, f"{args} {WORKERS}")


def test_a_missing_package_is_a_note_of_a_dry_run_and_ends_a_run(plan: Plan) -> None:
    try:
        import google.cloud.dataflow  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("it is installed here")
    args = ["--runner=DataflowRunner", "--project=p", "--region=r", "--temp_location=gs://b/t"]
    options = runner_options([*args, "--sdk_container_image=i"], "r.yaml", shared=True)
    assert 'pip install "sensorium[gcp]"' in check_options(plan, options)[0]
    with pytest.raises(RunFailed, match=r'pip install "sensorium\[gcp\]"'):
        check_runner(options)


# --- is it there? ----------------------------------------------------------------------------


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.create_server(("localhost", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def answering(answers: dict[str, Any], status: int = 200) -> Iterator[int]:
    """A little HTTP server: path -> JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path, "<html>not here</html>")
            data = found if isinstance(found, str) else json.dumps(found)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(data.encode())

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("localhost", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@contextmanager
def job_server(*names: str, kind: str = "flink") -> Iterator[int]:
    """A job server that knows some options of a runner."""

    class Servicer(beam_job_api_pb2_grpc.JobServiceServicer):
        def DescribePipelineOptions(self, request: Any, context: Any) -> Any:  # noqa: N802
            group = f"org.apache.beam.runners.{kind}.TheOptions"
            options = [
                beam_job_api_pb2.PipelineOptionDescriptor(name=name, group=group) for name in names
            ]
            return beam_job_api_pb2.DescribePipelineOptionsResponse(options=options)

    server = grpc.server(ThreadPoolExecutor(1))
    beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield port
    server.stop(None).wait()


def flink(version: str, slots: int = 4) -> dict[str, Any]:
    return {"/v1/config": {"flink-version": version}, "/v1/overview": {"slots-total": slots}}


ENDPOINT = "--runner=PortableRunner --job_endpoint=localhost:"
SPARK = "--runner=SparkRunner --spark_master_url=spark://localhost:"
SPARK_REST = "--runner=SparkRunner --spark_submit_uber_jar --spark_rest_url=http://localhost:"


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (ENDPOINT, "job server"),
        (f"{FLINK}localhost:", "Flink REST API"),
        (SPARK, "Spark master"),
        (SPARK_REST, "Spark REST API"),
    ],
)
def test_nothing_there(args: str, what: str) -> None:
    port = closed_port()
    said = unreachable(f"{args}{port}")
    assert f"there is no {what} at localhost:{port} (connection refused): start it" in said


@pytest.mark.parametrize("args", [ENDPOINT, f"{FLINK}localhost:", SPARK_REST])
def test_what_never_answers_is_not_waited_for(args: str) -> None:
    with silent() as port:
        assert f"at localhost:{port} does not answer within 1 s" in unreachable(f"{args}{port}")


@pytest.mark.parametrize("args", [ENDPOINT, f"{FLINK}localhost:", SPARK_REST])
def test_something_else_listens_there(args: str) -> None:
    with answering({}) as port:
        said = unreachable(f"{args}{port}")
        assert f"what listens at localhost:{port}" in said or f"http://localhost:{port}" in said
        assert " is no " in said or "does not answer" in said
    with answering({"/v1/config": {"version": 1}, "/": [1]}) as port:
        assert f"localhost:{port}" in unreachable(f"{args}{port}")


def test_an_address_must_be_one() -> None:
    options = runner_options([*f"{ENDPOINT[:-10]}here".split(), *WORKERS.split()], "r.yaml")
    with pytest.raises(RecipeError, match="--job_endpoint=here: must be HOST:PORT"):
        check_runner(options)


# --- does it fit? ----------------------------------------------------------------------------


def test_versions_of_flink(tmp_path: Path) -> None:
    with answering(flink("1.20.1")) as port:
        assert reached(f"{FLINK}localhost:{port}") == []
        said = unreachable(f"--runner=FlinkRunner --flink_master=http://localhost:{port}")
        assert "is Flink 1.20.1" in said
        assert "add --flink_version=1.20" in said
        own = f"--runner=FlinkRunner --flink_version=1.20 --flink_master=http://localhost:{port}/"
        assert reached(own) == []
        jar = "--flink_job_server_jar=beam-runners-flink-1.19-job-server-2.77.0.jar"
        assert "is for 1.19: take" in unreachable(f"{FLINK}localhost:{port} {jar}")
    with answering(flink("1.15.4")) as port:
        said = unreachable(f"{FLINK}localhost:{port}")
        assert "is Flink 1.15.4, and this Beam works with 1.19, 1.20" in said
    with answering(flink("2.0.0", slots=0)) as port:
        assert "has no TaskManager yet" in reached(f"{FLINK}localhost:{port}")[0]


def test_versions_of_spark() -> None:
    with answering({"/": {"serverSparkVersion": "3.5.0"}}, status=400) as port:
        assert reached(f"{SPARK_REST}{port}") == []
    with answering({"/": {"serverSparkVersion": "4.0.1"}}, status=400) as port:
        said = unreachable(f"{SPARK_REST}{port}")
        assert "is Spark 4.0.1, and this Beam works with Spark 3" in said
    with silent() as port:
        standby = f"--runner=SparkRunner --spark_master_url=spark://localhost:{closed_port()}"
        assert reached(f"{standby},localhost:{port}") == []


def test_a_job_server_is_asked_for_its_own_options() -> None:
    with job_server("object_reuse", "number") as port:
        assert reached(f"{ENDPOINT}{port} --object_reuse --number=3") == []
        with pytest.raises(RecipeError, match="did you mean '--object_reuse'"):
            reached(f"{ENDPOINT}{port} --objekt_reuse")
    with job_server() as port:  # that of Python tells of none, whatever there is
        assert reached(f"{ENDPOINT}{port} --whatever=3") == []
        with pytest.raises(RecipeError, match="did you mean '--parallelism'"):
            reached(f"{ENDPOINT}{port} --paralelism=3")


def test_a_job_server_of_another_runner_is_refused() -> None:
    with job_server("object_reuse", kind="flink") as port:
        assert reached(f"--runner=FlinkRunner --job_endpoint=localhost:{port}") == []
        said = unreachable(f"--runner=SparkRunner --job_endpoint=localhost:{port}")
        assert f"the job server at localhost:{port} is for flink, not Spark: correct" in said


def test_refusals_on_the_command_line(finished: Path, tmp_path: Path) -> None:
    run = ("run", finished / "recipe.yaml", "--to", tmp_path / "out", *WORKERS.split())
    runner = f"{ENDPOINT}{closed_port()}".split()
    done = sensorium(*run, *runner)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "say so with --shared" in done.stderr
    done = sensorium(*run, *runner, "--shared")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith("failed: there is no job server at localhost:")
    assert not (tmp_path / "out").exists()


def test_what_is_done_needs_no_runner(finished: Path) -> None:
    run = ("run", finished / "recipe.yaml", "--to", finished / "output", *WORKERS.split())
    done = sensorium(*run, *f"{ENDPOINT}{closed_port()}".split())
    assert done.returncode == 0, done.stderr
    assert "Nothing to do" in done.stderr


def test_workers_with_other_versions_end_the_run(plan: Plan, tmp_path: Path) -> None:
    here = replace(plan, output=str(tmp_path))
    assert len(list(parts_of(b"", here, versions()))) >= len(plan.branches)
    (tmp_path / "receipts/begun.json").unlink()
    with pytest.raises(DataError, match=r"NumPy [\d.]+, not 1\.0; PyArrow [\d.]+, not 2\.0: inst"):
        list(parts_of(b"", here, {**versions(), "NumPy": "1.0", "PyArrow": "2.0"}))
    assert not (tmp_path / "receipts").exists() or not list((tmp_path / "receipts").iterdir())
