"""The work behind `watch`: which kernels there are, and their keys, again and again."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence

from poller.clock import Clock
from poller.commands import kernel_ids, live_table
from poller.commands.found_keys import REAL
from poller.config import Config
from poller.poll import assembly
from poller.prometheus import lookup_queries, selectors
from poller.prometheus.client import Client
from poller.store.keys import Store

EVERY_S = 1.0
_LIST_EVERY_S = 15.0
"""How often Prometheus is asked which kernels there are."""
_NOW_S = 0.001
_STALE_INTERVALS = 3


class ActiveKernels:
    """The kernels that Prometheus holds, looked up now and then."""

    def __init__(self, client: Client, scope: selectors.Scope) -> None:
        self._client = client
        self._scope = scope
        self._clock = Clock()
        self._known: list[str] = []
        self._next = float("-inf")

    async def now(self) -> list[str]:
        """Return the kernels in the order of their ids."""
        if time.monotonic() >= self._next:
            text = lookup_queries.existed_query(_NOW_S, self._scope)
            rows = await self._client.vector(text, self._clock.now())
            self._known = sorted({row.metric.kernel_id for row in rows if row.metric.kernel_id})
            self._next = time.monotonic() + _LIST_EVERY_S
        return self._known


async def watch(
    config: Config, kernels: Sequence[str], prefix: str | None, duration_s: float | None
) -> None:
    """Show the real keys, or those under a prefix, until a signal or for `duration_s` seconds.

    `kernels` empty: all that Prometheus holds.
    """
    ended = ending(duration_s)
    access = assembly.store_access(config.redis, REAL if prefix is None else prefix)
    asked = await kernel_ids.meant(config, kernels, prefixes=[access.key_prefix]) if kernels else []
    scope = selectors.shard(config.shard.index, config.shard.count)
    async with (
        Client(assembly.prometheus_access(config.prometheus)) as client,
        Store(access) as store,
    ):
        active = ActiveKernels(client, scope)

        async def look() -> list[live_table.KeyRow]:
            return await live_table.read(store, asked or await active.now())

        await live_table.live(look, EVERY_S, _STALE_INTERVALS * config.poll.interval_s, ended)


def ending(duration_s: float | None) -> asyncio.Event:
    """Return an event that is set by a signal to stop, or after so many seconds."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ended.set)
    if duration_s is not None:
        loop.call_later(duration_s, ended.set)
    return ended
