"""Made-up agents and kernels: what a Prometheus that scrapes real ones holds.

A kernel has ten metrics in fourteen series, with labels as long as real ones. An agent measures
in rounds and counts them; a scrape repeats what the last round left, gauges and rounds together.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from poller.prometheus.round_queries import (
    DURATION_COUNT,
    DURATION_SUM,
    STAGE_COUNT,
    STAGE_DURATION,
    SUCCESS_COUNT,
)

SERIES = "backendai_container_utilization"
KERNELS_AN_AGENT = 40
ROUND_MS = 20
"""So long a round lasts; an agent sleeps its interval after it."""

_BEGINNING_MS = 1_700_000_000_000
_TASK = {"stat_scope": "container"}
_STAGE = {"stage": "gather_measures", "upper_layer": "collect_container_stat", "success": "True"}
_GOLDEN = 0.6180339887


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: whether it counts up, its largest start value, its capacity if it has one."""

    name: str
    is_counter: bool
    largest: int
    capacity: int | None = None


METRICS = (
    Metric("cpu_util", True, 1 << 30, 1000),
    Metric("cpu_used", True, 1 << 30),
    Metric("mem", False, 1 << 33, 1 << 34),
    Metric("io_read", True, 1 << 36),
    Metric("io_write", True, 1 << 36),
    Metric("net_rx", True, 1 << 36),
    Metric("net_tx", True, 1 << 36),
    Metric("io_scratch_size", False, 1 << 34),
    Metric("cuda_mem", False, 1 << 33, 1 << 34),
    Metric("cuda_util", False, 99, 100),
)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often every agent measures and is scraped, in seconds."""

    measure_s: float = 5.0
    scrape_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its labels, and its value as of a round."""

    labels: dict[str, str]
    value: Callable[[int], float]

    def values(self, rounds: Sequence[int]) -> list[float]:
        """Return the value as of each of the rounds."""
        return list(map(self.value, rounds))


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent: its labels, its kernels' labels, and when it measures and is scraped."""

    labels: dict[str, str]
    period_ms: int
    phase_ms: int
    scrape_ms: int
    scrape_phase_ms: int
    kernels: list[dict[str, str]] = field(default_factory=list)

    def scrapes(self, after_ms: int, until_ms: int) -> range:
        """Return the times of its scrapes after one time and until another, in Unix ms."""
        first = (after_ms - self.scrape_phase_ms) // self.scrape_ms + 1
        return range(first * self.scrape_ms + self.scrape_phase_ms, until_ms + 1, self.scrape_ms)

    def round_at(self, at_ms: int) -> int:
        """Return which round was the last one at a time."""
        return (at_ms - self.phase_ms - _BEGINNING_MS) // self.period_ms

    def series(self) -> Iterator[Series]:
        """Yield what it exports: its rounds, then kernel by kernel."""
        target = {name: self.labels[name] for name in ("instance", "job", "service_id")}
        for name, own, value in _OF_ROUNDS:
            about = self.labels if own is _TASK else target
            yield Series(_sorted(about | own | {"__name__": name}), value)
        for owned in self.kernels:
            yield from _kernel_series(owned)


def _counted(number: int) -> float:
    return float(number)


def _gathered_s(number: int) -> float:
    """Return what gathering has taken so far: no two rounds take equally long."""
    return round(number * ROUND_MS * 0.0006 + number * 7919 % 41 * 0.0002, 6)


def _lasted_s(number: int) -> float:
    return round(_gathered_s(number) + number * ROUND_MS * 0.0004, 6)


_OF_ROUNDS = (
    (STAGE_COUNT, _STAGE, _counted),
    (STAGE_DURATION, _STAGE, _gathered_s),
    (DURATION_COUNT, _TASK, _counted),
    (DURATION_SUM, _TASK, _lasted_s),
    (SUCCESS_COUNT, _TASK, _counted),
)
"""What an agent exports of its rounds. A stage names no agent."""


def _kernel_series(owned: dict[str, str]) -> Iterator[Series]:
    for metric in METRICS:
        labels = owned | {"container_metric_name": metric.name}
        yield Series(_sorted(labels | {"value_type": "current"}), _current(metric, owned))
        if metric.capacity is not None:
            capacity = _always(float(metric.capacity))
            yield Series(_sorted(labels | {"value_type": "capacity"}), capacity)


def _always(value: float) -> Callable[[int], float]:
    return lambda _: value


def _current(metric: Metric, owned: dict[str, str]) -> Callable[[int], float]:
    """Return a metric's value by round; a gauge has no pattern that a chunk could fold up."""
    seed = int(owned["kernel_id"][:8], 16) ^ len(metric.name) * 2654435761
    start = seed * 1_000_003 % metric.largest + 1
    if metric.is_counter:
        slope = 5 * (seed % 4095 + 1)
        return lambda number: float(start + slope * number)
    spread = max(2, metric.largest // 100)
    return lambda number: float(start + number * 7919 % spread)


class Cluster:
    """`count` kernels, always the same ones, on agents that measure one after another."""

    def __init__(self, count: int, agents: int | None = None, pace: Pace | None = None) -> None:
        self._random = random.Random(42)
        self.pace = pace or Pace()
        many = agents or -(-count // KERNELS_AN_AGENT)
        self.agents = [self._agent(number, many) for number in range(many)]
        self.kernel_ids: list[str] = []
        for number in range(count):
            self._add_kernel(self.agents[number % many])

    def _agent(self, number: int, of: int) -> Agent:
        """Make an agent: measurements are spread evenly over the interval, and scrapes too."""
        labels = {
            "agent_id": f"i-agent{number:04d}",
            "instance": f"10.0.{number // 250}.{number % 250}:6003",
            "job": "backendai-agents",
            "service_id": self._id(),
        }
        period_ms = round(self.pace.measure_s * 1000) + ROUND_MS
        scrape_ms = round(self.pace.scrape_s * 1000)
        scrape_phase_ms = int(number * _GOLDEN % 1 * scrape_ms)
        return Agent(labels, period_ms, number * period_ms // of, scrape_ms, scrape_phase_ms)

    def _add_kernel(self, agent: Agent) -> None:
        kernel_id = self._id()
        self.kernel_ids.append(kernel_id)
        owners = {name: self._id() for name in ("session_id", "user_id", "project_id")}
        agent.kernels.append(agent.labels | owners | {"__name__": SERIES, "kernel_id": kernel_id})

    def _id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


def _sorted(labels: dict[str, str]) -> dict[str, str]:
    return dict(sorted(labels.items()))
