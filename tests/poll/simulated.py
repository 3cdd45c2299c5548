"""A simulated agent's rounds, scrape by scrape: the truth that a clock has to find out."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from poller.prometheus.answers import Series

STAGE = {"upper_layer": "collect_container_stat", "stage": "gather_measures"}
TASK = {"stat_scope": "container", "agent_id": "i-a"}


@dataclass(slots=True)
class Agent:
    """Measures every `interval_s` and a round's duration, or, with a `timer`, every interval.

    `measured` are the true times of its measurements, from round 1 on.
    """

    interval_s: float = 5.0
    timer: bool = False
    jitter_s: float = 0.0
    rest_s: float = 0.01
    start: float = 1000.3
    seed: int = 1
    target: dict[str, str] = field(default_factory=lambda: {"instance": "a:1", "job": "agents"})
    measured: list[float] = field(default_factory=list)
    _gathered: list[float] = field(default_factory=list)
    _ended: list[float] = field(default_factory=list)

    def run(self, until: float, pause: tuple[float, float] = (float("inf"), 0.0)) -> Agent:
        """Measure until then; at `pause[0]` stand still for `pause[1]` seconds, untold."""
        dice = random.Random(self.seed)
        begin = self._ended[-1] + self.interval_s if self._ended else self.start
        while begin <= until:
            if begin >= pause[0]:
                begin, pause = begin + pause[1], (float("inf"), 0.0)
            gathering = dice.uniform(0, self.jitter_s) if self.jitter_s else 0.002
            self.measured.append(begin + gathering)
            self._gathered.append(gathering)
            self._ended.append(begin + gathering + self.rest_s)
            if self.timer:
                begin += self.interval_s
            else:
                begin = self._ended[-1] + self.interval_s
        return self

    def rounds(self, at: float) -> int:
        """Return how many rounds were measured by then."""
        return sum(measured <= at for measured in self.measured)

    def series(self, scrapes: Sequence[float]) -> list[Series]:
        """Return the counters as these scrapes saw them."""
        stage = "before_observe" if self.timer else "gather_measures"
        counts = [(at, self.rounds(at)) for at in scrapes]
        ended = [(at, sum(end <= at for end in self._ended)) for at in scrapes]
        lasted = [self._gathered[place] + self.rest_s for place in range(len(self._gathered))]
        found = [
            self._of("backendai_stage_count_total", {**STAGE, "stage": stage, "success": "True"},
                     [(at, count) for at, count in counts]),
            self._of("backendai_stat_task_duration_sec_count", TASK, ended),
            self._of("backendai_stat_task_duration_sec_sum", TASK,
                     [(at, sum(lasted[:count])) for at, count in ended]),
            self._of("backendai_stat_task_success_count_total", TASK, ended),
        ]  # fmt: skip
        if not self.timer:
            sums = [(at, sum(self._gathered[:count])) for at, count in counts]
            found.append(self._of("backendai_stage_duration_sec_sum", STAGE, sums))
        return found

    def _of(self, name: str, labels: dict[str, str], samples: list[tuple[float, float]]) -> Series:
        return Series(
            {"__name__": name, **labels, **self.target},
            [(at, repr(value)) for at, value in samples],
        )


def scrapes(every_s: float, start: float = 1000.0, end: float = 1300.0) -> list[float]:
    """Return the times of scrapes."""
    return [round(start + place * every_s, 3) for place in range(int((end - start) / every_s) + 1)]


def pairs(values: Sequence[float]) -> Iterator[tuple[float, float]]:
    """Return each value with the one after it."""
    return zip(values, values[1:], strict=False)
