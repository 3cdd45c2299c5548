"""Made-up kernels: ten metrics and fourteen series each, labels as long as real ones."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SERIES = "backendai_container_utilization"
ROUNDS = "backendai_stat_task_success_count_total"
STEP_S = 5
"""Agents measure, and Prometheus scrapes, this often."""

_BEGINNING = 1_700_000_000

KERNELS_AN_AGENT = 40


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
SERIES_A_KERNEL = len(METRICS) + sum(metric.capacity is not None for metric in METRICS)


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its labels, and what its value is at a time."""

    labels: dict[str, str]
    start: int
    slope: int
    spread: int

    def values(self, stamps: Sequence[int]) -> list[float]:
        """Return the value at each of the Unix times."""
        if self.spread:  # a gauge that wanders without a pattern that a chunk could fold up
            return [float(self.start + stamp * 7919 % self.spread) for stamp in stamps]
        return [float(self.start + self.slope * (stamp - _BEGINNING)) for stamp in stamps]


def scraped_ms(stamp: int) -> int:
    """Return when the scrape of a Unix time is done, in milliseconds.

    No two scrapes are equally far apart, so that rates have as many digits as real ones.
    """
    return stamp * 1000 + stamp * 7919 % 41


class Cluster:
    """`count` kernels, always the same ones, and the series that their agents export."""

    def __init__(self, count: int) -> None:
        self._random = random.Random(42)
        agents = range(-(-count // KERNELS_AN_AGENT))
        self._agents = [self._agent(number) for number in agents]
        self.kernel_ids: list[str] = []
        self._owned = [self._kernel(number) for number in range(count)]

    def series(self) -> Iterator[Series]:
        """Yield every series: the agents' rounds, then kernel by kernel."""
        for agent in self._agents:
            labels = agent | {"__name__": ROUNDS, "stat_scope": "container"}
            yield Series(_sorted(labels), 0, 1, 0)
        for owned in self._owned:
            yield from self._series_of(owned)

    def _series_of(self, owned: dict[str, str]) -> Iterator[Series]:
        for metric in METRICS:
            labels = owned | {"container_metric_name": metric.name}
            yield self._current(metric, _sorted(labels | {"value_type": "current"}))
            if metric.capacity is not None:
                yield Series(_sorted(labels | {"value_type": "capacity"}), metric.capacity, 0, 0)

    def _current(self, metric: Metric, labels: dict[str, str]) -> Series:
        own = random.Random(f"{labels['kernel_id']} {metric.name}")
        start = own.randrange(1, metric.largest)
        if metric.is_counter:
            return Series(labels, start, own.randrange(1, 1 << 12), 0)
        return Series(labels, start, 0, max(2, metric.largest // 100))

    def _agent(self, number: int) -> dict[str, str]:
        return {
            "agent_id": f"i-agent{number:03d}",
            "instance": f"10.0.{number // 250}.{number % 250}:6003",
            "job": "backendai-agents",
            "service_id": self._id(),
        }

    def _kernel(self, number: int) -> dict[str, str]:
        kernel_id = self._id()
        self.kernel_ids.append(kernel_id)
        owners = {name: self._id() for name in ("session_id", "user_id", "project_id")}
        agent = self._agents[number % len(self._agents)]
        return agent | owners | {"__name__": SERIES, "kernel_id": kernel_id}

    def _id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


def _sorted(labels: dict[str, str]) -> dict[str, str]:
    return dict(sorted(labels.items()))
