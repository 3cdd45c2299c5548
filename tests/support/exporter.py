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
from typing import Literal

from aiohttp import web

from .background import WebService
from .kernels import METRICS, Kernel, make_kernel
from .openmetrics import (
    DURATION_COUNT,
    DURATION_SUM,
    ROUNDS,
    STAGE_COUNT,
    STAGE_SECONDS,
    UTILIZATION,
    Series,
    line_of,
    number,
    samples_of,
)
from .process import HOST

_TYPES = {UTILIZATION: "gauge", ROUNDS: "counter", STAGE_COUNT: "counter"}
_GATHERING, _LASTING = 0.1, 0.12
"""Shares of an interval that gathering takes, and a whole round."""

Counting = Literal["rounds", "successes"]

Reading = tuple[Mapping[str, str], float]


class MetricsPage(WebService):
    """Serve readings as Prometheus text on /metrics."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock

    @abc.abstractmethod
    def readings(self, target: str = "") -> Iterable[Reading]:
        """Return labels and value of every series as of now; of one target, where it has several.

        KeyError where there is no such target.
        """

    def text(self, target: str = "") -> str:
        """Return the page."""
        families: dict[str, list[str]] = defaultdict(list)
        for labels, value in self.readings(target):
            lines = families[labels.get("__name__", UTILIZATION)]
            lines.append(f"{line_of(labels)} {number(value)}\n")
        heads = {name: f"# TYPE {name} {_TYPES.get(name, 'untyped')}\n" for name in families}
        return "".join(heads[name] + "".join(lines) for name, lines in families.items())

    def _routes(self) -> list[web.RouteDef]:
        return [web.get("/metrics", self._answer), web.get("/metrics/{target}", self._answer)]

    async def _answer(self, request: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        try:
            page = self.text(request.match_info.get("target", ""))
        except KeyError:
            return web.Response(status=404)
        return web.Response(body=page.encode(), headers=headers)


@dataclass(slots=True)
class _Agent:
    """The measurements of one agent so far."""

    measured: float
    rounds: int = 0
    written: int = 0
    owed_s: float = 0.0
    frozen: bool = False
    refused: bool = False
    counts: Counting | None = "rounds"


@dataclass(slots=True)
class _Work:
    """How long one kernel has worked in its life."""

    worked_s: float = 0.0
    idle: bool = False


class Exporter(MetricsPage):
    """Agents `i-agent0`, `i-agent1` … with kernels dealt to them in turn, measured live.

    A value changes only when its agent measures, every `measure_every_s` of `clock`, and the
    agent's rounds with it. What the values must be is `current`; a counter's true rate is
    `Kernel.rate`. `counts` says of agents that are older than 26.4.4 what they count,
    as `count` does later on.

    An agent is a target: /metrics is the page of the only one, `targets` are those of several.
    """

    def __init__(
        self,
        kernels: int = 3,
        agents: int = 1,
        *,
        measure_every_s: float = 1.0,
        counts: Mapping[str, Counting | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock)
        self.measure_every_s = measure_every_s
        now = clock()
        self._agents = {f"i-agent{index}": _Agent(now) for index in range(agents)}
        for name, counting in (counts or {}).items():
            self._agents[name].counts = counting
        self.kernels = [
            make_kernel(number, f"i-agent{(number - 1) % agents}")
            for number in range(1, kernels + 1)
        ]
        self._work = {kernel: _Work() for kernel in self.kernels}
        self._lock = threading.RLock()

    @property
    def agent_ids(self) -> list[str]:
        """The agents."""
        return list(self._agents)

    @property
    def targets(self) -> list[dict[str, object]]:
        """The `static_configs` of a scrape job that finds every agent, by its name."""
        return [
            {
                "targets": [f"{HOST}:{self.port}"],
                "labels": {"__metrics_path__": f"/metrics/{name}", "instance": f"{name}:6003"},
            }
            for name in self._agents
        ]

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

    def refuse_writes(self, agent_id: str) -> None:
        """Let an agent measure on while what it writes to Redis is refused: a cut-over."""
        with self._lock:
            self._measure()
            self._agents[agent_id].refused = True

    def count(self, agent_id: str, counts: Counting | None) -> None:
        """Say what an agent counts: rounds as since 26.4.4, successes as before, or nothing."""
        with self._lock:
            self._agents[agent_id].counts = counts

    def idle_kernel(self, kernel_id: str) -> None:
        """Let nothing of a kernel move from its next measurement on."""
        with self._lock:
            self._measure()
            self._work[self.kernel(kernel_id)].idle = True

    def current(self, kernel_id: str) -> dict[str, float]:
        """Return what a scrape now would read of each metric's `current`."""
        with self._lock:
            self._measure()
            kernel = self.kernel(kernel_id)
            worked_s = self._work[kernel].worked_s
            return {metric.name: kernel.current(metric, worked_s) for metric in METRICS}

    def readings(self, target: str = "") -> list[Reading]:
        """Return labels and value of every series of an agent as of its last measurement."""
        if not target and len(self._agents) == 1:
            (target,) = self._agents
        with self._lock:
            self._measure()
            counted = list(_counters(target, self._agents[target], self.measure_every_s))
            found: list[Reading] = []
            for kernel, work in self._work.items():
                if kernel.agent_id == target:
                    found += _kernel_readings(kernel, work.worked_s)
            return found + counted

    def _measure(self) -> None:
        """Catch up with the measurements that were due since the last look."""
        now = self._clock()
        for agent_id, agent in self._agents.items():
            due = int((now - agent.measured) / self.measure_every_s)
            agent.measured += due * self.measure_every_s
            agent.owed_s += due * self.measure_every_s
            if not agent.frozen:
                agent.rounds += due
                agent.written += 0 if agent.refused else due
                self._advance(agent_id, agent.owed_s)
                agent.owed_s = 0.0

    def _advance(self, agent_id: str, passed_s: float) -> None:
        for kernel, work in self._work.items():
            if kernel.agent_id == agent_id and not work.idle:
                work.worked_s += passed_s


def _kernel_readings(kernel: Kernel, worked_s: float) -> Iterable[Reading]:
    for metric in METRICS:
        yield kernel.labels(metric, "current"), kernel.current(metric, worked_s)
        if metric.capacity is not None:
            yield kernel.labels(metric, "capacity"), metric.capacity


def _counters(agent_id: str, agent: _Agent, every_s: float) -> Iterable[Reading]:
    task = {"agent_id": agent_id, "stat_scope": "container"}
    if agent.counts is not None:
        yield {"__name__": ROUNDS, **task}, float(agent.written)
    if agent.counts != "rounds":
        return
    stage = {"upper_layer": "collect_container_stat"}
    gathered = {"stage": "gather_measures", **stage}
    tried = {"__name__": STAGE_COUNT, "stage": "redis_write", **stage}
    yield {"__name__": STAGE_COUNT, "success": "True", **gathered}, float(agent.rounds)
    yield {"__name__": STAGE_SECONDS, **gathered}, agent.rounds * _GATHERING * every_s
    yield {"success": "True", **tried}, float(agent.written)
    if agent.rounds > agent.written:
        yield {"success": "False", **tried}, float(agent.rounds - agent.written)
    yield {"__name__": DURATION_COUNT, **task}, float(agent.rounds)
    yield {"__name__": DURATION_SUM, **task}, agent.rounds * _LASTING * every_s


class Replay(MetricsPage):
    """Export recorded series again, live, at the speed they were recorded.

    So many seconds after it was made each series has the value that it had so many
    seconds after the first sample of all, plus `skip_s`; at the end it keeps the last one.
    """

    def __init__(
        self,
        recording: Path | Sequence[Series],
        *,
        skip_s: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock)
        series = samples_of(recording) if isinstance(recording, Path) else recording
        self._series = [(_own(one.labels), one.samples) for one in series]
        first_time = min(samples[0][0] for _, samples in self._series)
        self._shift_s = first_time + skip_s - self._clock()

    def recorded_time(self) -> float:
        """Return the time of the recording that is exported now."""
        return self._clock() + self._shift_s

    def readings(self, target: str = "") -> Iterable[Reading]:
        """Return labels and value of every series that has begun."""
        now = self.recorded_time()
        for labels, samples in self._series:
            index = bisect_right(samples, now, key=_time_of)
            if index:
                yield labels, samples[index - 1][1]


def _time_of(sample: tuple[float, float]) -> float:
    return sample[0]


def _own(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that are not the scraper's to give."""
    return {name: value for name, value in labels.items() if name not in ("instance", "job")}
