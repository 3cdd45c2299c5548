"""The backfill: kernels' past by the chunk; what is too much, failed, or no longer waited for.

Prometheus is asked over the restore window. A composition, like the cycle; it never delays one:
no question is put while a batch is asked, and where batches are slow, chunks come one by one with
pauses between them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from poller.backfill.pace import Pace, Queue
from poller.backfill.past import (
    Place,
    Questioner,
    births,
    in_cells,
    kernel_cells,
    metric_cells,
    movements,
    openings,
    without_older,
)
from poller.backfill.replay import replayed
from poller.errors import PollerError, PrometheusError
from poller.format.catalog import ESSENTIAL
from poller.history.history import History
from poller.history.state import MetricState
from poller.prometheus import lookup_queries
from poller.prometheus.answers import Series
from poller.prometheus.client import Client
from poller.prometheus.errors import TOO_MUCH
from poller.prometheus.selectors import Scope
from poller.rounds.rounds import Rounds
from poller.values import Life, Owed, Past, Patience

_TIMES_OLDER = (2.0, 4.0, 8.0, 16.0)
_HALF_MORE = 1.5
"""How much older than so many restore windows a kernel is on average that is not twice as old."""
ATTEMPTS = 3
"""After so many failed recalls a kernel goes on with what is known of it."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back and in what portions: seconds, kernels a query, queries at once.

    `pause_s`: so long after a failure it is not tried again. A server that starts or is overloaded
    refuses at once, and all attempts within a moment would be one.
    """

    window_s: float = 86_400.0
    chunk: int = 200
    concurrency: int = 2
    timeout_s: float = 30.0
    pause_s: float = 20.0


class Backfiller:
    """Recalls what a history owes. `on_progress(left)` is told how many kernels are left.

    `pace` is to be told of every batch. `restored` is how many kernels' past was backfilled so far.
    """

    def __init__(
        self,
        history: History,
        reach: Reach,
        rounds: Rounds,
        on_progress: Callable[[int], None] = lambda left: None,
    ) -> None:
        self._history = history
        self._reach = reach
        self._rounds = rounds
        self._on_progress = on_progress
        self.pace = Pace()
        self.restored = 0
        self._failures: Counter[str] = Counter()

    async def backfill_all(self, client: Client, patience: Patience) -> int:
        """Recall everything that is owed, some chunks at a time; return how many gave up."""
        queue = Queue(self._history, self._reach.chunk)
        self._failures = Counter(
            {name: count for name, count in self._failures.items() if name in self._history.owing}
        )
        given_up = 0
        running: set[asyncio.Task[int]] = set()
        try:
            while True:
                at_once = self.pace.at_once(self._reach.concurrency)
                while len(running) < at_once and (chunk := await queue.next()):
                    running.add(asyncio.create_task(self._one(client, *chunk, patience, queue)))
                if not running:
                    return given_up
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                given_up += sum(task.result() for task in done)
                self._on_progress(len(self._history.owing))
        finally:
            for task in running:
                task.cancel()

    async def _one(
        self, client: Client, owed: Owed, kernels: Sequence[str], patience: Patience, queue: Queue
    ) -> int:
        """Recall one chunk and rest; return how many of it gave up."""
        started, waited_s = time.perf_counter(), self.pace.waited_s
        given_up = await self._recall(client, owed, kernels, patience)
        queue.done(kernels)
        waited_s = self.pace.waited_s - waited_s
        await self.pace.rest(max(0.0, time.perf_counter() - started - waited_s))
        return given_up

    async def _recall(
        self, client: Client, owed: Owed, kernels: Sequence[str], patience: Patience
    ) -> int:
        """Recall one chunk, in halves where it is too much for the server."""
        try:
            lives = await self._lives(client, owed, kernels, patience)
        except PrometheusError as error:
            if error.reason in TOO_MUCH and len(kernels) > 1:
                half = len(kernels) // 2
                parts = (kernels[:half], kernels[half:])
                return sum([await self._recall(client, owed, part, patience) for part in parts])
            if error.reason not in TOO_MUCH:  # it may pass
                await asyncio.sleep(self._reach.pause_s)
            return sum(map(self._failed, kernels))
        except PollerError:
            return sum(map(self._failed, kernels))
        for kernel, life in lives.items():
            self._history.recall_life(kernel, life, owed)
            self._failures.pop(kernel, None)
        self.restored += sum(kernel not in self._history.owing for kernel in lives)
        return 0

    def _failed(self, kernel: str) -> bool:
        """Note a failed recall; after some attempts the kernel goes on with what is known."""
        self._failures[kernel] += 1
        if self._failures[kernel] < ATTEMPTS:
            return False
        del self._failures[kernel]
        return self._history.give_up(kernel)

    async def _lives(
        self, client: Client, owed: Owed, kernels: Sequence[str], patience: Patience
    ) -> dict[str, Life]:
        range_s = self._reach.window_s if owed.start is None else owed.end - owed.start
        ask = Questioner(client, owed.end, self._reach.timeout_s, self.pace)
        scope = Scope(kernels=tuple(kernels))
        owing = [(name, kept) for _, name, kept in self._kept(kernels) if kept.owed == owed]
        names = self._history.catalog.ordered({name for name, _ in owing})
        told = {name for name, kept in owing if kept.prior_average is not None}
        past = await self._past(ask, names, told, range_s, scope)
        moved, young = await movements(ask, kernels, patience)
        born: dict[str, float] = {}
        older = await ask.kernels(lookup_queries.older_query(range_s, scope))
        spans: dict[str, float] = {}
        if owed.start is None:
            spans = await self._spans(ask, sorted(older) if told else [], range_s)
            means = [name for name in names if self._history.catalog[name].needs_mean]
            opened = await openings(ask, young, {*means, ESSENTIAL[0]}, patience)
            opened = without_older(opened, past)
            born = births(opened, self._rounds)
            self._replay(past, opened, means)
            await self._add_firsts(ask, past, kernels, older, range_s)
        return {
            kernel: Life(
                moved=moved[kernel],
                born=born.get(kernel),
                older=kernel in older,
                spans=spans.get(kernel, 1.0),
                metrics={name: past[kernel, name] for name in names if (kernel, name) in past},
            )
            for kernel in kernels
        }

    async def _spans(self, ask: Questioner, older: list[str], range_s: float) -> dict[str, float]:
        """Return about how many times as old as the restore window kernels are that outlive it.

        An average of a key must weigh a life, or a day would outweigh weeks.
        """
        spans = dict.fromkeys(older, _HALF_MORE)
        for times in _TIMES_OLDER:
            if not older:
                break
            scope = Scope(kernels=tuple(older))
            older = sorted(await ask.kernels(lookup_queries.older_query(times * range_s, scope)))
            spans |= dict.fromkeys(older, times * _HALF_MORE)
        return spans

    def _replay(
        self, past: dict[Place, Past], opened: Mapping[Place, list[Series]], means: Iterable[str]
    ) -> None:
        """Count each measurement of young kernels once, where their rounds are still known."""
        for place, several in opened.items():
            clock = self._rounds.of(several[0].metric.get("instance", ""))
            if place[1] not in means or len(several) > 1 or clock is None:
                continue
            counted = replayed(several[0].values, clock.arrivals.last)
            if counted is not None:
                total, count = counted
                known = past.get(place, Past())
                past[place] = known._replace(total=total, samples=count, replayed=True)

    def _kept(self, kernels: Iterable[str]) -> Iterator[tuple[str, str, MetricState]]:
        """Yield what is kept of some kernels, by kernel and metric."""
        for kernel in kernels:
            history = self._history.kernels.get(kernel)
            for name, kept in history.metrics.items() if history else ():
                yield kernel, name, kept

    async def _past(
        self,
        ask: Questioner,
        names: list[str],
        told: Container[str],
        range_s: float,
        scope: Scope,
    ) -> dict[Place, Past]:
        queries = lookup_queries.past_queries(self._history.catalog, names, range_s, scope, told)
        past: dict[Place, Past] = {}
        for field, text in queries.items():
            for place, number in (await ask.numbers(text)).items():
                value = number if field in ("maximum", "minimum") else float(number)
                past[place] = past.get(place, Past())._replace(**{field: value})  # type: ignore[arg-type]
        return past

    async def _add_firsts(
        self,
        ask: Questioner,
        past: dict[Place, Past],
        kernels: Iterable[str],
        older: Container[str],
        range_s: float,
    ) -> None:
        """Find the first sample of every metric that has no capacity of its own.

        A kernel's metrics are born together as a rule; those that were not are looked for alone.
        """
        wanted = self._without_first(kernels)
        cells = await kernel_cells(ask, wanted, older, range_s)
        firsts = await in_cells(ask, cells)
        late: dict[str, list[str]] = {}
        for kernel, names in wanted.items():
            left = [name for name in names if (kernel, name) not in firsts]
            if left:
                late[kernel] = left
        if late:
            firsts |= await in_cells(ask, await metric_cells(ask, late, range_s))
        for place, text in firsts.items():
            past[place] = past.get(place, Past())._replace(first=text)

    def _without_first(self, kernels: Iterable[str]) -> dict[str, list[str]]:
        """Return the metrics of each kernel whose first value is wanted, in their order."""
        wanted: dict[str, list[str]] = {}
        for kernel, name, kept in self._kept(kernels):
            if kept.capacity is None and kept.first is None:
                wanted.setdefault(kernel, []).append(name)
        return wanted
