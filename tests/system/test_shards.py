"""Parts of a cluster: what n pollers write adds up to the whole, and no two write one key."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.support.command import environment, poller
from tests.support.openmetrics import openmetrics_file
from tests.support.servers import Prometheus, Redis

KERNELS = 300
END = float(int(time.time()) - 600)
VALUES = (
    ("cpu_util", "current", 700.0),
    ("cpu_util", "capacity", 1000.0),
    ("mem", "current", 5e8),
    ("mem", "capacity", 1e10),
    ("io_read", "current", 4096.0),
)


@pytest.fixture(scope="module")
def kernels() -> list[str]:
    dice = random.Random(3)
    return [str(uuid.UUID(int=dice.getrandbits(128), version=4)) for _ in range(KERNELS)]


@pytest.fixture(scope="module")
def prometheus(kernels: list[str], tmp_path_factory) -> Iterator[Prometheus]:
    series = [
        (
            {"agent_id": f"i-{place % 7}", "instance": "a", "job": "agents", "kernel_id": kernel,
             "session_id": "s", "container_metric_name": name, "value_type": kind},
            [(END - 60 + step * 5, value + step * (kind == "current")) for step in range(13)],
        )
        for place, kernel in enumerate(kernels)
        for name, kind, value in VALUES
    ]  # fmt: skip
    path = openmetrics_file(tmp_path_factory.mktemp("shards") / "samples.om", series)
    with Prometheus(samples=path) as server:
        yield server


def written(prometheus: Prometheus, **settings: object) -> dict[bytes, bytes]:
    """Return the keys that one poller with these settings writes beside none."""
    with Redis() as redis:
        env = environment(prometheus.url, redis.url, **settings)
        done = poller("once", "--time", str(END), env=env)
        assert done.returncode == 0, done.stderr
        with redis.client() as client:
            return {key: client.get(key) for key in client.keys("*-*-*-*-*")}


@pytest.mark.parametrize("count", [2, 3, pytest.param(16, marks=pytest.mark.slow(10))])
def test_the_parts_add_up_to_the_whole_and_are_disjoint(prometheus: Prometheus, kernels, count):
    whole = written(prometheus)
    assert {key.decode() for key in whole} == set(kernels)
    together: dict[bytes, bytes] = {}
    for index in range(count):
        part = written(prometheus, shard__index=index, shard__count=count)
        assert not part.keys() & together.keys()
        assert 0 < len(part) < 2.5 * KERNELS / count
        together |= part
    assert together == whole


def test_a_batch_in_slices_gives_what_a_batch_in_one_piece_gives(prometheus: Prometheus):
    assert written(prometheus, prometheus__slice_kernels=100) == written(prometheus)
