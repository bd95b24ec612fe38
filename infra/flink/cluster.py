"""A Flink cluster in processes of this machine: JobManager, two TaskManagers, Beam's job server.

    python -m infra.flink.cluster up        starts it, and says how to use it
    python -m infra.flink.cluster down
    python -m infra.flink.cluster status

All listen on loopback, at ports that were free when they started. The options with which a
pipeline is sent there are in .cluster/flink/options. README.md beside this tells more.
"""

from __future__ import annotations

from typing import Any

from infra.clusters import LocalCluster, main
from infra.flink.jars import flink_jars, job_server_jar
from infra.processes import listening, need

TASK_MANAGERS = ("taskmanager-1", "taskmanager-2")
CACHED_SECONDS = 4  # how long a Python worker waits for a job's next stage

CONFIGURATION = """\
jobmanager.rpc.address: localhost
jobmanager.rpc.port: {rpc}
jobmanager.bind-host: localhost
rest.address: localhost
rest.bind-address: localhost
rest.port: {rest}
taskmanager.host: localhost
taskmanager.bind-host: localhost
io.tmp.dirs: {folder}/tmp
web.tmpdir: {folder}/tmp
# The runner's classes are on the cluster's own class path and loaded once. Out of each job's jar
# they would be loaded anew for each job, and then Beam ends the Python worker whenever a stage
# ends and the next has not begun: six starts of an interpreter a job instead of one.
classloader.resolve-order: parent-first
# Two slots each though a job takes one of each: those left let one TaskManager take over the
# work of both. Jobs are spread, not packed.
taskmanager.numberOfTaskSlots: 2
taskmanager.load-balance.mode: SLOTS
parallelism.default: 2
# Memory, one by one: Flink's own shell scripts would work them out, but they are not used here.
jobmanager.memory.process.size: 1024m
taskmanager.cpu.cores: 1.0
taskmanager.memory.task.heap.size: 768m
taskmanager.memory.task.off-heap.size: 128m
taskmanager.memory.managed.size: 256m
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.framework.off-heap.size: 128m
taskmanager.memory.jvm-metaspace.size: 256m
taskmanager.memory.jvm-overhead.min: 192m
taskmanager.memory.jvm-overhead.max: 192m
# A Beam batch job has some 20 shuffles, and each would have 512 buffers of 32 KiB: more than
# there are. What goes through them here are small records.
taskmanager.memory.network.min: 256m
taskmanager.memory.network.max: 256m
taskmanager.network.sort-shuffle.min-buffers: 64
# A killed TaskManager is noticed after seconds, not a minute, and the job tried again; but not
# for ever, else an error that always comes back would never reach the person who waits. The delay
# is longer than a Python worker is kept for the next stage: a dead one is kept as well, and who
# comes earlier gets it.
heartbeat.interval: 1000
heartbeat.timeout: 8000
heartbeat.rpc-failure-threshold: 1
cluster.registration.error-delay: 1000
slot.request.timeout: 30000
restart-strategy: fixed-delay
restart-strategy.fixed-delay.attempts: 3
restart-strategy.fixed-delay.delay: {restart} s
# A task that does not end when it is cancelled takes its TaskManager down, after three minutes
# by default: the other one waits for it.
task.cancellation.interval: 5000
task.cancellation.timeout: 30000
"""
LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} %x - %m%n
"""
# What Flink's own scripts open to it on Java 17.
OPENED = [
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
    "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
    *(
        f"--add-opens=java.base/java.{package}=ALL-UNNAMED"
        for package in (
            *("lang", "net", "io", "nio", "lang.reflect", "text", "time", "util"),
            *("util.concurrent", "util.concurrent.atomic", "util.concurrent.locks"),
        )
    ),
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
]


class Cluster(LocalCluster):
    """A Flink cluster."""

    name = "Flink"
    cached_seconds = CACHED_SECONDS
    leftovers = ("tmp", "artifacts")

    def up(self) -> None:
        """Start what does not run, and wait until all is there, or raise TimeoutError."""
        need("java")
        job_server = job_server_jar()
        if not any(map(self.processes.pid, self.processes.names())):
            self._write_files()  # with new ports: the old ones may be taken by now
        self._java("jobmanager", 640, "entrypoint.StandaloneSessionClusterEntrypoint")
        for name in TASK_MANAGERS:
            self.start_task_manager(name)
        self.processes.start(
            "job-server",
            [
                *("java", "-Xmx512m", "-jar", job_server),
                f"--flink-master=localhost:{self.ports.console}",
                *self.job_server_arguments(),
            ],
        )
        self.wait("jobmanager", "the JobManager does not answer", self.answers)
        self.wait(
            "taskmanager-1",
            "not all TaskManagers have registered",
            lambda: len(self.task_managers()) >= len(TASK_MANAGERS),
        )
        self.wait("job-server", "the job server does not listen", lambda: listening(self.ports.job))

    def start_task_manager(self, name: str) -> None:
        """Start one of the TaskManagers, unless it runs."""
        own = f"-Dtaskmanager.resource-id={name}"
        self._java(name, 896, "taskexecutor.TaskManagerRunner", own)

    def options(self, **variables: str) -> list[str]:
        """Options of `sensorium run` that send a pipeline here."""
        return [
            "--runner=FlinkRunner",
            f"--flink_master=localhost:{self.ports.console}",
            f"--parallelism={len(TASK_MANAGERS)}",
            *self.portable_options(variables),
        ]

    def overview(self) -> Any:
        """What the JobManager says of its TaskManagers and jobs."""
        return self.get("/overview")

    def task_managers(self) -> list[str]:
        """Names of the TaskManagers that the JobManager knows."""
        return sorted(one["id"] for one in self.get("/taskmanagers")["taskmanagers"])

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs that the JobManager remembers, the oldest first."""
        return sorted(self.get("/jobs/overview")["jobs"], key=lambda job: job["start-time"])

    def records_read(self, job: str) -> dict[str, int]:
        """How many records the tasks of a job have read, by TaskManager."""
        out: dict[str, int] = {}
        for vertex in self.get(f"/jobs/{job}")["vertices"]:
            found = self.get(f"/jobs/{job}/vertices/{vertex['id']}/taskmanagers")
            for one in found["taskmanagers"]:
                name = one.get("taskmanager-id") or one["endpoint"]
                out[name] = out.get(name, 0) + one["metrics"]["read-records"]
        return out

    def _write_files(self) -> None:
        for name in ("tmp", "conf"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        ports = self.new_ports()
        text = CONFIGURATION.format(
            rest=ports.console, rpc=ports.control, folder=self.folder, restart=CACHED_SECONDS + 2
        )
        (self.folder / "conf" / "flink-conf.yaml").write_text(text)
        (self.folder / "conf" / "log4j2.properties").write_text(LOGGING)

    def _java(self, name: str, heap: int, main: str, *arguments: str) -> None:
        conf = self.folder / "conf"
        logging = f"-Dlog4j.configurationFile=file:{conf}/log4j2.properties"
        # Flink's jars come first: Beam's holds copies of them, perhaps of another patch release.
        classes = f"{flink_jars()}/*:{job_server_jar()}"
        memory = [f"-Xms{heap}m", f"-Xmx{heap}m"]
        command = ["java", *memory, *OPENED, logging, "-cp", classes]
        main = f"org.apache.flink.runtime.{main}"
        self.processes.start(name, [*command, main, "--configDir", str(conf), *arguments])


if __name__ == "__main__":
    main(Cluster(), __doc__)
