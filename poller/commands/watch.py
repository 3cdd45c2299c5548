"""The work behind `watch`: which kernels there are, and their keys, again and again."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

from poller.clock import Clock
from poller.commands import kernel_ids, live_table
from poller.commands.active_kernels import held
from poller.commands.freshness import lately_s
from poller.commands.key_rows import KeyRow, Order
from poller.config import Config
from poller.errors import PrometheusError
from poller.poll import assembly
from poller.prometheus import selectors
from poller.prometheus.client import Client
from poller.store.keys import NO_PREFIX, Store

EVERY_S = 1.0
_NOT_ALL = "kernels that Prometheus does not hold are not shown"
_LIST_EVERY_S = 15.0
"""How often Prometheus is asked which kernels there are."""


class ActiveKernels:
    """The kernels that Prometheus holds, looked up now and then."""

    def __init__(
        self, client: Client, clock: Clock, scope: selectors.Scope, within_s: float
    ) -> None:
        self._client = client
        self._clock = clock
        self._scope = scope
        self._within_s = within_s
        self._known: list[str] = []
        self._next = float("-inf")

    async def now(self) -> list[str]:
        """Return the kernels in the order of their ids."""
        if time.monotonic() >= self._next:
            found = await held(self._client, self._clock, self._scope, self._within_s)
            self._known = sorted(found)
            self._next = time.monotonic() + _LIST_EVERY_S
        return self._known


async def watch(
    config: Config,
    kernels: Sequence[str],
    prefix: str | None,
    duration_s: float | None,
    order: Order = "wrong",
) -> None:
    """Show the real keys, or those under a prefix, until a signal or for `duration_s` seconds.

    `kernels` empty: all that Prometheus holds.
    """
    ended = ending(duration_s)
    access = assembly.store_access(config.redis, NO_PREFIX if prefix is None else prefix)
    asked = await kernel_ids.meant(config, kernels, prefixes=[access.key_prefix]) if kernels else []
    scope = selectors.shard(config.shard.index, config.shard.count)
    clock = Clock()
    async with (
        Client(assembly.prometheus_access(config.prometheus), clock=clock.now) as client,
        Store(access) as store,
    ):
        active = ActiveKernels(client, clock, scope, float(config.poll.deadline_s))

        async def look() -> list[KeyRow]:
            if not asked:
                return await live_table.read(store, await active.now())
            known: list[str] | None = None  # keys can be read without Prometheus
            with suppress(PrometheusError):
                known = await active.now()
            return await live_table.read(store, asked, known)

        note = "" if asked else _NOT_ALL
        await live_table.live(look, EVERY_S, lately_s(config, ()), ended, order, note)


def ending(duration_s: float | None) -> asyncio.Event:
    """Return an event that is set by a signal to stop, or after so many seconds."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ended.set)
    if duration_s is not None:
        loop.call_later(duration_s, ended.set)
    return ended
