"""`compare`: takes what is there and what would be written; what differs, `differences` says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from poller.commands import kernel_ids
from poller.commands.differences import Difference, compare, differs, totals
from poller.commands.freshness import lately_s, written_lately
from poller.commands.looks import Audience, Sides, look_again, patience_s
from poller.commands.writers import AgentsWriting, Strangers, agents_writing, strangers
from poller.config import Config
from poller.poll import assembly
from poller.poll.outcome import Outcome
from poller.poll.withhold import Reason
from poller.store.keys import NO_PREFIX, Store
from poller.values import LiveStat

_LEFT_BEHIND: tuple[Reason, ...] = ("incomplete", "stalled")
"""Kernels withheld for these would have no fresh key any more, were the agents not to write."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A verdict on every field, and what else an operator must know before agents stop writing.

    `kernels` is how many there are, `withheld` those that would not be written and why, `missing`
    which metrics they lack for that. `fresh` is how many real keys were written lately, `lease`
    who holds the poller's own lease; `strangers` are keys that Prometheus does not know, `unknown`
    kernels that were asked for and of which neither Prometheus nor a key tells. A field in
    `differences` that is not equal nor within tolerance was so in each of `looks` looks.
    """

    kernels: int
    withheld: Mapping[str, Reason]
    missing: Mapping[str, tuple[str, ...]]
    fresh: int
    lease: str | None
    agents: AgentsWriting
    strangers: Strangers
    unknown: tuple[str, ...] = ()
    differences: Sequence[Difference] = ()
    invalid: int = 0
    looks: int = 1
    allow_empty: bool = False

    @property
    def differs(self) -> bool:
        """Whether anything would change for a reader, or nothing was compared."""
        return bool(
            differs(self.differences)
            or self.strangers.kernels
            or self.strangers.left
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
            "looks": self.looks,
            "withheld": dict(Counter(self.withheld.values())),
            "withheld_kernels": dict(self.withheld),
            "missing": {kernel: list(names) for kernel, names in self.missing.items()},
            "unknown_to_prometheus": list(self.strangers.kernels),
            "left_prometheus": list(self.strangers.left),
            "unknown_looked_for": self.strangers.allowed,
            "agents_writing": list(self.agents.writing),
            "agents_silent": list(self.agents.silent),
            "agents_untold": sorted((*self.agents.untold, *self.agents.unseen)),
            "written_lately": self.fresh,
            "invalid": self.invalid,
            "lease": self.lease,
            "totals": [
                {"metric": metric, "field": field, **verdicts}
                for (metric, field), verdicts in totals(self.differences).items()
            ],
            "fields": [asdict(one) for one in self.differences if one.verdict != "equal"],
        }


def _hooks(audience: Audience | None) -> assembly.Hooks:
    return assembly.Hooks(on_progress=audience) if audience else assembly.Hooks()


@dataclass(frozen=True, slots=True)
class Asked:
    """What `compare` was asked for: kernels or all, keys under a prefix, an instant."""

    kernels: Sequence[str] = ()
    prefix: str | None = None
    at: float | None = None
    allow_empty: bool = False


async def compared(config: Config, asked: Asked, audience: Audience | None = None) -> Comparison:
    """Compare what would be written now with the real keys; with a prefix, the keys under it.

    Where fields differ it looks again, unless an instant was asked for. Writes nothing.
    """
    kernels = await kernel_ids.meant(config, asked.kernels, asked.at) if asked.kernels else None
    computes = asked.prefix is None  # else it is only to be known which kernels there are
    choice = assembly.Choice(
        kernels,
        wait=True,
        keep_missing=not computes,
        needs_store=computes,
        hooks=_hooks(audience),
    )
    outcome = Outcome()
    async with (
        assembly.cycle(config, choice) as cycle,
        Store(assembly.store_access(config.redis, NO_PREFIX)) as store,
    ):
        sides = Sides(config, cycle, store, asked.prefix)
        ours = await sides.ours(outcome, asked.at)
        theirs, invalid = await sides.theirs(list(ours))
        within_s = lately_s(config, outcome.exporters)
        lately = await sides.lately(outcome.time, within_s)
        first = compare(ours, theirs, lately)
        found = replace(
            await _told(sides, ours, theirs, outcome, asked), differences=first, invalid=invalid
        )
        if asked.at is not None or not differs(first) or not theirs or not any(ours.values()):
            return found
        limit_s = patience_s(outcome)
        last, looks = await look_again(sides, first, theirs, within_s, limit_s, audience)
        return replace(found, differences=last, looks=looks)


async def _told(
    sides: Sides,
    ours: Mapping[str, LiveStat],
    theirs: Mapping[str, LiveStat],
    outcome: Outcome,
    asked: Asked,
) -> Comparison:
    """Return what there is to tell beside the fields."""
    config, cycle, store = sides.config, sides.cycle, sides.store
    within_s, ttl_s = lately_s(config, outcome.exporters), config.redis.ttl_s
    seen = {*cycle.history.kernels, *outcome.withheld}
    known = {*ours, *seen}
    asked_for = cycle.observer.limits.scope.kernels or ()
    ages = await store.ages(sorted({*known, *asked_for}))
    told = {*(kernel for kernel in ours if ours[kernel]), *seen, *theirs}
    lease = assembly.lease(config, cycle.store)
    found = Strangers()
    if not asked_for:
        found = await strangers(store, cycle, outcome, config, known, asked.at)
    return Comparison(
        kernels=len(known & told),
        withheld=outcome.withheld,
        missing=outcome.missing,
        fresh=len(written_lately(ages, ttl_s, within_s)),
        lease=await lease.holder() if lease else None,
        agents=agents_writing(outcome.exporters),
        strangers=found,
        unknown=tuple(kernel for kernel in asked_for if kernel not in told | ages.keys()),
        allow_empty=asked.allow_empty,
    )
