"""A thousand cycles through every failure, and fifty deaths: nothing grows, nothing is torn."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from poller.config import Config
from poller.daemon.daemon import Daemon, _Run
from poller.poll import assembly
from tests.support import answers
from tests.support.answers import Answer
from tests.support.live import LivePoller, read_legacy, settings, tables
from tests.support.process import HOST
from tests.support.proxy import FaultProxy, passing, refusing, reset
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Redis, wait_until
from tests.support.stalls import Stalls
from tests.support.world import MIB, World

CYCLES = 1000
DEATHS = sorted(random.Random(50).sample(range(1, 91), 50))
"""How far each poller comes before it dies; see `progress`."""
PARTS = 5
KERNELS = 20
HANGS = 6
ROW = [({"kernel_id": "x"}, 1)]
LEASE = "livestat-poller:leader"
MEMORY = 'container_metric_name="mem",value_type="current"'


@dataclass(frozen=True)
class Fault:
    """What one cycle meets, and what it must come to: a reason, or "" for success."""

    name: str
    reason: str
    answer: Answer | None = None
    network: Any = None
    commands: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    change: Callable[[World], None] = lambda world: None


def _gone(world: World) -> None:
    world.gone = True


def _bad_rows(world: World) -> None:
    labels = {"kernel_id": world.ids[0], "container_metric_name": "x", "value_type": "current"}
    world.rows = [(labels, "NaN"), ({}, "1"), ({**labels, "kernel_id": "X"}, "1")]


NONE = Fault("none", "")
FAULTS = [
    Fault("replaying", "unavailable", answers.replaying()),
    Fault("bad gateway", "bad_gateway", answers.bad_gateway()),
    Fault("400", "rejected", answers.bad_query()),
    Fault("422", "rejected", answers.not_executed()),
    Fault("429", "rate_limited", answers.too_many_requests()),
    Fault("401", "unauthorized", answers.unauthorized()),
    Fault("error in a 200", "api_error", answers.failure(200, "internal", "x")),
    Fault("truncated", "not_json", answers.truncated(ROW)),
    Fault("oversized", "oversized", answers.oversized((1 << 20) + 1)),
    Fault("scalar", "wrong_type", answers.scalar(1)),
    Fault("cut", "reset", answers.vector(ROW).cut(10)),
    Fault("partial", "partial", answers.partial(ROW)),
    Fault("noted", "", answers.noted([])),
    Fault("histograms", "", answers.histograms([{"kernel_id": "x"}])),
    Fault("bad rows", "", change=_bad_rows),
    Fault("empty", "", change=_gone),  # no new round: nothing was measured, nothing is asked
    Fault("redis refuses", "connection", network=refusing()),
    Fault("redis resets", "connection", network=reset()),
    Fault("redis resets in mid-pipeline", "connection", network=reset(after_request_bytes=3000)),
    Fault(
        "readonly",
        "readonly",
        commands=(("REPLICAOF", HOST, "1"), ("REPLICAOF", "NO", "ONE")),
    ),
    Fault(
        "out of memory",
        "out_of_memory",
        commands=(("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    ),
    Fault("somebody's type", "", commands=(("SET", "i-agent0", "x"), ("DEL", "i-agent0"))),
]
HANG = Fault("hanging", "timeout", answers.hanging())


def plan() -> list[Fault]:
    """Every fault, many times, each followed by a cycle that meets none."""
    order = random.Random(4)
    faults = [FAULTS[place % len(FAULTS)] for place in range(CYCLES // 2 - HANGS)] + [HANG] * HANGS
    order.shuffle(faults)
    return [one for fault in faults for one in (fault, NONE)]


class Soak:
    """One daemon in this process, whose cycles are run one after another."""

    def __init__(self, config: Config, prometheus: ScriptedPrometheus, proxy: FaultProxy) -> None:
        self.world = World(KERNELS)
        self.daemon = Daemon(config, lambda: config)
        self.prometheus, self.proxy = prometheus, proxy
        self.unhandled: list[Any] = []
        self.unexpected: list[tuple[Fault, object]] = []
        self.last_good = 0.0

    async def cycle(self, run: _Run, fault: Fault, redis: Redis) -> None:
        self._meet(fault)
        if fault.commands[0]:
            redis.command(*fault.commands[0])
        before, counted = self.succeeded, self.counted()
        await self.daemon._one_cycle(run)
        (came,) = self.counted() - counted
        if came != outcome_of(fault):
            self.unexpected.append((fault, came))
        if self.succeeded > before:
            self.last_good = self.prometheus.requests[-1].time
        if fault.commands[1]:
            redis.command(*fault.commands[1])
        if fault.network is not None:
            self.proxy.fault = passing()
        self.world.gone, self.world.rows = False, []
        self.prometheus.requests.clear()

    def _meet(self, fault: Fault) -> None:
        fault.change(self.world)
        answer = fault.answer

        def handler(query: str, at: float, params: dict[str, str]) -> Answer:
            struck = answer is not None and MEMORY in query
            return answer if struck and answer else self.world.handler(query, at, params)

        self.prometheus.handler = handler
        if fault.network is not None:
            self.proxy.fault = fault.network
            if fault.network.at_once:
                self.proxy.cut()

    @property
    def succeeded(self) -> float:
        return self.counted().get(("success", ""), 0)

    def counted(self) -> Counter[tuple[str, str]]:
        """Return the daemon's own count of cycles by result and reason."""
        samples = self.daemon.telemetry.cycles.collect()[0].samples
        return Counter(
            {
                (one.labels["result"], one.labels["reason"]): int(one.value)
                for one in samples
                if one.name.endswith("_total") and one.value
            }
        )


def outcome_of(fault: Fault) -> tuple[str, str]:
    return ("failed", fault.reason) if fault.reason else ("success", "")


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.slow(30)
async def test_a_thousand_cycles_through_every_failure(
    redis: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "poller")  # what is well again is no more than that
    with ScriptedPrometheus() as prometheus, FaultProxy(redis.port) as proxy:
        more = {"prometheus__max_response_bytes": 1 << 20, "prometheus__measure_interval_s": 1}
        url = f"redis://{HOST}:{proxy.port}/0"
        config = settings(tmp_path, prometheus.url, url, **more)
        soak = Soak(config, prometheus, proxy)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, told: soak.unhandled.append(told))
        hooks = assembly.Hooks(soak.daemon.telemetry.on_query, soak.daemon.telemetry.on_warning)
        tasks = len(asyncio.all_tasks())
        async with assembly.cycle(config, assembly.Choice(wait=True, hooks=hooks)) as cycle:
            run = _Run(config, cycle, None)
            marks: list[tuple[int, int]] = []
            for place, fault in enumerate(plan()):
                await soak.cycle(run, fault, redis)
                if place in (299, CYCLES - 1):
                    gc.collect()
                    marks.append((open_files(), resident_bytes()))
        gc.collect()
        await asyncio.sleep(0)
        assert soak.unexpected == []
        assert soak.unhandled == []
        assert len(asyncio.all_tasks()) == tasks

    expected = Counter(map(outcome_of, plan()))
    assert soak.counted() == expected
    (files_before, memory_before), (files_after, memory_after) = marks
    assert files_after <= files_before + 3
    assert memory_after - memory_before < 24 * MIB
    check_values(redis, soak.world, soak.last_good)
    check_log(caplog, expected)


def check_values(redis: Redis, world: World, last_good: float) -> None:
    """Every key holds the whole value of the last good cycle."""
    for kernel in world.ids:
        used = whole_value(redis.command("GET", kernel), world)
        assert used == world.value("cpu_used", last_good)


def whole_value(value: bytes, world: World) -> int:
    """Return what `cpu_used` says; the other metrics must be of the same time."""
    stat = read_legacy(value)
    used = int(stat["cpu_used"]["current"])
    assert int(stat["io_read"]["current"]) == 4 * used
    assert int(stat["mem"]["current"]) == MIB + used
    assert stat.keys() == {"cpu_util", "cpu_used", "mem", "io_read"}
    return used


def check_log(caplog: pytest.LogCaptureFixture, expected: Counter[tuple[str, str]]) -> None:
    """Every trouble is told once and its end once: here each lasts one cycle."""
    failed = sum(count for (result, _), count in expected.items() if result == "failed")
    subjects = [
        (record.__dict__.get("subject"), record.__dict__.get("state"))
        for record in caplog.records
        if record.name == "poller" and record.__dict__.get("subject") in SUBJECTS
    ]
    assert Counter(state for _, state in subjects) == Counter(bad=failed, good=failed)
    assert not [record for record in caplog.records if record.exc_info]


SUBJECTS = ("prometheus", "redis", "kernels")


async def test_a_batch_is_counted_whole_or_not_at_all_when_the_deadline_strikes(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poller.history.feeding._PORTION", 1)
    world = World(KERNELS)
    with ScriptedPrometheus(world.handler) as prometheus:
        async with assembly.cycle(settings(tmp_path, prometheus.url, redis.url)) as cycle:
            cycle_task = asyncio.create_task(cycle.poll())
            while not cycle.history.kernels:  # noqa: ASYNC110 - between two portions
                await asyncio.sleep(0)
            cycle_task.cancel()
            await asyncio.gather(cycle_task, return_exceptions=True)
            assert cycle_task.cancelled()
            assert len(cycle.history.kernels) == KERNELS
            assert cycle.history.time == prometheus.requests[-1].time


# --- sudden death -------------------------------------------------------------------------------


def progress(prometheus: ScriptedPrometheus, proxy: FaultProxy) -> int:
    """Return how far a poller has come: a step a query, and one every 1,500 bytes to Redis."""
    return len(prometheus.requests) + proxy.request_bytes // 1500


def wait_for(reached: Callable[[], bool], timeout_s: float) -> bool:
    ends = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() > ends:
            return False
        time.sleep(0.0005)
    return True


@pytest.mark.slow(40)
@pytest.mark.parametrize("part", range(PARTS))
def test_sudden_death_at_fifty_points_leaves_whole_values_and_the_next_poller_recovers(
    redis: Redis, tmp_path: Path, part: int
) -> None:
    redis.command("FLUSHALL")
    world = World(100)
    interval_s = 2.0  # long beside what the machine needs for a cycle under load
    with ScriptedPrometheus(world.handler) as prometheus, FaultProxy(redis.port) as proxy:
        made = tables(
            prometheus.url,
            f"redis://{HOST}:{proxy.port}/0",
            interval_s,
            leader__enabled=True,
            redis__batch_size=10,
        )
        live = LivePoller(tmp_path, made)
        asked: set[int] = set()
        stages = Counter[str]()
        for point in DEATHS[part::PARTS]:
            redis.command("DEL", LEASE)  # of the one that died: only the last one is waited for
            prometheus.requests.clear()
            started = progress(prometheus, proxy)
            with live:
                assert wait_for(lambda: progress(prometheus, proxy) >= started + point, 60)  # noqa: B023
                live.kill()
            asked |= {world_used(world, one.time) for one in prometheus.requests if one.query}
            stages["asking" if progress(prometheus, proxy) < started + 30 else "writing"] += 1
            for value in redis.command("MGET", *world.ids):
                assert value is None or whole_value(value, world) in asked
        assert min(stages["asking"], stages["writing"]) >= 1

        prometheus.requests.clear()
        with live, Stalls() as stalls:
            wait_until(lambda: bool(prometheus.requests), "the next poller")
            since, fresh = time.monotonic(), world_used(world, time.time())
            wait_until(lambda: all_newer(redis, world, fresh), "fresh values")
            lease_s = 1.5 * interval_s  # of the one that died; and a little for the machine
            taken_s = time.monotonic() - since
            assert taken_s < lease_s + 2 * interval_s + 1.0 + stalls.lost_s, live.log
            assert live.stop() == 0


def world_used(world: World, at: float) -> int:
    return int(world.value("cpu_used", at))


def all_newer(redis: Redis, world: World, used: int) -> bool:
    values = redis.command("MGET", *world.ids)
    return all(value and whole_value(value, world) >= used - 1000 for value in values)
