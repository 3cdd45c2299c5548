"""One kernel's state put right: by its key, by `rate()` over a window, after a gap. Pure."""

from __future__ import annotations

from poller.format.catalog import Catalog, Metric
from poller.format.numbers import written
from poller.history.state import KernelState, MetricState
from poller.rounds import rates
from poller.values import Owed, Remembered

_UNSCRAPED_S = 120.0
"""A key may tell of a measurement that comes so long after the newest one that was scraped."""


def fit_rates(kernel: KernelState, catalog: Catalog, at: float) -> None:
    """Judge the rates that Prometheus gave, now that it is known how long the kernel has lived.

    One that may have been measured again before it was first read has none until the next round.
    """
    age_s = None if kernel.born is None else at - kernel.born
    is_first = age_s is not None and kernel.seen_at_once
    for name, kept in kernel.metrics.items():
        if not catalog[name].needs_rate:
            continue
        if kept.by_window and kernel.window is not None and (kept.rate is not None or is_first):
            kept.rate = rates.stand_in(kept.rate, kernel.samples, kernel.window, age_s)
        elif kept.rate is None and is_first:
            kept.rate = 0.0  # what the agent writes at a first measurement
        kept.by_window = False


def owe_gap(kernel: KernelState, since: float | None, until: float) -> None:
    """Let everything since the last batch be backfilled, and what was owed before with it."""
    for kept in kernel.metrics.values():
        if kept.owed is None:
            kept.owed = Owed(since, until)
        else:
            kept.owed = Owed(kept.owed.start, until)
            if kept.owed.start is None:
                kept.total = kept.count = 0.0


def recall_fields(kept: MetricState, metric: Metric, told: Remembered) -> None:
    """Let a metric learn what only its key knows."""
    if kept.capacity is None and told.capacity is not None:
        kept.first = told.capacity
    if told.maximum is not None and float(told.maximum) > kept.highest:
        kept.highest, kept.maximum = float(told.maximum), told.maximum
    if told.minimum is not None and float(told.minimum) < kept.lowest:
        kept.lowest, kept.minimum = float(told.minimum), told.minimum
    if kept.owed is None or kept.owed.start is not None:
        return  # we have counted everything ourselves, but for a gap perhaps
    kept.prior_average = told.average
    kept.prior_maximum = _of_the_past(kept, metric, told)
    beside = {"max": told.maximum, "min": told.minimum, "avg": told.average, "sum": None}
    whole = all(beside.get(stat, "") is not None for stat in metric.stats)
    kept.known = whole and (kept.capacity or kept.first) is not None


def _of_the_past(kept: MetricState, metric: Metric, told: Remembered) -> float | None:
    """Return a key's maximum, unless it may be that of a measurement that is not scraped yet."""
    if told.maximum is None or told.maximum == told.raw:
        return None
    maximum = float(told.maximum)
    if metric.cumulative and maximum <= kept.value + float(told.rate or 0) * _UNSCRAPED_S:
        return None
    return maximum


def stands_where_left(kept: MetricState, metric: Metric, told: Remembered) -> bool:
    """Whether a counter is where the key left it, with a rate: nothing was measured since."""
    return bool(float(told.rate or 0)) and _has_moved(kept, metric, told) is False


def _has_moved(kept: MetricState, metric: Metric, told: Remembered) -> bool | None:
    """Whether a counter is not where the key left it; None where that is not known."""
    raw = told.raw or told.maximum
    if not metric.cumulative or raw is None:
        return None
    return written(kept.current) != raw


def recall_rate(kept: MetricState, metric: Metric, told: Remembered, fresh: bool) -> None:
    """Let a metric take its key's rate where that is nearer than what it has.

    `fresh`: the key is of the last few rounds, and so is its rate; but a 0 is none any more where
    the counter has moved since, and a window tells how fast.
    """
    if kept.rate and not float(told.rate or 0) and _has_moved(kept, metric, told):
        return
    stands_in = kept.by_window and kept.stamp is not None
    nearer = kept.rate is None or (stands_in and (fresh or kept.owed is None))
    if nearer and told.rate is not None:
        kept.rate, kept.by_window = float(told.rate), False


def from_key(metric: Metric, told: Remembered) -> MetricState | None:
    """Return the history of a metric that only the key has; it is not owed by Prometheus."""
    raw = told.raw if told.raw is not None else told.maximum
    if raw is None and metric.kind == "gauge":
        return None
    kept = MetricState(raw or "0", rate=float(told.rate or "0"), known=True)
    recall_fields(kept, metric, told)
    kept.prior_average = told.average
    if metric.capacity:
        kept.capacity = told.capacity
    return kept
