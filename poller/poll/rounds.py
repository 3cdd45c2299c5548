"""The clocks of all exporters: raw samples sorted by target and scrape, and fed to theirs.

An agent measures in rounds, and everything it writes follows from its last two. Pure state; the
rules are the format description's, section "Rounds".
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from poller.format import numbers
from poller.poll.arrivals import Step
from poller.poll.exporter import Exporter, ExporterState, Scrape
from poller.prometheus.answers import Series
from poller.prometheus.round_queries import (
    DURATION_COUNT,
    DURATION_SUM,
    STAGE_COUNT,
    STAGE_DURATION,
    SUCCESS_COUNT,
    WRITES,
)
from poller.values import Stamp

Identity = frozenset[tuple[str, str]]
_NOT_THE_TARGETS = frozenset(
    ("__name__", "stage", "upper_layer", "success", "stat_scope", "agent_id", "kernel_id",
     "session_id", "user_id", "project_id", "container_metric_name", "value_type")
)  # fmt: skip


def target_of(labels: Mapping[str, str]) -> Identity:
    """Return the labels that the scrape gave a series: what it has in common with its target."""
    return frozenset(item for item in labels.items() if item[0] not in _NOT_THE_TARGETS)


class Rounds:
    """Every exporter's clock, by its target's labels; fed with raw samples of their counters."""

    def __init__(self) -> None:
        self.exporters: dict[Identity, Exporter] = {}
        self.at: float | None = None
        self._of_instance: dict[str, list[Exporter]] = {}

    def see(self, answer: Iterable[Series], at: float) -> dict[str, list[Stamp]]:
        """Take what was asked at the time `at`; return the new rounds of each exporter, in order.

        Scrapes that were seen before are passed over.
        """
        new: dict[str, list[Stamp]] = {}
        for identity, counters in _by_target(answer).items():
            exporter = self._exporter(identity)
            scrapes = _scrapes(counters)
            for stamp_at in sorted(scrapes):
                if exporter.scraped is None or stamp_at > exporter.scraped:
                    stamp = exporter.see(stamp_at, scrapes[stamp_at])
                    if stamp is not None:
                        new.setdefault(exporter.instance, []).append(stamp)
            for series in counters:
                exporter.agent = series.metric.get("agent_id") or exporter.agent
        self.at = at
        return new

    def _exporter(self, identity: Identity) -> Exporter:
        exporter = self.exporters.get(identity)
        if exporter is None:
            instance = dict(identity)["instance"]
            exporter = self.exporters[identity] = Exporter(instance)
            self._of_instance.setdefault(instance, []).append(exporter)
        return exporter

    def of(self, instance: str) -> Exporter | None:
        """Return the clock of an exporter; of several (replicas, restarts) the newest."""
        there = self._of_instance.get(instance)
        if not there:
            return None
        if len(there) == 1:
            return there[0]
        return max(there, key=lambda one: one.newest)

    def stamps(self, scraped_after: float) -> dict[str, Stamp]:
        """Return the round that the newest scrape of every exporter saw that is scraped still."""
        found = {}
        for instance in self._of_instance:
            exporter = self.of(instance)
            if exporter is None or (exporter.scraped or 0.0) <= scraped_after:
                continue
            stamp = exporter.stamp
            if stamp is not None:
                found[instance] = stamp
        return found

    def step(self, before: Stamp, after: Stamp) -> Step | None:
        """Return how far apart two measurements of one exporter are; None: it began anew."""
        exporter = self.of(after.instance)
        return exporter.step(before, after) if exporter is not None else None

    def states(self) -> list[ExporterState]:
        """Return what to tell of every exporter, in the order of their names."""
        there = (self.of(instance) for instance in sorted(self._of_instance))
        latest = self._latest
        return [exporter.state(latest) for exporter in there if exporter is not None]

    @property
    def _latest(self) -> float:
        """The time of the newest scrape of all; 0 if there is none."""
        return max((one.scraped or 0.0 for one in self.exporters.values()), default=0.0)

    @property
    def scrape_s(self) -> float | None:
        """How far apart the scrapes of most exporters are, in seconds."""
        found = [one.scrape_s for one in self.exporters.values() if one.scrape_s is not None]
        return statistics.median(found) if found else None

    def lag_s(self, at: float) -> float | None:
        """Return how far the newest scrape of all is behind a time, in seconds."""
        latest = self._latest
        return at - latest if latest else None

    def living(self) -> set[str]:
        """Return the instances that count successes alone, and did so lately: a sign of life."""
        there = (self.of(instance) for instance in self._of_instance)
        return {one.instance for one in there if one is not None and one.lives}

    def stalled(self) -> set[str]:
        """Return the instances that answer while their rounds stand still."""
        there = (self.of(instance) for instance in self._of_instance)
        return {one.instance for one in there if one is not None and one.stalled}

    def forget(self, before: float) -> None:
        """Drop exporters that were last scraped before that time."""
        gone = [key for key, one in self.exporters.items() if (one.scraped or 0.0) < before]
        for identity in gone:
            exporter = self.exporters.pop(identity)
            there = self._of_instance[exporter.instance]
            there.remove(exporter)
            if not there:
                del self._of_instance[exporter.instance]


def _by_target(answer: Iterable[Series]) -> dict[Identity, list[Series]]:
    """Sort series by target; without an instance it cannot be known whose rounds they are."""
    found: dict[Identity, list[Series]] = {}
    for series in answer:
        if "instance" in series.metric:
            found.setdefault(target_of(series.metric), []).append(series)
    return found


def _scrapes(counters: Iterable[Series]) -> dict[float, Scrape]:
    """Sort one target's raw samples by scrape: those of one scrape carry one timestamp."""
    scrapes: dict[float, Scrape] = {}
    for series in counters:
        for at, text in series.values:
            if numbers.fault(text) is None:
                _put(scrapes.setdefault(at, Scrape()), series.metric, float(text))
    return scrapes


def _put(scrape: Scrape, labels: Mapping[str, str], value: float) -> None:
    name, stage = labels.get("__name__"), labels.get("stage")
    cancelled = labels.get("success") == "False"
    if name == STAGE_COUNT and stage == WRITES:
        scrape.writes = (scrape.writes or 0.0) + value
    elif cancelled:
        return
    elif name == STAGE_COUNT and stage == "gather_measures":
        scrape.counts["gather_measures"] = value
    elif name == STAGE_COUNT and stage == "before_observe":
        scrape.counts["before_observe"] = value
    elif name == STAGE_DURATION and stage == "gather_measures":
        scrape.gathering_s = value
    elif name == DURATION_COUNT:
        scrape.counts["durations"] = value
    elif name == DURATION_SUM:
        scrape.lasted_s = value
    elif name == SUCCESS_COUNT:
        scrape.counts["successes"] = value


def newest_scrapes(answer: Iterable[Series]) -> dict[Identity, float]:
    """Return the time of the newest scrape of each series' target."""
    return {
        identity: max(series.values[-1][0] for series in counters if series.values)
        for identity, counters in _by_target(answer).items()
        if any(series.values for series in counters)
    }
