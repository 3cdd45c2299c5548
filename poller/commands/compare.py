"""What is there beside what would be written: the work behind `compare`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poller.commands import kernel_ids
from poller.commands.differences import (
    Difference,
    Lately,
    Seen,
    Tolerance,
    compare,
    differs,
    totals,
)
from poller.commands.found_keys import REAL, read_stats
from poller.commands.writers import (
    AgentsWriting,
    Strangers,
    agents_writing,
    lately_s,
    strangers,
    written_lately,
)
from poller.config import Config
from poller.poll import assembly
from poller.poll.cycle import Cycle
from poller.poll.outcome import Outcome
from poller.poll.withhold import Reason
from poller.prometheus import lookup_queries
from poller.prometheus.answers import Row
from poller.store.keys import Store
from poller.values import LiveStat

_LEFT_BEHIND: tuple[Reason, ...] = ("incomplete", "stalled")
"""Kernels withheld for these would have no fresh key any more, were the agents not to write."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A verdict on every field, and what else an operator must know before agents stop writing.

    `kernels` is how many there are, `withheld` those that would not be written and why, `missing`
    which metrics they lack for that. `fresh` is how many real keys were written lately, `lease`
    who holds the poller's own lease; `strangers` are keys that Prometheus does not know, `unknown`
    kernels that were asked for and of which neither Prometheus nor a key tells.
    """

    differences: list[Difference]
    kernels: int
    withheld: Mapping[str, Reason]
    missing: Mapping[str, tuple[str, ...]]
    fresh: int
    invalid: int
    lease: str | None
    agents: AgentsWriting
    strangers: Strangers
    unknown: tuple[str, ...] = ()
    allow_empty: bool = False

    @property
    def differs(self) -> bool:
        """Whether anything would change for a reader, or nothing was compared."""
        return bool(
            differs(self.differences)
            or self.strangers.kernels
            or self.left_behind
            or self.unknown
            or (not self.kernels and not self.allow_empty)
        )

    @property
    def left_behind(self) -> list[str]:
        """The kernels whose keys nobody would write."""
        return [kernel for kernel, why in self.withheld.items() if why in _LEFT_BEHIND]

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts: totals, and every field that is not equal."""
        return {
            "differs": self.differs,
            "kernels": self.kernels,
            "unknown": list(self.unknown),
            "withheld": dict(Counter(self.withheld.values())),
            "withheld_kernels": dict(self.withheld),
            "missing": {kernel: list(names) for kernel, names in self.missing.items()},
            "unknown_to_prometheus": list(self.strangers.kernels),
            "unknown_looked_for": self.strangers.allowed,
            "agents_writing": list(self.agents.writing),
            "agents_silent": list(self.agents.silent),
            "agents_untold": list(self.agents.untold),
            "written_lately": self.fresh,
            "invalid": self.invalid,
            "lease": self.lease,
            "totals": [
                {"metric": metric, "field": field, **verdicts}
                for (metric, field), verdicts in totals(self.differences).items()
            ],
            "fields": [
                {
                    "kernel": one.kernel,
                    "metric": one.metric,
                    "field": one.field,
                    "verdict": one.verdict,
                    "ours": one.ours,
                    "theirs": one.theirs,
                }
                for one in self.differences
                if one.verdict != "equal"
            ],
        }


def _hooks(on_progress: Callable[[int], None] | None) -> assembly.Hooks:
    return assembly.Hooks(on_progress=on_progress) if on_progress else assembly.Hooks()


@dataclass(frozen=True, slots=True)
class Asked:
    """What `compare` was asked for: kernels or all, keys under a prefix, an instant."""

    kernels: Sequence[str] = ()
    prefix: str | None = None
    at: float | None = None
    allow_empty: bool = False


async def compared(
    config: Config, asked: Asked, on_progress: Callable[[int], None] | None = None
) -> Comparison:
    """Compare what would be written now with the real keys; with a prefix, the keys under it.

    Writes nothing.
    """
    kernels = await kernel_ids.meant(config, asked.kernels, asked.at) if asked.kernels else None
    choice = assembly.Choice(kernels, wait=True, hooks=_hooks(on_progress))
    outcome = Outcome()
    async with assembly.cycle(config, choice) as cycle:
        ours = await _ours(config, cycle, asked, outcome)
        async with Store(assembly.store_access(config.redis, REAL)) as store:
            return await _held_against(config, cycle, store, ours, outcome, asked)


async def _ours(
    config: Config, cycle: Cycle, asked: Asked, outcome: Outcome
) -> dict[str, LiveStat]:
    """Return what would be written, or what is under the prefix, by kernel."""
    if asked.prefix is None:
        computed = await cycle.compute(asked.at, outcome, keep_missing=False)
        return computed.live_stats()
    await cycle.compute(asked.at, outcome, needs_store=False)
    kernels = list(cycle.history.kernels)
    async with Store(assembly.store_access(config.redis, asked.prefix)) as store:
        stats, _ = await read_stats(store, kernels)
    return {kernel: stats.get(kernel, {}) for kernel in kernels}


async def _held_against(
    config: Config,
    cycle: Cycle,
    store: Store,
    ours: dict[str, LiveStat],
    outcome: Outcome,
    asked: Asked,
) -> Comparison:
    within_s, ttl_s = lately_s(config, outcome.exporters), config.redis.ttl_s
    theirs, invalid = await read_stats(store, list(ours))
    seen = {*cycle.history.kernels, *outcome.withheld}
    known = {*ours, *seen}
    asked_for = cycle.observer.limits.scope.kernels or ()
    ages = await store.ages(sorted({*known, *asked_for}))
    told = {*(kernel for kernel in ours if ours[kernel]), *seen, *theirs}
    lease = assembly.lease(config, cycle.store)
    return Comparison(
        compare(ours, theirs, Tolerance(), await _lately(cycle, outcome.time, within_s)),
        len(known & told),
        outcome.withheld,
        outcome.missing,
        len(written_lately(ages, ttl_s, within_s)),
        invalid,
        await lease.holder() if lease else None,
        agents_writing(outcome.exporters),
        await _strangers(cycle, store, known, outcome.time, ttl_s, within_s),
        tuple(kernel for kernel in asked_for if kernel not in told | ages.keys()),
        asked.allow_empty,
    )


async def _strangers(
    cycle: Cycle, store: Store, known: set[str], at: float, ttl_s: int, within_s: float
) -> Strangers:
    observer = cycle.observer
    scope = observer.limits.scope
    if scope.kernels is not None:
        return Strangers()  # it was asked for some kernels only
    return await strangers(store, observer.client, known, scope, at, ttl_s, within_s)


async def _lately(cycle: Cycle, at: float, range_s: float) -> Lately:
    """Return between which raw values each metric was while an agent's last write may date from."""
    client, catalog = cycle.observer.client, cycle.observer.catalog
    scope = cycle.observer.limits.scope
    ends = []
    for text in lookup_queries.range_queries(range_s, scope):
        rows = await client.vector(text, at)
        ends.append({_place(row): float(row.value[1]) for row in rows if row.value is not None})
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
