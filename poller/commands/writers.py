"""Who writes keys: told from the agents' own counters and from the keys, never from the lease.

A lease says who may write, not who did: it is gone just after a stop, after `once`, and where
`leader.enabled` is off, and agents know nothing of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from poller.clock import TOLERANCE_S
from poller.commands.finding import agreed, counted, listed
from poller.commands.freshness import lately_s, written_lately
from poller.config import Config
from poller.errors import StoreError
from poller.format.catalog import ESSENTIAL
from poller.poll.cycle import Cycle
from poller.poll.outcome import Outcome
from poller.prometheus import lookup_queries
from poller.prometheus.client import Client
from poller.prometheus.selectors import Scope, samples
from poller.rounds.exporter import ExporterState
from poller.store.keys import Store
from poller.store.scan import kernels_with_keys
from poller.values import DEFAULT_INTERVAL_S, portions

_AT_ONCE = 400
_UNSEEN = "unseen"
_LASTING_S = 3600.0
"""A key that was written last for longer ago is an ended kernel's, as a rule."""


@dataclass(frozen=True, slots=True)
class AgentsWriting:
    """Agents by whether they still try to write keys.

    `untold` are those that do not count it, `unseen` those that stand still or are not scraped:
    what they counted last says nothing of now.
    """

    writing: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    def told(self) -> list[str]:
        """Return it for people, one part for each kind of agents that there are."""
        count, untold, unseen = len(self.writing), len(self.untold), len(self.unseen)
        total = count + untold + unseen + len(self.silent)
        parts = []
        if count:
            tries = agreed(count, "tries", "try")
            names = listed(self.writing)
            parts.append(f"{count} of {counted(total, 'agent')} still {tries} to write: {names}")
        elif self.silent:
            writes = agreed(len(self.silent), "writes", "write")
            parts.append(f"{len(self.silent)} of {counted(total, 'agent')} {writes} no keys")
        if untold:
            does = agreed(untold, "does", "do")
            agents = counted(untold, "agent")
            parts.append(f"{agents} {does} not count writes: {listed(self.untold)}")
        if unseen:
            stands = agreed(unseen, "stands still or is", "stand still or are")
            parts.append(f"{counted(unseen, 'agent')} {stands} down: {listed(self.unseen)}")
        return parts


@dataclass(frozen=True, slots=True)
class Strangers:
    """Kernels whose key somebody writes and that Prometheus does not know.

    `left` are those that it has known lately: a kernel that has just ended is none of them, since
    its key was not written for longer than a scrape after Prometheus saw it last. `older` are
    kernels unknown now whose key was written within the last hour, and not lately. `allowed`:
    whether the server let us look for them.
    """

    kernels: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    older: tuple[str, ...] = ()
    allowed: bool = True


def agents_writing(exporters: Iterable[ExporterState]) -> AgentsWriting:
    """Sort the agents by what their counters say of their own writes."""
    found: dict[bool | None | str, list[str]] = {True: [], False: [], None: [], _UNSEEN: []}
    for one in exporters:
        told = _UNSEEN if one.stalled or one.silent else one.writes_itself
        found[told].append(one.name)
    return AgentsWriting(*(tuple(sorted(names)) for names in found.values()))


def trying(exporters: Iterable[ExporterState]) -> dict[str, str]:
    """Return the agents that try to write now, by exporter; one that stands still does not."""
    there = (one for one in exporters if not one.stalled and not one.silent)
    return {one.instance: one.name for one in there if one.writes_itself}


async def strangers(
    store: Store,
    cycle: Cycle,
    outcome: Outcome,
    config: Config,
    known: Collection[str],
    at: float | None = None,
) -> Strangers:
    """Look through all keys for those that somebody writes and Prometheus does not know.

    `known`: kernels that need no look, `at`: another time than now, for which Prometheus is asked.
    """
    within_s, ttl_s = lately_s(config, outcome.exporters), config.redis.ttl_s
    scope, now = cycle.observer.limits.scope, cycle.evaluation.clock.now
    written: dict[str, float] = {}
    older: set[str] = set()
    try:
        async for portion in kernels_with_keys(store):
            new = [one for one in portion if one not in known and scope.covers(one)]
            ages = await store.ages(new)
            found = written_lately(ages, ttl_s, within_s)
            written |= {kernel: now() - age_s for kernel, age_s in found.items()}
            older |= written_lately(ages, ttl_s, _LASTING_S).keys() - found.keys()
    except StoreError as error:
        if error.reason != "forbidden":
            raise
        return Strangers(allowed=False)
    seen = await _last_seen(cycle.observer.client, sorted(written), at or now(), within_s)
    grace_s = (outcome.scrape_s or DEFAULT_INTERVAL_S) + TOLERANCE_S
    left = {one for one in seen if at is None and written[one] > seen[one] + grace_s}
    unknown = written.keys() - seen.keys()
    return Strangers(tuple(sorted(unknown)), tuple(sorted(left)), tuple(sorted(older)))


async def deserted(cycle: Cycle, outcome: Outcome, older: Sequence[str]) -> list[str]:
    """Return those of some kernels whose agent is not scraped either; the others have ended."""
    known = cycle.history.kernels.values()
    names = [(one.agent, one.instance) for one in outcome.exporters if not one.silent]
    scraped = {name for pair in names for name in pair} - {""}
    scraped |= {name for one in known for name in (one.agent, one.instance) if name}
    ended = set()
    for some in portions(older, _AT_ONCE):
        scope = Scope(kernels=tuple(some))
        query = lookup_queries.homes_query(_LASTING_S, scope)
        for row in await cycle.observer.client.vector(query, cycle.evaluation.clock.now()):
            if scraped & {row.metric.agent_id, row.metric.instance}:
                ended.add(row.metric.kernel_id)
    return [kernel for kernel in older if kernel not in ended]


async def _last_seen(
    client: Client, kernels: Sequence[str], at: float, within_s: float
) -> dict[str, float]:
    """Return when Prometheus saw kernels last, of those that it has known lately."""
    seen: dict[str, float] = {}
    for some in portions(kernels, _AT_ONCE):
        scope = Scope(kernels=tuple(some))
        rows = await client.vector(lookup_queries.moved_query(within_s, scope), at)
        seen |= {row.metric.kernel_id: at for row in rows if row.metric.kernel_id}
        last: dict[str, float] = {}
        for one in await client.matrix(samples(ESSENTIAL, within_s, scope), at):
            kernel = one.metric.get("kernel_id", "")
            last[kernel] = max(last.get(kernel, 0.0), *(sample.at for sample in one.values))
        seen |= {kernel: time for kernel, time in last.items() if kernel in seen}
    return seen
