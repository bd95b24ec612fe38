"""A real S3 server on this machine (S3Proxy, on a folder), and a gate before it that makes faults.

The gate hands requests on as they are. It counts the PUTs, can make every answer late, and can
act as a server that was stopped: at the n-th PUT connections break, before or after the server
has stored it, and no new one is taken for some seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import ClientSession, TCPConnector, web

JAR = Path(__file__).resolve().parents[2] / ".cluster/s3proxy.jar"
KEYS = {
    "AWS_ACCESS_KEY_ID": "sensorium",
    "AWS_SECRET_ACCESS_KEY": "only-for-tests",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",  # no look for credentials on the network
}


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """S3Proxy as a process; what it stores is in `folder`, a sub-folder a bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder / "buckets", free_port()
        self.folder.mkdir()
        self._log, self._settings = folder / "s3proxy.log", folder / "s3proxy.conf"
        self._settings.write_text(
            "\n".join(
                [
                    "s3proxy.authorization=aws-v2-or-v4",
                    f"s3proxy.endpoint=http://127.0.0.1:{self.port}",
                    f"s3proxy.identity={KEYS['AWS_ACCESS_KEY_ID']}",
                    f"s3proxy.credential={KEYS['AWS_SECRET_ACCESS_KEY']}",
                    # Checksums beside the signed SHA-256 of the body are not known to it.
                    "s3proxy.ignore-unknown-headers=true",
                    "jclouds.provider=filesystem-nio2",
                    f"jclouds.filesystem.basedir={self.folder}",
                ]
            )
        )
        self._process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        """Start the process and wait until it answers."""
        # A compiler for short runs: it starts twice as fast.
        java = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*java, "-jar", str(JAR), "--properties", str(self._settings)],
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 180
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                connection.request("GET", "/")
                connection.getresponse().read()
                connection.close()
                return
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"S3Proxy does not answer:\n{self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End the process as a power failure would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(30)


class Gate:
    """The way to a server, with the faults that a test asks for.

    Attributes:
        puts: how many were asked for since `reset`.
        latency: seconds by which every answer is late.
        fault_at: number of the PUT, from 1, at which the server is stopped; None for never.
        stored: whether that PUT reaches the server before the connection breaks.
        down: seconds for which the server is stopped then.
        on_fault: called in a thread of its own when it is stopped.
        repeat: whether every PUT from `fault_at` on breaks once, its first time.
    """

    def __init__(self, server: Server) -> None:
        self.server, self.port = server, free_port()
        self.reset()
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), name="gate", daemon=True).start()
        assert ready.wait(30)

    @property
    def url(self) -> str:
        """Where clients are to go."""
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """No faults, and nothing counted."""
        self.puts, self.requests, self.latency = 0, 0, 0.0
        self.fault_at: int | None = None
        self.stored, self.down, self.repeat = False, 0.0, False
        self.on_fault: Callable[[], None] | None = None
        self._until, self._broken = 0.0, set[str]()

    def close(self) -> None:
        """Take no more requests."""
        asyncio.run_coroutine_threadsafe(self._session.close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        ready.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        self._session = ClientSession(auto_decompress=False, connector=TCPConnector(limit=0))
        runner = web.AppRunner(self._app(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._serve)
        return app

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if time.monotonic() < self._until:
            return self._hang_up(request)
        data = await request.read()
        hit = False
        if request.method == "PUT":
            self.puts += 1
            hit = self.puts == self.fault_at
            if self.repeat and self.fault_at is not None and self.puts >= self.fault_at:
                hit = request.path not in self._broken
                self._broken.add(request.path)
        if hit:
            self._until = time.monotonic() + self.down
            if self.on_fault is not None:
                threading.Thread(target=self.on_fault, name="fault", daemon=True).start()
            if not self.stored:
                return self._hang_up(request)
        if self.latency:
            await asyncio.sleep(self.latency)
        try:
            async with self._session.request(
                request.method,
                f"http://127.0.0.1:{self.server.port}{request.raw_path}",
                headers=request.headers,
                data=data,
                skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
            ) as got:
                body = await got.read()
        except OSError:  # the server is really gone
            return self._hang_up(request)
        except Exception:  # noqa: BLE001  what aiohttp makes of a connection that breaks
            return self._hang_up(request)
        if hit:
            return self._hang_up(request)
        headers = {k: v for k, v in got.headers.items() if k.lower() not in _HOP}
        if request.method == "HEAD":
            headers["Content-Length"] = got.headers.get("Content-Length", "0")
        return web.Response(status=got.status, body=body, headers=headers)

    def _hang_up(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response(status=500)


_HOP = {"transfer-encoding", "connection", "keep-alive", "content-length"}


def environment(url: str) -> dict[str, str]:
    """The ordinary variables of AWS clients for a store of the tests."""
    return {**KEYS, "AWS_ENDPOINT_URL": url}


class Bucket:
    """A bucket, and its objects as the files that the server keeps.

    Attributes:
        gate: the way to its server.
        url: of the bucket.
        folder: where the server keeps its objects.
    """

    def __init__(self, gate: Gate, name: str) -> None:
        self.gate, self.url, self.folder = gate, f"s3://{name}", gate.server.folder / name
        self.folder.mkdir()

    def take(self, folder: Path, name: str) -> str:
        """Copy a local folder into the bucket; returns its URL."""
        shutil.copytree(folder, self.folder / name)
        return f"{self.url}/{name}"
