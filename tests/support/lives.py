"""A simulated cluster whose truth is known: agents measure, are scraped, fail, and are polled.

Prometheus is the demo's, over samples that are stored as it does, with an end where a series was
not in a scrape. Everything happens at times of its own, in seconds since `T0`.
"""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from poller.backfill.backfill import Backfiller, Reach
from poller.batch.batch import Limits, Observer
from poller.batch.survey import Given, Surveyor
from poller.demo import promapi
from poller.demo.cluster import Sample
from poller.errors import ClockError, PrometheusError
from poller.format import encode
from poller.format.catalog import Catalog
from poller.history.history import History
from poller.poll.cycle import Cycle, Rules
from poller.poll.outcome import Outcome
from poller.poll.publish import Publisher
from poller.poll.restore import Restorer, Restoring
from poller.prometheus.answers import ROWS, SERIES, SET_ROWS, Form, Row, decoded
from poller.prometheus.selectors import EVERYTHING
from poller.store.keys import Found, Written
from poller.values import LiveStat, Query

from .looks import COUNTER, ENDED

T = TypeVar("T")
T0 = 1_790_000_000.0
LOOKBACK_S = 300.0
_CAPACITIES = {"cpu_util": 1000.0, "mem": 1e12, "cuda_util": 100.0}


@dataclass(slots=True)
class Truth:
    """What an agent knows of one metric of one kernel: of each of its measurements."""

    values: list[tuple[float, float]] = field(default_factory=list)

    @property
    def mean(self) -> float:
        return math.fsum(value for _, value in self.values) / len(self.values)

    @property
    def maximum(self) -> float:
        return max(value for _, value in self.values)

    @property
    def rate(self) -> float:
        (before_at, before), (at, value) = self.values[-2:]
        return (value - before) / (at - before_at)


class Kernel:
    """A busy kernel: `metrics` are functions of the time, None where it has none then."""

    def __init__(self, name: str) -> None:
        self.id = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        self.metrics: dict[str, Callable[[float], float | None]] = {
            "cpu_util": lambda at: (at + 3600) * 700,
            "mem": lambda at: 1e9 + at,
            "cuda_util": lambda at: 50 + 40 * math.sin(at / 50),
            "io_read": lambda at: (at + 3600) * 1000,
        }
        self.truth: dict[str, Truth] = {}


class Track:
    """The samples of one series; None ends it until the next."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.labels = labels
        self._at_ms: list[int] = []
        self._values: list[float | None] = []

    def add(self, at: float, value: float | None) -> None:
        self._at_ms.append(round(at * 1000))
        self._values.append(value)

    @property
    def begins_ms(self) -> int:
        return self._at_ms[0]

    def between(self, start_ms: int, end_ms: int) -> list[Sample]:
        places = range(bisect_left(self._at_ms, start_ms), bisect_right(self._at_ms, end_ms))
        found = ((self._at_ms[place], self._values[place]) for place in places)
        return [Sample(at_ms, value) for at_ms, value in found if value is not None]

    def latest(self, end_ms: int) -> Sample | None:
        place = bisect_right(self._at_ms, end_ms) - 1
        value = self._values[place] if place >= 0 else None
        return None if value is None else Sample(self._at_ms[place], value)


class Agent:
    """Measures its kernels every `measure_s` and is scraped every `scrape_s`, unless told not to.

    `ghosts` are series that it tells of beside those that it measures. `counted` is what its
    counter says instead of its rounds, where it is not None. `ends`: it counts their ends too.
    """

    def __init__(self, name: str, kernels: Sequence[Kernel], measure_s: float, scrape_s: float,
                 phase: float) -> None:  # fmt: skip
        self.name, self.kernels = name, kernels
        self.instance = f"{name}:1"
        self.measure_s, self.scrape_s = measure_s, scrape_s
        self.counts, self.ends = True, False
        self.counted: Callable[[float], float | None] = lambda at: None
        self.up: Callable[[float], bool] = lambda at: True
        self.measures: Callable[[float], bool] = lambda at: True
        self.reachable: Callable[[float], bool] = lambda at: True
        self.leaves_out: Callable[[Kernel, float], bool] = lambda kernel, at: False
        self.ghosts: dict[tuple[str, str], float] = {}
        self._rounds = 1000
        self._gauges: dict[tuple[str, str], float] = {}
        self.next_measured = phase * measure_s
        self.next_scraped = 1.3 + phase * scrape_s

    @property
    def next_event(self) -> float:
        return min(self.next_measured, self.next_scraped)

    def measure(self) -> None:
        at, self.next_measured = self.next_measured, self.next_measured + self.measure_s
        if not self.up(at):
            self._rounds, self._gauges = 0, {}
        elif self.measures(at):
            self._rounds += 1
            self._gauges = dict(self._measured(at))

    def _measured(self, at: float) -> Iterator[tuple[tuple[str, str], float]]:
        for kernel in self.kernels:
            for name, function in kernel.metrics.items():
                value = None if self.leaves_out(kernel, at) else function(at)
                if value is not None:
                    kernel.truth.setdefault(name, Truth()).values.append((at, value))
                    yield (kernel.id, name), value

    def scraped(self) -> tuple[float, list[tuple[dict[str, str], float]]]:
        """Return the time of the next scrape and its samples: none if it fails."""
        at, self.next_scraped = self.next_scraped, self.next_scraped + self.scrape_s
        return at, list(self._exported(at)) if self.up(at) and self.reachable(at) else []

    def _exported(self, at: float) -> Iterator[tuple[dict[str, str], float]]:
        target = {"instance": self.instance, "job": "agents"}
        for (kernel, name), value in {**self._gauges, **self.ghosts}.items():
            labels = {
                **target,
                "__name__": "backendai_container_utilization",
                "kernel_id": kernel,
                "container_metric_name": name,
                "agent_id": self.name,
                "session_id": "session",
                "user_id": "user",
                "project_id": "project",
            }
            yield {**labels, "value_type": "current"}, value
            if name in _CAPACITIES:
                yield {**labels, "value_type": "capacity"}, _CAPACITIES[name]
        if self.counts and self._rounds:
            said = self.counted(at)
            yield {**target, **COUNTER}, float(self._rounds) if said is None else said
        if self.ends and self._rounds:
            yield {**target, **ENDED, "agent_id": self.name}, float(self._rounds)


class SecondTarget(Agent):
    """An agent's exporter that is scraped once more, `later_s` after: `labels` are its own."""

    def __init__(self, agent: Agent, later_s: float, **labels: str) -> None:
        super().__init__(agent.name, [], agent.measure_s, agent.scrape_s, 0.0)
        self.instance = labels.get("instance", f"{agent.instance} {labels}")
        self.next_measured = math.inf
        self.next_scraped = agent.next_scraped + later_s
        self._agent, self._labels = agent, labels

    def _exported(self, at: float) -> Iterator[tuple[dict[str, str], float]]:
        for labels, value in self._agent._exported(at):
            yield {**labels, **self._labels}, value


class Memory:
    """Prometheus and Redis of the simulation; `now` is the time of both, in Unix seconds.

    `down`: Prometheus answers nobody. `skewed`: its clock has been set, so the poller refuses what
    it answered; it is `ahead_s` ahead. Samples are stored `stored_s` after their scrape, and those
    of some labels `late_s` later. `past` is waited for before any question after the past.
    """

    def __init__(self) -> None:
        self.now = T0
        self.tracks: dict[frozenset[tuple[str, str]], Track] = {}
        self.keys: dict[str, bytes] = {}
        self.written: dict[str, float] = {}
        self.down = False
        self.skewed = False
        self.ahead_s = self.stored_s = 0.0
        self.late_s: Callable[[Mapping[str, str]], float] = lambda labels: 0.0
        self._on_their_way: list[tuple[float, float, list[tuple[dict[str, str], float]], str]] = []
        self.past = asyncio.Event()
        self.past.set()
        self.url, self.server_ahead_s, self.passed_over = "http://prometheus", 0.0, None
        self.in_mid_batch: Callable[[], None] = lambda: None
        self._told: dict[str, set[frozenset[tuple[str, str]]]] = {}

    def forget_server_clock(self) -> None:
        self.server_ahead_s = 0.0

    def scraped(self, target: str, at: float, samples: list[tuple[dict[str, str], float]]) -> None:
        parts: dict[float, list[tuple[dict[str, str], float]]] = {} if samples else {0.0: []}
        for sample in samples:
            parts.setdefault(self.late_s(sample[0]), []).append(sample)
        for late_s, part in parts.items():
            self._on_their_way.append((at, late_s, part, f"{target} {late_s}"))

    def store_until(self, at: float) -> None:
        """Store what was scraped long enough ago."""
        there, self._on_their_way = self._on_their_way, []
        for one in there:
            scraped, late_s, samples, target = one
            if scraped + self.stored_s + late_s <= at:
                self._store(target, scraped, samples)
            else:
                self._on_their_way.append(one)

    def lose_all(self) -> None:
        """Lose every sample."""
        self.tracks.clear()
        self._told.clear()

    def _store(self, target: str, at: float, samples: list[tuple[dict[str, str], float]]) -> None:
        at += self.ahead_s
        told = {frozenset(labels.items()) for labels, _ in samples}
        for gone in self._told.get(target, set()) - told:
            self.tracks[gone].add(at, None)
        self._told[target] = told
        for labels, value in samples:
            key = frozenset(labels.items())
            self.tracks.setdefault(key, Track(labels)).add(at, value)

    def _answer(self, form: Form[T], text: str, at: float) -> list[T]:
        if self.down:
            raise PrometheusError("unavailable", "nobody answers")
        stored: list[Any] = list(self.tracks.values())
        data = promapi.answer(stored, text, round(at * 1000))
        found = decoded(form, json.dumps({"status": "success", "data": data}).encode()).data
        assert found is not None
        return found.result

    def take_warning(self) -> str:
        return ""

    async def fail_over(self, attempt: Callable[[], Awaitable[T]], within_s: float) -> T:
        return await attempt()

    async def vector(self, text: str, at: float, timeout_s: float | None = None) -> list[Row]:
        if timeout_s and not text.startswith("count by (instance)"):
            await self.past.wait()
        return self._answer(ROWS, text, at)

    async def matrix(self, text: str, at: float, timeout_s: float | None = None) -> list[Any]:
        if timeout_s:
            await self.past.wait()
        return self._answer(SERIES, text, at)

    async def sets(self, text: str, at: float) -> list[Any]:
        return self._answer(SET_ROWS, text, at)

    async def rows(
        self, queries: Sequence[Query], at: float, take: Callable[[Query, list[Row]], None]
    ) -> None:
        for query in queries:
            take(query, self._answer(ROWS, query.text, at))
        self.in_mid_batch()

    # --- the keys -------------------------------------------------------------------------------

    async def read(self, kernels: Sequence[str]) -> Found:
        return Found({one: self.keys[one] for one in kernels if one in self.keys}, frozenset())

    async def ages(self, kernels: Sequence[str]) -> dict[str, float]:
        return {one: self.now - self.written[one] for one in kernels if one in self.written}

    async def write(self, values: Mapping[str, bytes], fence: object) -> Written:
        before = {kernel: self.keys.get(kernel) for kernel in values}
        self.keys |= values
        self.written |= dict.fromkeys(values, self.now)
        return Written(before, {})

    def stat(self, kernel: Kernel) -> LiveStat:
        found = encode.unpack(self.keys[kernel.id])
        assert found is not None
        return found


class _Clock:
    step_s = 0.0

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def now(self) -> float:
        return self._memory.now + self._memory.ahead_s

    def follow(self, ahead_s: float | None) -> bool:
        return self._memory.skewed


class Lives:
    """A cluster of agents with a kernel each, and a poller that is started, stopped, held up."""

    def __init__(self, agents: int = 6, measure_s: float = 30.0, scrape_s: float = 10.0) -> None:
        self.kernels = [Kernel(f"kernel {number}") for number in range(agents)]
        self.agents = [
            Agent(f"i-{number:02}", [kernel], measure_s, scrape_s, number / agents)
            for number, kernel in enumerate(self.kernels)
        ]
        self.memory = Memory()
        self.reach = Reach()
        self.start()

    def start(self) -> None:
        """Start a new poller, which knows nothing; the one before is dead."""
        memory: Any = self.memory
        clock: Any = _Clock(memory)
        self.history = History(Catalog(), LOOKBACK_S)
        limits = Limits(EVERYTHING, 2000, 3.2, LOOKBACK_S)
        observer = Observer(memory, Catalog(), Surveyor(Given()), limits)
        publisher = Publisher(memory, False, 5.0)
        backfiller = Backfiller(self.history, self.reach, observer.rounds)
        by = Restoring(0.05, None)
        restorer = Restorer(by, observer, memory, self.history, backfiller, publisher)
        rules = Rules(0.0, 900.0, None, "first")
        self.cycle = Cycle(rules, clock, observer, memory, self.history, restorer, publisher)

    def until(self, at: float) -> None:
        """Let the agents live until then."""
        while (agent := min(self.agents, key=lambda one: one.next_event)).next_event <= at:
            if agent.next_measured <= agent.next_scraped:
                agent.measure()
            else:
                scraped, samples = agent.scraped()
                self.memory.scraped(agent.instance, T0 + scraped, samples)
        self.memory.store_until(T0 + at)
        self.memory.now = T0 + at

    async def poll(self, start: float, end: float, every_s: float = 5.0) -> list[Outcome]:
        """Poll from start to end; a cycle without an answer is one that failed."""
        outcomes = []
        at = start
        while at < end:
            self.until(at + 0.05)
            try:
                outcomes.append(await self.cycle.poll())
            except PrometheusError:
                assert self.memory.down
            except ClockError:
                assert self.memory.skewed
            at += every_s
        return outcomes

    async def past_comes(self) -> None:
        """Let questions after the past be answered, and what hangs on them be done."""
        self.memory.past.set()
        for _ in range(300):
            await asyncio.sleep(0)


def stored_in_parts(late_s: float) -> Lives:
    """Return a cluster of which a counter and every other kernel are stored later, as by remote
    write: a scrape of more than `max_samples_per_send` is sent in several parts."""
    lives = Lives(agents=4, measure_s=7.0, scrape_s=7.0)
    late = {kernel.id for kernel in lives.kernels[2:]}
    lives.agents = lives.agents[:2]
    for agent, kernel in zip(lives.agents, lives.kernels[2:], strict=True):
        agent.kernels, agent.ends = [*agent.kernels, kernel], True

    def part(labels: Mapping[str, str]) -> float:
        return late_s if labels.get("kernel_id") in late or "stat_scope" in labels else 0.0

    lives.memory.late_s = part
    return lives
