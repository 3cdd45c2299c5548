"""Redis fails in every way: results per key, failed keys again, nobody else's touched."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from poller.errors import CycleError, StoreError
from poller.poll import assembly
from poller.poll.cycle import Cycle
from poller.poll.publish import AGAIN_INTERVALS
from poller.store.lease import Lease
from tests.support.live import PATIENT, read_legacy, settings
from tests.support.process import free_port
from tests.support.proxy import FaultProxy, blackhole, passing, refusing, reset
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Redis, wait_until
from tests.support.world import World

KERNELS = 5


@pytest.fixture
def world(prometheus: ScriptedPrometheus) -> World:
    world = World(KERNELS)
    prometheus.handler = world.handler
    return world


@pytest.fixture(params=[False, True], ids=["alone", "with a lease"])
def leader(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@asynccontextmanager
async def opened(
    directory: Path, prometheus: ScriptedPrometheus, url: str, **more: Any
) -> AsyncIterator[tuple[Cycle, Lease | None]]:
    """Open a cycle and its lease, if the settings have one."""
    made = settings(directory, prometheus.url, url, **{"redis__timeout_s": 1.0, **more})
    async with assembly.cycle(made, PATIENT) as cycle:
        yield cycle, assembly.lease(made, cycle.store)


async def failure(cycle: Cycle, lease: Lease | None) -> CycleError:
    with pytest.raises(CycleError) as raised:
        await led(cycle, lease)
    return raised.value


async def led(cycle: Cycle, lease: Lease | None) -> None:
    if lease is not None and not lease.held:
        await lease.take()
    await cycle.poll(lease)


async def good(cycle: Cycle, lease: Lease | None) -> float:
    """Run one cycle that must write every key; return its time. The lease may be about to end."""
    if lease is not None:
        assert await lease.take()
    outcome = await cycle.poll(lease)
    assert (outcome.written, outcome.failed) == (KERNELS, Counter())
    return outcome.time


def check_keys(redis: Redis, world: World, time: float) -> None:
    """Every key holds what was true at that one time, and has its TTL."""
    for kernel in world.ids:
        stat = read_legacy(redis.command("GET", kernel))
        for metric in ("cpu_used", "mem", "io_read"):
            assert stat[metric]["current"] == str(world.value(metric, time)), metric
        assert 86_390 < redis.command("TTL", kernel) <= 86_400


def calls(redis: Redis, command: str) -> int:
    stats: dict[str, Any] = redis.command("INFO", "commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def errors(redis: Redis, kind: str) -> int:
    stats: dict[str, Any] = redis.command("INFO", "errorstats")
    return int(stats.get(f"errorstat_{kind}", {"count": 0})["count"])


# --- the whole server ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(refusing(), "connection"), (reset(), "connection"), (blackhole(), "timeout")],
    ids=["refused", "reset", "black hole"],
)
async def test_a_server_that_is_gone_fails_the_cycle_and_the_next_good_one_writes_the_latest(
    redis: Redis,
    prometheus: ScriptedPrometheus,
    world: World,
    tmp_path: Path,
    leader: bool,
    fault: Any,
    reason: str,
) -> None:
    with FaultProxy(redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with opened(tmp_path, prometheus, url, leader__enabled=leader) as (cycle, lease):
            before = await good(cycle, lease)
            proxy.fault = fault
            proxy.cut()
            for _ in range(3):
                error = await failure(cycle, lease)
                assert (error.subject, error.reason) == ("redis", reason)
                check_keys(redis, world, before)
            proxy.fault = passing()
            proxy.cut()
            check_keys(redis, world, await good(cycle, lease))
            assert proxy.open_connections <= 2


async def test_nothing_listens_from_the_start(
    prometheus: ScriptedPrometheus, world: World, tmp_path: Path
) -> None:
    async with opened(tmp_path, prometheus, f"redis://127.0.0.1:{free_port()}/0") as (cycle, _):
        error = await failure(cycle, None)
    assert (error.subject, error.reason) == ("redis", "connection")
    assert error.advice


async def test_a_server_that_loads_its_data_set_is_waited_for(
    prometheus: ScriptedPrometheus, world: World, tmp_path: Path
) -> None:
    slow = ["key-load-delay 300", "loading-process-events-interval-bytes 1024"]
    with Redis(persistent=True, settings=slow) as redis:
        with redis.client() as client, client.pipeline(transaction=False) as pipe:
            for number in range(8000):
                pipe.set(f"other:{number}", "x")
            pipe.execute()
        patient = {"poll__interval_s": 5, "redis__timeout_s": 2.0}
        async with opened(tmp_path, prometheus, redis.url, **patient) as (cycle, _):
            before = await good(cycle, None)
            redis.kill()
            starting = threading.Thread(target=redis.start)
            starting.start()
            try:
                async with asyncio.timeout(20):
                    reasons = await _reasons_until(cycle, "loading")
            finally:
                await asyncio.to_thread(starting.join)
            assert reasons <= {"connection", "loading", "timeout"}
            check_keys(redis, world, before)
            check_keys(redis, world, await good(cycle, None))


async def _reasons_until(cycle: Cycle, wanted: str) -> set[str]:
    reasons: set[str] = set()
    while wanted not in reasons:
        try:
            reasons.update((await cycle.poll()).failed)
        except StoreError as error:
            reasons.add(error.reason)
        await asyncio.sleep(0.05)
    return reasons


READONLY = ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "readonly")
OUT_OF_MEMORY = ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "out_of_memory")
NO_REPLICAS = (
    "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "error_reply"
)  # fmt: skip
"""What makes a server refuse writes, what mends it, and the reason told."""


@pytest.mark.parametrize(("break_it", "mend_it", "reason"), [READONLY, OUT_OF_MEMORY, NO_REPLICAS])
async def test_a_server_that_refuses_writes_keeps_every_key_and_gets_the_latest_later(
    redis: Redis,
    prometheus: ScriptedPrometheus,
    world: World,
    tmp_path: Path,
    break_it: str,
    mend_it: str,
    reason: str,
) -> None:
    async with opened(tmp_path, prometheus, redis.url) as (cycle, _):
        before = await good(cycle, None)
        redis.command(*break_it.split())
        try:
            for _ in range(3):
                outcome = await cycle.poll()
                assert outcome.written == 0
                assert outcome.failed == Counter({reason: KERNELS})
                check_keys(redis, world, before)
        finally:
            redis.command(*mend_it.split())
        check_keys(redis, world, await good(cycle, None))


@pytest.mark.parametrize(("break_it", "mend_it", "reason"), [READONLY, OUT_OF_MEMORY])
async def test_a_server_that_refuses_writes_refuses_the_lease_first(
    redis: Redis,
    prometheus: ScriptedPrometheus,
    world: World,
    tmp_path: Path,
    break_it: str,
    mend_it: str,
    reason: str,
) -> None:
    async with opened(tmp_path, prometheus, redis.url, leader__enabled=True) as (cycle, lease):
        before = await good(cycle, lease)
        redis.command(*break_it.split())
        try:
            assert (await failure(cycle, lease)).reason == reason
            check_keys(redis, world, before)
        finally:
            redis.command(*mend_it.split())
        check_keys(redis, world, await good(cycle, lease))


# --- credentials --------------------------------------------------------------------------------


async def test_a_wrong_password_is_tried_once_a_cycle(
    prometheus: ScriptedPrometheus, world: World, tmp_path: Path, leader: bool
) -> None:
    with Redis(password="right") as redis:
        url = f"redis://:wrong@127.0.0.1:{redis.port}/0"
        async with opened(tmp_path, prometheus, url, leader__enabled=leader) as (cycle, lease):
            for cycles in range(1, 4):
                error = await failure(cycle, lease)
                assert error.reason == "unauthorized"
                assert "check redis.username and password_file" in error.advice
                assert "wrong" not in f"{error} {error.advice}"
                assert errors(redis, "WRONGPASS") == cycles


async def test_a_missing_password_costs_one_connection_a_cycle(
    prometheus: ScriptedPrometheus, world: World, tmp_path: Path
) -> None:
    with Redis(password="right") as redis:
        url = f"redis://127.0.0.1:{redis.port}/0"
        async with opened(tmp_path, prometheus, url) as (cycle, _):
            for _ in range(3):
                before = redis.command("INFO", "stats")["total_connections_received"]
                assert (await failure(cycle, None)).reason == "unauthorized"
                after = redis.command("INFO", "stats")["total_connections_received"]
                assert after - before - 1 == 1  # one of them asked for the number


async def test_a_password_that_changes_while_connected_fails_then_recovers(
    prometheus: ScriptedPrometheus, world: World, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("right\n")
    with Redis(password="right") as redis:
        url = f"redis://127.0.0.1:{redis.port}/0"
        files = {"redis__password_file": secret}
        async with opened(tmp_path, prometheus, url, **files) as (cycle, _):
            await good(cycle, None)
            redis.command("CONFIG", "SET", "requirepass", "newer")
            redis.password = "newer"
            redis.command("CLIENT", "KILL", "TYPE", "normal")
            assert (await failure(cycle, None)).reason in ("connection", "unauthorized")
            assert (await failure(cycle, None)).reason == "unauthorized"
            secret.write_text("newer\n")
            check_keys(redis, world, await good(cycle, None))


# --- in the middle of a pipeline ----------------------------------------------------------------


@pytest.mark.parametrize("after", [1, 200, 600, 1500])
async def test_a_reset_in_mid_pipeline_leaves_whole_values_and_sends_nothing_twice(
    redis: Redis, prometheus: ScriptedPrometheus, world: World, tmp_path: Path, after: int
) -> None:
    with FaultProxy(redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with opened(tmp_path, prometheus, url) as (cycle, _):
            before = await good(cycle, None)
            redis.command("CONFIG", "RESETSTAT")
            proxy.fault = reset(after_request_bytes=after, times=1)
            assert (await failure(cycle, None)).reason == "connection"
            assert calls(redis, "set") < KERNELS
            torn = prometheus.requests[-1].time
            for kernel in world.ids:
                used = int(read_legacy(redis.command("GET", kernel))["cpu_used"]["current"])
                assert used in {world.value("cpu_used", time) for time in (before, torn)}
            check_keys(redis, world, await good(cycle, None))
            assert cycle.publisher.rivals == {}, "our own writes are no rival's"


async def test_a_lost_reply_is_not_read_as_the_answer_to_another_command(
    redis: Redis, prometheus: ScriptedPrometheus, world: World, tmp_path: Path
) -> None:
    with FaultProxy(redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with opened(tmp_path, prometheus, url) as (cycle, _):
            await good(cycle, None)
            proxy.fault = passing(delay_s=0.2)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await cycle.poll()
            proxy.fault = passing()
            assert await cycle.store.command("ECHO", "mine") == b"mine"
            check_keys(redis, world, await good(cycle, None))
            assert cycle.publisher.rivals == {}


async def test_a_long_outage_leaves_no_queue_behind(
    redis: Redis, prometheus: ScriptedPrometheus, world: World, tmp_path: Path
) -> None:
    with FaultProxy(redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with opened(tmp_path, prometheus, url) as (cycle, _):
            await good(cycle, None)
            proxy.fault = refusing()
            proxy.cut()
            for _ in range(20):
                await failure(cycle, None)
            proxy.fault = passing()
            redis.command("CONFIG", "RESETSTAT")
            check_keys(redis, world, await good(cycle, None))
            assert calls(redis, "set") == KERNELS


# --- some keys only -----------------------------------------------------------------------------


async def test_keys_of_other_types_are_left_alone_and_told_apart(
    redis: Redis, prometheus: ScriptedPrometheus, world: World, tmp_path: Path, leader: bool
) -> None:
    first, second = world.ids[:2]
    redis.command("RPUSH", first, "a", "b")
    redis.command("HSET", second, "field", "value")
    others = {"i-agent0": "map", "computer.metadata": "x", "kp:AKIA": "1", first.upper(): "upper"}
    for name, value in others.items():
        redis.command("SET", name, value)
    async with opened(tmp_path, prometheus, redis.url, leader__enabled=leader) as (cycle, lease):
        for _ in range(2):
            if lease is not None:
                await lease.take()
            outcome = await cycle.poll(lease)
            assert outcome.written == KERNELS - 2
            assert outcome.withheld == {first: "foreign", second: "foreign"}
            assert outcome.failed == Counter()
    assert redis.command("LRANGE", first, 0, -1) == [b"a", b"b"]
    assert redis.command("HGETALL", second) == {b"field": b"value"}
    for name, value in others.items():
        assert redis.command("GET", name) == value.encode()
        assert redis.command("TTL", name) == -1


async def test_a_key_that_becomes_anothers_fails_alone_and_is_left_alone_from_then_on(
    redis: Redis, prometheus: ScriptedPrometheus, world: World, tmp_path: Path, leader: bool
) -> None:
    async with opened(tmp_path, prometheus, redis.url, leader__enabled=leader) as (cycle, lease):
        await good(cycle, lease)
        redis.command("DEL", world.ids[0])
        redis.command("RPUSH", world.ids[0], "a")
        outcome = await cycle.poll(lease)
        assert (outcome.written, outcome.failed) == (KERNELS - 1, Counter(wrong_type=1))
        outcome = await cycle.poll(lease)
        assert (outcome.written, outcome.failed) == (KERNELS - 1, Counter())
        assert outcome.withheld == {world.ids[0]: "foreign"}
    assert redis.command("LRANGE", world.ids[0], 0, -1) == [b"a"]


async def test_a_foreign_key_of_a_kernel_that_ended_while_another_led_is_let_go(
    redis: Redis, prometheus: ScriptedPrometheus, world: World, tmp_path: Path
) -> None:
    taken = world.ids[0]
    redis.command("RPUSH", taken, "a")
    async with opened(tmp_path, prometheus, redis.url) as (cycle, _):
        met = (await cycle.poll()).time
        assert set(cycle.publisher.foreign) == {taken}
        world.ids = world.ids[1:]
        cycle.start_afresh()
        outcome = await cycle.poll(at=met + AGAIN_INTERVALS + 1.0)
        assert outcome.written == KERNELS - 1
        assert not cycle.publisher.foreign


async def test_rubbish_in_a_key_is_counted_and_replaced(
    redis: Redis, prometheus: ScriptedPrometheus, world: World, tmp_path: Path
) -> None:
    rubbish = (b"", b"\xc1", b"\x80", b"text", b"\xc7" * 99)
    for kernel, value in zip(world.ids, rubbish, strict=True):
        redis.command("SET", kernel, value)
    async with opened(tmp_path, prometheus, redis.url) as (cycle, _):
        outcome = await cycle.poll()
    assert (outcome.written, outcome.invalid_keys) == (KERNELS, KERNELS)
    check_keys(redis, world, outcome.time)


@pytest.mark.parametrize("readable", [True, False], ids=["to write", "to read, too"])
async def test_keys_that_the_acl_denies_fail_alone(
    prometheus: ScriptedPrometheus, world: World, tmp_path: Path, leader: bool, readable: bool
) -> None:
    denied = world.ids[0]
    patterns = " ".join(f"~{kernel}" for kernel in world.ids[1:])
    patterns += f" %R~{denied}" if readable else ""
    acl = f"user poller on >secret ~livestat-poller:* {patterns} +@all"
    with Redis(acl=f"user default off\n{acl}") as redis:
        url = f"redis://poller:secret@127.0.0.1:{redis.port}/0"
        async with opened(tmp_path, prometheus, url, leader__enabled=leader) as (cycle, lease):
            for _ in range(2):
                if lease is not None:
                    assert await lease.take()
                outcome = await cycle.poll(lease)
                assert outcome.failed == Counter(forbidden=1)
                assert outcome.written == KERNELS - 1
            redis.command("ACL", "SETUSER", "poller", f"~{denied}")
            await good(cycle, lease)
        assert redis.command("EXISTS", denied) == 1


async def test_a_key_that_may_not_be_read_fails_alone_where_no_other_is_read(
    prometheus: ScriptedPrometheus, world: World, tmp_path: Path
) -> None:
    """Else the first cycle that meets only it would fail whole, and all after it."""
    world.ids = world.ids[:1]
    with Redis(acl="user default off\nuser poller on >secret ~livestat-poller:* +@all") as redis:
        url = f"redis://poller:secret@127.0.0.1:{redis.port}/0"
        async with opened(tmp_path, prometheus, url) as (cycle, _):
            outcome = await cycle.poll()
            assert outcome.failed == Counter(forbidden=1)
            redis.command("ACL", "SETUSER", "poller", "-get")
            with pytest.raises(StoreError) as raised:
                await cycle.poll()
    assert raised.value.detail.startswith("the user may not run GET (")


async def test_no_connection_is_left_open_after_failures(
    redis: Redis, prometheus: ScriptedPrometheus, world: World, tmp_path: Path
) -> None:
    with FaultProxy(redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        async with opened(tmp_path, prometheus, url) as (cycle, _):
            for fault in (blackhole(), passing(), reset(after_request_bytes=100, times=1)) * 3:
                proxy.fault = fault
                try:
                    await cycle.poll()
                except StoreError:
                    continue
        await asyncio.to_thread(wait_until, lambda: proxy.open_connections == 0, "all closed")
