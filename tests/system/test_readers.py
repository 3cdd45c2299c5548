"""The real legacy readers make the same of the poller's keys as of the agent's.

They run in virtual environments of their own under Python 3.13, kept beside the project so
that only the first run has to install them.
"""

from __future__ import annotations

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
SCRIPT = Path(__file__).parent / "readers" / "read_keys.py"
_INSTALL_S = 1500.0


def _is_python313(candidate: str) -> bool:
    try:
        done = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info[:2])"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    except OSError:
        return False
    return done.stdout.strip() == "(3, 13)"


def python313() -> str:
    """Return a Python 3.13; skip without one, or fail where nothing may be skipped."""
    managed = sorted(Path.home().glob(".pyenv/versions/3.13*/bin/python"))
    for candidate in (shutil.which("python3.13"), *map(str, managed)):
        if candidate and _is_python313(candidate):
            return candidate
    reason = "no Python 3.13: the real legacy readers need it"
    if os.environ.get("POLLER_TEST_NO_SKIP") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module", params=VERSIONS)
def reader(request: pytest.FixtureRequest) -> Path:
    """Return the Python of an environment that has the readers of one version."""
    folder = ROOT / f".venv-readers-{request.param}"
    done = folder / "installed"
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python313(), "-m", "venv", str(folder)], check=True, timeout=300)
        packages = [
            f"{name}=={request.param}" for name in ("backend.ai-manager", "backend.ai-client")
        ]
        subprocess.run(
            [folder / "bin" / "pip", "install", "-q", *packages], check=True, timeout=_INSTALL_S
        )
        done.touch()
    return folder / "bin" / "python"


@pytest.fixture(scope="module", params=NAMES)
def recorded(
    request: pytest.FixtureRequest, tmp_path_factory
) -> Iterator[tuple[Vector, Prometheus]]:
    vector = Vector(request.param, tmp_path_factory.mktemp("vectors"))
    with Prometheus(samples=vector.samples) as prometheus:
        yield vector, prometheus


def read(reader: Path, redis: Redis, kernels: list[str]) -> dict[str, Any]:
    """Return what the readers make of the keys; they must not fail."""
    done = subprocess.run(
        [reader, SCRIPT, f"{redis.host}:{redis.port}", *kernels],
        capture_output=True,
        text=True,
        timeout=180,
        cwd=os.sep,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def without_averages(made: dict[str, Any]) -> dict[str, Any]:
    for kernel in made.values():
        for fields in kernel["fields"].values():
            fields.pop("stats.avg", None)
    return made


def test_every_reader_makes_the_same_of_our_keys(reader: Path, recorded):
    vector, prometheus = recorded
    snapshot = vector.snapshot("frozen")
    kernels = sorted(snapshot["kernels"])
    with Redis() as redis:
        with redis.client() as client:
            for kernel in kernels:
                client.set(kernel, bytes.fromhex(snapshot["kernels"][kernel]["value_hex"]))
        of_agent = read(reader, redis, kernels)
        redis.command("FLUSHALL")
        env = environment(prometheus.url, redis.url, format__profile=vector.profile)
        done = poller("once", "--time", repr(snapshot["time"]), env=env)
        assert done.returncode == 0, done.stderr
        of_poller = read(reader, redis, kernels)
    assert all(kernel["alone"] for kernel in of_agent.values())
    assert without_averages(of_poller) == without_averages(of_agent)
