"""What an instant query cannot know: rates, first values, life-long statistics. Pure state.

Every cycle feeds it a batch, and each measurement counts once. What happened before the poller
looked, or while it could not, is owed: it is backfilled once per kernel, from the key that is
already there (`recall_key`) and from Prometheus (`recall_life`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from poller.format.catalog import ESSENTIAL, Catalog, Metric
from poller.poll import rates
from poller.poll.rounds import Rounds, Step
from poller.poll.state import KernelState, MetricState
from poller.values import (
    Batch,
    Glimpse,
    Life,
    Observation,
    Owed,
    Past,
    Reading,
    Remembered,
    Stamp,
)

_PORTION = 1000
"""Kernels that are taken before the event loop may have its turn."""
_TOGETHER = 2
"""So many kernels of an agent do not fall idle in one and the same round: a plugin failed."""


@dataclass(slots=True)
class Fed:
    """What a batch brought: kernels that were measured, vanished, or must wait for the next."""

    measured: set[str] = field(default_factory=set)
    vanished: set[str] = field(default_factory=set)
    mixed: set[str] = field(default_factory=set)


class History:
    """All kernels that live now. `time` is the evaluation time of the last batch fed.

    `owing` are the kernels of which something is still to be backfilled, `stamps` the round that
    each exporter was last read in, `living` the kernels of each exporter's last answer, `standing`
    the plugins (exporter, name) that fail while the others of their agent measure on.
    """

    def __init__(self, catalog: Catalog, lookback_s: float) -> None:
        self.catalog = catalog
        self.time: float | None = None
        self.kernels: dict[str, KernelState] = {}
        self.owing: set[str] = set()
        self.stamps: dict[str, Stamp] = {}
        self.living: dict[str, set[str]] = {}
        self.roundless: frozenset[str] = frozenset()
        self.standing: set[tuple[str, str]] = set()
        self._movers: dict[tuple[str, str], int] = {}
        self._plugins = _Plugins(catalog)
        self._lookback_s = lookback_s

    @property
    def active(self) -> int:
        """How many kernels the exporters' last answers held."""
        return sum(map(len, self.living.values()))

    def feed(self, batch: Batch, rounds: Rounds) -> Fed:
        """Take one batch; kernels unseen for longer than the lookback are forgotten."""
        fed = Fed()
        for _ in self.feeding(batch, rounds, fed):
            pass
        return fed

    def feeding(self, batch: Batch, rounds: Rounds, fed: Fed) -> Iterator[None]:
        """Do the same in portions: the caller may see to something else after each."""
        facts = _Facts(self.catalog, self.time, batch.time)
        steps = _Steps(rounds)
        for glimpse in batch.glimpses:
            self._take_glimpse(glimpse, facts, steps)
        self._find_standing(batch)
        for place, (kernel_id, observation) in enumerate(batch.observations.items()):
            if batch.instances.get(kernel_id) in batch.mixed:
                fed.mixed.add(kernel_id)
            elif observation:
                self._take_kernel(kernel_id, observation, batch, facts, steps, fed)
            if place % _PORTION == _PORTION - 1:
                yield
        self._note_living(batch, fed)
        known = self.stamps if batch.asked is not None else {}
        kept = {name: self.stamps[name] for name in batch.mixed if name in self.stamps}
        self.stamps = {**known, **kept, **batch.stamps}
        self.time = batch.time
        self._forget(batch.time - self._lookback_s)

    def _take_kernel(
        self,
        kernel_id: str,
        observation: Observation,
        batch: Batch,
        facts: _Facts,
        steps: _Steps,
        fed: Fed,
    ) -> None:
        stamp = batch.stamp_of(kernel_id)
        kernel = self.kernels.get(kernel_id)
        newborn = kernel is None and self._is_followed(stamp, steps)
        if kernel is None:
            kernel = self.kernels[kernel_id] = KernelState(batch.time)
        if newborn:
            kernel.judged, kernel.moved = True, batch.time
        instance = batch.instances.get(kernel_id, kernel.instance)
        if (stamp.instance if stamp else "") in batch.gaps:
            _owe_gap(kernel, self.time, batch.time)
            self.owing.add(kernel_id)
        if stamp is None or kernel.stamp is None or stamp.number != kernel.stamp.number:
            fed.measured.add(kernel_id)
        kernel.agent = batch.agents.get(kernel_id, kernel.agent)
        kernel.instance = instance
        kernel.weight = steps.weight(instance)
        kernel.samples = batch.samples.get(kernel_id, kernel.samples)
        kernel.window = batch.window_of(instance) or kernel.window
        taking = _Taking(
            stamp,
            facts,
            steps,
            batch.time,
            newborn=newborn or (stamp is not None and kernel.stamp is not None),
            counts=not (stamp is None and batch.glimpses),
            standing={plugin for place, plugin in self.standing if place == instance},
        )
        if taking.take(kernel, observation):
            self.owing.add(kernel_id)

    def _is_followed(self, stamp: Stamp | None, steps: _Steps) -> bool:
        """Whether the exporter was read a moment ago: what it tells of now is new there."""
        before = self.stamps.get(stamp.instance) if stamp is not None else None
        return before is not None and steps.step(before, stamp) is not None

    def _take_glimpse(self, glimpse: Glimpse, facts: _Facts, steps: _Steps) -> None:
        """Take what one scrape between two batches saw of kernels that are known."""
        for kernel_id, values in glimpse.values.items():
            kernel = self.kernels.get(kernel_id)
            if kernel is None:
                continue
            for name, text in values.items():
                kept = kernel.metrics.get(name)
                if kept is not None and (glimpse.stamp is None or kept.stamp is not None):
                    _measure(kept, text, facts[name], steps.step(kept.stamp, glimpse.stamp))
                    kept.stamp = glimpse.stamp

    def _find_standing(self, batch: Batch) -> None:
        """Find the plugins of which nothing moves on an agent where several kernels just did.

        A hanging or failing plugin leaves its gauges as they were, and the rounds go on.
        """
        moved: dict[tuple[str, str], int] = {}
        for kernel_id, observation in batch.observations.items():
            kernel, stamp = self.kernels.get(kernel_id), batch.stamp_of(kernel_id)
            if kernel is not None and stamp is not None and stamp != kernel.stamp:
                self._note_moved(kernel, observation, stamp.instance, moved)
        for place, movers in moved.items():
            if not movers and self._movers.get(place, 0) >= _TOGETHER:
                self.standing.add(place)
            else:
                self.standing.discard(place)
                self._movers[place] = movers

    def _note_moved(
        self,
        kernel: KernelState,
        observation: Observation,
        instance: str,
        moved: dict[tuple[str, str], int],
    ) -> None:
        """Count a kernel for each plugin of which something moved there, as far as it matters."""
        plugins: dict[tuple[str, str], bool] = {}
        for name, reading in observation.items():
            place = (instance, self._plugins[name])
            if plugins.get(place) or moved.get(place, 0) >= _TOGETHER:
                continue
            kept = kernel.metrics.get(name)
            if kept is not None:
                plugins[place] = kept.current != reading.current
        for place, changed in plugins.items():
            moved[place] = moved.get(place, 0) + changed

    def _note_living(self, batch: Batch, fed: Fed) -> None:
        there: dict[str, set[str]] = {}
        for kernel_id, observation in batch.observations.items():
            if observation:
                there.setdefault(batch.instances.get(kernel_id, ""), set()).add(kernel_id)
        before = self.living
        if batch.asked is None:
            gone = set(before)
            self.living = there
        else:
            asked = set(batch.asked)
            if batch.census is not None:  # an exporter that is not in it is gone
                asked |= before.keys() - batch.census.keys()
            gone = asked & before.keys()
            self.living = before | {name: there.get(name, set()) for name in asked}
        self.living = {name: kernels for name, kernels in self.living.items() if kernels}
        self.roundless = frozenset(
            name
            for name in self.living
            if name not in batch.stamps and name not in self.stamps and name not in batch.mixed
        )
        fed.vanished = {kernel for name in gone for kernel in before[name]}
        fed.vanished -= batch.observations.keys()

    def _forget(self, before: float) -> None:
        gone = [name for name, kernel in self.kernels.items() if kernel.seen < before]
        for name in gone:
            del self.kernels[name]
            self.owing.discard(name)

    def forget_all(self) -> None:
        """Begin anew, as at a start."""
        self.time = None
        for memory in (self.kernels, self.owing, self.living, self.standing, self._movers):
            memory.clear()
        self.stamps, self.roundless = {}, frozenset()

    def recall_key(
        self,
        kernel_id: str,
        told: Mapping[str, Remembered],
        keep_missing: bool = True,
        fresh: bool = False,
    ) -> None:
        """Learn what only the key knows, by metric; nothing if there is no valid key.

        `keep_missing`: a metric that the key has and Prometheus has not stays, as it was.
        `fresh`: the key is of the last few rounds, so its rates go before those over a window.
        """
        kernel = self.kernels[kernel_id]
        kernel.key_read = True
        for name, remembered in told.items():
            kept = kernel.metrics.get(name)
            metric = self.catalog[name]
            if kept is not None:
                _recall_fields(kept, metric, remembered)
                stands_in = kept.by_window and kept.stamp is not None
                nearer = kept.rate is None or (stands_in and (fresh or kept.owed is None))
                if nearer and remembered.rate is not None:
                    kept.rate, kept.by_window = remembered.rate, False
            elif keep_missing and (made := _from_key(metric, remembered)) is not None:
                kernel.metrics[name] = made
        kernel.reorder()

    def recall_life(self, kernel_id: str, life: Life, owed: Owed) -> None:
        """Learn what Prometheus tells of the stretch that was owed."""
        kernel = self.kernels.get(kernel_id)
        if kernel is None:
            return
        if not kernel.judged:
            kernel.judged, kernel.moved = True, life.moved
        if owed.start is None:
            kernel.born = life.born
            _fit_rates(kernel, self.catalog, owed.end)
        for name, kept in kernel.metrics.items():
            if kept.owed == owed:
                kept.backfill(life.metrics.get(name, Past()), life.older, kernel.weight)
                kept.owed, kept.known = None, True
        kernel.failures = 0
        self._settle(kernel_id, kernel)

    def give_up(self, kernel_id: str, attempts: int) -> bool:
        """Note a failed backfill; after `attempts` the kernel goes on with what is known."""
        kernel = self.kernels.get(kernel_id)
        if kernel is None:
            return False
        kernel.failures += 1
        if kernel.failures < attempts:
            return False
        for kept in kernel.metrics.values():
            if kept.owed is not None:
                kept.backfill(Past(), older=True)
                kept.owed, kept.known = None, True
        if not kernel.judged:
            kernel.judged, kernel.moved = True, kernel.seen
        self._settle(kernel_id, kernel)
        return True

    def _settle(self, kernel_id: str, kernel: KernelState) -> None:
        kernel.reorder()
        if kernel.owing is None:
            self.owing.discard(kernel_id)


def _fit_rates(kernel: KernelState, catalog: Catalog, at: float) -> None:
    """Judge the rates that Prometheus gave, now that it is known how long the kernel has lived."""
    age_s = None if kernel.born is None else at - kernel.born
    for name, kept in kernel.metrics.items():
        if not catalog[name].needs_rate:
            continue
        if kept.by_window and kernel.window is not None:
            kept.rate = rates.stand_in(kept.rate, kernel.samples, kernel.window, age_s)
        elif kept.rate is None and age_s is not None:
            kept.rate = "0"  # what the agent writes at a first measurement
        kept.by_window = False


class _Fact(NamedTuple):
    """What is kept of a metric: life-long statistics, a rate; whether it `counts` up."""

    maximum: bool
    minimum: bool
    mean: bool
    rate: bool
    counts: bool
    plugin: str


class _Facts(dict[str, _Fact]):
    """What each metric is, looked up once a batch. `since` is the time of the batch before."""

    def __init__(self, catalog: Catalog, since: float | None, at: float) -> None:
        super().__init__()
        self.since = since
        self.at = at
        self._catalog = catalog

    def __missing__(self, name: str) -> _Fact:
        metric = self._catalog[name]
        maximum, minimum, mean = "max" in metric.stats, "min" in metric.stats, metric.needs_mean
        counts = metric.cumulative and (maximum or minimum or mean)
        fact = _Fact(maximum, minimum, mean, metric.needs_rate, counts, metric.plugin)
        self[name] = fact
        return fact


class _Plugins(dict[str, str]):
    """Which plugin measures each metric, looked up once."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__()
        self._catalog = catalog

    def __missing__(self, name: str) -> str:
        plugin = self[name] = self._catalog[name].plugin
        return plugin


class _Steps:
    """How far apart measurements are, worked out once for all kernels of an exporter."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._steps: dict[tuple[Stamp, Stamp], Step | None] = {}
        self._last: tuple[Stamp | None, Stamp | None, Step | None] = (None, None, None)
        self._weights: dict[str, float] = {}

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
        """Return how many measurements a sample of an exporter stands for."""
        weight = self._weights.get(instance)
        if weight is None:
            clock = self._rounds.of(instance)
            period_s = clock.period_s if clock is not None else None
            weight = clock.scrape_s / period_s if clock and clock.scrape_s and period_s else 1.0
            self._weights[instance] = weight
        return weight


class _Taking(NamedTuple):
    """How the readings of one kernel are taken.

    `newborn`: its exporter was read before, so what is new now was measured for the first time.
    `counts`: the current values are not among the glimpses.
    """

    stamp: Stamp | None
    facts: _Facts
    steps: _Steps
    at: float
    newborn: bool
    counts: bool
    standing: set[str]

    def take(self, kernel: KernelState, observation: Observation) -> bool:
        """Take one kernel's part of a batch; whether something of it is owed since then.

        Unknown is not zero: where a batch is silent on a capacity or a rate, the last one stays.
        """
        came = moved = False
        metrics = kernel.metrics
        for name, reading in observation.items():
            kept, fact = metrics.get(name), self.facts[name]
            if kept is None:
                metrics[name] = kept = self._first(reading, fact)
                came = came or kept.owed is not None
                kernel.reorder()
                continue
            moved = moved or kept.current != reading.current
            came |= self._next(kernel, kept, reading, fact)
        kernel.complete = all(name in observation for name in ESSENTIAL)
        kernel.seen = self.at
        kernel.stamp = self.stamp
        if moved:
            kernel.moved, kernel.judged = self.at, True
        return came

    def _first(self, reading: Reading, fact: _Fact) -> MetricState:
        kept = MetricState(reading.current, self.stamp, capacity=reading.capacity, by_window=True)
        if fact.maximum or fact.minimum:
            kept.widen(reading.current)
        if self.newborn:
            kept.first, kept.known, kept.rate = reading.current, True, "0"
            kept.total, kept.count = float(reading.current), 1.0
        else:
            kept.owed, kept.rate = Owed(None, self.at), reading.rate
        return kept

    def _next(self, kernel: KernelState, kept: MetricState, reading: Reading, fact: _Fact) -> bool:
        if reading.capacity is not None:
            kept.capacity = reading.capacity
        if self.stamp is None:
            return self._without_rounds(kernel, kept, reading, fact)
        before, kept.stamp = kept.stamp, self.stamp
        if before is not None and before.number == self.stamp.number:
            return False
        if fact.plugin in self.standing:
            kept.stamp, kept.stood = before, True
            return False
        step = self.steps.step(before, self.stamp)
        unknown = kept.rate is None
        fell = fact.counts and float(reading.current) < float(kept.current)
        _measure(kept, reading.current, fact, step, owed=self._is_owed(kept))
        if step is None and kept.rate is None and reading.rate is not None:
            kept.rate = reading.rate
        if unknown and kept.rate is not None:
            kernel.reorder()
        if fell and (step is None or step.rounds > 1):
            kept.owed = kept.owed or Owed(self.facts.since, self.at)
            return True
        return False

    def _without_rounds(
        self, kernel: KernelState, kept: MetricState, reading: Reading, fact: _Fact
    ) -> bool:
        fell = fact.counts and float(reading.current) < float(kept.current)
        if self.counts:
            _measure(kept, reading.current, fact, None, owed=self._is_owed(kept))
        kept.current, kept.stamp = reading.current, None
        if fact.rate and kernel.window is not None:
            age_s = None if kernel.born is None else self.at - kernel.born
            rate = rates.stand_in(reading.rate, kernel.samples, kernel.window, age_s)
            if rate is not None:
                if kept.rate is None:
                    kernel.reorder()
                kept.rate = rate
        if fell:  # what it had reached before is to be looked up
            kept.owed = kept.owed or Owed(self.facts.since, self.at)
        return fell

    def _is_owed(self, kept: MetricState) -> bool:
        return kept.owed is not None and kept.owed.end == self.at


def _measure(
    kept: MetricState, text: str, fact: _Fact, step: Step | None, owed: bool = False
) -> None:
    """Let a metric take one more measurement; `owed`: its mean is counted with what is owed."""
    before, kept.current = kept.current, text
    if fact.maximum or fact.minimum:
        _widen(kept, text, fact)
    if fact.mean and not owed:
        _count(kept, float(before), float(text), step)
    if fact.rate and step is not None:
        kept.rate, kept.by_window = rates.between(before, text, step.elapsed_s), False
    kept.stood = False


def _widen(kept: MetricState, text: str, fact: _Fact) -> None:
    value = float(text)
    if fact.maximum and value > kept.highest:
        kept.highest, kept.maximum = value, text
    if fact.minimum and value < kept.lowest:
        kept.lowest, kept.minimum = value, text


def _count(kept: MetricState, before: float, value: float, step: Step | None) -> None:
    """Let the life-long mean take a measurement, and those before it that no scrape saw.

    They lie between the two ends, so the mean of both stands for each of them.
    """
    unseen = step.rounds - 1 if step is not None and not kept.stood else 0.0
    kept.total += value + unseen * (before + value) / 2
    kept.count += 1 + unseen


def _owe_gap(kernel: KernelState, since: float | None, until: float) -> None:
    """Let everything since the last batch be backfilled, and what was owed before with it."""
    for kept in kernel.metrics.values():
        if kept.owed is None:
            kept.owed = Owed(since, until)
        else:
            kept.owed = Owed(kept.owed.start, until)
            if kept.owed.start is None:
                kept.total = kept.count = 0.0


def _recall_fields(kept: MetricState, metric: Metric, told: Remembered) -> None:
    if kept.capacity is None and told.capacity is not None:
        kept.first = told.capacity
    if told.maximum is not None and float(told.maximum) > kept.highest:
        kept.highest, kept.maximum = float(told.maximum), told.maximum
    if told.minimum is not None and float(told.minimum) < kept.lowest:
        kept.lowest, kept.minimum = float(told.minimum), told.minimum
    if kept.owed is None:
        return  # we have counted everything ourselves
    kept.prior_average = told.average
    beside = {"max": told.maximum, "min": told.minimum, "avg": told.average, "sum": None}
    whole = all(beside.get(stat, "") is not None for stat in metric.stats)
    kept.known = whole and (kept.capacity or kept.first) is not None


def _from_key(metric: Metric, told: Remembered) -> MetricState | None:
    """Return the history of a metric that only the key has; it is not owed by Prometheus."""
    raw = told.raw if told.raw is not None else told.maximum
    if raw is None and metric.kind == "gauge":
        return None
    kept = MetricState(raw or "0", rate=told.rate or "0", known=True)
    _recall_fields(kept, metric, told)
    kept.prior_average = told.average
    if metric.capacity:
        kept.capacity = told.capacity
    return kept
