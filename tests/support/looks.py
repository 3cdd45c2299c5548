"""Whole looks at the agents' rounds, where a test does not care for their portions."""

from __future__ import annotations

from collections.abc import Sequence

from poller.poll.rounds import Rounds
from poller.prometheus.answers import Series
from poller.values import Stamp


def look(clocks: Rounds, answer: Sequence[Series], at: float) -> dict[str, list[Stamp]]:
    """Let clocks see all of an answer; return the new rounds of each exporter, in order."""
    new: dict[str, list[Stamp]] = {}
    for instance, stamps in clocks.see(answer, at):
        if stamps:
            new.setdefault(instance, []).extend(stamps)
    return new
