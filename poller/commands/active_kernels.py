"""The kernels that Prometheus holds, asked by its own clock."""

from __future__ import annotations

from poller.clock import Clock
from poller.prometheus import lookup_queries
from poller.prometheus.client import Client
from poller.prometheus.selectors import Scope

_NOW_S = 0.001


async def held(
    client: Client, clock: Clock, scope: Scope, within_s: float, at: float | None = None
) -> set[str]:
    """Return the kernels of a scope that Prometheus holds now, or held `at` that Unix time.

    Of several servers the first that answers tells, all of them asked `within_s` seconds.
    `clock` is the one that the client measures the server's by; it follows that one.
    """
    return await client.fail_over(lambda: _held(client, clock, scope, at), within_s)


async def _held(client: Client, clock: Clock, scope: Scope, at: float | None) -> set[str]:
    if at is None:
        if client.server_ahead_s is None:
            await client.vector("vector(1)", clock.now())  # every answer tells the time
        clock.follow(client.server_ahead_s)
        at = clock.now()
    rows = await client.vector(lookup_queries.existed_query(_NOW_S, scope), at)
    return {row.metric.kernel_id for row in rows if row.metric.kernel_id}
