"""What `check` finds at Redis: the server, rights, the lease, and keys that somebody writes."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Collection

from poller.commands.finding import Finding, agreed, counted, failed, listed
from poller.commands.freshness import lately_s, written_lately
from poller.commands.writers import Strangers, deserted, strangers, trying
from poller.config import Config
from poller.errors import CycleError, StoreError
from poller.poll import assembly
from poller.poll.cycle import Cycle
from poller.poll.outcome import Outcome
from poller.store.keys import NO_PREFIX, Store
from poller.store.lease import Lease
from poller.store.willing import prove_willing, prove_willing_by_info

_MAY_WRITE = """
if not redis.acl_check_cmd then return -1 end
local may = redis.acl_check_cmd('SET', KEYS[1], 'x', 'EX', '1', 'GET')
return may and 1 or 0
"""
_OLDEST_REDIS = (6, 2)


async def findings(config: Config, cycle: Cycle, outcome: Outcome) -> AsyncIterator[Finding]:
    """Look at Redis, and at the keys in it. `outcome` is what Prometheus told before."""
    store = cycle.store
    try:
        yield await _server(store)
        yield await _rights(store)
        lease = assembly.lease(config, store)
        yield _lease(lease, await lease.holder() if lease else None)
        if outcome.observed:
            async for finding in _keys(config, cycle, outcome):
                yield finding
    except CycleError as error:
        yield failed(error.subject, error)


async def _server(store: Store) -> Finding:
    try:
        return _version(await store.server())
    except StoreError as error:
        if error.reason != "forbidden":
            raise
        return Finding("ok", "redis", "answers; its version is not ours to know (INFO)")


def _version(server: str) -> Finding:
    number = re.search(r"(\d+)\.(\d+)", server)
    if number and (int(number[1]), int(number[2])) < _OLDEST_REDIS:
        return Finding("fail", "redis", server, "SET … GET needs Redis 6.2 or any Valkey")
    return Finding("ok", "redis", f"{server} answers")


async def _rights(store: Store) -> Finding:
    key = store.key(str(uuid.uuid4()))
    try:
        found = await store.read([str(uuid.uuid4())])
        if found.failed:
            return Finding("fail", "rights", "keys may not be read", "see the README's ACL user")
        may = await store.script(_MAY_WRITE, key)
        await (prove_willing_by_info(store) if may == -1 else prove_willing(store))
    except CycleError as error:
        return failed("rights", error)
    if may == -1:
        return Finding("warn", "rights", "this server cannot tell them before version 7")
    if may == 0:
        return Finding("fail", "rights", "keys may not be written", "see the README's ACL user")
    return Finding("ok", "rights", "keys may be read and written")


def _lease(lease: Lease | None, holder: str | None) -> Finding:
    if lease is None:
        return Finding("ok", "lease", "leader.enabled is off: see that only one poller runs")
    if holder is None:
        return Finding("ok", "lease", "free: no poller holds it now")
    return Finding("ok", "lease", f"held by {holder}")


async def _keys(config: Config, cycle: Cycle, outcome: Outcome) -> AsyncIterator[Finding]:
    """Tell how many keys are written, and which are that Prometheus does not know.

    Agents write the real keys, whatever the prefix in the settings.
    """
    within_s, ttl_s = lately_s(config, outcome.exporters), config.redis.ttl_s
    known = {*cycle.history.kernels, *outcome.withheld}
    for prefix in dict.fromkeys((config.redis.key_prefix, NO_PREFIX)):
        async with Store(assembly.store_access(config.redis, prefix)) as store:
            if known:
                fresh = set(written_lately(await store.ages(sorted(known)), ttl_s, within_s))
                yield _fresh(len(fresh), len(known), within_s, prefix)
                if prefix == NO_PREFIX and (missed := _missed(cycle, outcome, fresh)):
                    yield missed
            found = await strangers(store, cycle, outcome, config, known)
            yield _strangers(found, prefix)
            if found.left:
                yield _left(found.left, within_s, prefix)
            if lost := await deserted(cycle, outcome, found.older):
                yield _deserted(lost, within_s, prefix)


def _fresh(fresh: int, all_of_them: int, within_s: float, prefix: str) -> Finding:
    text = f"{fresh} of {counted(all_of_them, 'kernel')}{_under(prefix)}"
    were = agreed(all_of_them, "was", "were")
    return Finding("ok", "keys", f"{text} {were} written in the last {within_s:.0f} s")


def _missed(cycle: Cycle, outcome: Outcome, fresh: set[str]) -> Finding | None:
    """Tell that agents try to write, and none of the keys that they try was written by anybody.

    A try is counted also where Redis refuses it. While the poller writes, the keys of refused
    agents are fresh; where nobody does, either this is not the agents' database, or their readers
    see nothing.
    """
    agents = trying(outcome.exporters)
    known = cycle.history.kernels
    tried = [name for name, kernel in known.items() if kernel.instance in agents]
    if not tried or not fresh.isdisjoint(tried):
        return None
    names = listed({agents[known[name].instance] for name in tried})
    were = agreed(len(tried), "was", "were")
    return Finding(
        "fail",
        "keys",
        f"agents try to write, and 0 of {counted(len(tried), 'key')} of theirs {were} written "
        f"lately: {names}",
        "is this the agents' Redis, and the number of their database? or does it refuse their "
        "writes? their logs tell",
    )


def _under(prefix: str) -> str:
    return f" under {prefix}" if prefix else ""


def _strangers(found: Strangers, prefix: str) -> Finding:
    """Tell of keys that somebody writes and Prometheus does not know."""
    under = _under(prefix)
    if not found.allowed:
        return Finding(
            "warn",
            "keys",
            f"those{under} that Prometheus does not know cannot be looked for",
            "let the ACL user SCAN (+scan) to be sure that none would be left behind",
        )
    if not found.kernels:
        return Finding("ok", "keys", f"none is written{under} that Prometheus does not know")
    names, count = listed(found.kernels), len(found.kernels)
    are = agreed(count, "is", "are")
    return Finding(
        "fail",
        "keys",
        f"{count}{under} that somebody writes {are} unknown to Prometheus: {names}",
        "is it the right Prometheus, and does it scrape every agent? nobody would write them "
        "after the agents",
    )


def _left(kernels: Collection[str], within_s: float, prefix: str) -> Finding:
    """Tell of keys that somebody goes on writing after Prometheus has lost the kernels."""
    count, names = len(kernels), listed(kernels)
    text = f"{count}{_under(prefix)} left Prometheus less than {within_s:.0f} s ago"
    are = agreed(count, "is", "are")
    return Finding(
        "fail",
        "keys",
        f"{text} and {are} still written: {names}",
        "does Prometheus still scrape their agents? look again in a minute",
    )


def _deserted(kernels: Collection[str], within_s: float, prefix: str) -> Finding:
    """Tell of keys that nobody writes any more, though nothing tells that the kernels ended."""
    count = len(kernels)
    was, are = agreed(count, "was", "were"), agreed(count, "is", "are")
    return Finding(
        "warn",
        "keys",
        f"{count}{_under(prefix)} that {was} written within the last hour {are} older than "
        f"{within_s:.0f} s, and no sample comes of their kernels nor of their agents: "
        f"{listed(kernels)}",
        "is an agent down, or scraped no more? its kernels' keys stay as they are meanwhile",
    )
