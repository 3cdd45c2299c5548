"""A plan as queries: cut by its size, rates over their windows, capacities, trails. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from poller.batch.capacities import may_have_changed
from poller.batch.merge import Merger
from poller.batch.plan import Instances, Plan, Read, trail_range_s
from poller.format.catalog import Catalog
from poller.history.state import KernelState
from poller.prometheus.batch_queries import capacity_queries, gauge_queries, rate_queries
from poller.prometheus.round_queries import newest_query
from poller.prometheus.selectors import Scope, samples, sliced
from poller.values import Query, Stamp


@dataclass(frozen=True, slots=True)
class PlanQueries:
    """What to send for one plan. `metrics` are those that are known, and whether they were seen
    with a capacity; `scope` holds for all, and no query is for more than `most_kernels`."""

    plan: Plan
    metrics: Mapping[str, bool]
    catalog: Catalog
    scope: Scope
    most_kernels: int

    def batch(self, wide: Collection[str]) -> list[Query]:
        """Return the gauge, diff and rate queries; duplicates are told apart of metrics `wide`."""
        plan = self.plan
        queries = gauge_queries(self.metrics, self._scopes(plan.asked), wide)
        if plan.capacities is None or plan.capacities:
            names, scopes = self._with_capacity(), self._scopes(plan.capacities)
            queries += capacity_queries(names, scopes, wide)
        return [*queries, *self._rates(self.metrics)]

    def of_new(self, names: Sequence[str]) -> list[Query]:
        """Return the queries still missing of metrics that were met only now."""
        return [*self._rates(names), *capacity_queries(names, self._scopes(self.plan.asked))]

    def changed_capacities(
        self, merger: Merger, known: Mapping[str, KernelState]
    ) -> Iterator[Instances]:
        """Yield, metric by metric, of whom the answers say that a capacity may have changed.

        The caller may see to something else after each.
        """
        told = self.plan.capacities
        if told is None:
            return
        for name in self._with_capacity():
            kernels = may_have_changed(
                name,
                merger.columns.get(("current", name), {}),
                merger.columns.get(("capacity", name), {}),
                known,
                self.catalog,
            )
            yield frozenset(merger.instances.get(kernel, "") for kernel in kernels) - told

    def more_capacities(self, instances: Instances) -> list[Query]:
        """Return the queries of all capacities of some exporters."""
        names = self._with_capacity()
        return capacity_queries(names, self._scopes(instances)) if instances else []

    def trails(self, at: float, read: Read, unread: Mapping[str, Sequence[Stamp]]) -> list[str]:
        """Return the queries of every scrape since the last batch, to be asked at the time `at`.

        `unread` are the rounds of each exporter that were seen and not read: a trail begins with
        the first of them.
        """
        trail = self.plan.trail
        if not trail:
            return []
        names = [name for name in self.metrics if self.catalog[name].keeps_past]
        behind = [unread[name][0] for name in trail if unread.get(name)]
        oldest = min((stamp.scraped for stamp in behind), default=at)
        range_s = max(trail_range_s(at, read), at - oldest + 1.0)
        return [samples(names, range_s, scope) for scope in self._scopes(trail)]

    def newest(self) -> list[str]:
        """Return the queries of the newest sample's time, of those of whom it is to be known."""
        newest = self.plan.newest
        return [newest_query(scope) for scope in self._scopes(newest)] if newest else []

    def _with_capacity(self) -> list[str]:
        return [name for name, has in self.metrics.items() if has or self.catalog[name].capacity]

    def _rates(self, names: Iterable[str]) -> Iterator[Query]:
        for range_s, instances in self.plan.rates.items():
            yield from rate_queries(self.catalog, names, range_s, self._scopes(instances))

    def _scopes(self, instances: Iterable[str] | None) -> list[Scope]:
        """Cut where too many are named; and by leading hex digits, so that no answer holds up the
        event loop."""
        parts = self.scope.on_each(instances)
        slices = -(-self.plan.kernels // (self.most_kernels * len(parts)))
        if self.scope.kernels is not None or slices <= 1:
            return parts
        return [one for part in parts for one in sliced(part, slices)]
