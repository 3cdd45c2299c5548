"""One batch: look at the rounds, plan, ask at one time, merge, look again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from poller.batch.capacities import Capacities
from poller.batch.census import Census
from poller.batch.duplicate_search import DuplicateSearch
from poller.batch.merge import Merger
from poller.batch.plan import NEW_COSTS, Instances, Known, Plan, Read, plan
from poller.batch.plan_queries import PlanQueries
from poller.batch.portion import Portion
from poller.batch.survey import Surveyor
from poller.batch.trail import Glimpses
from poller.batch.unread import Unread
from poller.errors import PrometheusError
from poller.format.catalog import Catalog
from poller.prometheus.client import Client, together
from poller.prometheus.errors import TOO_MUCH
from poller.prometheus.selectors import Scope
from poller.rounds.rounds import Rounds
from poller.values import Batch, Stage, Survey, portions

_PORTION = 5000
"""So many series of a trail are sorted before the event loop has its turn: some 20 ms."""
Timed = Callable[[Stage], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Which kernels, and about how many at once. `within_s` bounds the whole batch.

    `lookback_s`: an exporter that was not scraped for longer counts no rounds.
    """

    scope: Scope
    most_kernels: int
    within_s: float
    lookback_s: float = 300.0


class Observer:
    """Asks batches, and knows what Prometheus holds."""

    def __init__(
        self,
        client: Client,
        catalog: Catalog,
        surveyor: Surveyor,
        limits: Limits,
        rounds: Rounds | None = None,
    ) -> None:
        self.client = client
        self.catalog = catalog
        self.surveyor = surveyor
        self.limits = limits
        self.rounds = rounds or Rounds()
        self._ids: dict[str, str] = {}
        self._census = Census(limits.within_s)
        self._capacities = Capacities()
        self._duplicates = DuplicateSearch(self.rounds)
        self._unread = Unread(self.rounds)
        self._portion = Portion(limits.most_kernels * NEW_COSTS, limits.within_s)
        self._asking = 0.0
        self._started = self._planned = 0.0

    async def batch(self, at: float, read: Read, timed: Timed) -> Batch:
        """Ask one batch at the time `at`. Several servers are tried in the order of preference."""
        if self.limits.scope.kernels == ():
            return Batch(at, {})
        self._started, self._asking = time.perf_counter(), 0.0
        try:
            batch = await self.client.fail_over(
                lambda: self._batch(at, read, timed), self.limits.within_s
            )
        except PrometheusError as error:
            if error.reason in TOO_MUCH:
                self.ask_for_less()
            raise
        left_s = self.limits.within_s - (self._planned - self._started)
        self._portion.saw(self._asking, time.perf_counter() - self._planned, left_s)
        return batch

    def ask_for_less(self) -> None:
        """Ask for half of the last batch at most: all of it was too much."""
        self._portion.overran(self._asking)

    async def _batch(self, at: float, read: Read, timed: Timed) -> Batch:
        with timed("rounds"):
            await self._unread.look(self.client, at, read.stamps)
        self._census.begin(self.client, self.limits.scope, at, read.anew)
        with timed("survey"):
            if not self._census.kernels:
                await self._first_census()
            known = await self._survey(at)
        self._planned = time.perf_counter()
        todo = plan(at, read, known)
        self._asking = todo.load
        if self.limits.scope.kernels is not None:
            todo = replace(todo, asked=None, capacities=None)
        merger = Merger(self.catalog, self._ids)
        glimpses = self._unread.glimpses(known.stamps, read.since or at)
        mixed: Instances = frozenset()
        if todo.asked is None or todo.asked:
            with timed("query"):
                await self._ask(todo, known.survey, at, read, merger, glimpses)
            with timed("rounds"):
                mixed = await self._unread.mixed(self.client, at, todo.asked)
        with timed("survey"):
            await self._census.arrive()  # for the next batch
        with timed("merge"):
            for _ in merger.fold():
                await asyncio.sleep(0)
            batch = self._finished(merger, glimpses, todo, known, at, mixed)
            await asyncio.sleep(0)
            batch = self._duplicates.suspect(batch, read.known, turns=len(known.survey.metrics))
        if batch.conflicts:
            with timed("settle"):
                batch = await self._duplicates.settle(
                    self.client, batch, self.limits.scope, known.survey, read.known
                )
        return batch

    def taken(self, batch: Batch) -> None:
        """Take that a batch is remembered: what it told need not be asked again."""
        self._unread.taken(batch)
        self._capacities.were_read(batch.capacities, batch.time)

    async def look(self, at: float) -> None:
        """Look at the rounds alone, at the time `at`."""
        await self.client.fail_over(
            lambda: self._unread.look(self.client, at, {}), self.limits.within_s
        )

    def begin_anew(self) -> None:
        """Forget the rounds: they are learnt again by the next batch."""
        self._unread.begin_anew()

    async def _survey(self, at: float) -> Known:
        """Return what there is: which exporters, in which rounds, with which metrics."""
        stamps = self.rounds.stamps(at - self.limits.lookback_s)
        roundless = self._census.kernels.keys() - stamps.keys()
        survey = await self.surveyor.survey(self.client, at, roundless)
        return Known(
            census=self._census.kernels,
            stamps=stamps,
            scrapes={instance: len(new) for instance, new in self._unread.trail.items()},
            rounds=self.rounds,
            capacities=self._capacities,
            survey=survey,
            given_s=self.surveyor.given.window_s,
            most_load=self._portion.of(1 - self._spent_s / self.limits.within_s),
        )

    @property
    def _spent_s(self) -> float:
        return time.perf_counter() - self._started

    async def _first_census(self) -> None:
        """Wait for a count, without which nobody knows whom to ask and how much."""
        await self._census.arrive()
        self._portion.saw_census(sum(self._census.kernels.values()), self._census.took_s)

    async def close(self) -> None:
        """End what goes on in the background."""
        await self._census.close()

    async def _ask(
        self,
        todo: Plan,
        survey: Survey,
        at: float,
        read: Read,
        merger: Merger,
        glimpses: Glimpses,
    ) -> None:
        async def trail(text: str) -> None:
            answer = await self.client.matrix(text, at)
            for some in portions(answer, _PORTION):
                glimpses.take(some)
                await asyncio.sleep(0)

        async def newest(text: str) -> None:
            glimpses.take_newest(await self.client.vector(text, at))

        limits = self.limits
        ask = PlanQueries(todo, survey.metrics, self.catalog, limits.scope, limits.most_kernels)
        trails = [trail(text) for text in ask.trails(at, read, self._unread.trail)]
        times = [newest(text) for text in ask.newest()]
        queries = ask.batch(self._duplicates.wide(survey.metrics))
        await together([self.client.rows(queries, at, merger.take), *trails, *times])
        changed: Instances = frozenset()
        for some in ask.changed_capacities(merger, read.known):
            changed |= some
            await asyncio.sleep(0)
        more = ask.more_capacities(changed)
        new = [name for name in merger.found() if name not in survey.metrics]
        if new:
            more += ask.of_new(new)
        if more:
            await self.client.rows(more, at, merger.take)
        self.surveyor.learn(merger.found(), todo.asked is None, at)

    def _finished(
        self,
        merger: Merger,
        glimpses: Glimpses,
        todo: Plan,
        known: Known,
        at: float,
        mixed: Instances,
    ) -> Batch:
        batch = merger.finish(at, self.limits.scope.kernels or ())
        read = known.stamps.keys() if todo.asked is None else todo.asked & known.stamps.keys()
        hidden = self._hidden(read, batch, at)
        mixed |= hidden
        self._note_kernels(batch, todo)
        told = read if todo.capacities is None else todo.capacities & read
        return replace(
            batch,
            asked=todo.asked,
            census=dict(self._census.kernels),
            counting=bool(known.stamps) and self._unread.answered,
            stamps={name: known.stamps[name] for name in read if name not in mixed},
            mixed=mixed,
            hidden=hidden - todo.trail,
            windows=todo.windows,
            glimpses=glimpses.in_order(),
            gaps=todo.gaps,
            counted=glimpses.repeated() | (todo.trail - known.stamps.keys()),
            sampled=glimpses.newest(),
            capacities=frozenset(told - mixed),
            late=todo.late,
            unmet=todo.unmet,
        )

    def _hidden(self, read: Iterable[str], batch: Batch, at: float) -> Instances:
        """Return the exporters that told of no kernel since their last scrape failed.

        An instant query shows nothing of them, so their round has not been read.
        """
        seen = set(batch.instances.values())
        clocks = ((name, self.rounds.of(name)) for name in read if name not in seen)
        return frozenset(name for name, clock in clocks if clock and clock.is_behind(at))

    def _note_kernels(self, batch: Batch, todo: Plan) -> None:
        """Let the census know what the exporters that were asked have by now."""
        there: dict[str, int] = {}
        for kernel, seen in batch.observations.items():
            if seen:
                instance = batch.instances.get(kernel, "")
                there[instance] = there.get(instance, 0) + 1
        asked = there if todo.asked is None else todo.asked
        self._census.note({instance: there.get(instance, 0) for instance in asked})
        if sum(self._census.kernels.values()) * 2 + 1000 < len(self._ids):
            self._ids = {kernel: kernel for kernel in batch.observations}
            self._capacities.keep(self._census.kernels)
