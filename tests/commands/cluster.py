"""A scripted cluster as samples around now: no test has to wait for scrapes."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.command import environment, poller
from tests.support.kernels import METRICS, Kernel, make_kernel
from tests.support.openmetrics import openmetrics_file
from tests.support.servers import Prometheus, Redis

BEFORE_S = 200
AFTER_S = 400
_STAGE = {"__name__": "backendai_stage_count_total", "upper_layer": "collect_container_stat"}
_TASK = {"stat_scope": "container"}
_SIZES = ("mem", "io_scratch_size", "cuda_mem")

Labels = dict[str, str]


@dataclass
class Agent:
    """One agent that measures every 5 s.

    `writes`: it counts tries to write keys. `lacks`: metrics that it does not export. `counts`
    False: an old agent, that counts no stages. `stalled_s`: so long ago it stopped measuring;
    `down_s`: so long ago it was scraped last; `born_s`: so long ago its kernels began, `ended_s`:
    so long ago they ended. `leaps`: sizes grow by half with each measurement; shares do not, since
    the mean of such a gauge is that of its last samples alone.
    """

    name: str
    kernels: int = 2
    writes: bool = False
    lacks: tuple[str, ...] = ()
    counts: bool = True
    stalled_s: float | None = None
    down_s: float | None = None
    born_s: float = BEFORE_S
    ended_s: float | None = None
    leaps: bool = False
    numbers: list[int] = field(default_factory=list)

    @property
    def made(self) -> list[Kernel]:
        return [make_kernel(number, self.name) for number in self.numbers]

    @property
    def ids(self) -> list[str]:
        return [kernel.kernel_id for kernel in self.made]


class Cluster:
    """Agents, in a real Prometheus beside a real Redis."""

    def __init__(self, folder: Path, *agents: Agent) -> None:
        self.agents = agents
        self.now = time.time()
        number = 0
        for agent in agents:
            agent.numbers = list(range(number + 1, number + agent.kernels + 1))
            number += agent.kernels
        self.samples = openmetrics_file(folder / "cluster.om", list(self._series()))

    @property
    def ids(self) -> list[str]:
        return [kernel for agent in self.agents for kernel in agent.ids]

    def _series(self) -> Iterator[tuple[Mapping[str, str], list[tuple[float, float]]]]:
        for place, agent in enumerate(self.agents):
            target = {"instance": f"10.0.0.{place}:6003", "job": "agents"}
            last = self.now + AFTER_S if agent.down_s is None else self.now - agent.down_s
            times = [
                self.now - BEFORE_S + 2 * step
                for step in range((BEFORE_S + AFTER_S) // 2)
                if self.now - BEFORE_S + 2 * step <= last
            ]
            yield from self._counters(agent, target, times)
            for kernel in agent.made:
                yield from self._kernel(agent, kernel, target, times)

    def _rounds(self, agent: Agent, at: float) -> int:
        if agent.stalled_s is not None:
            at = min(at, self.now - agent.stalled_s)
        return 10 + int((at - self.now + BEFORE_S) // 5)

    def _counters(
        self, agent: Agent, target: Labels, times: list[float]
    ) -> Iterator[tuple[Mapping[str, str], list[tuple[float, float]]]]:
        rounds = [(at, float(self._rounds(agent, at))) for at in times]
        own = target | {"agent_id": agent.name}
        yield {"__name__": "backendai_stat_task_success_count_total", **_TASK, **own}, rounds
        if not agent.counts:
            return
        stage = target | _STAGE | {"success": "True"}
        yield stage | {"stage": "gather_measures"}, rounds
        spent = [(at, 0.01 * count) for at, count in rounds]
        named = {"__name__": "backendai_stage_duration_sec_sum", "stage": "gather_measures"}
        yield stage | named, spent
        if agent.writes:
            yield stage | {"stage": "redis_write"}, rounds

    def _kernel(
        self, agent: Agent, kernel: Kernel, target: Labels, times: list[float]
    ) -> Iterator[tuple[Mapping[str, str], list[tuple[float, float]]]]:
        born = self.now - agent.born_s
        ended = self.now + AFTER_S if agent.ended_s is None else self.now - agent.ended_s
        for metric in METRICS:
            if metric.name in agent.lacks:
                continue
            samples = [
                (at, leap * kernel.current(metric, 5.0 * rounds))
                for at in times
                if born <= at <= ended
                for rounds in [self._rounds(agent, at) - self._rounds(agent, born)]
                for leap in [1.5**rounds if agent.leaps and metric.name in _SIZES else 1]
            ]
            yield kernel.labels(metric, "current") | target, samples
            if metric.capacity is not None:
                capacity = [(at, metric.capacity) for at, _ in samples]
                yield kernel.labels(metric, "capacity") | target, capacity


LOSES_SOON = ("--query.lookback-delta=10s",)
"""A Prometheus that forgets a kernel 10 s after its last sample."""


@dataclass
class Place:
    """A cluster's servers, and the commands run against them."""

    cluster: Cluster
    prometheus: Prometheus
    redis: Redis

    def agent(self, name: str) -> Agent:
        return next(agent for agent in self.cluster.agents if agent.name == name)

    def run(self, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
        given = {"redis__url": self.redis.url, **settings}
        return poller(*arguments, env=environment(self.prometheus.url, **given))

    def put(self, *kernels: str, value: bytes = b"x", age_s: int = 1, prefix: str = "") -> None:
        """Write keys as agents do."""
        with self.redis.client() as client:
            for kernel in kernels:
                client.set(prefix + kernel, value, ex=86_400 - age_s)


@contextmanager
def placed(folder: Path, *agents: Agent, arguments: Sequence[str] = ()) -> Iterator[Place]:
    """Run the servers of a cluster of these agents, Prometheus with more `arguments`."""
    cluster = Cluster(folder, *agents)
    with Prometheus(samples=cluster.samples, arguments=arguments) as prometheus, Redis() as redis:
        yield Place(cluster, prometheus, redis)


def lines(text: str, subject: str) -> list[str]:
    """Return what `check` tells of a subject: `level: text`."""
    found = re.findall(rf"^(ok|warn|fail) +{subject}: (.*)$", text, re.MULTILINE)
    return [f"{level}: {told}" for level, told in found]
