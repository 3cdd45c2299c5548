"""Does it work here? Both servers, intervals, clocks, rights, and who else writes: one line each.

Writes nothing; the rights to write are asked of the server, not tried.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from poller.clock import TOLERANCE_S
from poller.config import Config
from poller.errors import CycleError, PollerError, StoreError
from poller.poll import assembly
from poller.poll.cycle import Cycle, Outcome
from poller.store.lease import Lease
from poller.values import Survey

Level = Literal["ok", "warn", "fail"]

_MAY_WRITE = """
if not redis.acl_check_cmd then return -1 end
local may = redis.acl_check_cmd('SET', KEYS[1], 'x', 'EX', '1', 'GET')
return may and 1 or 0
"""
_OLDEST_REDIS = (6, 2)
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: what was looked at, how it is, and what to do."""

    level: Level
    subject: str
    text: str
    advice: str = ""


async def findings(config: Config) -> AsyncIterator[Finding]:
    """Look at everything, one finding after another; a server that fails ends its own part."""
    yield Finding("ok", "settings", "valid")
    async with assembly.cycle(config, assembly.Choice(wait=True)) as cycle:
        async for finding in _prometheus(cycle):
            yield finding
        async for finding in _redis(config, cycle):
            yield finding


def _failed(subject: str, error: CycleError) -> Finding:
    return Finding("fail", subject, error.detail, error.advice)


async def _prometheus(cycle: Cycle) -> AsyncIterator[Finding]:
    client = cycle.observer.client
    outcome = Outcome()
    try:
        await cycle.probe()
        yield Finding("ok", "prometheus", f"{await client.server()} answers at {client.url}")
        yield _skew(cycle.clock.corrected_s)
        await cycle.compute(outcome=outcome, needs_store=False)
    except CycleError as error:
        yield _failed("prometheus", error)
        return
    yield _kernels(outcome, cycle.observer.surveyor.last)
    if outcome.dropped:
        listed = ", ".join(f"{count} {why}" for why, count in sorted(outcome.dropped.items()))
        level: Level = "ok" if set(outcome.dropped) == {"duplicate"} else "warn"
        yield Finding(level, "rows", f"dropped: {listed}", "look at the exporters and relabelling")
    yield _rounds(outcome)
    yield _agents(outcome)


def _skew(ahead_s: float) -> Finding:
    if abs(ahead_s) <= TOLERANCE_S:
        return Finding("ok", "clock", "within a second or two of Prometheus'")
    return Finding(
        "warn",
        "clock",
        f"Prometheus' clock is {ahead_s:+.0f} s from this host's; its time is used",
        "synchronise the clocks",
    )


def _rounds(outcome: Outcome) -> Finding:
    """Tell by which counter the exporters' rounds are known, and how often they measure."""
    if not outcome.exporters:
        advice = "rates are then averages over a window; does relabelling drop the counters?"
        return Finding("warn", "rounds", "no exporter counts its rounds", advice)
    kinds = Counter((one.counter or "none", _interval(one.interval_s)) for one in outcome.exporters)
    listed = ", ".join(
        f"{count} by {counter} every {every}" for (counter, every), count in sorted(kinds.items())
    )
    return Finding("ok", "rounds", f"{len(outcome.exporters)} exporters: {listed}")


def _interval(seconds: float | None) -> str:
    return "an interval not known yet" if seconds is None else f"{seconds:.3g} s"


def _kernels(outcome: Outcome, survey: Survey | None) -> Finding:
    if not outcome.kernels or survey is None:
        advice = "check the agents' scrape job, if there should be any"
        return Finding("warn", "kernels", "Prometheus holds no kernel", advice)
    return Finding(
        "ok", "kernels", f"{outcome.kernels} active, metrics: {', '.join(survey.metrics)}"
    )


def _agents(outcome: Outcome) -> Finding:
    if outcome.stalled:
        named = ", ".join(sorted(outcome.stalled)[:_NAMED])
        withheld = sum(why == "stalled" for why in outcome.withheld.values())
        return Finding(
            "fail",
            "agents",
            f"{len(outcome.stalled)} stand still while their exporters answer: {named}; "
            f"{withheld} kernels are withheld",
            "restart the statistics of those agents",
        )
    counting = sum(one.counter not in (None, "successes") for one in outcome.exporters)
    return Finding("ok", "agents", f"none stalled; {counting} count their rounds")


async def _redis(config: Config, cycle: Cycle) -> AsyncIterator[Finding]:
    store = cycle.store
    try:
        yield await _server(cycle)
        yield await _rights(cycle)
        lease = assembly.lease(config, store)
        holder = await lease.holder() if lease else None
        yield _lease(lease, holder)
        yield await _writers(config, cycle, holder)
    except CycleError as error:
        yield _failed("redis", error)


async def _server(cycle: Cycle) -> Finding:
    try:
        return _version(await cycle.store.server())
    except StoreError as error:
        if error.reason != "forbidden":
            raise
        return Finding("ok", "redis", "answers; its version is not ours to know (INFO)")


def _version(server: str) -> Finding:
    number = re.search(r"(\d+)\.(\d+)", server)
    if number and (int(number[1]), int(number[2])) < _OLDEST_REDIS:
        return Finding("fail", "redis", server, "SET … GET needs Redis 6.2 or any Valkey")
    return Finding("ok", "redis", f"{server} answers")


async def _rights(cycle: Cycle) -> Finding:
    key = cycle.store.key(str(uuid.uuid4()))
    try:
        await cycle.store.read([str(uuid.uuid4())])
        may = await cycle.store.script(_MAY_WRITE, key)
    except PollerError as error:
        return Finding("fail", "rights", str(error), "compare the ACL user with the README's")
    if may == -1:
        return Finding("warn", "rights", "this server cannot tell them before version 7")
    if may == 0:
        return Finding("fail", "rights", "keys may not be written", "see the README's ACL user")
    return Finding("ok", "rights", "keys may be read and written")


def _lease(lease: Lease | None, holder: str | None) -> Finding:
    if lease is None:
        return Finding("ok", "lease", "leader.enabled is off: see that only one poller runs")
    if holder is None:
        return Finding("ok", "lease", "free: no poller writes now")
    return Finding("ok", "lease", f"held by {holder}")


async def _writers(config: Config, cycle: Cycle, holder: str | None) -> Finding:
    kernels = list(cycle.history.kernels)
    ages = await cycle.store.ages(kernels)
    lately_s = 3 * config.poll.interval_s
    fresh = sum(age < lately_s for age in ages.values())
    told = f"{fresh} of {len(kernels)} keys were written in the last {lately_s:.0f} s"
    if not fresh:
        return Finding("ok", "writers", told)
    if holder is not None:
        return Finding("ok", "writers", f"{told}; a poller holds the lease")
    return Finding(
        "warn",
        "writers",
        f"{told}, and no poller holds the lease: agents still write",
        "compare, then switch their writing off; see the README's cut-over",
    )
