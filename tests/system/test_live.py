"""The daemon on a live Prometheus that scrapes a live exporter."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgpack
import pytest

from tests.support.command import environment, start_poller
from tests.support.exporter import Exporter, Replay
from tests.support.kernels import METRICS
from tests.support.openmetrics import UTILIZATION
from tests.support.servers import Prometheus, Redis, scrape_config, wait_until
from tests.support.vectors import Vector

INTERVAL_S = 1.0
CPU_UTIL = next(metric for metric in METRICS if metric.name == "cpu_util")


@contextmanager
def running(env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = start_poller("run", env=env)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            _, log = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, log
    assert "Traceback" not in log


def fields_of(redis: Redis, prefix: str = "") -> dict[str, dict]:
    with redis.client() as client:
        keys = [key for key in client.keys(f"{prefix}*-*-*-*-*") if client.type(key) == b"string"]
        return {
            key.decode().removeprefix(prefix): msgpack.unpackb(client.get(key), raw=False)
            for key in keys
            if not key.startswith(b"livestat")
        }


@pytest.mark.slow(20)
def test_a_hundred_kernels_stay_fresh_and_any_reader_can_read_them():
    with (
        Exporter(kernels=100, agents=4) as exporter,
        Prometheus(scrape_configs=[scrape_config(static_configs=exporter.targets)]) as prometheus,
        Redis() as redis,
    ):
        prometheus.wait_for(f'{UTILIZATION}{{container_metric_name="mem"}}', rows=200)
        env = environment(prometheus.url, redis.url, poll__interval_s=INTERVAL_S)
        with running(env):
            wait_until(lambda: len(fields_of(redis)) == 100, "100 keys")
            time.sleep(8)  # long enough that a key written only once would be noticed
            ages = [86_400_000 - redis.command("PTTL", name) for name in fields_of(redis)]
            fields = fields_of(redis)
        assert max(ages) < 3 * INTERVAL_S * 1000
        for kernel in exporter.kernels:
            ours, truth = fields[kernel.kernel_id], exporter.current(kernel.kernel_id)
            rate = float(ours["cpu_util"]["current"])
            assert 0.7 <= rate / kernel.rate(CPU_UTIL) <= 1.3
            assert float(ours["cpu_used"]["current"]) <= truth["cpu_used"]
            assert int(ours["io_read"]["current"]) > 0


def samples(prometheus: Prometheus, kernel: str, metric: str) -> list[float]:
    """Return every value that Prometheus ever stored of that metric, in order of time."""
    import json
    import urllib.parse
    import urllib.request

    text = (
        f'{UTILIZATION}{{kernel_id="{kernel}",container_metric_name="{metric}",'
        'value_type="current"}[10m]'
    )
    body = urllib.parse.urlencode({"query": text}).encode()
    with urllib.request.urlopen(f"{prometheus.url}/api/v1/query", body) as answer:
        (found,) = json.load(answer)["data"]["result"]
    return [float(value) for _, value in found["values"]]


def is_mean(text: str, values: list[float]) -> bool:
    """Whether text is within 1 % the mean of all values but those scraped after the last poll."""
    return any(abs(float(text) - mean) <= 0.01 * abs(mean) for mean in means(values))


def means(values: list[float]) -> list[float]:
    return [sum(values[:end]) / end for end in range(len(values) - 3, len(values) + 1)]


@pytest.mark.slow(40)
def test_a_poller_that_is_killed_twice_ends_at_the_values_of_an_undisturbed_one(tmp_path):
    vector = Vector("agent-26.9", tmp_path)
    # From the middle of the movement on, so that 25 s of it and the standing still are seen.
    with (
        Replay(vector.samples, skip_s=62.0) as replay,
        Prometheus(scrape_configs=[scrape_config(replay.port)]) as prometheus,
        Redis() as redis,
    ):
        prometheus.wait_for(f'{UTILIZATION}{{container_metric_name="mem"}}', rows=8)
        common = {"poll__interval_s": INTERVAL_S, "format__profile": "26.9"}
        calm = environment(prometheus.url, redis.url, redis__key_prefix="calm:", **common)
        # The other one polls more often than Prometheus scrapes.
        rough = environment(prometheus.url, redis.url, redis__key_prefix="rough:",
                            **(common | {"poll__interval_s": 0.4}))  # fmt: skip
        with running(calm):
            for pause_s in (7.0, 8.0):
                victim = start_poller("run", env=rough)
                time.sleep(pause_s)
                victim.kill()
                victim.communicate()
                time.sleep(1.5)
            with running(rough):
                wait_until(lambda: replay.recorded_time() > vector_still(vector) + 12, "stillness",
                           timeout_s=60)  # fmt: skip
        undisturbed, disturbed = fields_of(redis, "calm:"), fields_of(redis, "rough:")
        assert undisturbed.keys() == disturbed.keys()
        assert len(disturbed) == 4
        for kernel, fields in disturbed.items():
            for metric, ours in fields.items():
                theirs = dict(undisturbed[kernel][metric])
                if "stats.avg" in ours:
                    values = samples(prometheus, kernel, metric)
                    for poller in (theirs, ours):
                        text = poller.pop("stats.avg")
                        assert is_mean(text, values), (kernel, metric, text, means(values))
                assert ours == theirs, (kernel, metric)
            first = samples(prometheus, kernel, "io_read")[0]
            assert float(fields["io_read"]["capacity"]) == first
            peak = max(samples(prometheus, kernel, "mem"))
            assert float(fields["mem"]["stats.max"]) == peak


def vector_still(vector: Vector) -> float:
    """Return when the kernels of a recording stop moving."""
    from tests.support.openmetrics import samples_of

    last = 0.0
    for one in samples_of(vector.samples):
        if one.labels.get("container_metric_name") == "cpu_used":
            moves = [
                b[0] for a, b in zip(one.samples, one.samples[1:], strict=False) if a[1] != b[1]
            ]
            last = max(last, moves[-1])
    return last
