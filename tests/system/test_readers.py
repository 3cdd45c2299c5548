"""The real legacy readers make the same of the poller's keys as of the agent's.

They run in virtual environments of their own under Python 3.13, kept in the user's cache so
that only the first run of any checkout has to install them.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import ROOT, environment, poller
from tests.support.servers import Prometheus, Redis
from tests.support.vectors import NAMES, Vector

VERSIONS = ("26.9.6", "26.4.16")
SCRIPT = ROOT / "tests" / "readers" / "read_keys.py"
KEPT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "livestat-poller-tests"
_INSTALL_S = 1500.0


def _version(candidate: str) -> str:
    try:
        done = subprocess.run(
            [candidate, "-c", "import platform; print(platform.python_version())"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except OSError:
        return ""
    return done.stdout.strip()


def python313() -> tuple[str, str]:
    """Return a Python 3.13 and its version; skip without one, or fail where none may be skipped."""
    managed = sorted(Path.home().glob(".pyenv/versions/3.13*/bin/python"))
    for candidate in (shutil.which("python3.13"), *map(str, managed)):
        if candidate and (version := _version(candidate)).startswith("3.13."):
            return candidate, version
    reason = "no Python 3.13: the real legacy readers need it"
    if os.environ.get("POLLER_TEST_NO_SKIP") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def install(folder: Path, python: str, packages: list[str]) -> None:
    """Make an environment that is there whole or not at all."""
    made = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(made, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(made)], check=True, timeout=300)
    pip = [made / "bin" / "python", "-m", "pip", "install", "-q", *packages]
    subprocess.run(pip, check=True, timeout=_INSTALL_S)
    made.rename(folder)


def kept(version: str) -> Path:
    """Return the Python of an environment with the readers of one version, made if need be."""
    python, of = python313()
    folder = KEPT / f"readers-{version}-python-{of}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second finds it made
        if not folder.is_dir():
            packages = ("backend.ai-manager", "backend.ai-client")
            install(folder, python, [f"{name}=={version}" for name in packages])
    return folder / "bin" / "python"


class Readers:
    """The readers of one version in a process of their own, which is asked again and again."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=os.sep,
        )

    def read(self, redis: Redis, kernels: list[str]) -> dict[str, Any]:
        """Return what the readers make of the keys; they must not fail."""
        assert self._process.stdin
        assert self._process.stdout
        print(f"{redis.host}:{redis.port}", *kernels, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, "a reader failed: see what was captured"
        made: dict[str, Any] = json.loads(line)
        return made

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module", params=VERSIONS)
def readers(request: pytest.FixtureRequest) -> Iterator[Readers]:
    made = Readers(kept(request.param))
    yield made
    made.close()


SEEN = [name for name in NAMES if name != "agent-26.4-sparse"]
"""But for the recording of which two of three rounds were seen by no scrape."""


@pytest.fixture(scope="module", params=SEEN)
def recorded(
    request: pytest.FixtureRequest, tmp_path_factory
) -> Iterator[tuple[Vector, Prometheus]]:
    vector = Vector(request.param, tmp_path_factory.mktemp("vectors"))
    with Prometheus(samples=vector.samples) as prometheus:
        yield vector, prometheus


def without_averages(made: dict[str, Any]) -> dict[str, Any]:
    for kernel in made.values():
        for fields in kernel["fields"].values():
            fields.pop("stats.avg", None)
    return made


@pytest.mark.slow
def test_every_reader_makes_the_same_of_our_keys(readers: Readers, recorded):
    vector, prometheus = recorded
    snapshot = vector.snapshot("frozen")
    kernels = sorted(snapshot["kernels"])
    with Redis() as redis:
        with redis.client() as client:
            for kernel in kernels:
                client.set(kernel, bytes.fromhex(snapshot["kernels"][kernel]["value_hex"]))
        of_agent = readers.read(redis, kernels)
        redis.command("FLUSHALL")
        env = environment(prometheus.url, redis.url, format__profile=vector.profile)
        done = poller("once", "--time", repr(snapshot["time"]), env=env)
        assert done.returncode == 0, done.stderr
        of_poller = readers.read(redis, kernels)
    assert all(kernel["alone"] for kernel in of_agent.values())
    assert without_averages(of_poller) == without_averages(of_agent)
