"""What one scrape saw of an exporter's counters, and which of them may count its rounds. Values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

CounterName = Literal["gather_measures", "before_observe", "durations", "successes"]
COUNTERS: tuple[CounterName, ...] = get_args(CounterName)
"""What may count an exporter's rounds, the best first. The last is a sign of life alone: it stands
still as soon as an agent's own writes are refused."""


@dataclass(slots=True)
class Scrape:
    """What one scrape saw of an exporter's counters; None where they are not there.

    `agents` are those that count rounds of their own there.
    """

    counts: dict[CounterName, float] = field(default_factory=dict)
    agents: set[str] = field(default_factory=set)
    gathering_s: float | None = None
    lasted_s: float | None = None
    writing_s: float | None = None
    writes: float | None = None
