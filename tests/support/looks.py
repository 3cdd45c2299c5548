"""The counter of agents' rounds, answers made by hand, and whole looks at them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from poller.history.feeding import Fed, Feeding
from poller.history.history import History
from poller.prometheus.answers import Sample, Series
from poller.rounds.rounds import Rounds
from poller.values import Batch, Stamp

COUNTER = {
    "__name__": "backendai_stage_count_total",
    "stage": "gather_measures",
    "success": "True",
    "upper_layer": "collect_container_stat",
}
"""What counts the rounds of an agent, since 26.4.4."""
ENDED = {"__name__": "backendai_stat_task_duration_sec_count", "stat_scope": "container"}
"""What counts their ends."""


def series_of(labels: Mapping[str, str], samples: Iterable[tuple[float, str]]) -> Series:
    """Return what Prometheus answers of one series: (Unix seconds, number as text)."""
    return Series(dict(labels), tuple(Sample(at, text) for at, text in samples))


def look(clocks: Rounds, answer: Sequence[Series], at: float) -> dict[str, list[Stamp]]:
    """Let clocks see all of an answer; return the new rounds of each exporter, in order."""
    new: dict[str, list[Stamp]] = {}
    for instance, stamps in clocks.see(answer, at):
        if stamps:
            new.setdefault(instance, []).extend(stamps)
    return new


def feed(history: History, batch: Batch, clocks: Rounds) -> Fed:
    """Let a history take all of a batch; return what that brought."""
    feeding = Feeding(history, batch, clocks)
    for _ in feeding.portions():
        pass
    return feeding.fed
