"""A start and a restart wait for nothing: neither for the next tick nor for a dead one's lease."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.exporter import Exporter
from tests.support.live import LivePoller, tables
from tests.support.openmetrics import UTILIZATION
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Prometheus, Redis, scrape_config, wait_until
from tests.support.world import World

LONG_S = 300.0
"""An interval that no test waits for."""
SHORT_S = 1.0


@pytest.mark.slow(15)
def test_what_a_batch_has_no_room_for_is_read_at_once_where_keys_tell_the_past(
    tmp_path: Path, redis: Redis
) -> None:
    kernels, agents = 300, 3
    with (
        Exporter(kernels=kernels, agents=agents) as exporter,
        Prometheus(scrape_configs=[scrape_config(static_configs=exporter.targets)]) as prometheus,
    ):
        prometheus.wait_for(f'{UTILIZATION}{{container_metric_name="mem"}}', rows=2 * kernels)
        one_agent_a_batch = {"prometheus__slice_kernels": kernels // agents}
        with LivePoller(tmp_path, tables(prometheus.url, redis.url, SHORT_S)):
            wait_until(lambda: redis.command("DBSIZE") >= kernels, "every kernel's key")
        made = tables(prometheus.url, redis.url, LONG_S, **one_agent_a_batch)
        with LivePoller(tmp_path, made) as live:
            live.wait_metric("active_kernels", kernels)
            assert live.metric("cycles_total", result="success") >= agents - 1


def test_a_poller_that_was_killed_and_starts_again_writes_at_once(
    tmp_path: Path, prometheus: ScriptedPrometheus, redis: Redis
) -> None:
    prometheus.handler = World().handler
    made = tables(prometheus.url, redis.url, LONG_S, leader__enabled=True)
    with LivePoller(tmp_path, made) as live:
        live.wait_line("leader: this poller writes")
        live.kill()
        live.start()
        live.wait_line("leader: this poller writes", 2)
        assert not live.lines("leader: standing by")
