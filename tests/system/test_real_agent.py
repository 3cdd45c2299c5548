"""Beside a real agent, every value is one that the agent wrote: its package runs, Prometheus
scrapes it, and the daemon writes under a prefix.

Shares of all instants are asserted, not single ones. Each run takes about a minute, alone with
servers of its own, so that they can run side by side.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
import redis as redis_client

from tests.support.agreement import Look, Rule, Stat, agreement, standstill
from tests.support.daemon import DaemonProcess
from tests.support.real_agent import RealAgent
from tests.support.servers import Prometheus, Redis, scrape_config, wait_until

pytestmark = pytest.mark.slow(160)  # two after each other

PREFIX = "shadow:"
SCRAPE_S, POLL_S, LOOK_S = 2.0, 0.5, 0.2
LATE_S = SCRAPE_S + POLL_S + 1.0
WARM_S = 15.0  # five rounds, in which the poller learns how often the agent measures
LEAST = 0.99
SCENARIOS: dict[str, dict[str, Any]] = {
    "bursts": {"burst_s": 8.0},
    "jitter": {"burst_s": 8.0, "jitter_s": 0.5},
    "refused": {"burst_s": 8.0, "refuse_at_s": 20.0},
    "lives": {"burst_s": 8.0, "late": 1, "late_s": 20.0, "restart": 1, "restart_s": 32.0},
}


@dataclass(frozen=True)
class Pair:
    """An agent and, beside it, the daemon, between two servers."""

    redis: Redis
    agent: RealAgent
    prometheus: Prometheus
    daemon: DaemonProcess

    def watch(self, for_s: float, also: Callable[[], object] = lambda: None) -> list[Look]:
        """Look at all keys five times a second, and at something else besides."""
        looks: list[Look] = []
        begun = time.monotonic()
        with self.redis.client() as client:
            while (passed_s := time.monotonic() - begun) < for_s:
                looks.append(look(client, self.agent.kernels))
                also()
                time.sleep(max(0.0, LOOK_S * len(looks) - passed_s))
        return looks


@contextmanager
def beside(**options: Any) -> Iterator[Pair]:
    """Run both; the agent has written its first values."""
    with (
        Redis() as redis,
        RealAgent(redis, **options) as agent,
        Prometheus(scrape_configs=[scrape_config(agent.port, interval_s=SCRAPE_S)]) as prometheus,
        DaemonProcess(
            prometheus.url,
            redis.url,
            poll__interval_s=POLL_S,
            poll__query_offset_s=0.1,
            redis__key_prefix=PREFIX,
            format__profile=agent.profile,
        ) as daemon,
    ):
        # Prometheus scrapes a new target only after 5 s.
        wait_until(lambda: redis.command("EXISTS", *agent.kernels) > 0, "the agent's first values")
        yield Pair(redis, agent, prometheus, daemon)
        # Shown where a test fails.
        print(agent.log()[-2000:], daemon.log_path.read_text()[-2000:], sep="\n")


def look(client: redis_client.Redis, kernels: list[str]) -> Look:
    """Read the agent's keys and ours at one moment."""
    values = client.mget([*kernels, *(PREFIX + kernel for kernel in kernels)])
    theirs, ours = values[: len(kernels)], values[len(kernels) :]
    return Look(time.monotonic(), unpacked(kernels, theirs), unpacked(kernels, ours))


def unpacked(kernels: list[str], values: list[bytes | None]) -> dict[str, Stat]:
    pairs = zip(kernels, values, strict=True)
    return {kernel: msgpack.unpackb(value) for kernel, value in pairs if value is not None}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_value_is_one_that_the_agent_wrote(scenario: str):
    with beside(**SCENARIOS[scenario]) as pair:
        looks = pair.watch(60.0)
    begun = looks[0].time
    found = agreement(looks, Rule(LATE_S), lambda at: at >= begun + WARM_S)
    assert not (faults := found.faults(LEAST)), faults


def test_a_gap_in_the_scrapes_leaves_nothing_behind():
    """Gauges rest: what they were while nobody scraped cannot be known."""
    with beside(gauges_move=False) as pair:
        looks = pair.watch(25.0)
        pair.prometheus.pause()
        looks += pair.watch(12.0)
        pair.prometheus.resume()
        resumed = time.monotonic()
        looks += pair.watch(25.0)
    well = resumed + LATE_S + pair.agent.options.interval_s
    found = agreement(looks, Rule(LATE_S), lambda at: at >= well)
    assert not (faults := found.faults(LEAST)), faults


def test_while_a_plugin_hangs_the_kernels_are_withheld_and_fresh_two_rounds_after():
    interval_s, hang_s = 2.0, 15.0
    stalled: list[tuple[float, float]] = []
    with beside(interval_s=interval_s, hang_at_s=22.0, hang_for_s=hang_s) as pair:

        def note_stalled() -> None:
            count = pair.daemon.metric("withheld_kernels", reason="stalled")
            stalled.append((time.monotonic(), count))

        looks = pair.watch(60.0, note_stalled)
    stood, moved = standstill(looks)
    assert moved - stood >= hang_s
    fresh = moved + 2 * interval_s + LATE_S
    assert not any(count for at, count in stalled if at < stood or at > fresh)
    assert max(count for at, count in stalled if at < moved) == len(pair.agent.kernels)
    found = agreement(looks, Rule(LATE_S), lambda at: at >= fresh)
    assert not (faults := found.faults(LEAST)), faults
