"""One batch: look at the rounds, ask for what was measured at one time, merge, look again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from poller.format.catalog import ESSENTIAL, Catalog
from poller.poll import duplicates, rates
from poller.poll.merge import Merger
from poller.poll.rounds import Rounds, rounds_of, target_of
from poller.poll.survey import Surveyor
from poller.poll.trail import Glimpses
from poller.prometheus import lookup_queries, round_queries
from poller.prometheus.batch_queries import gauge_queries, rate_queries
from poller.prometheus.client import Client, together
from poller.prometheus.selectors import Scope, sliced
from poller.values import Batch, Query, Stamp, Survey, Window

LEARN_S = 300.0
"""So far back the rounds are looked at when they are seen for the first time."""
SWEEP_S = 60.0
"""Every so often all kernels are asked for: what the rounds cannot tell is noticed then."""
GAP_S = 60.0
"""What happened longer ago than this is backfilled, not asked in the batch."""
_STORED_S = 15.0
"""A scrape is stored some time after its timestamp: so much of the past is looked at again."""
_SLIPS = 1.05
"""Scrapes further apart than this share of a poll cannot slip between two polls."""
_FEW = 200
"""So many kernels are named in a query; more are asked for as all."""
_MOST_ASKED = 0.6
"""If more than this share of the exporters measured, all are asked for."""
_TRAIL_SAMPLES = 300_000
"""A longer trail than this is backfilled by the server instead."""

Timed = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Which kernels, and in portions of how many. `within_s` bounds the whole batch.

    `lookback_s`: an exporter that was not scraped for longer counts no rounds.
    """

    scope: Scope
    slice_kernels: int
    within_s: float
    lookback_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Read:
    """What was read before: the time of the last good batch, and which round of each exporter.

    `kernels` says how many kernels each exporter told of, `roundless` which exporters count no
    rounds. `whole`: all kernels are asked for this time.
    """

    since: float | None
    stamps: Mapping[str, Stamp]
    kernels: Mapping[str, int]
    roundless: frozenset[str]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one batch asks. Instances; None stands for all of them, empty for none."""

    moved: frozenset[str] | None
    rates: Mapping[float, frozenset[str] | None]
    windows: Mapping[str, Window]
    trail: frozenset[str] | None
    gaps: frozenset[str]
    wide: frozenset[str]
    survey: Survey


class Observer:
    """Asks batches. Knows what Prometheus holds, and which kernels came in several series."""

    def __init__(
        self, client: Client, catalog: Catalog, surveyor: Surveyor, limits: Limits
    ) -> None:
        self.client = client
        self.catalog = catalog
        self.surveyor = surveyor
        self.limits = limits
        self.rounds = Rounds()
        self._ids: dict[str, str] = {}
        self._turn = 0
        self._swept: float | None = None
        self._suspects: dict[str, int] = {}
        self._trail: dict[str, list[Stamp]] = {}

    async def batch(self, at: float, read: Read, timed: Timed) -> Batch:
        """Ask one batch at the time `at`. Several servers are tried in the order of preference."""
        if self.limits.scope.kernels == ():
            return Batch(at, {})
        return await self.client.fail_over(
            lambda: self._batch(at, read, timed), self.limits.within_s
        )

    async def look(self, at: float) -> None:
        """Look at the rounds of every exporter."""
        last = self.rounds.at
        known = last is not None and 0 <= at - last < LEARN_S
        range_s = at - last + _STORED_S if known and last is not None else LEARN_S
        queries = round_queries.rounds_queries(range_s)
        new = self.rounds.see(await self.client.matrices(queries, at), at)
        self.rounds.forget(at - 2 * LEARN_S)
        for instance, stamps in new.items():
            self._trail.setdefault(instance, []).extend(stamps)

    async def survey(self, at: float, roundless: bool) -> Survey:
        """Return what Prometheus holds, looked up anew when it is time."""
        if self.surveyor.last is None or self.surveyor.due(at, roundless):
            return await self.surveyor.look(self.client, at, roundless)
        return self.surveyor.last

    async def _batch(self, at: float, read: Read, timed: Timed) -> Batch:
        with timed("rounds"):
            await self.look(at)
        stamps = self.rounds.stamps(at - self.limits.lookback_s)
        with timed("survey"):
            survey = await self.survey(at, bool(read.roundless) or not stamps)
        plan = self._plan(at, read, stamps, survey)
        if plan.moved is not None and not plan.moved:
            self._trail.clear()
            return Batch(at, {}, asked=frozenset())
        merger, glimpses = Merger(self.catalog, self._ids), Glimpses(self._trail, read.since or at)
        with timed("query"):
            await self._ask(plan, at, read, merger, glimpses)
        with timed("rounds"):
            mixed = await self._mixed(at)
        with timed("merge"):
            batch = self._finished(merger, glimpses, plan, at, stamps, mixed)
        if batch.conflicts:
            with timed("settle"):
                batch = await self._settle(batch, survey)
        self._trail.clear()
        return batch

    async def _ask(
        self, plan: _Plan, at: float, read: Read, merger: Merger, glimpses: Glimpses
    ) -> None:
        async def trail(text: str) -> None:
            glimpses.take(await self.client.matrix(text, at))

        trails = [trail(text) for text in self._trail_queries(plan, at, read)]
        await together([self.client.rows(self._queries(plan), at, merger.take), *trails])
        await self._ask_rates_of_new(merger, plan, at)

    def _queries(self, plan: _Plan) -> list[Query]:
        scopes = self._scopes(plan.survey, plan.moved)
        queries = gauge_queries(self.catalog, plan.survey.metrics, scopes, plan.wide)
        for range_s, instances in plan.rates.items():
            scopes = self._scopes(plan.survey, instances)
            queries += rate_queries(self.catalog, plan.survey.metrics, range_s, scopes)
        return queries

    def _trail_queries(self, plan: _Plan, at: float, read: Read) -> list[str]:
        if read.since is None or (plan.trail is not None and not plan.trail):
            return []
        names = [name for name in plan.survey.metrics if self.catalog[name].keeps_past]
        range_s = at - read.since + 1.0
        scopes = self._scopes(plan.survey, plan.trail)
        return [round_queries.trail_query(names, range_s, scope) for scope in scopes]

    def _plan(self, at: float, read: Read, stamps: Mapping[str, Stamp], survey: Survey) -> _Plan:
        moved = self._moved(at, read, stamps)
        asked = stamps.keys() | read.roundless if moved is None else moved
        new = {name for name in asked if name not in read.stamps or name in read.roundless}
        everything = read.since is None or not stamps
        windows, groups = self._windows(new, stamps, survey, everything)
        trail, gaps = self._trailing(at, read, asked, stamps, survey)
        return _Plan(
            moved=moved,
            rates=groups,
            windows=windows,
            trail=trail,
            gaps=gaps,
            wide=self._wide(survey, moved is None),
            survey=survey,
        )

    def _moved(self, at: float, read: Read, stamps: Mapping[str, Stamp]) -> frozenset[str] | None:
        """Return whose measurements are asked for: all, or those that are new."""
        swept = self._swept
        due = read.whole or swept is None or not 0 <= at - swept < SWEEP_S
        if due or read.since is None or not stamps or self.limits.scope.kernels is not None:
            return None
        moved = {
            name
            for name, stamp in stamps.items()
            if name not in read.stamps or read.stamps[name].number != stamp.number
        }
        if len(moved) > _MOST_ASKED * len(stamps):
            return None
        return frozenset(moved | read.roundless)

    def _windows(
        self,
        new: Iterable[str],
        stamps: Mapping[str, Stamp],
        survey: Survey,
        everything: bool,
    ) -> tuple[dict[str, Window], dict[float, frozenset[str] | None]]:
        """Return the windows of those whose rates Prometheus must give, and who asks for which."""
        given = self.surveyor.given
        usual = rates.window(survey.scrape_s, survey.measure_s or given.measure_s, given.window_s)
        own = {}
        for name in new:
            clock = self.rounds.of(name) if name in stamps else None
            if clock is not None and given.window_s is None:
                own[name] = rates.window(clock.scrape_s, clock.period_s)
            else:
                own[name] = usual
        own = rates.fitted(own) if given.window_s is None else own
        groups: dict[float, frozenset[str] | None] = {
            range_s: frozenset(names) for range_s, names in rates.grouped(own).items()
        }
        if not everything:
            return own, groups
        if not stamps:
            return {"": usual}, {usual.range_s: None}
        if len(groups) <= 1:
            only = rates.widest(own.values())
            return {**own, "": only}, {only.range_s: None}
        return own, groups

    def _trailing(
        self,
        at: float,
        read: Read,
        asked: Iterable[str],
        stamps: Mapping[str, Stamp],
        survey: Survey,
    ) -> tuple[frozenset[str] | None, frozenset[str]]:
        """Return the exporters of which scrapes lie between the last batch and this one.

        The first are few enough to be read one by one (None: all exporters), the others a gap.
        """
        none: frozenset[str] = frozenset()
        if read.since is None or at <= read.since:
            return none, none
        between_s = at - read.since
        if not stamps:
            slips = survey.scrape_s is None or survey.scrape_s < _SLIPS * between_s
            if between_s > GAP_S:
                return none, frozenset({""})
            return (None if slips else none), none
        behind = frozenset(
            name for name in asked if name in read.stamps and len(self._trail.get(name, ())) > 1
        )
        samples = sum(
            read.kernels.get(name, 1) * len(survey.metrics) * len(self._trail[name])
            for name in behind
        )
        if between_s > GAP_S:
            return none, behind | {""}
        return (none, behind) if samples > _TRAIL_SAMPLES else (behind, none)

    def _finished(
        self,
        merger: Merger,
        glimpses: Glimpses,
        plan: _Plan,
        at: float,
        stamps: Mapping[str, Stamp],
        mixed: frozenset[str],
    ) -> Batch:
        batch = merger.finish(at, self.limits.scope.kernels or ())
        self._forget_ids(batch)
        self._turn += 1
        if plan.moved is None:
            self._swept = at
        batch = self._with_suspects(batch, len(plan.survey.metrics))
        asked = stamps if plan.moved is None else {n: stamps[n] for n in plan.moved if n in stamps}
        return replace(
            batch,
            asked=plan.moved,
            stamps={name: stamp for name, stamp in asked.items() if name not in mixed},
            mixed=mixed,
            windows=plan.windows,
            glimpses=glimpses.in_order(),
            gaps=plan.gaps,
        )

    async def _mixed(self, at: float) -> frozenset[str]:
        """Return the exporters of which a scrape was stored while the batch was asked."""
        if not self.rounds.exporters:
            return frozenset()
        text = round_queries.counters_query(_STORED_S)
        newest = rounds_of(await self.client.matrix(text, at))
        return frozenset(
            dict(identity)["instance"]
            for identity, (scraped, _) in newest.items()
            if (clock := self.rounds.exporters.get(identity)) is None
            or (clock.scraped or 0.0) < scraped
        )

    def _wide(self, survey: Survey, whole: bool) -> frozenset[str]:
        """Return the metrics whose duplicate series are looked for in this batch.

        An agent measures all metrics of a kernel together, so duplicates of one are duplicates
        of all: the essential ones tell every time, each other one in its turn.
        """
        others = [name for name in survey.metrics if name not in ESSENTIAL]
        if self._turn == 0 or not others:
            return frozenset(survey.metrics)
        return frozenset((*ESSENTIAL, others[self._turn % len(others)]))

    def _with_suspects(self, batch: Batch, turns: int) -> Batch:
        """Add kernels that lately came in several series, whether this batch shows it or not."""
        for kernel in batch.conflicts:
            self._suspects[kernel] = self._turn + turns
        self._suspects = {
            kernel: until for kernel, until in self._suspects.items() if until >= self._turn
        }
        there = {kernel for kernel in self._suspects if batch.observations.get(kernel)}
        return replace(batch, conflicts=frozenset(there))

    async def _ask_rates_of_new(self, merger: Merger, plan: _Plan, at: float) -> None:
        """Ask the rates of metrics that came after the survey, where rates are asked for."""
        new = [name for name in merger.fresh if name not in plan.survey.metrics]
        queries = [
            query
            for range_s, instances in plan.rates.items()
            for query in rate_queries(
                self.catalog, new, range_s, self._scopes(plan.survey, instances)
            )
            if query.part == "rate"
        ]
        if queries:
            await self.client.rows(queries, at, merger.take)

    def _scopes(self, survey: Survey, instances: Iterable[str] | None) -> list[Scope]:
        """Cut the batch by leading hex digits, so that no answer holds up the event loop."""
        scope = self.limits.scope.on(instances)
        slices = -(-survey.kernels // self.limits.slice_kernels)
        if scope.kernels is not None or scope.instances is not None or slices <= 1:
            return [scope]
        return sliced(scope, slices)

    async def _settle(self, batch: Batch, survey: Survey) -> Batch:
        few = len(batch.conflicts) <= _FEW
        scope = Scope(kernels=tuple(sorted(batch.conflicts))) if few else self.limits.scope
        clocks = self.rounds.exporters.values()
        stall_s = max((one.patience_s for one in clocks), default=0.0)
        stall_s = max(stall_s, rates.window(survey.scrape_s, survey.measure_s).range_s)
        queries = lookup_queries.conflict_queries(scope, stall_s)
        sets = duplicates.Sets(
            values=await self.client.sets(queries.values, batch.time),
            stamps=await self.client.sets(queries.stamps, batch.time),
            changes=await self.client.sets(queries.changes, batch.time),
        )
        tolerance_s = max((one.scrape_s or 0.0 for one in clocks), default=survey.scrape_s or 0.0)
        return duplicates.settle(batch, sets, tolerance_s, self._stamp_of)

    def _stamp_of(self, identity: duplicates.Identity) -> Stamp | None:
        clock = self.rounds.exporters.get(target_of(dict(identity)))
        return clock.stamp if clock is not None else None

    def _forget_ids(self, batch: Batch) -> None:
        if batch.asked is None and len(self._ids) > 2 * len(batch.observations) + 1000:
            self._ids = {kernel: kernel for kernel in batch.observations}
