"""What Prometheus holds: metrics, and how often exporters without rounds measure.

The usual metrics are presumed, and batches tell which there are: to count the series of a large
cluster would take longer than a batch. Intervals are asked now and then, not in the batch.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from poller.format import numbers
from poller.format.catalog import INTRINSIC, metric_named
from poller.prometheus import lookup_queries
from poller.prometheus.answers import Sample, Series
from poller.prometheus.client import Client
from poller.prometheus.selectors import Scope
from poller.rounds import rates
from poller.values import Survey

FORGOTTEN_S = 600.0
TIMED_AGAIN_S = 60.0
INCOMPLETE_AGAIN_S = 15.0
_BUSIEST = 20
_PAUSE = 3.0
"""A round that took so many times the usual was no round but a pause."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the settings say instead of what would be found; None: find out. In seconds."""

    window_s: float | None = None
    measure_s: float | None = None


def scrape_interval(series: Iterable[Series]) -> float | None:
    """Return the scrape interval of most series, in seconds: the longest of their medians."""
    medians = []
    for one in series:
        stamps = [sample.at for sample in one.values]
        steps = [later - earlier for earlier, later in zip(stamps, stamps[1:], strict=False)]
        if len(steps) > 1:
            medians.append(statistics.median(steps))
    return max(medians, default=None)


def _changes(values: Sequence[Sample]) -> list[tuple[float, float]]:
    """Return (time, value) of each sample that differs from the one before it."""
    samples = [(one.at, float(one.text)) for one in values if numbers.number(one.text) is not None]
    return [
        later
        for earlier, later in zip(samples, samples[1:], strict=False)
        if later[1] != earlier[1]
    ]


def measure_interval(rounds: Iterable[Series]) -> float | None:
    """Return the agents' measurement interval in seconds, from the counters of their rounds.

    The slowest agent decides; one that stands still tells nothing.
    """
    found = [_round_seconds(_since_restart(_changes(one.values))) for one in rounds]
    return max((seconds for seconds in found if seconds is not None), default=None)


def _since_restart(changes: list[tuple[float, float]]) -> list[tuple[float, float]]:
    for place in range(len(changes) - 1, 0, -1):
        if changes[place][1] < changes[place - 1][1]:
            return changes[place:]
    return changes


def _round_seconds(changes: list[tuple[float, float]]) -> float | None:
    """Return the seconds a round takes. A pause of the agent or of its scrapes is left out."""
    steps = [
        (later[0] - earlier[0], later[1] - earlier[1])
        for earlier, later in zip(changes, changes[1:], strict=False)
    ]
    if not steps:
        return None
    usual = statistics.median(seconds / rounds for seconds, rounds in steps)
    kept = [step for step in steps if step[0] / step[1] <= _PAUSE * usual]
    rounds_kept = sum(rounds for _, rounds in kept)
    return sum(seconds for seconds, _ in kept) / rounds_kept if rounds_kept > 0 else None


def change_interval(series: Iterable[Series]) -> float | None:
    """Return the measurement interval in seconds, from how often busy kernels' values change.

    Of each agent the kernel that changes most often tells, since an idle one need not change
    at every measurement.
    """
    by_agent: dict[str, float] = {}
    for one in series:
        changes = _changes(one.values)
        if len(changes) > 2:
            agent = one.metric.get("agent_id", "")
            seconds = (changes[-1][0] - changes[0][0]) / (len(changes) - 1)
            by_agent[agent] = min(seconds, by_agent.get(agent, seconds))
    return statistics.median(by_agent.values()) if by_agent else None


class Surveyor:
    """Keeps the last survey, learns from batches, and looks for intervals where it must."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.last: Survey | None = None
        self._presumed = True
        self._met: dict[str, float] = {}
        self._found_s: tuple[float | None, float | None] = (None, None)

    async def survey(self, client: Client, at: float, roundless: Collection[str]) -> Survey:
        """Return what there is. `roundless` are the exporters that count no rounds."""
        survey = self.last
        if survey is None:
            known = {name: metric_named(name).capacity for name in INTRINSIC}
            survey = Survey(known, None, None, timed=False, time=at)
        if roundless and _is_due(survey, at):
            found_s = await self._intervals(client, at, roundless)
            # After an outage there are too few samples to tell, and agents have not changed.
            self._found_s = (found_s[0] or self._found_s[0], found_s[1] or self._found_s[1])
            scrape_s, measure_s = self._found_s
            survey = Survey(survey.metrics, scrape_s, measure_s, timed=True, time=at)
        elif not roundless and survey.timed:
            survey = Survey(survey.metrics, None, None, timed=False, time=at)
        self.last = survey
        return survey

    def learn(self, found: Mapping[str, bool], everything: bool, at: float) -> None:
        """Take which metrics a batch met, with or without a capacity; `everything` was asked.

        What no batch has met for long is forgotten. It would be met again without being known.
        """
        if self.last is None or not found:
            return
        known = {} if self._presumed and everything else self.last.metrics
        self._presumed = self._presumed and not everything
        self._met |= dict.fromkeys(found, at)
        metrics = {
            name: known.get(name, False) or found.get(name, False)
            for name in {**known, **found}
            if at - self._met.setdefault(name, at) <= FORGOTTEN_S
        }
        self.last = replace(self.last, metrics=metrics)

    async def _intervals(
        self, client: Client, at: float, roundless: Collection[str]
    ) -> tuple[float | None, float | None]:
        """Return the intervals of exporters that count no rounds; others may have shorter ones."""
        successes = _of(roundless, await client.matrix(lookup_queries.successes_query(), at))
        scrape_s, measure_s = scrape_interval(successes), measure_interval(successes)
        if scrape_s is None or measure_s is None:
            scope = Scope().on_each(roundless)[0]  # the busiest of some suffice
            samples = await self._measurements(client, at, scope)
            scrape_s = scrape_s or scrape_interval(samples)
            measure_s = measure_s or change_interval(samples)
        return rates.likely(scrape_s), self.given.measure_s or rates.likely(measure_s)

    async def _measurements(self, client: Client, at: float, scope: Scope) -> list[Series]:
        busiest = await client.vector(lookup_queries.busiest_query(_BUSIEST, scope), at)
        ids = tuple(row.metric.kernel_id for row in busiest if row.metric.kernel_id)
        if not ids:
            return []
        scope = replace(scope, kernels=ids)
        return await client.matrix(lookup_queries.measurements_query(scope), at)


def _of(exporters: Collection[str], series: Iterable[Series]) -> list[Series]:
    return [one for one in series if one.metric.get("instance", "") in exporters]


def _is_due(survey: Survey, at: float) -> bool:
    """Whether it is time to look for intervals again: soon where none was found."""
    every_s = TIMED_AGAIN_S if survey.scrape_s else INCOMPLETE_AGAIN_S
    return not survey.timed or not 0 <= at - survey.time < every_s
