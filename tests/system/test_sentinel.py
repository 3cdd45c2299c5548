"""Redis Sentinel: the master dies in mid-run, and the same process goes on with the new one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from poller.errors import StoreError
from poller.store.connections import StoreAccess
from poller.store.keys import Store
from tests.support.freshness import stale
from tests.support.live import LivePoller, tables
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import SentinelGroup, wait_until
from tests.support.stalls import Stalls
from tests.support.world import World

INTERVAL_S = 1.0
DATABASE = 3
KERNEL = "11111111-2222-4333-8444-555555555555"


@contextmanager
def running(directory: Path, group: SentinelGroup, world: World) -> Iterator[LivePoller]:
    """Run a poller on a group until all its keys are written."""
    made = {
        "redis__password": group.password,
        "redis__sentinel_password": group.sentinel_password,
        "leader__enabled": True,
    }
    made = {name: value for name, value in made.items() if value is not None}
    with ScriptedPrometheus(world.handler) as prometheus:
        settings = tables(prometheus.url, group.url(DATABASE), INTERVAL_S, **made)
        with LivePoller(directory, settings) as poller:
            wait_until(lambda: not stale(world, [group.master()], 1.0, DATABASE), "all keys")
            yield poller


async def test_silent_sentinels_cost_nothing_where_another_one_answers() -> None:
    timeout_s = 5.0
    with SentinelGroup() as group:
        access = StoreAccess(group.url(), timeout_s=timeout_s)
        *silent, last = group.sentinels
        for sentinel in silent:
            sentinel.pause()
        try:
            async with Store(access) as store:
                for _ in range(2):
                    started = time.monotonic()
                    assert (await store.write({KERNEL: b"x"})).failed == {}
                    assert time.monotonic() - started < timeout_s
                    await store.renew()
            last.pause()
            async with Store(replace(access, timeout_s=0.5)) as store:
                with pytest.raises(StoreError) as raised:
                    await store.write({KERNEL: b"x"})
        finally:
            for sentinel in group.sentinels:
                sentinel.resume()
    assert raised.value.detail == f"no sentinel that answers knows the master ({access.address})"


def wait_fresh(world: World, group: SentinelGroup, since: float) -> float:
    """Wait until every key on the master is of `since` or later; return when that was."""
    wait_until(lambda: not stale(world, [group.master()], since, DATABASE), "fresh keys")
    return time.time()


def test_a_new_master_has_fresh_keys_within_two_intervals(tmp_path: Path) -> None:
    world = World(kernels=20)
    with (
        SentinelGroup(password="servers", sentinel_password="sentinels") as group,
        running(tmp_path, group, world) as poller,
        Stalls() as stalls,
    ):
        old = group.kill_master()
        group.wait_promotion(old)
        promoted = time.time()
        fresh = wait_fresh(world, group, promoted)
        assert fresh - promoted <= 2 * INTERVAL_S + stalls.lost_s
        # The old one is back and says for some seconds that it is a master still.
        group.server(old).start()
        for _ in range(3):
            wait_fresh(world, group, time.time())
        assert group.master_port() != old
        assert poller.process is not None
        assert poller.process.poll() is None
        assert "Traceback" not in poller.log
        assert poller.stop() == 0


def test_a_dead_sentinel_is_in_nobodys_way(tmp_path: Path) -> None:
    world = World(kernels=2)
    with SentinelGroup() as group, running(tmp_path, group, world) as poller:
        group.sentinels[0].kill()  # the first that the URL names
        old = group.kill_master()
        group.wait_promotion(old)
        wait_fresh(world, group, time.time())
        assert poller.stop() == 0
