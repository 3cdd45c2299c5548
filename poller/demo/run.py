"""Put the demo together: the cluster, two servers, the poller between them, a table of the keys."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from poller import __version__, config, environment
from poller.commands import live_table
from poller.commands.watch import EVERY_S
from poller.config import Config
from poller.daemon.daemon import Daemon
from poller.demo import servers
from poller.demo.cluster import SimulatedCluster
from poller.demo.promapi import Api
from poller.demo.servers import HOST, DemoError, Servers, StartError
from poller.poll import assembly
from poller.prometheus import lookup_queries
from poller.prometheus.client import Client
from poller.store.keys import Store

__all__ = ["DemoError", "Summary", "demo"]

INTERVAL_S = 1.0
_FIRST_SCRAPES_S = 30.0
_SETTLED_S = 1.0
_STALE_S = 3 * INTERVAL_S


@dataclass(frozen=True, slots=True)
class Summary:
    """What the poller did, by its own metrics."""

    cycles: int
    failed: int
    keys_written: int

    def __str__(self) -> str:
        failed = f" ({self.failed} failed)" if self.failed else ""
        return f"The poller ran {self.cycles} cycles{failed} and wrote {self.keys_written} keys."


async def demo(
    kernels: int, duration_s: float | None, real: bool, tell: Callable[[str], None]
) -> Summary:
    """Run the demo until a signal or for `duration_s` seconds; `tell` people what is what."""
    # Until the poller takes the signals over: the servers must not outlive us.
    running = asyncio.current_task()
    assert running is not None
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, running.cancel)
    try:
        return await _between_servers(SimulatedCluster(kernels), duration_s, real, tell)
    except asyncio.CancelledError:
        return Summary(0, 0, 0)


async def _between_servers(
    cluster: SimulatedCluster, duration_s: float | None, real: bool, tell: Callable[[str], None]
) -> Summary:
    api = Api(cluster)
    port = await api.start(HOST)
    try:
        around = servers.real if real else servers.embedded
        async with around(cluster, port) as found:
            tell(_introduction(cluster, found))
            return await _poll(cluster, _settings(found), duration_s, tell)
    finally:
        await api.stop()


def _introduction(cluster: SimulatedCluster, found: Servers) -> str:
    example, size = cluster.kernels[0].kernel_id, len(cluster.kernels)
    return "\n".join(
        (
            f"cluster     simulated, {size} kernels on {len(cluster.agents)} agents",
            f"prometheus  {found.prometheus_is}: {found.prometheus_url}",
            f"redis       {found.redis_is}: {found.redis_url}",
            f"poller      real, livestat-poller {__version__}, a cycle every {INTERVAL_S:g} s",
            "",
            "The table is read from the keys, as any legacy reader reads them.",
            "One kernel whole, in another terminal:",
            f"    export POLLER_PROMETHEUS__URL={found.prometheus_url}",
            f"    export POLLER_REDIS__URL={found.redis_url}",
            f"    livestat-poller show {example}",
        )
    )


def _settings(found: Servers) -> Config:
    """Return the poller's settings, given as environment variables.

    Those of a real installation go first: the demo must never write to its keys.
    """
    for name in [name for name in os.environ if name.upper().startswith(environment.PREFIX)]:
        del os.environ[name]
    os.environ["POLLER_PROMETHEUS__URL"] = found.prometheus_url
    os.environ["POLLER_REDIS__URL"] = found.redis_url
    os.environ["POLLER_POLL__INTERVAL_S"] = str(INTERVAL_S)
    os.environ["POLLER_HTTP__ENABLED"] = "false"
    return config.load(None)


async def _poll(
    cluster: SimulatedCluster,
    settings: Config,
    duration_s: float | None,
    tell: Callable[[str], None],
) -> Summary:
    """Run the poller and the table side by side; the end of either ends both."""
    await _first_scrapes(settings, tell)
    daemon = Daemon(settings, lambda: settings)
    ended = asyncio.Event()
    polling = asyncio.create_task(daemon.run())
    polling.add_done_callback(lambda task: ended.set())
    if duration_s is not None:
        asyncio.get_running_loop().call_later(duration_s, ended.set)
    ids = [kernel.kernel_id for kernel in cluster.kernels]
    try:
        async with Store(assembly.store_access(settings.redis)) as store:
            await live_table.live(lambda: live_table.read(store, ids), EVERY_S, _STALE_S, ended)
    finally:
        daemon.stop()
        await polling
    return _summary(daemon)


async def _first_scrapes(settings: Config, tell: Callable[[str], None]) -> None:
    """Wait until every agent is seen to measure; a real Prometheus starts with nothing."""
    async with Client(assembly.prometheus_access(settings.prometheus)) as client:
        if await _agents_measure(client):
            return
        tell("\nWaiting for the first scrapes, which come some 5 s after Prometheus starts.")
        ends = time.monotonic() + _FIRST_SCRAPES_S
        while time.monotonic() < ends:
            await asyncio.sleep(0.2)
            if await _agents_measure(client):
                return
    raise StartError(f"prometheus scraped nothing in {_FIRST_SCRAPES_S:g} s")


async def _agents_measure(client: Client) -> bool:
    # The poller looks at some time ago, too: by then there must have been two measurements.
    text = lookup_queries.agents_query(_FIRST_SCRAPES_S)
    rows = await client.vector(text, time.time() - _SETTLED_S)
    return bool(rows) and all(row.value and float(row.value.text) > 0 for row in rows)


def _summary(daemon: Daemon) -> Summary:
    cycles = {"success": 0, "failed": 0}
    written = 0
    for family in daemon.telemetry.registry.collect():
        for sample in family.samples:
            if sample.name == "livestat_poller_cycles_total":
                result = sample.labels["result"]
                cycles[result] = cycles.get(result, 0) + int(sample.value)
            elif sample.name == "livestat_poller_keys_written_total":
                written += int(sample.value)
    return Summary(cycles["success"] + cycles["failed"], cycles["failed"], written)
