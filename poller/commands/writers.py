"""Who writes keys: told from the agents' own counters and from the keys, never from the lease.

A lease says who may write, not who did: it is gone just after a stop, after `once`, and where
`leader.enabled` is off, and agents know nothing of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from poller.commands.finding import agreed, counted, listed
from poller.config import Config
from poller.errors import StoreError
from poller.poll.exporter import ExporterState
from poller.prometheus import lookup_queries
from poller.prometheus.client import Client
from poller.prometheus.selectors import Scope
from poller.store.keys import Store
from poller.store.scan import kernels_with_keys
from poller.values import DEFAULT_INTERVAL_S

AGENTS_TTL_S = 86_400
"""The TTL that agents give their keys, whatever ours is."""
_POLLS = 3
_ROUNDS = 2
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class AgentsWriting:
    """Agents by whether they still try to write keys; `untold` are those that do not count it."""

    writing: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()

    def told(self) -> list[str]:
        """Return it for people, one part for each kind of agents that there are."""
        count, untold = len(self.writing), len(self.untold)
        total = count + untold + len(self.silent)
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
        return parts


@dataclass(frozen=True, slots=True)
class Strangers:
    """Kernels whose key somebody writes and that Prometheus does not know.

    `allowed`: whether the server let us look for them.
    """

    kernels: tuple[str, ...] = ()
    allowed: bool = True


def agents_writing(exporters: Iterable[ExporterState]) -> AgentsWriting:
    """Sort the agents by what their counters say of their own writes."""
    found: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for one in exporters:
        found[one.writes_itself].append(one.agent or one.instance)
    return AgentsWriting(*(tuple(sorted(found[told])) for told in (True, False, None)))


def trying(exporters: Iterable[ExporterState]) -> dict[str, str]:
    """Return the agents that try to write now, by exporter; one that stands still does not."""
    return {
        one.instance: one.agent or one.instance
        for one in exporters
        if one.writes_itself and not one.stalled and not one.silent
    }


def lately_s(config: Config, exporters: Iterable[ExporterState]) -> float:
    """Return how old a key may be that somebody still writes, in seconds."""
    intervals = [one.interval_s or DEFAULT_INTERVAL_S for one in exporters]
    slowest_s = max([DEFAULT_INTERVAL_S, *intervals])
    return max(_POLLS * config.poll.interval_s, _ROUNDS * slowest_s)


def written_lately(ages: Mapping[str, float], ttl_s: int, within_s: float) -> list[str]:
    """Return the kernels whose key was written within so many seconds, with our TTL or agents'."""
    longer_s = AGENTS_TTL_S - ttl_s
    return [
        kernel
        for kernel, age_s in ages.items()
        if 0 <= age_s < within_s or 0 <= age_s + longer_s < within_s
    ]


async def strangers(
    store: Store, client: Client, known: Collection[str], scope: Scope, at: float, ttl_s: int,
    within_s: float,
) -> Strangers:  # fmt: skip
    """Look through all keys for those that somebody writes and Prometheus has not known lately.

    `known`: kernels that need no look, `scope`: only those of this part of the kernels.
    """
    fresh: set[str] = set()
    try:
        async for portion in kernels_with_keys(store):
            new = [one for one in portion if one not in known and _is_of(scope, one)]
            fresh.update(written_lately(await store.ages(new), ttl_s, within_s))
    except StoreError as error:
        if error.reason != "forbidden":
            raise
        return Strangers(allowed=False)
    known_lately = await _held_lately(client, sorted(fresh), at, within_s)
    return Strangers(tuple(sorted(fresh - known_lately)))


def _is_of(scope: Scope, kernel: str) -> bool:
    return scope.prefixes is None or kernel.startswith(scope.prefixes)


async def _held_lately(
    client: Client, kernels: Sequence[str], at: float, within_s: float
) -> set[str]:
    """Return which kernels Prometheus has known lately: they have just ended."""
    held: set[str] = set()
    for start in range(0, len(kernels), _AT_ONCE):
        scope = Scope(kernels=tuple(kernels[start : start + _AT_ONCE]))
        rows = await client.vector(lookup_queries.moved_query(within_s, scope), at)
        held.update(row.metric.kernel_id for row in rows if row.metric.kernel_id)
    return held
