"""What `compare` sees in Prometheus and in keys; looks again until both were seen to agree.

A key may be newer than what Prometheus has scraped, or hold a measurement that none of the scrapes
caught. Both sides agree for a while after each scrape, so one look after another is taken until
they were seen to agree. What is really different differs in each of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from poller.commands.differences import Difference, Lately, Seen, compare, differing, settled
from poller.commands.finding import agreed, counted
from poller.config import Config
from poller.format import encode
from poller.poll import assembly
from poller.poll.cycle import Cycle
from poller.poll.outcome import Outcome
from poller.prometheus import lookup_queries
from poller.prometheus.answers import Row
from poller.prometheus.selectors import Scope
from poller.store.keys import Store
from poller.values import DEFAULT_INTERVAL_S, LiveStat

_PAUSE_S = 1.0
_TIMES = 2
_MOST_S = 120.0
"""Looks are taken for twice the time in which an agent measures and is scraped, at most so long."""
_NAMED = 400
"""So many kernels are asked for by name; of more, all are asked for."""


class Audience(Protocol):
    """Who is told how many kernels are yet to be recalled, and what else takes time."""

    def __call__(self, left: int) -> None:
        """Take how many kernels are left."""

    def note(self, text: str) -> None:
        """Take what is to be known meanwhile."""


@dataclass(frozen=True, slots=True)
class Sides:
    """What would be written, or is under a prefix, and the real keys in `store`."""

    config: Config
    cycle: Cycle
    store: Store
    prefix: str | None = None

    async def ours(self, outcome: Outcome, at: float | None = None) -> dict[str, LiveStat]:
        """Return what would be written, or what is under the prefix, by kernel."""
        computed = await self.cycle.compute(at, outcome)
        if self.prefix is None:
            return computed.live_stats()
        kernels = list(self.cycle.history.kernels)
        async with Store(assembly.store_access(self.config.redis, self.prefix)) as store:
            stats, _ = await _read_stats(store, kernels)
        return {kernel: stats.get(kernel, {}) for kernel in kernels}

    async def theirs(self, kernels: Sequence[str]) -> tuple[dict[str, LiveStat], int]:
        """Return the real keys, and how many hold no live stat."""
        return await _read_stats(self.store, kernels)

    async def lately(self, at: float, range_s: float, kernels: Collection[str] = ()) -> Lately:
        """Return between which raw values each metric was while the last write may date from."""
        client, catalog = self.cycle.observer.client, self.cycle.observer.catalog
        scope = self.cycle.observer.limits.scope
        if 0 < len(kernels) <= _NAMED:
            scope = Scope(kernels=tuple(kernels))
        ends = []
        for text in lookup_queries.range_queries(range_s, scope):
            rows = await client.vector(text, at)
            ends.append(
                {_place(row): float(row.value.text) for row in rows if row.value is not None}
            )
        low, high = ends
        older = await client.vector(lookup_queries.existed_query(range_s, scope), at)
        old = {row.metric.kernel_id for row in older}
        return {
            (kernel, name): Seen(
                low[kernel, name],
                high[kernel, name],
                counts=catalog[name].cumulative,
                young=kernel not in old,
                rated=catalog[name].kind != "gauge",
            )
            for kernel, name in low.keys() & high.keys()
        }


def _place(row: Row) -> tuple[str, str]:
    return row.metric.kernel_id or "", row.metric.container_metric_name or ""


def patience_s(outcome: Outcome) -> float:
    """Return how long looks are taken, by how often agents measure and are scraped."""
    intervals = (one.interval_s or DEFAULT_INTERVAL_S for one in outcome.exporters)
    measure_s = max(intervals, default=DEFAULT_INTERVAL_S)
    return min(_MOST_S, _TIMES * (measure_s + (outcome.scrape_s or DEFAULT_INTERVAL_S)))


async def look_again(
    sides: Sides,
    first: list[Difference],
    theirs: Mapping[str, LiveStat],
    within_s: float,
    limit_s: float,
    audience: Audience | None,
) -> tuple[list[Difference], int]:
    """Look again at the kernels that differ; return what differed each time, and the looks taken.

    `first` and `theirs` are the verdicts and the keys of the first look. What Prometheus holds is
    held against the keys of this look and of the look before: the scrape came in between.
    """
    differences, looks, pause_s = first, 1, _PAUSE_S
    until = time.monotonic() + limit_s
    if audience is not None:
        audience.note(_why(len(differing(first)), limit_s))
    while (kernels := differing(differences)) and time.monotonic() + pause_s < until:
        await asyncio.sleep(pause_s)
        started, outcome = time.monotonic(), Outcome()
        sides.cycle.read_keys_again()
        ours = await sides.ours(outcome)
        now, _ = await sides.theirs(kernels)
        lately = await sides.lately(outcome.time, within_s, kernels)
        mine = {kernel: ours[kernel] for kernel in kernels if kernel in ours}
        for keys in (theirs, now):
            other = {kernel: keys[kernel] for kernel in mine if kernel in keys}
            differences = settled(differences, compare(mine, other, lately))
        theirs, looks = now, looks + 1
        pause_s = max(_PAUSE_S, time.monotonic() - started)  # Prometheus has others to answer
    return differences, looks


def _why(kernels: int, limit_s: float) -> str:
    return (
        f"{counted(kernels, 'kernel')} {agreed(kernels, 'differs', 'differ')}; keys may be newer "
        f"than what Prometheus has scraped: looking again for at most {limit_s:.0f} s"
    )


async def _read_stats(store: Store, kernels: Sequence[str]) -> tuple[dict[str, LiveStat], int]:
    """Return the valid live stats under these kernels' keys, and how many were rubbish."""
    found = await store.read(kernels)
    stats = {kernel: encode.unpack(value) for kernel, value in found.values.items()}
    valid = {kernel: stat for kernel, stat in stats.items() if stat is not None}
    return valid, len(stats) - len(valid)
