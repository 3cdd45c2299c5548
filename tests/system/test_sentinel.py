"""Redis Sentinel: the master dies in mid-run, and the same process goes on with the new one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.freshness import stale
from tests.support.live import LivePoller, tables
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import SentinelGroup, wait_until
from tests.support.stalls import Stalls
from tests.support.world import World

INTERVAL_S = 1.0
DATABASE = 3


@contextmanager
def running(directory: Path, group: SentinelGroup, world: World) -> Iterator[LivePoller]:
    """Run a poller on a group until all its keys are written."""
    sentinels = ",".join(f"{host}:{port}" for host, port in group.addresses)
    made = {
        "redis__password": group.password,
        "redis__sentinel_password": group.sentinel_password,
        "leader__enabled": True,
    }
    made = {name: value for name, value in made.items() if value is not None}
    url = f"redis+sentinel://{sentinels}/{group.service_name}/{DATABASE}"
    with ScriptedPrometheus(world.handler) as prometheus:
        settings = tables(prometheus.url, url, INTERVAL_S, **made)
        with LivePoller(directory, settings) as poller:
            wait_until(lambda: not stale(world, [group.master()], 1.0, DATABASE), "all keys")
            yield poller


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
