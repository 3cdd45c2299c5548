"""What one scrape saw of an exporter's counters, and which of them may count its rounds. Values."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

CounterName = Literal["gather_measures", "before_observe", "durations", "successes"]
COUNTERS: tuple[CounterName, ...] = get_args(CounterName)
"""What may count an exporter's rounds, the best first. The last is a sign of life alone: it stands
still as soon as an agent's own writes are refused."""


class Scrape(msgspec.Struct, gc=False):
    """What one scrape saw of an exporter's counters; None where they are not there.

    `agent` counts rounds of its own there, `shared`: so do several. The collector does not see
    them: a look at a large cluster takes thousands.
    """

    counts: dict[CounterName, float] = {}
    agent: str = ""
    shared: bool = False
    gathering_s: float | None = None
    lasted_s: float | None = None
    writing_s: float | None = None
    writes: float | None = None

    def counted_by(self, agent: str) -> None:
        """Take that an agent counts rounds of its own there."""
        self.shared = self.shared or self.agent not in ("", agent)
        self.agent = agent
