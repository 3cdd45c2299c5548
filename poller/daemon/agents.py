"""What is wrong with agents, told apart: stalled, silent, or without a counter of rounds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from poller.daemon.words import told
from poller.poll.outcome import Outcome
from poller.rounds.exporter import ExporterState

_NAMED = 5


class AgentTrouble(NamedTuple):
    """Why an agent's kernels are not as they should be, and what to do.

    `instance` is the exporter of one that is silent.
    """

    reason: str
    detail: str
    advice: str
    instance: str = ""

    @property
    def told(self) -> tuple[str, str, str]:
        """Reason, detail and advice."""
        return self.reason, self.detail, self.advice


def troubles(outcome: Outcome) -> dict[str, AgentTrouble]:
    """Return what is wrong with each agent in a cycle that went through."""
    found = {agent: _stalled(None) for agent in outcome.stalled}
    dead = down(outcome)
    for one in outcome.exporters:
        if one.instance in dead:
            found[one.name] = AgentTrouble(
                "silent",
                f"no sample of it has come from {one.instance} lately; its keys stay as they are",
                "start the agent, or look at its target in Prometheus: is it down, or gone?",
                one.instance,
            )
        elif one.name in outcome.stalled:
            found[one.name] = _stalled(one)
    return found


def still_silent(before: Mapping[str, AgentTrouble], outcome: Outcome) -> dict[str, AgentTrouble]:
    """Return the agents that were silent and that nothing was heard of since.

    Their rounds are forgotten after some minutes, and they are as dead as before; but not where
    another agent tells by their exporter: they have another name now.
    """
    heard = {one.name for one in outcome.exporters} | outcome.roundless_agents
    taken = {one.instance for one in outcome.exporters} | set(outcome.roundless)
    return {
        agent: trouble
        for agent, trouble in before.items()
        if trouble.reason == "silent" and agent not in heard and trouble.instance not in taken
    }


def down(outcome: Outcome) -> set[str]:
    """Return the exporters of which no sample comes, though they measured kernels to the last.

    One whose agent tells by another instance, renamed or moved, is not down.
    """
    heard = {one.agent for one in outcome.exporters if one.agent and not one.silent}
    return {
        one.instance
        for one in outcome.exporters
        if one.silent
        and one.agent not in heard
        and (outcome.held_of.get(one.instance) or one.name in outcome.stalled)
    }


def _stalled(one: ExporterState | None) -> AgentTrouble:
    where = f"its exporter {one.instance}" if one is not None else "its exporter"
    return AgentTrouble(
        "stalled",
        f"{where} answers but its measurements stand still; its kernels are withheld",
        "restart the agent's statistics, or the agent",
    )


def ending(agent: str, outcome: Outcome) -> str:
    """Return what became of an agent that was in trouble."""
    there = agent in outcome.roundless_agents or any(
        one.name == agent and not one.silent for one in outcome.exporters
    )
    return "measures again" if there else "is gone"


def counting(outcome: Outcome) -> str:
    """Return in one line by what the agents' rounds are known, and how often they measure."""
    counted: dict[str, list[ExporterState]] = {}
    for one in outcome.exporters:
        counted.setdefault(one.counter or "nothing", []).append(one)
    return "; ".join(
        f"{len(group)} by {counter}, {_intervals(group)}"
        for counter, group in sorted(counted.items())
    )


def _intervals(group: list[ExporterState]) -> str:
    found = sorted({f"{one.interval_s:.3g}" for one in group if one.interval_s is not None})
    if not found:
        return "at an interval not known yet"
    return f"every {' or '.join(found[:_NAMED])} s" + (" or others" if len(found) > _NAMED else "")


def roundless(outcome: Outcome) -> AgentTrouble | None:
    """Return what is wrong where exporters with kernels count no rounds; None if none does."""
    if not outcome.roundless:
        return None
    named = ", ".join(name or "without instance" for name in outcome.roundless[:_NAMED])
    return AgentTrouble(
        "roundless",
        told(len(outcome.roundless), "exporter counts", "exporters count")
        + f" no rounds ({named}); rates are averages there",
        "scrape the series that the README lists, each agent under an instance of its own; "
        "agents before 25.12 have none",
    )
