"""What `check` finds at Prometheus: clock, kernels, rounds, agents, and what is withheld."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from poller.batch.census import count_kernels
from poller.clock import TOLERANCE_S
from poller.commands.finding import Finding, Level, agreed, counted, failed, left_alone, listed
from poller.commands.writers import agents_writing
from poller.errors import CycleError, PrometheusError
from poller.poll.cycle import Cycle
from poller.poll.evaluation import PARTS_S
from poller.poll.outcome import Outcome
from poller.poll.withhold import Reason
from poller.rounds.exporter import ExporterState
from poller.values import Survey

_UNSEEN_S = 60.0
"""An exporter that was not scraped for so long is down, or no longer scraped, as all others."""
_AS_MANY = 0.9
"""Two servers that scrape the same agents know of as many kernels, but for the youngest."""
WITHHELD: dict[Reason, tuple[Level, str]] = {
    "incomplete": ("fail", "their keys stay as they are: why does the agent not export it?"),
    "foreign": ("warn", "find out who uses kernel ids as keys in this database"),
    "waiting": ("warn", "what is known of them does not suffice yet: look again in a minute"),
    "mixed": ("ok", ""),
    "still": ("ok", ""),
    "stalled": ("fail", "see the line of the agents"),
    "yielded": ("ok", ""),
}
"""How bad it is that kernels are withheld for a reason, and what to do."""


async def findings(
    cycle: Cycle, outcome: Outcome, allow_empty: bool = False
) -> AsyncIterator[Finding]:
    """Look at Prometheus and at what it holds; `outcome` is filled on the way."""
    client = cycle.observer.client
    try:
        await cycle.evaluation.probe()
        yield Finding("ok", "prometheus", f"{await client.server()} answers at {client.url}")
        yield _skew(cycle.evaluation.clock.corrected_s)
        async for finding in _others(cycle):
            yield finding
        await cycle.compute(outcome=outcome)
        async for finding in parts(cycle):
            yield finding
    except CycleError as error:
        yield failed(error.subject, error)
        return
    for finding in _observed(outcome, cycle.observer.surveyor.last, allow_empty):
        yield finding


async def _others(cycle: Cycle) -> AsyncIterator[Finding]:
    """Tell whether the other servers of the settings would do, should they be needed."""
    client, limits = cycle.observer.client, cycle.observer.limits
    at = await cycle.evaluation.now()
    told = await client.each(lambda: count_kernels(client, limits.scope, at), limits.within_s)
    known = {
        url: sum(census.kernels.values())
        for url, census in told.items()
        if not isinstance(census, PrometheusError)
    }
    here = known.get(client.url, 0)
    for url, answer in told.items():
        if isinstance(answer, PrometheusError):
            yield Finding("warn", "prometheus", answer.detail, answer.advice)
        elif url == client.url:
            continue
        elif known[url] < _AS_MANY * here:
            few = f"{url} knows of {counted(known[url], 'kernel')}, {client.url} of {here}"
            yield Finding("warn", "prometheus", few, "it would not do: let it scrape all agents")
        else:
            yield Finding("ok", "prometheus", f"{url} knows of {counted(known[url], 'kernel')} too")


async def parts(cycle: Cycle) -> AsyncIterator[Finding]:
    """Tell whether a scrape is stored in parts: of one that lacks series these come later."""
    rounds = cycle.observer.rounds
    if cycle.evaluation.configured_s >= PARTS_S or not rounds.parts_are_missing():
        return
    await asyncio.sleep(PARTS_S)
    await cycle.observer.look(await cycle.evaluation.now())
    if rounds.parts_came_later:
        text = "they are stored in parts, as remote write does: rates of half a scrape are false"
        advice = f"set poll.query_offset_s = {PARTS_S:g}; see the README on remote write"
        yield Finding("warn", "scrapes", text, advice)


def _observed(outcome: Outcome, survey: Survey | None, allow_empty: bool) -> Iterator[Finding]:
    yield _kernels(outcome, survey, allow_empty)
    if outcome.dropped:
        told = ", ".join(f"{count} {why}" for why, count in sorted(outcome.dropped.items()))
        level: Level = "ok" if set(outcome.dropped) == {"duplicate"} else "warn"
        yield Finding(level, "rows", f"dropped: {told}", "look at the exporters and relabelling")
    yield _rounds(outcome)
    if not outcome.kernels and not outcome.exporters:
        return  # nothing more can be told
    yield from _agents(outcome)
    yield from withheld(outcome)
    yield _writers(outcome)


def _skew(ahead_s: float) -> Finding:
    if abs(ahead_s) <= TOLERANCE_S:
        return Finding("ok", "clock", "within a second or two of Prometheus'")
    return Finding(
        "warn",
        "clock",
        f"Prometheus' clock is {ahead_s:+.0f} s from this host's; its time is used",
        "synchronise the clocks",
    )


def _kernels(outcome: Outcome, survey: Survey | None, allow_empty: bool) -> Finding:
    if not outcome.kernels or survey is None:
        return Finding(
            "ok" if allow_empty else "fail",
            "kernels",
            "Prometheus holds no kernel",
            "is it the right Prometheus, and does it scrape the agents? "
            "if the cluster is empty, say --allow-empty",
        )
    metrics = ", ".join(sorted(survey.metrics))
    return Finding("ok", "kernels", f"{outcome.kernels} active, metrics: {metrics}")


def _rounds(outcome: Outcome) -> Finding:
    """Tell by which counter the exporters' rounds are known, and how often they measure."""
    if not outcome.exporters:
        advice = "rates are then averages over a window; does relabelling drop the counters?"
        return Finding("warn", "rounds", "no exporter counts its rounds", advice)
    kinds = Counter((one.counter or "none", how_often(one.interval_s)) for one in outcome.exporters)
    told = ", ".join(
        f"{count} by {counter} {often}" for (counter, often), count in sorted(kinds.items())
    )
    return Finding("ok", "rounds", f"{counted(len(outcome.exporters), 'exporter')}: {told}")


def how_often(seconds: float | None) -> str:
    """Return an interval for people."""
    return "at an interval not known yet" if seconds is None else f"every {seconds:.3g} s"


def _agents(outcome: Outcome) -> Iterator[Finding]:
    unseen = [one.name for one in outcome.exporters if _unseen(one, outcome.time)]
    if unseen:
        yield Finding(
            "warn",
            "agents",
            f"not scraped lately: {listed(unseen)}",
            "what is down is not measured; its kernels' keys stay as they are",
        )
    if outcome.stalled:
        text = f"stand still while their exporters answer: {listed(outcome.stalled)}"
        yield Finding("fail", "agents", text, "restart the statistics of those agents")
    if not unseen and not outcome.stalled:
        counting = sum(one.counter not in (None, "successes") for one in outcome.exporters)
        counts = agreed(counting, "counts", "count")
        yield Finding("ok", "agents", f"none stalled; {counting} {counts} their rounds")


def _unseen(one: ExporterState, at: float) -> bool:
    """Whether an exporter was not scraped while others were, or not for long."""
    return one.silent or (one.scraped is not None and at - one.scraped > _UNSEEN_S)


def withheld(outcome: Outcome) -> Iterator[Finding]:
    """Tell which kernels would not be written, by reason and by the metric that is missing."""
    if not outcome.withheld:
        yield Finding("ok", "withheld", "no kernel")
    for (reason, words), kernels in left_alone(outcome.withheld, outcome.missing):
        level, advice = WITHHELD[reason]
        text = f"{counted(len(kernels), 'kernel')} {words}: {listed(kernels)}"
        yield Finding(level, "withheld", text, advice)


def _writers(outcome: Outcome) -> Finding:
    """Tell which agents still write keys themselves, by their own counters."""
    agents = agents_writing(outcome.exporters)
    text = "; ".join(agents.told()) or "no agent is known"
    if agents.writing:
        return Finding("warn", "writers", text, "compare, then see the README's cut-over")
    return Finding("ok", "writers", text)
