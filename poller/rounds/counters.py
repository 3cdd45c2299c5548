"""What each series of an agent's counters tells, and of which target. Pure.

A series is known by its labels. A large cluster's are the same at every poll, so what they say is
worked out once and remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from poller.prometheus.round_queries import (
    DURATION_COUNT,
    DURATION_SUM,
    LAYER,
    STAGE_COUNT,
    STAGE_DURATION,
    STAT_SCOPE,
    SUCCESS_COUNT,
    WRITES,
)
from poller.rounds.scrape import CounterName, Scrape

Target = frozenset[tuple[str, str]]
"""The labels that the scrape gave the series of one target."""
Put = Callable[[Scrape, float], None]
_NOT_THE_TARGETS = frozenset(
    ("__name__", "stage", "upper_layer", "success", "stat_scope", "agent_id", "kernel_id",
     "session_id", "user_id", "project_id", "container_metric_name", "value_type")
)  # fmt: skip
_TO_SPARE = 1000


def target_of(labels: Mapping[str, str]) -> Target:
    """Return what a series has in common with all others of its target."""
    return frozenset(item for item in labels.items() if item[0] not in _NOT_THE_TARGETS)


class Told(msgspec.Struct, gc=False):
    """What one series tells: of which target and agent, and where a scrape keeps its value.

    `last` is the time of the newest sample that was seen of it; 0 if it is new. The collector does
    not see them: there are seven for each agent.
    """

    target: Target
    agent: str
    put: Put
    last: float = 0.0


class Sorter:
    """Says what a series tells, by its labels; None where it is of no round, or nobody's."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Told | None] = {}
        self._targets: dict[Target, Target] = {}

    def told(self, labels: Mapping[str, str]) -> Told | None:
        """Return what a series of these labels tells."""
        key = (*labels, *labels.values())
        try:
            return self._known[key]
        except KeyError:
            told = self._known[key] = self._with_one_target(_told(labels))
            return told

    def _with_one_target(self, told: Told | None) -> Told | None:
        """Let all series of a target have one object for it: to compare two takes its time."""
        if told is not None:
            told.target = self._targets.setdefault(told.target, told.target)
        return told

    def all_told(self) -> Iterator[Told]:
        """Yield what each series tells that is remembered."""
        return (told for told in self._known.values() if told is not None)

    def forget(self, there: int) -> None:
        """Forget all, if far more series are remembered than there are."""
        if len(self._known) > 2 * there + _TO_SPARE:
            self._known.clear()
            self._targets.clear()


def _told(labels: Mapping[str, str]) -> Told | None:
    of_rounds = labels.get("upper_layer") == LAYER or labels.get("stat_scope") == STAT_SCOPE
    if not of_rounds or "instance" not in labels:
        return None
    return Told(target_of(labels), labels.get("agent_id", ""), _put(labels))


def _put(labels: Mapping[str, str]) -> Put:
    """Return where a series' value belongs; a round that was cancelled has measured nothing."""
    name, stage = labels.get("__name__", ""), labels.get("stage", "")
    if name == STAGE_COUNT and stage == WRITES:
        return _add_writes
    if labels.get("success") == "False":
        return _pass_over
    return _PUTS.get((name, stage)) or _PUTS.get((name, "")) or _pass_over


def _counter(name: CounterName) -> Put:
    def put(scrape: Scrape, value: float) -> None:
        scrape.counts[name] = value

    return put


def _add_writes(scrape: Scrape, value: float) -> None:
    scrape.writes = (scrape.writes or 0.0) + value


def _put_gathering(scrape: Scrape, value: float) -> None:
    scrape.gathering_s = value


def _put_writing(scrape: Scrape, value: float) -> None:
    scrape.writing_s = value


def _put_lasted(scrape: Scrape, value: float) -> None:
    scrape.lasted_s = value


def _pass_over(scrape: Scrape, value: float) -> None:
    """Keep nothing: the series tells only that there was a scrape."""


_PUTS: Mapping[tuple[str, str], Put] = {
    (STAGE_COUNT, "gather_measures"): _counter("gather_measures"),
    (STAGE_COUNT, "before_observe"): _counter("before_observe"),
    (STAGE_DURATION, "gather_measures"): _put_gathering,
    (STAGE_DURATION, WRITES): _put_writing,
    (DURATION_COUNT, ""): _counter("durations"),
    (DURATION_SUM, ""): _put_lasted,
    (SUCCESS_COUNT, ""): _counter("successes"),
}
"""Where the series of a name and a stage belongs."""
