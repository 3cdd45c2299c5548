"""The daemon's own metrics: names, labels, buckets; filled from an `Outcome` and by each query."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator, Mapping
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from poller import __version__
from poller.daemon.agents import AgentTrouble
from poller.daemon.status import Result
from poller.poll import withhold
from poller.poll.outcome import Outcome
from poller.rounds.exporter import ExporterState
from poller.store.errors import REASONS
from poller.values import Drop, Part, Stage

_PREFIX = "livestat_poller"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_UNKNOWN = float("nan")


class AgentCollector(Collector):
    """What is known of each agent's rounds. `exporters` are those of the last good cycle."""

    def __init__(self) -> None:
        self.exporters: tuple[ExporterState, ...] = ()

    def collect(self) -> Iterator[Metric]:
        """Yield the agents' gauges; nothing of an agent that is gone stays."""
        labels = ("agent", "instance", "counter")
        interval = GaugeMetricFamily(
            f"{_PREFIX}_agent_interval_seconds", "How often an agent measures.", labels=labels
        )
        measured = GaugeMetricFamily(
            f"{_PREFIX}_agent_measured_timestamp_seconds",
            "When an agent's last round was first seen.",
            labels=labels,
        )
        for one in self.exporters:
            values = (one.agent, one.instance, one.counter or "")
            if one.interval_s is not None:
                interval.add_metric(values, one.interval_s)
            if one.measured is not None:
                measured.add_metric(values, one.measured)
        yield interval
        yield measured


class Telemetry:
    """Every metric of the daemon, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._make_those_of_cycles()
        self._make_those_of_neighbours()
        info = self._gauge("build_info", "Version of the poller.", "version", "python")
        info.labels(__version__, platform.python_version()).set(1)
        self._begin()

    def _make_those_of_cycles(self) -> None:
        """Make what tells of cycles, of their keys, and of kernels without one."""
        self.cycles = self._counter("cycles", "Cycles by result and reason.", "result", "reason")
        self.cycle_seconds = self._histogram(
            "cycle_duration_seconds", "Duration of a cycle, by its result.", "result"
        )
        self.part_seconds = self._histogram(
            "cycle_part_duration_seconds", "Duration of one part of a cycle.", "part"
        )
        self.query_seconds = self._histogram(
            "query_duration_seconds", "Duration of one query, by its part in the batch.", "part"
        )
        self.last_success = self._gauge(
            "last_success_timestamp_seconds", "When the last good cycle was asked for."
        )
        self.active = self._gauge("active_kernels", "Kernels in the last batch.")
        self.written = self._counter("keys_written", "Keys written.")
        self.failed = self._counter("keys_failed", "Keys that could not be written.", "reason")
        self.dropped = self._counter("rows_dropped", "Rows that could not serve.", "reason")
        self.missed = self._counter("missed_cycles", "Ticks that started no cycle.")
        self.overrun = self._counter("overrun_cycles", "Cycles that ran into their deadline.")
        self.restored = self._counter("restored_kernels", "Kernels whose past was recalled.")
        self.owing = self._gauge("restore_pending_kernels", "Kernels whose past is yet owed.")
        self.withheld = self._gauge("withheld_kernels", "Kernels not written, by reason.", "reason")
        self.long = self._gauge(
            "long_withheld_kernels", "Kernels not written for several cycles.", "reason"
        )

    def _make_those_of_neighbours(self) -> None:
        """Make what tells of agents, servers and clocks, and of the poller beside them."""
        self.agents = AgentCollector()
        self.registry.register(self.agents)
        self.stalled = self._gauge("stalled_agents", "Agents whose measurements stand still.")
        self.silent = self._gauge(
            "silent_agents", "Agents with kernels of which no sample comes any more."
        )
        self.rivals = self._gauge("rival_keys", "Keys that somebody else keeps writing.")
        self.invalid = self._counter("invalid_keys", "Keys read that are no live stat.")
        self.partial = self._counter("partial_answers", "Answers with warnings of missing data.")
        self.fallback = self._gauge(
            "fallback", "1 if another Prometheus than the first one answers."
        )
        self.skew = self._gauge("clock_skew_seconds", "Prometheus' clock less this host's.")
        self.steps = self._counter("clock_steps", "Steps of the wall clock.")
        self.leading = self._gauge("leader", "1 if this poller writes, 0 if it stands by.")
        self.interval = self._gauge("interval_seconds", "The poll interval.")
        self.window = self._gauge("rate_window_seconds", "The widest range of stand-in rates.")
        self.scrape = self._gauge("scrape_interval_seconds", "The scrape interval found.")
        self.lag = self._gauge("sample_lag_seconds", "Age of the newest sample.")
        self.late = self._gauge("late_exporters", "Exporters whose measurement had to wait.")
        self.unwritten = self._gauge("unwritten_kernels", "Kernels whose key had to wait.")
        self.reloads = self._counter("config_reloads", "Reloads of the settings.", "result")

    def _begin(self) -> None:
        """Show from the start what may happen: a series that begins at 1 has not increased."""
        for result in ("success", "standby"):
            self.cycles.labels(result, "")
        for result in get_args(Result):
            self.cycle_seconds.labels(result)
        for drop in get_args(Drop):
            self.dropped.labels(drop)
        for reason in REASONS:
            self.failed.labels(reason)
        for result in ("taken", "refused"):
            self.reloads.labels(result)
        for part in get_args(Stage):
            self.part_seconds.labels(part)
        for part in get_args(Part):
            self.query_seconds.labels(part)
        for why in withhold.REASONS:
            self.withheld.labels(why).set(0)
            self.long.labels(why).set(0)
        for gauge in (self.window, self.scrape, self.lag):
            gauge.set(_UNKNOWN)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(
            f"{_PREFIX}_{name}", text, labels, buckets=_SECONDS, registry=self.registry
        )

    def exposition(self) -> tuple[bytes, str]:
        """Return every metric in Prometheus' text format, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def on_query(self, part: str, seconds: float) -> None:
        """Take the duration of one query."""
        self.query_seconds.labels(part).observe(seconds)

    def on_warning(self, text: str) -> None:
        """Take a warning of missing data."""
        self.partial.inc()

    def saw(self, outcome: Outcome, troubles: Collection[AgentTrouble]) -> None:
        """Take what a finished cycle did, good or not, and what is wrong with agents."""
        self.active.set(outcome.kernels)
        withheld = outcome.withheld_counts
        for reason in withhold.REASONS:
            self.withheld.labels(reason).set(withheld.get(reason, 0))
        reasons = [one.reason for one in troubles]
        self.stalled.set(reasons.count("stalled"))
        self.silent.set(reasons.count("silent"))
        self.agents.exporters = outcome.exporters
        self.owing.set(outcome.owing)
        self.rivals.set(outcome.rivals)
        self.fallback.set(outcome.passed_over is not None)
        self.skew.set(outcome.skew_s)
        if outcome.window_s is not None:
            self.window.set(outcome.window_s)
        self.scrape.set(outcome.scrape_s or _UNKNOWN)
        self.lag.set(_UNKNOWN if outcome.lag_s is None else outcome.lag_s)
        self.late.set(outcome.late)
        self.unwritten.set(outcome.unwritten)

    def long_withheld(self, long: Mapping[withhold.Reason, int]) -> None:
        """Take how many kernels are withheld for longer than a few cycles, by reason."""
        for reason in withhold.REASONS:
            self.long.labels(reason).set(long.get(reason, 0))

    def succeeded(self, outcome: Outcome) -> None:
        """Take a good cycle."""
        self.cycles.labels("success", "").inc()
        # Without what is asked earlier by the settings: that is not late.
        self.last_success.set(outcome.time + outcome.offset_s)

    def stood_by(self) -> None:
        """Take a tick at which another poller writes."""
        self.cycles.labels("standby", "").inc()
        self.leading.set(0)
        self.sees_nothing()

    def sees_nothing(self) -> None:
        """Take that this poller does not lead: what is to be seen is for another one to tell."""
        self.agents.exporters = ()
        gauges = (self.active, self.owing, self.stalled, self.silent, self.rivals)
        for gauge in (*gauges, self.late, self.unwritten, self.fallback, self.skew):
            gauge.set(0)
        self.lag.set(_UNKNOWN)
        for reason in withhold.REASONS:
            self.withheld.labels(reason).set(0)
        self.long_withheld({})

    def saw_parts(self, outcome: Outcome) -> None:
        """Take what any cycle spent, dropped, wrote and restored, finished or not."""
        self.written.inc(outcome.written)
        self.restored.inc(outcome.restored)
        self.invalid.inc(outcome.invalid_keys)
        for reason, count in outcome.failed.items():
            self.failed.labels(reason).inc(count)
        for reason, count in outcome.dropped.items():
            self.dropped.labels(reason).inc(count)
        for part, seconds in outcome.seconds.items():
            self.part_seconds.labels(part).observe(seconds)
