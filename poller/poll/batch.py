"""One batch: survey when due, ask everything at one time, merge, settle duplicate series."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from poller.format.catalog import ESSENTIAL, Catalog
from poller.poll import merge
from poller.poll.survey import Surveyor
from poller.prometheus import lookups, selectors
from poller.prometheus.client import Client
from poller.prometheus.lookups import ConflictQueries
from poller.prometheus.selectors import Asking, Scope
from poller.values import Batch, Coverage, Survey

GAP_S = 60.0
"""What happened longer ago than this is recalled in the background, not asked in the batch."""
_SEEN = 0.8
"""Scrapes this share of a poll apart are seen one by one, give or take their jitter."""
_SURELY_SEEN = 1.05
"""Scrapes further apart than this share of a poll cannot slip between two polls."""
_PEAKS_EVERY = 6
"""The extremes of scrapes that may slip are asked for in every so-manieth batch."""
_FEW = 200
"""So many kernels are named in a query; more are asked for as all."""

Timed = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """Which kernels, and in portions of how many. `within_s` bounds the whole batch."""

    scope: Scope
    slice_kernels: int
    within_s: float


class Observer:
    """Asks batches. Knows what Prometheus holds, and which kernels came in several series."""

    def __init__(self, client: Client, catalog: Catalog, surveyor: Surveyor, asked: Asked) -> None:
        self.client = client
        self.catalog = catalog
        self.surveyor = surveyor
        self.asked = asked
        self._ids: dict[str, str] = {}
        self._turn = 0
        self._peaks_asked: float | None = None
        self._suspects: dict[str, int] = {}

    async def batch(self, at: float, since: float | None, timed: Timed) -> Batch:
        """Ask one batch at the time `at`; `since` is the time of the last good one.

        Several servers are tried in the order of preference.
        """
        if self.asked.scope.kernels == ():
            return Batch(at, {})
        return await self.client.fail_over(
            lambda: self._batch(at, since, timed), self.asked.within_s
        )

    async def survey(self, at: float) -> Survey:
        """Return what Prometheus holds, looked up anew when it is time."""
        if self.surveyor.last is None or self.surveyor.due(at):
            return await self.surveyor.look(self.client, at)
        return self.surveyor.last

    async def _batch(self, at: float, since: float | None, timed: Timed) -> Batch:
        with timed("survey"):
            survey = await self.survey(at)
        coverage, asking = self._asking(at, since, survey)
        merger = merge.Merger(self.catalog, self._ids)
        queries = selectors.batch(
            self.catalog, survey.metrics, survey.intervals, asking, self._scopes(survey)
        )
        with timed("query"):
            await self.client.rows(queries, at, merger.take)
            await self._ask_rates_of_new(merger, survey, at)
        with timed("merge"):
            batch = merger.finish(at, coverage, self.asked.scope.kernels or ())
        self._forget_ids(batch)
        self._turn += 1
        if asking.peaks_s is not None or coverage == "gap" or self._peaks_asked is None:
            self._peaks_asked = at
        batch = self._with_suspects(batch, len(survey.metrics))
        if batch.conflicts:
            with timed("settle"):
                batch = await self._settle(batch, survey)
        return batch

    def _asking(self, at: float, since: float | None, survey: Survey) -> tuple[Coverage, Asking]:
        """Return how the samples since the last batch get known, and what is asked for it."""
        wide = self._wide(survey)
        coverage = coverage_of(at, since, survey)
        if since is None or self._peaks_asked is None or coverage == "gap":
            return coverage, Asking(wide)
        # A range includes its start (before Prometheus 3): that sample was counted last time.
        if coverage == "between":
            return coverage, Asking(wide, at - since - 0.001, at - since - 0.001)
        scrape_s, unasked_s = survey.intervals.scrape_s or 0.0, at - self._peaks_asked
        may_slip = scrape_s <= _SURELY_SEEN * (at - since)
        if may_slip and unasked_s >= _PEAKS_EVERY * (at - since) * 0.99:
            return coverage, Asking(wide, peaks_s=unasked_s)
        return coverage, Asking(wide)

    def _wide(self, survey: Survey) -> frozenset[str]:
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
            kernel: until
            for kernel, until in self._suspects.items()
            if until >= self._turn and batch.observations.get(kernel)
        }
        return replace(batch, conflicts=frozenset(self._suspects))

    async def _ask_rates_of_new(self, merger: merge.Merger, survey: Survey, at: float) -> None:
        """Ask the rates of metrics that came after the survey, or they would read 0."""
        new = [name for name in merger.fresh if name not in survey.metrics]
        queries = selectors.rate_queries(
            self.catalog, new, survey.intervals.window_s, self.asked.scope
        )
        if queries:
            await self.client.rows(queries, at, merger.take)

    def _scopes(self, survey: Survey) -> list[Scope]:
        """Cut the batch by leading hex digits, so that no answer holds up the event loop."""
        scope = self.asked.scope
        slices = -(-survey.kernels // self.asked.slice_kernels)
        if scope.kernels is not None or slices <= 1:
            return [scope]
        return selectors.sliced(scope, slices)

    async def _settle(self, batch: Batch, survey: Survey) -> Batch:
        few = len(batch.conflicts) <= _FEW
        scope = Scope(kernels=tuple(sorted(batch.conflicts))) if few else self.asked.scope
        queries: ConflictQueries = lookups.conflict_queries(scope, survey.intervals.stall_s)
        sets = merge.Sets(
            values=await self.client.sets(queries.values, batch.time),
            stamps=await self.client.sets(queries.stamps, batch.time),
            changes=await self.client.sets(queries.changes, batch.time),
        )
        return merge.settle(batch, sets, tolerance_s=survey.intervals.scrape_s or 0.0)

    def _forget_ids(self, batch: Batch) -> None:
        if len(self._ids) > 2 * len(batch.observations) + 1000:
            self._ids = {kernel: kernel for kernel in batch.observations}


def coverage_of(at: float, since: float | None, survey: Survey) -> Coverage:
    """Return how the samples since the last batch get known.

    Where Prometheus scrapes about as often as we poll, every sample is the current one of some
    batch, but for one that slips now and then between two polls.
    """
    if since is None or at <= since:
        return "instant"
    if at - since > GAP_S:
        return "gap"
    scrape_s = survey.intervals.scrape_s
    return "instant" if scrape_s is not None and scrape_s >= _SEEN * (at - since) else "between"
