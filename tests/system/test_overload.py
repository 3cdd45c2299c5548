"""Where there is not time for all, what is left comes first in the next cycle; nothing fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from poller.poll import assembly
from poller.poll.cycle import Cycle
from tests.support.live import read_legacy, settings
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Redis
from tests.support.world import World

KERNELS = 20
PORTION = 5


@pytest.fixture
def world(prometheus: ScriptedPrometheus) -> World:
    made = World(KERNELS)
    prometheus.handler = made.handler
    return made


@pytest.fixture
async def cycle(
    world: World, prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> AsyncIterator[Cycle]:
    """Yield a cycle that takes its time for everything but for writing."""
    made = settings(tmp_path, prometheus.url, redis.url)
    async with assembly.cycle(made, assembly.Choice(wait=True)) as opened:
        opened.rules = replace(opened.rules, batch_size=PORTION, write_within_s=0.0)
        yield opened


async def test_keys_that_there_is_no_time_to_write_are_the_next_cycles_first(
    world: World, cycle: Cycle, redis: Redis
) -> None:
    met: set[str] = set()
    for _ in range(KERNELS // PORTION):
        redis.command("FLUSHALL")
        outcome = await cycle.poll()
        assert (outcome.written, outcome.unwritten) == (PORTION, KERNELS - PORTION)
        assert outcome.goes_on
        there = {name for name in world.ids if redis.command("EXISTS", name)}
        assert len(there) == PORTION
        assert not met & there
        met |= there
    assert met == set(world.ids)


async def test_a_portion_is_written_however_late_it_is_and_the_rest_with_the_newest_values(
    world: World, cycle: Cycle, redis: Redis
) -> None:
    assert (await cycle.poll()).written == PORTION
    cycle.rules = replace(cycle.rules, write_within_s=None)
    outcome = await cycle.poll()
    assert outcome.unwritten == 0
    assert not outcome.goes_on
    assert redis.command("EXISTS", *world.ids) == KERNELS
    newest = world.value("cpu_used", outcome.time)
    values = (read_legacy(redis.command("GET", name)) for name in world.ids)
    assert {int(value["cpu_used"]["current"]) for value in values} == {newest}
