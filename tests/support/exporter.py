"""Live /metrics exporters in the shape of an agent: scripted kernels, and replayed recordings."""

from __future__ import annotations

import abc
import threading
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from .background import WebService
from .kernels import METRICS, Kernel, make_kernel
from .openmetrics import (
    ROUNDS,
    UTILIZATION,
    Series,
    line_of,
    number,
    openmetrics_file,
    samples_of,
)

__all__ = ["METRICS", "Exporter", "Kernel", "Replay", "Series", "openmetrics_file", "samples_of"]

_TYPES = {UTILIZATION: "gauge", ROUNDS: "counter"}

Reading = tuple[Mapping[str, str], float]


class MetricsPage(WebService):
    """Serve readings as Prometheus text on /metrics. `answering = False` makes it a 503."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.answering = True
        self.scrapes = 0
        self._clock = clock

    @abc.abstractmethod
    def readings(self) -> Iterable[Reading]:
        """Return labels and value of every series as of now."""

    def text(self) -> str:
        """Return the page."""
        families: dict[str, list[str]] = defaultdict(list)
        for labels, value in self.readings():
            lines = families[labels.get("__name__", UTILIZATION)]
            lines.append(f"{line_of(labels)} {number(value)}\n")
        heads = {name: f"# TYPE {name} {_TYPES.get(name, 'untyped')}\n" for name in families}
        return "".join(heads[name] + "".join(lines) for name, lines in families.items())

    def _routes(self) -> list[web.RouteDef]:
        return [web.get("/metrics", self._answer)]

    async def _answer(self, request: web.Request) -> web.Response:
        self.scrapes += 1
        if not self.answering:
            return web.Response(status=503)
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self.text().encode(), headers=headers)


@dataclass(slots=True)
class _Agent:
    """The measurements of one agent so far."""

    measured: float
    rounds: int = 0
    owed_s: float = 0.0
    frozen: bool = False


@dataclass(slots=True)
class _Work:
    """How long one kernel has worked, in its life and since its counters restarted."""

    worked_s: float = 0.0
    counted_s: float = 0.0
    idle: bool = False


class Exporter(MetricsPage):
    """Agents `i-agent0`, `i-agent1` … with kernels dealt to them in turn, measured live.

    A value changes only when its agent measures, every `measure_every_s` of `clock`. What the
    values must be is `current`; a counter's true rate is `Kernel.rate`. `extra_labels`, such
    as `service_id`, are put on the utilization series.
    """

    def __init__(
        self,
        kernels: int = 3,
        agents: int = 1,
        *,
        measure_every_s: float = 1.0,
        extra_labels: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock)
        self.measure_every_s = measure_every_s
        self.extra_labels = dict(extra_labels or {})
        now = clock()
        self._agents = {f"i-agent{index}": _Agent(now) for index in range(agents)}
        self._work: dict[Kernel, _Work] = {}
        self._last_number = 0
        self._lock = threading.RLock()
        for _ in range(kernels):
            self.add_kernel()

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels that are exported now."""
        with self._lock:
            return list(self._work)

    @property
    def agent_ids(self) -> list[str]:
        """The agents."""
        return list(self._agents)

    def kernel(self, kernel_id: str) -> Kernel:
        """Return one kernel by its id; KeyError where there is none."""
        for kernel in self.kernels:
            if kernel.kernel_id == kernel_id:
                return kernel
        raise KeyError(kernel_id)

    def freeze_agent(self, agent_id: str, frozen: bool = True) -> None:
        """Let an agent's measurements stand still while its exporter answers; or go on.

        Its kernels work all the while: the first measurement afterwards catches up.
        """
        with self._lock:
            self._measure()
            self._agents[agent_id].frozen = frozen

    def idle_kernel(self, kernel_id: str, idle: bool = True) -> None:
        """Let nothing of a kernel move from its next measurement on; or work again."""
        with self._lock:
            self._measure()
            self._work[self.kernel(kernel_id)].idle = idle

    def restart_kernel(self, kernel_id: str) -> None:
        """Start a kernel's counters from zero, as a restarted container does."""
        with self._lock:
            self._measure()
            self._work[self.kernel(kernel_id)].counted_s = 0.0

    def add_kernel(self, agent_id: str | None = None) -> Kernel:
        """Add a kernel with a new number, to the next agent in turn unless one is named."""
        with self._lock:
            self._measure()
            agent_ids = self.agent_ids
            chosen = agent_id or agent_ids[self._last_number % len(agent_ids)]
            self._last_number += 1
            kernel = make_kernel(self._last_number, chosen)
            self._work[kernel] = _Work()
            return kernel

    def remove_kernel(self, kernel_id: str) -> Kernel:
        """Export a kernel no more."""
        with self._lock:
            kernel = self.kernel(kernel_id)
            del self._work[kernel]
            return kernel

    def current(self, kernel_id: str) -> dict[str, float]:
        """Return what a scrape now would read of each metric's `current`."""
        with self._lock:
            self._measure()
            kernel = self.kernel(kernel_id)
            work = self._work[kernel]
            return {
                metric.name: kernel.current(metric, work.worked_s, work.counted_s)
                for metric in METRICS
            }

    def readings(self) -> list[Reading]:
        """Return labels and value of every series as of the last measurement."""
        with self._lock:
            self._measure()
            found: list[Reading] = []
            for kernel, work in self._work.items():
                found += self._kernel_readings(kernel, work)
            return found + [_rounds(name, agent) for name, agent in self._agents.items()]

    def _kernel_readings(self, kernel: Kernel, work: _Work) -> list[Reading]:
        found: list[Reading] = []
        for metric in METRICS:
            value = kernel.current(metric, work.worked_s, work.counted_s)
            found.append((kernel.labels(metric, "current") | self.extra_labels, value))
            if metric.capacity is not None:
                labels = kernel.labels(metric, "capacity") | self.extra_labels
                found.append((labels, metric.capacity))
        return found

    def _measure(self) -> None:
        """Catch up with the measurements that were due since the last look."""
        now = self._clock()
        for agent_id, agent in self._agents.items():
            due = int((now - agent.measured) / self.measure_every_s)
            agent.measured += due * self.measure_every_s
            agent.owed_s += due * self.measure_every_s
            if not agent.frozen:
                agent.rounds += due
                self._advance(agent_id, agent.owed_s)
                agent.owed_s = 0.0

    def _advance(self, agent_id: str, passed_s: float) -> None:
        for kernel, work in self._work.items():
            if kernel.agent_id == agent_id and not work.idle:
                work.worked_s += passed_s
                work.counted_s += passed_s


def _rounds(agent_id: str, agent: _Agent) -> Reading:
    labels = {"__name__": ROUNDS, "agent_id": agent_id, "stat_scope": "container"}
    return labels, float(agent.rounds)


class Replay(MetricsPage):
    """Export recorded series again, live, at the speed they were recorded.

    So many seconds after it was made, or rewound, each series has the value that it had so many
    seconds after the first sample of all, plus `skip_s`; at the end it keeps the last one. The
    labels of `drop` are left to the scraper.
    """

    def __init__(
        self,
        recording: Path | Sequence[Series],
        *,
        skip_s: float = 0.0,
        drop: Sequence[str] = ("instance", "job"),
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock)
        series = samples_of(recording) if isinstance(recording, Path) else recording
        self._series = [(_without(one.labels, drop), one.samples) for one in series]
        firsts = [samples[0][0] for _, samples in self._series]
        self.first_time = min(firsts)
        self.last_time = max(samples[-1][0] for _, samples in self._series)
        self.rewind(skip_s)

    def rewind(self, skip_s: float = 0.0) -> None:
        """Start the recording again, `skip_s` after its first sample."""
        self._shift_s = self.first_time + skip_s - self._clock()

    def recorded_time(self) -> float:
        """Return the time of the recording that is exported now."""
        return self._clock() + self._shift_s

    def readings(self) -> Iterable[Reading]:
        """Return labels and value of every series that has begun."""
        now = self.recorded_time()
        for labels, samples in self._series:
            index = bisect_right(samples, now, key=_time_of)
            if index:
                yield labels, samples[index - 1][1]


def _time_of(sample: tuple[float, float]) -> float:
    return sample[0]


def _without(labels: Mapping[str, str], drop: Sequence[str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if name not in drop}
