"""A simulated cluster: agents that measure and are scraped, and the kernels on them.

Every sample follows from its time alone. Nothing is stored, so memory stays flat and any range
can be asked for.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from poller.demo import behaviours
from poller.demo.behaviours import BEHAVIOURS, Behaviour, Moment, SimulatedMetric
from poller.prometheus.round_queries import (
    DURATION_COUNT,
    DURATION_SUM,
    STAGE_COUNT,
    STAGE_DURATION,
    SUCCESS_COUNT,
)
from poller.prometheus.selectors import SERIES

MEASURE_MS = 1000
SCRAPE_MS = 1000
KERNELS_AN_AGENT = 5
_NAMESPACE = uuid.UUID("0d6f5c1e-7a34-4c57-9a59-5b1f3c2de7a1")
_OLDEST_S = 540
"""Older kernels would make the poller's first look at their lives slow: it is simulated too."""
_AGES_S = (540, 260, 410, 90, 330, 500, 150, 470, 200, 370, 60)
_NEWCOMER_S = -5
"""The last kernel of several starts so many seconds after the cluster is made."""
_TASK = {"stat_scope": "container"}
_STAGE = {"stage": "gather_measures", "upper_layer": "collect_container_stat", "success": "True"}
_OF_ROUNDS = (
    (SUCCESS_COUNT, _TASK, 1.0),
    (DURATION_COUNT, _TASK, 1.0),
    (DURATION_SUM, _TASK, 0.001),
    (STAGE_COUNT, _STAGE, 1.0),
    (STAGE_DURATION, _STAGE, 0.0005),
)
"""What an agent exports of its rounds: name, labels, growth a round. A stage names no agent."""


class Sample(NamedTuple):
    """One sample; the time is Unix milliseconds."""

    at_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent. It measures, and is scraped, at its own instants."""

    number: int
    started_ms: int

    @property
    def name(self) -> str:
        """The agent's id."""
        return f"i-demo-agent-{self.number}"

    def measured_ms(self, at_ms: int) -> int:
        """Return the time of the last measurement at or before `at_ms`."""
        phase = self.number * 617 % MEASURE_MS
        return (at_ms - phase) // MEASURE_MS * MEASURE_MS + phase

    def scraped_ms(self, at_ms: int) -> int:
        """Return the time of the last scrape at or before `at_ms`."""
        phase = (self.number * 331 + 137) % SCRAPE_MS
        return (at_ms - phase) // SCRAPE_MS * SCRAPE_MS + phase

    def rounds(self, measured_ms: int) -> float:
        """Return how many rounds the agent had measured by then."""
        return float((measured_ms - self.started_ms) // MEASURE_MS + 1)


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel: who it is, where, since when, and what it does."""

    number: int
    agent: Agent
    born_ms: int
    behaviour: Behaviour

    @property
    def kernel_id(self) -> str:
        """The kernel's UUID; always the same for a number."""
        return self._id("kernel", self.number)

    def labels(self) -> dict[str, str]:
        """Return what an agent says of a kernel beside the metric."""
        return {
            "agent_id": self.agent.name,
            "kernel_id": self.kernel_id,
            "session_id": self._id("session", self.number),
            "user_id": self._id("user", self.number % 4),
            "project_id": self._id("project", self.number % 2),
        }

    def moment(self, measured_ms: int) -> Moment:
        """Return what a measurement sees of the kernel's life."""
        age_s = (measured_ms - self.born_ms) / 1000
        restart_s = self.behaviour.restart_s
        return Moment(age_s, age_s % restart_s if restart_s else age_s)

    @staticmethod
    def _id(what: str, number: int) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{what}-{number}"))


@dataclass(frozen=True, slots=True)
class SimulatedSeries:
    """One exported series as Prometheus stores it: a sample at every scrape until now."""

    labels: Mapping[str, str]
    agent: Agent
    begins_ms: int
    value_at: Callable[[int], float]
    now_ms: Callable[[], int]

    def latest(self, end_ms: int) -> Sample | None:
        """Return the last sample at or before end; none lies in the future."""
        at_ms = self.agent.scraped_ms(min(end_ms, self.now_ms()))
        measured_ms = self.agent.measured_ms(at_ms)
        return Sample(at_ms, self.value_at(measured_ms)) if measured_ms >= self.begins_ms else None

    def between(self, start_ms: int, end_ms: int) -> list[Sample]:
        """Return the samples from start to end, both included, in order of time."""
        start_ms = max(start_ms, self.begins_ms)
        last_ms = self.agent.scraped_ms(min(end_ms, self.now_ms()))
        first_ms = last_ms - max(0, (last_ms - start_ms) // SCRAPE_MS) * SCRAPE_MS
        samples = []
        measured_ms, value = -1, 0.0
        for at_ms in range(first_ms, last_ms + 1, SCRAPE_MS):
            last_measured_ms = self.agent.measured_ms(at_ms)
            if last_measured_ms != measured_ms:
                measured_ms, value = last_measured_ms, self.value_at(last_measured_ms)
            if measured_ms >= self.begins_ms and at_ms >= start_ms:
                samples.append(Sample(at_ms, value))
        return samples


class SimulatedCluster:
    """So many kernels of all behaviours on a few agents, running since some minutes before now."""

    def __init__(self, kernels: int, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        start_ms = self.now_ms()
        count = -(-kernels // KERNELS_AN_AGENT)
        self.agents = [
            Agent(number, start_ms - (_OLDEST_S + 60) * 1000) for number in range(1, count + 1)
        ]
        self.kernels = [
            Kernel(
                number,
                self.agents[number % count],
                start_ms - 1000 * _age_s(number, kernels),
                BEHAVIOURS[number % len(BEHAVIOURS)],
            )
            for number in range(kernels)
        ]
        self.series = [*self._kernel_series(), *self._rounds_series()]

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds."""
        return round(self._clock() * 1000)

    def readings(self, agent: Agent) -> list[tuple[Mapping[str, str], float]]:
        """Return what an agent's exporter says now: labels and value of each series."""
        measured_ms = agent.measured_ms(self.now_ms())
        return [
            (one.labels, one.value_at(measured_ms))
            for one in self.series
            if one.agent is agent and measured_ms >= one.begins_ms
        ]

    def _kernel_series(self) -> Iterator[SimulatedSeries]:
        for kernel in self.kernels:
            for metric in behaviours.metrics(kernel.behaviour):
                labels = {
                    "__name__": SERIES,
                    "container_metric_name": metric.name,
                    **kernel.labels(),
                    "value_type": "current",
                }
                yield self._made(kernel, labels, _measured(kernel, metric))
                if metric.capacity is not None:
                    labels = labels | {"value_type": "capacity"}
                    yield self._made(kernel, labels, _constant(metric.capacity))

    def _made(
        self, kernel: Kernel, labels: dict[str, str], value_at: Callable[[int], float]
    ) -> SimulatedSeries:
        return SimulatedSeries(
            labels | _target(kernel.agent), kernel.agent, kernel.born_ms, value_at, self.now_ms
        )

    def _rounds_series(self) -> Iterator[SimulatedSeries]:
        for agent in self.agents:
            for name, about, growth in _OF_ROUNDS:
                own = {} if about is _STAGE else {"agent_id": agent.name}
                labels = {"__name__": name, **own, **about, **_target(agent)}
                counted = _counted(agent, growth)
                yield SimulatedSeries(labels, agent, agent.started_ms, counted, self.now_ms)


def _age_s(number: int, kernels: int) -> int:
    if kernels > 1 and number == kernels - 1:
        return _NEWCOMER_S
    return _AGES_S[number % len(_AGES_S)]


def _target(agent: Agent) -> dict[str, str]:
    """Return the labels that the scraper adds."""
    return {"job": "agents", "instance": f"{agent.name}:6003"}


def _measured(kernel: Kernel, metric: SimulatedMetric) -> Callable[[int], float]:
    return lambda measured_ms: metric.current(kernel.moment(measured_ms))


def _counted(agent: Agent, growth: float) -> Callable[[int], float]:
    return lambda measured_ms: agent.rounds(measured_ms) * growth


def _constant(value: float) -> Callable[[int], float]:
    return lambda measured_ms: float(value)
