"""A Spark standalone cluster in processes of this machine: master, two workers, job server.

    python -m infra.spark.cluster up        starts it, and says how to use it
    python -m infra.spark.cluster down
    python -m infra.spark.cluster status

All listen on loopback, at ports that were free when they started. The options with which a
pipeline is sent there are in .cluster/spark/options. README.md beside this tells more.
"""

from __future__ import annotations

import json
from typing import Any

from infra.clusters import LocalCluster, main
from infra.processes import listening, need
from infra.spark.jars import spark_home

HOST = "127.0.0.1"
# Two names of one address: Spark takes them for two machines, so that what fails on one worker
# is tried again on the other.
WORKERS = {"worker-1": HOST, "worker-2": "localhost"}
CACHED_SECONDS = 10  # how long a Python worker waits for a job's next task

# What Spark's own scripts open to it on Java 17 (its JavaModuleOptions).
OPENED = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in (
        *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio"),
        *("java.util", "java.util.concurrent", "java.util.concurrent.atomic", "sun.nio.ch"),
        *("sun.nio.cs", "sun.security.action", "sun.util.calendar", "jdk.internal.ref"),
    )
]
# Processes that live for minutes: what the second compiler gains in them is less than it costs.
SHORT_LIVED = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
# Spark's settings of every job: the job server is the driver of all of them.
CONFIGURATION = {
    "spark.driver.host": HOST,
    "spark.driver.bindAddress": HOST,
    "spark.ui.enabled": "false",
    "spark.executor.memory": "768m",
    "spark.executor.extraJavaOptions": " ".join(OPENED + SHORT_LIVED),
    # A task costs some 0.3 s whatever it does, so there is one a core in each stage.
    "spark.default.parallelism": str(len(WORKERS)),
    # The first task waits for all executors: otherwise the first one to come does the first
    # stage, and all that is kept of it, alone.
    "spark.scheduler.minRegisteredResourcesRatio": "1.0",
    # A task takes any free core at once: files are on storage that all share, so no executor is
    # nearer to them, and by default a core stays idle for 3 s in the hope of one that is.
    "spark.locality.wait": "0s",
    # A Python worker that died is not replaced before it is forgotten (see `options`): all four
    # attempts of a task would be made, and fail, within a second. So what failed is tried on the
    # other worker; an executor with two failures rests until it has forgotten its dead one; and
    # what fails on both ends the job, where Spark would start one executor after another.
    "spark.excludeOnFailure.enabled": "true",
    "spark.excludeOnFailure.timeout": f"{2 * CACHED_SECONDS}s",
    "spark.scheduler.excludeOnFailure.unschedulableTaskSetTimeout": "1s",
    # What was done where, for `tasks`.
    "spark.eventLog.enabled": "true",
}
LOGGING = """\
rootLogger.level = warn
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} %x - %m%n
logger.beam.name = org.apache.beam
logger.beam.level = info
logger.deploy.name = org.apache.spark.deploy
logger.deploy.level = info
"""


class Cluster(LocalCluster):
    """A Spark cluster."""

    name = "Spark"
    cached_seconds = CACHED_SECONDS
    leftovers = ("work", "artifacts", "events", "tmp")

    @property
    def master(self) -> str:
        """Spark's name for the cluster."""
        return f"spark://{HOST}:{self.ports.control}"

    def up(self) -> None:
        """Start what does not run, and wait until all is there, or raise TimeoutError."""
        need("java")
        spark_home()
        if not self.processes.names():
            self._write_files()
        ports = self.ports
        place = ["--host", HOST, "--port", str(ports.control), "--webui-port", str(ports.console)]
        self._java("master", 256, "spark.deploy.master.Master", *place)
        # A worker gives up after a while where it finds no master.
        self.wait("master", "the master does not answer", self.answers)
        for name in WORKERS:
            self.start_worker(name)
        self._java(
            "job-server",
            640,
            "beam.runners.spark.SparkJobServerDriver",
            *self.job_server_arguments(),
            f"--spark-master-url={self.master}",
        )
        self.wait(
            "worker-1",
            "not all workers have registered",
            lambda: self.overview()["aliveworkers"] >= len(WORKERS),
        )
        self.wait("job-server", "the job server does not listen", lambda: listening(ports.job))

    def start_worker(self, name: str) -> None:
        """Start one of the workers, unless it runs."""
        arguments = ["--host", WORKERS[name], "--cores", "1", "--memory", "1g", "--webui-port", "0"]
        arguments += ["--work-dir", str(self.folder / "work" / name), self.master]
        self._java(name, 256, "spark.deploy.worker.Worker", *arguments)

    def options(self, **variables: str) -> list[str]:
        """Options of `sensorium run` that send a pipeline here."""
        (runner,) = (spark_home() / "jars").glob("beam-runners-spark-3-*.jar")
        return [
            "--runner=PortableRunner",
            # Executors have all jars already. Where none is named, the job server sends them
            # all that it has itself, 250 MB for each job and executor.
            f"--files_to_stage={runner}",
            # Without its cache of environments each task of each stage starts a Python worker.
            *self.portable_options(variables),
        ]

    def overview(self) -> Any:
        """What the master says of its workers and applications."""
        return self.get("/json/")

    def applications(self) -> list[str]:
        """Identifiers of all jobs that were run, the oldest first."""
        return sorted(path.name for path in (self.folder / "events").glob("app-*"))

    def tasks(self, application: str) -> list[tuple[str, bool]]:
        """The worker of each task of a finished job, and whether the task went well."""
        worker_of = {
            path.name: path.parents[1].name
            for path in (self.folder / "work").glob(f"*/{application}/*")
        }
        return [
            (worker_of[event["Task Info"]["Executor ID"]], not event["Task Info"]["Failed"])
            for event in self.events(application)
            if event["Event"] == "SparkListenerTaskEnd"
        ]

    def events(self, application: str) -> list[dict[str, Any]]:
        """Spark's own record of a finished job."""
        lines = (self.folder / "events" / application).read_text().splitlines()
        return [json.loads(line) for line in lines]

    def _write_files(self) -> None:
        for name in ("conf", "events", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.new_ports()
        settings = CONFIGURATION | {"spark.eventLog.dir": f"file://{self.folder}/events"}
        lines = [f"{name} {value}\n" for name, value in settings.items()]
        (self.folder / "conf" / "spark-defaults.conf").write_text("".join(lines))
        (self.folder / "conf" / "log4j2.properties").write_text(LOGGING)

    def _java(self, name: str, heap: int, main: str, *arguments: str) -> None:
        conf = self.folder / "conf"
        settings = []
        if name == "job-server":
            # Only spark-submit reads spark-defaults.conf; a driver of its own is told this way.
            lines = (conf / "spark-defaults.conf").read_text().splitlines()
            settings = ["-D" + line.replace(" ", "=", 1) for line in lines]
        command = ["java", f"-Xms{heap}m", f"-Xmx{heap}m", *OPENED, *SHORT_LIVED, *settings]
        command += ["-cp", f"{conf}:{spark_home()}/jars/*", f"org.apache.{main}", *arguments]
        variables = {
            "SPARK_HOME": str(spark_home()),  # where a worker looks for what executors need
            "SPARK_CONF_DIR": str(conf),
            "SPARK_SCALA_VERSION": "2.12",  # else it is told from folders of Spark's own build
            "SPARK_LOCAL_IP": HOST,
            "SPARK_LOCAL_DIRS": str(self.folder / "tmp"),
        }
        self.processes.start(name, command, variables)


if __name__ == "__main__":
    main(Cluster(), __doc__)
