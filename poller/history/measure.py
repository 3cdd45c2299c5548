"""One measurement into a kernel's state: extremes, means, whether it changes the rate. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from poller.format.catalog import ESSENTIAL, Catalog
from poller.history.state import KernelState, MetricState
from poller.rounds import rates
from poller.rounds.arrivals import Step
from poller.rounds.rounds import Rounds
from poller.values import Observation, Owed, Reading, Stamp

_LONG_S = 300.0
"""Both ends of a longer time say nothing of a gauge in the rounds between that nobody saw, nor of
the last round's rate."""


class Fact(NamedTuple):
    """What is kept of a metric: life-long statistics, a rate, or nothing (`plain`).

    `counts`: it counts up, so that a value below the last is the first of another life.
    """

    maximum: bool
    minimum: bool
    mean: bool
    rate: bool
    plain: bool
    counts: bool
    plugin: str


class MetricFacts(dict[str, Fact]):
    """What each metric is, looked up once a batch. `since` is the time of the batch before."""

    def __init__(self, catalog: Catalog, since: float | None, at: float) -> None:
        super().__init__()
        self.since = since
        self.at = at
        self._catalog = catalog

    def __missing__(self, name: str) -> Fact:
        metric = self._catalog[name]
        maximum, minimum, mean = "max" in metric.stats, "min" in metric.stats, metric.needs_mean
        counts = metric.cumulative and (maximum or minimum or mean)
        plain = not metric.keeps_past
        fact = Fact(maximum, minimum, mean, metric.needs_rate, plain, counts, metric.plugin)
        self[name] = fact
        return fact


class Steps:
    """How far apart measurements are, worked out once for all kernels of an exporter.

    `seen` is the newest measurement of each exporter that was seen before those of a batch.
    """

    def __init__(self, rounds: Rounds, seen: Mapping[str, Stamp]) -> None:
        self._rounds = rounds
        self._seen = seen
        self._steps: dict[tuple[Stamp, Stamp], Step | None] = {}
        self._last: tuple[Stamp | None, Stamp | None, Step | None] = (None, None, None)
        self._weights: dict[str, float | None] = {}

    def step(self, before: Stamp | None, after: Stamp | None) -> Step | None:
        """Return the step between two measurements; None where it cannot be known."""
        last_before, last_after, step = self._last
        if before is last_before and after is last_after:  # all metrics of a kernel, mostly
            return step
        if before is None or after is None or before.instance != after.instance:
            return None
        pair = (before, after)
        if pair not in self._steps:
            self._steps[pair] = self._rounds.step(before, after)
        self._last = (before, after, self._steps[pair])
        return self._steps[pair]

    def weight(self, instance: str) -> float:
        """Return how many measurements a sample of an exporter stands for; 1 if not known."""
        if instance not in self._weights:
            clock = self._rounds.of(instance)
            self._weights[instance] = clock.weight if clock is not None else None
        return self._weights[instance] or 1.0

    def may_miss(self, stamp: Stamp) -> bool:
        """Whether there may have been a round before this one that nobody saw."""
        step = self.step(self._seen.get(stamp.instance), stamp)
        return step is None or step.rounds > 1

    def is_first(self, stamp: Stamp) -> bool:
        """Whether a round was seen by the first scrape after some that never came."""
        clock = self._rounds.of(stamp.instance)
        return clock is not None and clock.began == stamp.scraped

    def knows_weight(self, instance: str) -> bool:
        """Whether it is known how many measurements a sample of an exporter stands for."""
        self.weight(instance)
        return self._weights[instance] is not None


class Taking(NamedTuple):
    """How the readings of one kernel are taken.

    `newborn`: its exporter was read before, so what is new now was measured for the first time,
    unless it may have been in rounds that were `missed`: then it has no rate yet.
    `counts`: the current values were not counted before, nor are they among the glimpses.
    """

    stamp: Stamp | None
    facts: MetricFacts
    steps: Steps
    newborn: bool
    missed: bool
    counts: bool
    standing: set[str]

    def take(self, kernel: KernelState, observation: Observation) -> bool:
        """Take one kernel's part of a batch; whether something of it is owed since then.

        Unknown is not zero: where a batch is silent on a capacity or a rate, the last one stays.
        """
        came = moved = False
        metrics, facts, read_in = kernel.metrics, self.facts, kernel.stamp
        usual = self.steps.step(read_in, self.stamp)
        for name, reading in observation.items():
            kept, fact = metrics.get(name), facts[name]
            if kept is None:
                metrics[name] = kept = self._first(reading, fact)
                came = came or kept.owed is not None
                kernel.reorder()
                continue
            if kept.current != reading.current:
                moved = True
            if reading.capacity is not None:
                kept.capacity = reading.capacity
            if self.stamp is None:
                came |= self._without_rounds(kernel, kept, reading, fact)
            elif self.stamp.follows(kept.stamp):
                step = usual if kept.stamp is read_in else self.steps.step(kept.stamp, self.stamp)
                came |= self._next(kernel, kept, reading, fact, step)
        if len(observation) < len(metrics):
            for name in metrics.keys() - observation.keys():
                metrics[name].stood = True  # these rounds did not measure it
        kernel.lacks = tuple(name for name in ESSENTIAL if name not in observation)
        kernel.seen = self.facts.at
        kernel.stamp = self.stamp
        if moved:
            kernel.moved, kernel.judged = self.facts.at, True
        return came

    def _first(self, reading: Reading, fact: Fact) -> MetricState:
        kept = MetricState(reading.current, self.stamp, capacity=reading.capacity, by_window=True)
        if fact.maximum or fact.minimum:
            kept.widen(reading.current)
        if self.newborn:
            kept.first, kept.known = reading.current, True
            kept.rate = None if self.missed else 0.0
            kept.total, kept.count = float(reading.current), 1.0
        else:
            kept.owed, kept.rate = Owed(None, self.facts.at), _rate(reading)
        return kept

    def _next(
        self,
        kernel: KernelState,
        kept: MetricState,
        reading: Reading,
        fact: Fact,
        step: Step | None,
    ) -> bool:
        """Take the metric's next measurement, as far after its last one as `step` says."""
        if fact.plugin in self.standing:
            kept.stood = True
            if fact.plain:
                kept.take(reading.current)  # no glimpse told it what was measured last
            return False
        kept.stamp = self.stamp
        anew = fact.mean and self._owes_all(kernel, kept)
        missed = fact.counts and (step is None or step.rounds > 1) and _fell(kept, reading)
        if missed:  # what it had reached before is to be looked up
            kept.owed = kept.owed or Owed(self.facts.since, self.facts.at)
        known = kept.rate is not None
        measure(kept, reading.current, fact, step, self.facts.at)
        if step is None and not known and reading.rate is not None:
            kept.rate = float(reading.rate)
        if fact.rate and _is_long(step) and step == self.steps.step(kernel.stamp, self.stamp):
            kept.rate = None  # of an outage, not of a round: who was idle in it may be busy now
        if known != (kept.rate is not None):
            kernel.reorder()
        return missed or anew

    def _owes_all(self, kernel: KernelState, kept: MetricState) -> bool:
        """Let a metric's whole past be asked for where what is kept of it cannot be gone on with.

        Either only its key told of it, or its scrapes were counted, and it is known by now how many
        measurements each of them stands for.
        """
        if kept.owed is not None or not (kept.by_scrape or kept.prior_average is not None):
            return False
        if kept.by_scrape and self.stamp and not self.steps.knows_weight(kernel.instance):
            return False
        kept.by_scrape = False
        kept.owe_all(self.facts.at)
        return True

    def _without_rounds(
        self, kernel: KernelState, kept: MetricState, reading: Reading, fact: Fact
    ) -> bool:
        fell = fact.counts and _fell(kept, reading)
        if fell:
            kept.owed = kept.owed or Owed(self.facts.since, self.facts.at)
        anew = fact.mean and not kept.by_scrape and self._owes_all(kernel, kept)
        kept.by_scrape = fact.mean
        if self.counts:
            measure(kept, reading.current, fact, None, self.facts.at)
        elif kept.current != reading.current:
            kept.take(reading.current)
        kept.stamp = None
        if fact.rate and kernel.window is not None:
            age_s = None if kernel.born is None else self.facts.at - kernel.born
            rate = rates.stand_in(_rate(reading), kernel.samples, kernel.window, age_s)
            if rate is not None:
                if kept.rate is None:
                    kernel.reorder()
                kept.rate = rate
        return fell or anew


def _fell(kept: MetricState, reading: Reading) -> bool:
    """Whether a counter is lower than it was: the kernel began anew."""
    return float(reading.current) < kept.value


def _rate(reading: Reading) -> float | None:
    return None if reading.rate is None else float(reading.rate)


def measure(
    kept: MetricState, text: str, fact: Fact, step: Step | None, at: float | None = None
) -> None:
    """Let a metric take one more measurement, seen by the batch of the time `at` or before it.

    Where something is owed up to that batch, the mean is counted with it. A counter that
    began anew in one of several rounds keeps its rate: the agent wrote 0 in that one alone.
    """
    before, value = kept.take(text)
    if fact.plain:
        return
    if fact.maximum and value > kept.highest:
        kept.highest, kept.maximum = value, text
    if fact.minimum and value < kept.lowest:
        kept.lowest, kept.minimum = value, text
    unseen = step.rounds - 1 if step is not None and not kept.stood else 0.0
    if fact.mean and (kept.owed is None or kept.owed.end != at):
        between = unseen if fact.counts or not _is_long(step) else 0.0
        kept.total += with_unseen(before, value, between) if between else value
        kept.count += 1 + between
    fell_unseen = bool(unseen) and value < before
    # Not sure is better than a false 0.
    if fact.rate and step is not None and not fell_unseen and (step.sure or kept.rate == 0.0):
        kept.rate, kept.by_window = rates.between(before, value, step.elapsed_s), False
    kept.stood = False


def _is_long(step: Step | None) -> bool:
    """Whether a step leads over rounds that nobody saw for so long that its ends do not tell."""
    return step is not None and step.rounds > 1 and step.elapsed_s > _LONG_S


def with_unseen(before: float, value: float, unseen: float) -> float:
    """Return a measurement and so many unseen ones since the last, added up.

    They lie between the two ends, so the mean of both stands for each of them.
    """
    return value + unseen * (before + value) / 2
