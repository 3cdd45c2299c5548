"""The real legacy readers make the same of the poller's keys as of the agent's.

They run in virtual environments of their own under Python 3.13 (`tests/support/python313.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import python313
from tests.support.command import ROOT, environment, poller
from tests.support.servers import Prometheus, Redis
from tests.support.vectors import NAMES, Vector

VERSIONS = ("26.9.6", "26.4.16")
SCRIPT = ROOT / "tests" / "readers" / "read_keys.py"
PACKAGES = ("backend.ai-manager", "backend.ai-client")


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
    version = request.param
    wanted = [f"{name}=={version}" for name in PACKAGES]
    made = Readers(python313.environment(f"readers-{version}", *wanted))
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


@pytest.mark.slow(40)
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
