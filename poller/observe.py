"""One batch: survey when due, ask everything at one time, merge, settle duplicate series."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from poller import merge, promql
from poller.catalog import Catalog
from poller.model import Batch, Coverage, Survey
from poller.prometheus import Client
from poller.promql import ConflictQueries, Scope
from poller.survey import Surveyor

GAP_S = 60.0
"""What happened longer ago than this is recalled in the background, not asked in the batch."""
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
    """Asks batches. Knows what Prometheus holds, and nothing of what was asked before."""

    def __init__(self, client: Client, catalog: Catalog, surveyor: Surveyor, asked: Asked) -> None:
        self.client = client
        self.catalog = catalog
        self.surveyor = surveyor
        self.asked = asked
        self._ids: dict[str, str] = {}

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
        coverage, since_s = coverage_of(at, since, survey)
        merger = merge.Merger(self.catalog, self._ids)
        queries = promql.batch(
            self.catalog, survey.metrics, survey.intervals, since_s, self._scopes(survey)
        )
        with timed("query"):
            await self.client.rows(queries, at, merger.take)
            await self._ask_rates_of_new(merger, survey, at)
        with timed("merge"):
            batch = merger.finish(at, coverage, self.asked.scope.kernels or ())
        self._forget_ids(batch)
        if batch.conflicts:
            with timed("settle"):
                batch = await self._settle(batch, survey)
        return batch

    async def _ask_rates_of_new(self, merger: merge.Merger, survey: Survey, at: float) -> None:
        """Ask the rates of metrics that came after the survey, or they would read 0."""
        new = [name for name in merger.fresh if name not in survey.metrics]
        queries = promql.rate_queries(
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
        return promql.sliced(scope, slices)

    async def _settle(self, batch: Batch, survey: Survey) -> Batch:
        few = len(batch.conflicts) <= _FEW
        scope = Scope(kernels=tuple(sorted(batch.conflicts))) if few else self.asked.scope
        queries: ConflictQueries = promql.conflict_queries(scope, survey.intervals.stall_s)
        sets = merge.Sets(
            values=await self.client.sets(queries.values, batch.time),
            stamps=await self.client.sets(queries.stamps, batch.time),
            changes=await self.client.sets(queries.changes, batch.time),
        )
        return merge.settle(batch, sets, tolerance_s=survey.intervals.scrape_s or 0.0)

    def _forget_ids(self, batch: Batch) -> None:
        if len(self._ids) > 2 * len(batch.observations) + 1000:
            self._ids = {kernel: kernel for kernel in batch.observations}


def coverage_of(at: float, since: float | None, survey: Survey) -> tuple[Coverage, float | None]:
    """Return how the samples since the last batch get known, and the seconds to ask about."""
    if since is None or at <= since:
        return "instant", None
    since_s = at - since
    if since_s > GAP_S:
        return "gap", None
    scrape_s = survey.intervals.scrape_s
    if scrape_s is not None and scrape_s > 1.05 * since_s:
        return "instant", None  # every sample was the current one of some batch
    # A range includes its start (before Prometheus 3): that sample was counted last time.
    return "between", since_s - 0.001
