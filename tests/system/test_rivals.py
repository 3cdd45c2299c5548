"""Keys that somebody else keeps writing: noticed, told once, counted, and left alone if asked."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgpack
import pytest

from tests.support.command import environment, start_poller
from tests.support.exporter import Exporter
from tests.support.openmetrics import UTILIZATION
from tests.support.servers import Prometheus, Redis, scrape_config, wait_until

INTERVAL_S = 1.0
AGENTS = {"current": "1", "capacity": "9", "pct": "1", "unit_hint": "agent"}


@contextmanager
def agent(redis: Redis, kernel: str, every_s: float = 0.5) -> Iterator[None]:
    """Keep writing one kernel's key as a live agent does."""
    done = threading.Event()

    def write() -> None:
        with redis.client() as client:
            count = 0
            while not done.wait(every_s):
                count += 1
                made = dict.fromkeys(("mem", "cpu_util"), AGENTS | {"current": str(count)})
                client.set(kernel, msgpack.packb(made), ex=86_400)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


def unit(redis: Redis, kernel: str) -> str:
    with redis.client() as client:
        return msgpack.unpackb(client.get(kernel))["mem"]["unit_hint"]


@pytest.fixture(scope="module")
def live() -> Iterator[tuple[Exporter, Prometheus]]:
    with (
        Exporter(kernels=3) as exporter,
        Prometheus(scrape_configs=[scrape_config(exporter.port)]) as prometheus,
    ):
        prometheus.wait_for(f'{UTILIZATION}{{container_metric_name="mem"}}', rows=6)
        time.sleep(3)
        yield exporter, prometheus


def ended(process: subprocess.Popen[str]) -> str:
    process.terminate()
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    return log


def test_a_rival_is_told_once_and_written_over(live):
    exporter, prometheus = live
    kernel = exporter.kernels[0].kernel_id
    with Redis() as redis:
        env = environment(prometheus.url, redis.url, poll__interval_s=INTERVAL_S)
        process = start_poller("run", env=env)
        wait_until(lambda: redis.command("EXISTS", kernel), "the first key")
        with agent(redis, kernel):
            time.sleep(6)
        log = ended(process)
        assert log.count(" written by somebody else too") == 1
        assert unit(redis, kernel) == "bytes"


def test_a_rivals_key_is_left_alone_until_it_has_been_quiet(live):
    exporter, prometheus = live
    kernel, other = exporter.kernels[0].kernel_id, exporter.kernels[1].kernel_id
    with Redis() as redis:
        env = environment(
            prometheus.url, redis.url, poll__interval_s=INTERVAL_S, redis__yield_to_agents="true"
        )
        process = start_poller("run", env=env)
        wait_until(lambda: redis.command("EXISTS", other), "the first keys")
        with agent(redis, kernel):
            time.sleep(4)
            seen = set()
            for _ in range(30):
                seen.add(unit(redis, kernel))
                time.sleep(0.1)
            assert seen == {"agent"}
            assert unit(redis, other) == "bytes"
        quiet_since = time.monotonic()
        wait_until(lambda: unit(redis, kernel) == "bytes", "our own value", timeout_s=15)
        assert time.monotonic() - quiet_since >= 2 * INTERVAL_S
        log = ended(process)
        assert "rivals: " in log
