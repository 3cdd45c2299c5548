"""How many kernels every exporter has: counted beside the batches, which keep it up to date.

In a large cluster the count takes longer than a batch may, so no batch waits for it but the first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

from poller.format import numbers
from poller.prometheus import lookup_queries
from poller.prometheus.client import Client
from poller.prometheus.selectors import Scope

CENSUS_S = 60.0
"""So often the kernels of every exporter are counted."""
_TIMEOUT_S = CENSUS_S / 2
_SOON_DONE = 0.1
"""A count that takes a smaller share of a batch's time is waited for, and taken after a failure."""


class Counted(NamedTuple):
    kernels: dict[str, int]
    at: float
    took_s: float


class Census:
    """`kernels` says how many each exporter has, `took_s` how long it took to count them.

    `within_s` is the time of a batch.
    """

    def __init__(self, within_s: float) -> None:
        self.kernels: dict[str, int] = {}
        self.took_s = 0.0
        self._within_s = within_s
        self._at: float | None = None
        self._counting: dict[str, asyncio.Task[Counted]] = {}
        self._server = ""
        self._noted: dict[str, int] = {}

    def begin(self, client: Client, scope: Scope, at: float, anew: bool) -> None:
        """Start to count if it is time for it. `anew`: something failed since the last batch.

        One server may hang, so each counts for itself.
        """
        self._server = client.url
        if self._server not in self._counting and self._is_due(at, anew):
            if not self._counting:
                self._noted = {}
            self._counting[self._server] = asyncio.create_task(count_kernels(client, scope, at))

    def _is_due(self, at: float, anew: bool) -> bool:
        if self._at is None or not 0 <= at - self._at < CENSUS_S:
            return True
        return anew and self._is_soon_done

    @property
    def _is_soon_done(self) -> bool:
        return self.took_s < _SOON_DONE * self._within_s

    async def arrive(self) -> None:
        """Take the count that is under way, if it is the first or will be there soon.

        Raises the `PrometheusError` that ended it.
        """
        count = self._counting.get(self._server)
        if count is None:
            return
        wait_s = self._within_s if not self.kernels or self._is_soon_done else 0.0
        await asyncio.wait({count}, timeout=wait_s)
        if count.done():
            del self._counting[self._server]
            counted = count.result()
            self.kernels = counted.kernels | self._noted
            self._at, self.took_s = counted.at, counted.took_s
            await self.close()

    def note(self, kernels: Mapping[str, int]) -> None:
        """Take how many kernels exporters have by now: newer than what is being counted."""
        self.kernels |= kernels
        self._noted |= kernels

    async def close(self) -> None:
        """End what is being counted."""
        counts, self._counting = self._counting, {}
        for count in counts.values():
            count.cancel()
        await asyncio.gather(*counts.values(), return_exceptions=True)


async def count_kernels(client: Client, scope: Scope, at: float) -> Counted:
    """Count the kernels of every exporter at a time."""
    started = time.perf_counter()
    rows = await client.vector(lookup_queries.census_query(scope), at, _TIMEOUT_S)
    kernels = {
        row.metric.instance or "": int(float(row.value.text))
        for row in rows
        if row.value and numbers.fault(row.value.text) is None and float(row.value.text) >= 0
    }
    return Counted(kernels, at, time.perf_counter() - started)
