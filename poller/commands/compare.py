"""What is there beside what would be written: the work behind `compare`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poller.commands.differences import Difference, Tolerance, compare, differs, totals
from poller.commands.found_keys import REAL, read_stats
from poller.config import Config
from poller.poll import assembly
from poller.poll.cycle import Cycle, Outcome
from poller.prometheus import lookup_queries
from poller.prometheus.answers import Row
from poller.store.keys import Store
from poller.values import LiveStat


@dataclass(frozen=True, slots=True)
class Comparison:
    """A verdict on every field, and keys that somebody is writing now or that hold rubbish.

    `lease` is who holds the poller's own lease: None means that fresh keys are the agents'.
    """

    differences: list[Difference]
    kernels: int
    withheld: Mapping[str, int]
    fresh: int
    invalid: int
    lease: str | None

    @property
    def differs(self) -> bool:
        """Whether anything would change for a reader."""
        return differs(self.differences)

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts: totals, and every field that is not equal."""
        return {
            "differs": self.differs,
            "kernels": self.kernels,
            "withheld": dict(self.withheld),
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


async def compared(
    config: Config,
    kernels: Sequence[str] | None = None,
    prefix: str | None = None,
    at: float | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Compare what would be written now with the real keys; with a prefix, the keys under it.

    Writes nothing.
    """
    choice = assembly.Choice(kernels, wait=True, hooks=_hooks(on_progress))
    outcome = Outcome()
    async with assembly.cycle(config, choice) as cycle:
        lately: dict[tuple[str, str], tuple[float, float]] = {}
        if prefix is None:
            computed = await cycle.compute(at, outcome, keep_missing=False)
            ours = computed.live_stats()
            lately = await _lately(cycle, computed.time)
        else:
            await cycle.compute(at, outcome, needs_store=False)
            ours = await _under(config, prefix, list(cycle.history.kernels))
        async with Store(assembly.store_access(config.redis, REAL)) as store:
            theirs, invalid = await read_stats(store, list(ours))
            ages = await store.ages(list(ours))
        lease = assembly.lease(config, cycle.store)
        holder = await lease.holder() if lease else None
    fresh_s = 3 * config.poll.interval_s
    return Comparison(
        compare(
            {kernel: stat for kernel, stat in ours.items() if stat}, theirs, Tolerance(), lately
        ),
        len(ours),
        Counter(outcome.withheld.values()),
        sum(age < fresh_s for age in ages.values()),
        invalid,
        holder,
    )


async def _lately(cycle: Cycle, at: float) -> dict[tuple[str, str], tuple[float, float]]:
    """Return between which raw values each gauge was while an agent's last write may date from."""
    observer = cycle.observer
    ends = []
    for text in lookup_queries.range_queries(cycle.patience().stall_s, observer.limits.scope):
        rows = await observer.client.vector(text, at)
        ends.append({_place(row): float(row.value[1]) for row in rows if row.value is not None})
    low, high = ends
    gauges = observer.catalog
    return {
        place: (low[place], high[place])
        for place in low.keys() & high.keys()
        if gauges[place[1]].kind == "gauge"
    }


def _place(row: Row) -> tuple[str, str]:
    return row.metric.kernel_id or "", row.metric.container_metric_name or ""


async def _under(config: Config, prefix: str, kernels: Sequence[str]) -> dict[str, LiveStat]:
    async with Store(assembly.store_access(config.redis, prefix)) as store:
        stats, _ = await read_stats(store, kernels)
    return {kernel: stats.get(kernel, {}) for kernel in kernels}
