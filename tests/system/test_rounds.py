"""The agents' rounds decide what is asked and written: kernels that were measured, no others."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from poller.errors import StoreError
from poller.poll import assembly
from poller.poll.outcome import Outcome
from tests.support.answers import Answer
from tests.support.command import environment, poller
from tests.support.live import LivePoller, read_legacy, settings, tables
from tests.support.openmetrics import DURATION_COUNT, STAGE_COUNT, UTILIZATION
from tests.support.proxy import FaultProxy, reset
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Redis, wait_until
from tests.support.world import World

KERNELS = 5
RARELY_S = 60.0
"""Where measurements are so far apart, and the last was half of it ago, none falls into a test."""
BEHIND_S = 400.0
UNHURRIED_S = 2.0
"""An interval that is long beside what a busy machine needs for a cycle."""


def measuring(prometheus: ScriptedPrometheus, every_s: float) -> World:
    """Let the server tell of an agent that measures so often."""
    world = World(KERNELS, time.time() - 10_000_000.5 * every_s, every_s)
    prometheus.handler = world.handler
    return world


def used(redis: Redis, world: World) -> set[float]:
    """Return what the keys say of `cpu_used`: with it, which measurement they are of."""
    values = [redis.command("GET", kernel) for kernel in world.ids]
    return {float(read_legacy(value)["cpu_used"]["current"]) for value in values}


async def test_where_nothing_was_measured_nothing_is_asked_but_the_rounds_and_the_cycle_is_good(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    measuring(prometheus, RARELY_S)
    async with assembly.cycle(settings(tmp_path, prometheus.url, redis.url)) as cycle:
        assert (await cycle.poll()).written == KERNELS
        redis.command("CONFIG", "RESETSTAT")
        for _ in range(3):
            prometheus.requests.clear()
            outcome = await cycle.poll()
            assert (outcome.written, outcome.kernels) == (0, KERNELS)
            assert not outcome.withheld
            assert len(prometheus.queries) == 1
            assert not [query for query in prometheus.queries if UTILIZATION in query]
            assert any(STAGE_COUNT in query for query in prometheus.queries)
            assert any(DURATION_COUNT in query for query in prometheus.queries)
        assert "cmdstat_set" not in redis.command("INFO", "commandstats")


async def test_a_kernel_is_written_once_a_measurement_with_the_values_of_that_one(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    world = measuring(prometheus, 1.0)
    async with assembly.cycle(settings(tmp_path, prometheus.url, redis.url)) as cycle:
        await cycle.poll()
        before, written = world.rounds(time.time()), []
        while world.rounds(time.time()) < before + 3:
            outcome = await cycle.poll()
            written.append(outcome.written)
            assert used(redis, world) == {world.value("cpu_used", outcome.time)}
            await asyncio.sleep(0.1)
    assert sum(written) in (2 * KERNELS, 3 * KERNELS)  # the third may have come after the last poll
    assert set(written) == {0, KERNELS}


async def test_a_lost_key_is_back_at_the_next_measurement(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    world = measuring(prometheus, 0.5)
    async with assembly.cycle(settings(tmp_path, prometheus.url, redis.url)) as cycle:
        await cycle.poll()
        redis.command("DEL", world.ids[0])
        lost = world.rounds(time.time())
        while world.rounds(time.time()) == lost:  # noqa: ASYNC110 - the agent's clock, not ours
            await asyncio.sleep(0.01)
        assert (await cycle.poll()).written == KERNELS
    assert redis.command("EXISTS", world.ids[0]) == 1
    assert 86_390 < redis.command("TTL", world.ids[0]) <= 86_400


async def test_a_scrape_in_mid_batch_makes_its_kernels_wait_for_the_next_cycle(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    """The rounds are answered before a scrape was stored, the gauges after it."""
    world = measuring(prometheus, 0.5)
    late = 0.0

    def handler(query: str, at: float, params: dict[str, str]) -> Answer:
        first_look = DURATION_COUNT in query
        return world.handler(query, at - late if first_look else at, params)

    async with assembly.cycle(settings(tmp_path, prometheus.url, redis.url)) as cycle:
        before = (await cycle.poll()).time
        prometheus.handler = handler
        await asyncio.sleep(1.6)
        late = 0.6
        outcome = await cycle.poll()
        assert outcome.withheld == dict.fromkeys(world.ids, "mixed")
        assert outcome.written == 0
        assert used(redis, world) == {world.value("cpu_used", before)}
        late = 0.0
        outcome = await cycle.poll()
        assert (outcome.written, outcome.withheld) == (KERNELS, {})
        assert used(redis, world) == {world.value("cpu_used", outcome.time)}


# --- in mid-write -------------------------------------------------------------------------------


async def test_a_cycle_that_fails_in_mid_write_counts_what_was_written(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    measuring(prometheus, 0.001)
    with FaultProxy(redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        made = settings(tmp_path, prometheus.url, url, redis__batch_size=1)
        async with assembly.cycle(made) as cycle:
            await cycle.poll()
            redis.command("CONFIG", "RESETSTAT")
            proxy.fault = reset(after_request_bytes=700, times=1)
            outcome = Outcome()
            with pytest.raises(StoreError):
                await cycle.poll(outcome=outcome)
            sets = redis.command("INFO", "commandstats")["cmdstat_set"]["calls"]
            assert 0 < outcome.written < KERNELS
            assert sets - 2 <= outcome.written <= sets  # two portions are under way at most


def test_the_daemon_counts_what_a_failed_cycle_wrote(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    measuring(prometheus, 0.001)
    with FaultProxy(redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        made = tables(prometheus.url, url, 3.0, redis__batch_size=1)
        redis.command("CONFIG", "RESETSTAT")
        with LivePoller(tmp_path, made) as live:
            live.wait_metric("keys_written_total", KERNELS)
            proxy.fault = reset(after_request_bytes=700, times=1)
            live.wait_metric("cycles_total", 1, result="failed")
            written = live.metric("keys_written_total")
            sets = redis.command("INFO", "commandstats")["cmdstat_set"]["calls"]
            assert live.stop() == 0
    assert written % KERNELS, "the cycle that failed had written some"
    assert sets - 2 <= written <= sets


# --- the server's clock -------------------------------------------------------------------------


def in_the_future(prometheus: ScriptedPrometheus, ahead_s: float) -> list[Any]:
    """Return what was asked of a time that the server has not reached; but for who it is."""
    latest = time.time() + ahead_s + 1.0  # its `Date` has whole seconds
    return [
        one for one in prometheus.requests if one.query not in ("", "vector(1)")
        and one.time > latest
    ]  # fmt: skip


def test_check_asks_a_server_whose_clock_is_behind_at_its_own_time(
    prometheus: ScriptedPrometheus, redis: Redis
) -> None:
    measuring(prometheus, 0.001)
    prometheus.date_offset_s = -BEHIND_S
    env = environment(prometheus.url, redis.url)
    assert poller("once", env=env).returncode == 0
    done = poller("check", env=env)
    told = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stdout
    assert f"Prometheus' clock is -{BEHIND_S:.0f} s from this host's; its time is used" in told
    assert f"{KERNELS} active" in told
    assert not in_the_future(prometheus, -BEHIND_S)


def test_no_cycle_is_lost_to_such_a_clock_by_who_leads_nor_by_who_takes_over(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    measuring(prometheus, 0.001)
    prometheus.date_offset_s = -BEHIND_S
    # A cycle that outlasts its deadline is lost as well, and the lease with it.
    made = tables(prometheus.url, redis.url, UNHURRIED_S, leader__enabled=True)
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        place.mkdir()
    with LivePoller(places[0], made) as first, LivePoller(places[1], made) as second:
        leader, standby = leading(first, second)
        leader.wait_metric("cycles_total", 2, result="success")
        assert leader.metric("cycles_total", result="failed") == 0
        assert leader.stop() == 0
        standby.wait_metric("cycles_total", 2, result="success")
        assert standby.metric("cycles_total", result="failed") == 0
        assert standby.stop() == 0
    assert not in_the_future(prometheus, -BEHIND_S)


def leading(first: LivePoller, second: LivePoller) -> tuple[LivePoller, LivePoller]:
    wait_until(lambda: bool(first.lines("standing by") or second.lines("standing by")), "a leader")
    return (second, first) if first.lines("standing by") else (first, second)
