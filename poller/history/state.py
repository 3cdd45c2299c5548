"""What is kept of one kernel from one poll to the next. Pure state."""

from __future__ import annotations

import msgspec

from poller.format.catalog import Catalog, Metric
from poller.format.numbers import most_written_as
from poller.values import Owed, Past, Stamp, Window

ALL_SEEN = 1.05
"""An agent that measures more often in a scrape than this has measurements that no scrape saw."""
_BEFORE = 120.0
"""An hour of measurements, as often as agents measure by default."""


class MetricState(msgspec.Struct, gc=False):
    """One metric of one kernel; raw values as text, `value` the current one as a number.

    `stamp` is the measurement that `current` is of, None where none is counted; `stood`: its plugin
    has stood still since. `known`: enough is known to write it. `owed`: the time whose
    samples are not counted.
    `rate` is None until one is known that is not false; `by_window`: it stands in, by Prometheus
    over a window or as the 0 of a first measurement, until more is known. `prior_average` and
    `prior_maximum` are what the key said, until Prometheus has told the whole. `by_scrape`: its
    mean is one of scrapes, since its exporter counted no rounds. `opening`, set by
    itself, is the value at first sight: the stand-in capacity where nothing older is known.

    There are a million of them in a large cluster, so the collector must not see them, nor the
    kernels' states: it would stop everything for a third of a second.
    """

    current: str
    stamp: Stamp | None = None
    stood: bool = False
    capacity: str | None = None
    first: str | None = None
    rate: float | None = None
    by_window: bool = False
    maximum: str | None = None
    minimum: str | None = None
    highest: float = float("-inf")
    lowest: float = float("inf")
    total: float = 0.0
    count: float = 0.0
    prior_average: str | None = None
    prior_maximum: float | None = None
    by_scrape: bool = False
    known: bool = False
    owed: Owed | None = None
    opening: str = ""
    value: float = 0.0

    def __post_init__(self) -> None:
        self.opening = self.current
        self.value = float(self.current)

    def take(self, text: str) -> tuple[float, float]:
        """Take another current value; return the one before and this one."""
        before, self.current, self.value = self.value, text, float(text)
        return before, self.value

    def can_be_written(self, metric: Metric) -> bool:
        """Whether enough is known of it, its rate among it."""
        return self.known and (self.rate is not None or not metric.needs_rate)

    def widen(self, text: str) -> None:
        """Let the maximum and minimum take one more value of the raw series."""
        value = float(text)
        if value > self.highest:
            self.highest, self.maximum = value, text
        if value < self.lowest:
            self.lowest, self.minimum = value, text

    def owe_all(self, until: float) -> None:
        """Let the whole past be backfilled; the average so far stands until that has come."""
        if self.count and self.prior_average is None:
            self.prior_average = repr(self.total / self.count)
        self.owed = Owed(None, until)
        self.total = self.count = 0.0

    def outlives(self, past: Past, counts_up: bool, all_seen: bool = True) -> bool:
        """Whether the key tells of a longer life than all that Prometheus knows of it.

        It has a higher maximum where every measurement is scraped (`all_seen`), or its average is
        below a counter's least value.
        """
        higher, highest = self.prior_maximum if all_seen else None, past.maximum
        if higher is not None and highest is not None and higher > most_written_as(highest):
            return True
        average, least = self.prior_average, past.minimum
        if not counts_up or average is None or least is None:
            return False
        return most_written_as(average) < float(least)

    def backfill(self, past: Past, older: bool, weight: float = 1.0, spans: float = 1.0) -> None:
        """Count what was owed. `older`: the metric lived before that stretch began.

        `weight` is how many measurements a sample stands for. A key's average outlives it only
        where Prometheus cannot know the whole: it then stands for as many measurements as that
        knows of, `spans` times over, but for `_BEFORE` at the least, or a few new ones would
        outweigh a life.
        """
        weight = 1.0 if past.replayed else weight
        if self.prior_average is not None and older:
            measurements = max(past.samples * weight * spans, _BEFORE)
            self.total += float(self.prior_average) * measurements
            self.count += measurements
        else:
            self.total += past.total * weight
            self.count += past.samples * weight
        self.prior_average = self.prior_maximum = None
        for text in (past.maximum, past.minimum):
            if text is not None:
                self.widen(text)
        self.first = self.first or past.first or self.opening


class KernelState(msgspec.Struct, gc=False):
    """One kernel. Times are evaluation times of batches, in Unix seconds.

    `stamp` is the measurement that it was last read of. `moved`: when anything of it last
    changed; None until known (`judged`), or if that is longer than `still_after_s` ago. `vouched`:
    its key was written a few rounds ago and tells enough, so it need not wait for that. `newborn`:
    its exporter did not tell of it a moment ago, and its key was not read yet. `born`:
    its first sample, None for a kernel that is older than the window of a rate. `lacks`
    names the essential metrics that the last batch did not hold. `samples` and `window` are those
    of its stand-in rates. `weight` is how many measurements a sample of it stands for.
    """

    seen: float
    stamp: Stamp | None = None
    instance: str = ""
    agent: str | None = None
    moved: float | None = None
    born: float | None = None
    judged: bool = False
    vouched: bool = False
    newborn: bool = False
    lacks: tuple[str, ...] = ()
    key_read: bool = False
    weight: float = 1.0
    samples: float = 0.0
    window: Window | None = None
    metrics: dict[str, MetricState] = {}
    _order: tuple[Metric, ...] | None = None

    def known(self, catalog: Catalog) -> list[tuple[Metric, MetricState]]:
        """Return the metrics that can be written, in the outer order of the format."""
        metrics = self.metrics
        if self._order is None:
            names = (name for name, kept in metrics.items() if kept.can_be_written(catalog[name]))
            self._order = catalog.in_order(tuple(names))
        return [(metric, metrics[metric.name]) for metric in self._order]

    @property
    def seen_at_once(self) -> bool:
        """Whether the scrape that saw it first told of its last measurement, and of no other."""
        if self.stamp is None or self.born is None:
            return True
        return self.stamp.scraped <= self.born and self.weight <= ALL_SEEN

    def reorder(self) -> None:
        """Forget the order: a metric came, or became known."""
        self._order = None

    @property
    def owing(self) -> Owed | None:
        """The stretch that is to be backfilled next: the one that ended first."""
        stretches = [kept.owed for kept in self.metrics.values() if kept.owed is not None]
        return min(stretches, key=lambda owed: owed.end, default=None)
