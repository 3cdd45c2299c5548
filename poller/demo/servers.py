"""The two servers of the demo: embedded in this process, or the real programs."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import shutil
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import aiohttp

from poller.demo.cluster import SimulatedCluster

HOST = "127.0.0.1"
_BINARIES = ("prometheus", "redis-server")
_START_S = 30.0
_STOP_S = 5.0


class DemoError(Exception):
    """The demo cannot run; the text says why. `status` is the command's exit status."""

    status = 1


class MissingError(DemoError):
    """Something that the demo needs is not installed; the text says what to do."""

    status = 2


class StartError(DemoError):
    """A real server did not start; the text holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the poller's neighbours are, and what they are, for people."""

    prometheus_url: str
    redis_url: str
    prometheus_is: str
    redis_is: str


@asynccontextmanager
async def embedded(cluster: SimulatedCluster, port: int) -> AsyncIterator[Servers]:
    """Run a Redis-compatible server in threads of this process; the API answers as Prometheus."""
    for module in ("fakeredis", "lupa"):
        if importlib.util.find_spec(module) is None:
            raise MissingError(
                f"{module} is not installed, which the embedded server needs: "
                "pip install 'livestat-poller[demo]' (or run demo --real with real servers)"
            )
    from fakeredis import TcpFakeServer

    server = TcpFakeServer((HOST, 0))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="redis", daemon=True).start()
    try:
        yield Servers(
            f"http://{HOST}:{port}",
            f"redis://{HOST}:{server.server_address[1]}/0",
            "simulated, HTTP API and samples",
            f"embedded, fakeredis {version('fakeredis')}",
        )
    finally:
        server.shutdown()
        server.server_close()


@asynccontextmanager
async def real(cluster: SimulatedCluster, port: int) -> AsyncIterator[Servers]:
    """Run the real programs on free ports, in a directory that goes with them."""
    missing = [name for name in _BINARIES if shutil.which(name) is None]
    if missing:
        raise MissingError(
            f"{' and '.join(missing)} not found in PATH: --real runs the real servers; "
            "without it the demo brings its own"
        )
    with tempfile.TemporaryDirectory(prefix="livestat-demo-") as name:
        directory = Path(name)
        prometheus_port, redis_port = _free_port(), _free_port()
        settings = directory / "prometheus.yml"
        settings.write_text(json.dumps(_scraping(cluster, port)))  # JSON is YAML
        async with (
            _running(directory, _prometheus(directory, settings, prometheus_port)) as prometheus,
            _running(directory, _redis(directory, redis_port)) as store,
        ):
            await _ready(prometheus, f"http://{HOST}:{prometheus_port}/-/ready")
            await _ready(store, f"tcp://{HOST}:{redis_port}")
            yield Servers(
                f"http://{HOST}:{prometheus_port}",
                f"redis://{HOST}:{redis_port}/0",
                "real, scrapes the simulated agents",
                "real",
            )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _prometheus(directory: Path, settings: Path, port: int) -> list[str]:
    return [
        "prometheus",
        f"--config.file={settings}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={HOST}:{port}",
    ]


def _redis(directory: Path, port: int) -> list[str]:
    places = ["--bind", HOST, "--port", str(port), "--dir", str(directory)]
    return ["redis-server", *places, "--save", "", "--appendonly", "no"]


def _scraping(cluster: SimulatedCluster, port: int) -> dict[str, object]:
    targets = [
        {
            "targets": [f"{HOST}:{port}"],
            "labels": {
                "__metrics_path__": f"/agents/{agent.name}/metrics",
                "instance": f"{agent.name}:6003",
            },
        }
        for agent in cluster.agents
    ]
    job = {"job_name": "agents", "static_configs": targets}
    interval = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    return {"global": interval, "scrape_configs": [job]}


@dataclass(frozen=True, slots=True)
class _Program:
    name: str
    process: asyncio.subprocess.Process
    log: Path

    def failure(self) -> StartError:
        """Return what its log says at its end."""
        end = self.log.read_text("utf-8", "replace").strip().splitlines()[-3:]
        return StartError(f"{self.name} did not start: {' | '.join(end) or 'it says nothing'}")


@asynccontextmanager
async def _running(directory: Path, command: Sequence[str]) -> AsyncIterator[_Program]:
    log = directory / f"{command[0]}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,  # the terminal's Ctrl-C is for us: the poller stops before them
        )
    try:
        yield _Program(command[0], process, log)
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _ready(program: _Program, url: str) -> None:
    try:
        async with asyncio.timeout(_START_S):
            while not await _answers(url):
                if program.process.returncode is not None:
                    raise program.failure()
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise program.failure() from None


async def _answers(url: str) -> bool:
    try:
        if url.startswith("tcp:"):
            host, _, port = url.removeprefix("tcp://").partition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            return True
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status == 200
    except (OSError, aiohttp.ClientError):
        return False
