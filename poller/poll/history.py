"""What an instant query cannot know: first values and life-long statistics. Pure state.

Every cycle feeds it a batch. What happened before the poller looked, or while it could not,
is owed: it is recalled once per kernel, from the key that is already there (`recall_key`)
and from Prometheus (`recall_life`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from poller.format.catalog import ESSENTIAL, Catalog, Metric
from poller.poll.state import KernelHistory, MetricHistory
from poller.values import Batch, Life, Observation, Owed, Past, Reading, Remembered

_PORTION = 1000
"""Kernels that are taken before the event loop may have its turn."""


class History:
    """All kernels that live now. `time` is the evaluation time of the last batch fed.

    `owing` are the kernels of which something is still to be recalled.
    """

    def __init__(self, catalog: Catalog, lookback_s: float) -> None:
        self.catalog = catalog
        self.time: float | None = None
        self.kernels: dict[str, KernelHistory] = {}
        self.owing: set[str] = set()
        self._lookback_s = lookback_s

    def feed(self, batch: Batch) -> None:
        """Take one batch; kernels unseen for longer than the lookback are forgotten."""
        for _ in self.feeding(batch):
            pass

    def feeding(self, batch: Batch) -> Iterator[None]:
        """Do the same in portions: the caller may see to something else after each."""
        facts = _Facts(self.catalog, self.time)
        for place, (kernel_id, observation) in enumerate(batch.observations.items()):
            kernel = self.kernels.get(kernel_id)
            if kernel is None:
                if not observation:
                    continue
                kernel = self.kernels[kernel_id] = KernelHistory(batch.time)
            if batch.coverage == "gap":
                _owe_gap(kernel, self.time, batch.time)
                self.owing.add(kernel_id)
            kernel.agent = batch.agents.get(kernel_id, kernel.agent)
            if _take_kernel(kernel, observation, batch, batch.samples.get(kernel_id, 0.0), facts):
                self.owing.add(kernel_id)
            if place % _PORTION == _PORTION - 1:
                yield
        self.time = batch.time
        self._forget(batch.time - self._lookback_s)

    def _forget(self, before: float) -> None:
        gone = [name for name, kernel in self.kernels.items() if kernel.seen < before]
        for name in gone:
            del self.kernels[name]
            self.owing.discard(name)

    def recall_key(
        self, kernel_id: str, told: Mapping[str, Remembered], keep_missing: bool = True
    ) -> None:
        """Learn what only the key knows, by metric; nothing if there is no valid key.

        `keep_missing`: a metric that the key has and Prometheus has not stays, as it was.
        """
        kernel = self.kernels[kernel_id]
        kernel.key_read = True
        for name, remembered in told.items():
            kept = kernel.metrics.get(name)
            metric = self.catalog[name]
            if kept is not None:
                _recall_fields(kept, metric, remembered)
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
        for name, kept in kernel.metrics.items():
            if kept.owed == owed:
                kept.recall(life.metrics.get(name, Past()), life.older)
                kept.owed, kept.known = None, True
        kernel.failures = 0
        self._settle(kernel_id, kernel)

    def give_up(self, kernel_id: str, attempts: int) -> bool:
        """Note a failed recall; after `attempts` the kernel goes on with what is known."""
        kernel = self.kernels.get(kernel_id)
        if kernel is None:
            return False
        kernel.failures += 1
        if kernel.failures < attempts:
            return False
        for kept in kernel.metrics.values():
            if kept.owed is not None:
                kept.recall(Past(), older=True)
                kept.owed, kept.known = None, True
        if not kernel.judged:
            kernel.judged, kernel.moved = True, kernel.seen
        self._settle(kernel_id, kernel)
        return True

    def _settle(self, kernel_id: str, kernel: KernelHistory) -> None:
        kernel.reorder()
        if kernel.owing is None:
            self.owing.discard(kernel_id)


class _Fact(NamedTuple):
    """Which life-long statistics a metric carries, and whether it `counts` up."""

    maximum: bool
    minimum: bool
    mean: bool
    counts: bool


class _Facts(dict[str, _Fact]):
    """What each metric is, looked up once a batch. `since` is the time of the batch before."""

    def __init__(self, catalog: Catalog, since: float | None) -> None:
        super().__init__()
        self.since = since
        self._catalog = catalog

    def __missing__(self, name: str) -> _Fact:
        metric = self._catalog[name]
        maximum, minimum = "max" in metric.stats, "min" in metric.stats
        kept = maximum or minimum or metric.needs_mean
        fact = _Fact(maximum, minimum, metric.needs_mean, metric.cumulative and kept)
        self[name] = fact
        return fact


def _take_kernel(
    kernel: KernelHistory, observation: Observation, batch: Batch, samples: float, facts: _Facts
) -> bool:
    """Take one kernel's part of a batch; whether something of it is owed since then.

    Unknown is not zero: where a batch is silent on a capacity or a rate, the last one stays.
    """
    if not observation:
        return False
    came = moved = False
    metrics = kernel.metrics
    for name, reading in observation.items():
        kept = metrics.get(name)
        current = reading.current
        fact = facts[name]
        if kept is None:
            kept = metrics[name] = MetricHistory(current, owed=Owed(None, batch.time))
            came = True
        elif kept.current != current:
            if fact.counts and float(current) < float(kept.current):
                # A restart: what it had reached before is to be recalled.
                kept.owed = kept.owed or Owed(facts.since, batch.time)
                came = True
            kept.current = current
            moved = True
        if reading.capacity is not None:
            kept.capacity = reading.capacity
        if reading.rate is not None:
            kept.rate = reading.rate
            moved = moved or reading.rate != "0"
        if fact.maximum or fact.minimum:
            _widen(kept, reading, fact)
        if fact.mean:
            _count(kept, reading, batch, samples)
    kernel.complete = all(name in observation for name in ESSENTIAL)
    kernel.seen = batch.time
    if moved:
        kernel.moved, kernel.judged = batch.time, True
    return came


def _widen(kept: MetricHistory, reading: Reading, fact: _Fact) -> None:
    """Let the extremes take the current value, and what there was since the last batch."""
    value = float(reading.current)
    if fact.maximum and value > kept.highest:
        kept.highest, kept.maximum = value, reading.current
    if fact.minimum and value < kept.lowest:
        kept.lowest, kept.minimum = value, reading.current
    if reading.peak is not None and (value := float(reading.peak)) > kept.highest:
        kept.highest, kept.maximum = value, reading.peak
    if reading.trough is not None and (value := float(reading.trough)) < kept.lowest:
        kept.lowest, kept.minimum = value, reading.trough


def _count(kept: MetricHistory, reading: Reading, batch: Batch, samples: float) -> None:
    """Let the life-long mean take what this batch adds, unless that is owed with the rest."""
    if kept.owed is not None and kept.owed.end == batch.time:
        return
    if batch.coverage == "instant":
        kept.total += float(reading.current)
        kept.count += 1
    elif reading.mean is not None:
        kept.total += float(reading.mean) * samples
        kept.count += samples


def _owe_gap(kernel: KernelHistory, since: float | None, until: float) -> None:
    """Let everything since the last batch be recalled, and what was owed before with it."""
    for kept in kernel.metrics.values():
        if kept.owed is None:
            kept.owed = Owed(since, until)
        else:
            kept.owed = Owed(kept.owed.start, until)
            if kept.owed.start is None:
                kept.total = kept.count = 0.0


def _recall_fields(kept: MetricHistory, metric: Metric, told: Remembered) -> None:
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


def _from_key(metric: Metric, told: Remembered) -> MetricHistory | None:
    """Return the history of a metric that only the key has; it is not owed by Prometheus."""
    raw = told.raw if told.raw is not None else told.maximum
    if raw is None and metric.kind == "gauge":
        return None
    kept = MetricHistory(raw or "0", rate=told.rate or "0", known=True)
    _recall_fields(kept, metric, told)
    kept.prior_average = told.average
    if metric.capacity:
        kept.capacity = told.capacity
    return kept
