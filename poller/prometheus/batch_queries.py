"""The texts of one batch: gauge, diff and rate parts; which series, `selectors` says. Pure.

A query that looks for duplicate series is about one metric. It keeps the labels that tell two
series of one kernel apart and drops the others (`max without (…)`): the owners' labels that follow
from `session_id`, and the agent's, which follows from the instance. In its answer one row a kernel
is the rule; several are told apart by `conflict_queries` instead of being added up or maximised
over: a sum doubles a kernel's memory, a maximum keeps a series alive that stands still beside the
true one.

The others keep the kernel alone, which costs Prometheus and the network half as much. A few metrics
are asked for in one query, and the last one is about all that no other names, known or not: to find
the series of some hundred exporters is a quarter of what a query costs, and not needed for each
metric anew. One query for all would be answered by one core.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence
from typing import Literal

from poller.format.catalog import ESSENTIAL, Catalog
from poller.prometheus.selectors import Scope, duration, named, selector
from poller.values import Part, Query, portions

_KEPT = "without (container_metric_name, value_type, agent_id, user_id, project_id)"
_KEPT_WITH_AGENT = "without (container_metric_name, value_type, user_id, project_id)"
_TELLS_AGENT = ESSENTIAL[0]
"""One metric tells which agent each kernel is on."""
_TOGETHER = 3
"""So many metrics are asked for in one query."""


def gauge_queries(
    metrics: Collection[str], scopes: Sequence[Scope], wide: Container[str]
) -> list[Query]:
    """Return the queries of the `current` of every metric, known to exist or not.

    `wide` are the metrics whose duplicate series are looked for.
    """
    alone = [name for name in metrics if name in wide or name == _TELLS_AGENT]
    groups = _groups(name for name in metrics if name not in alone)
    if groups and len(groups[-1]) < _TOGETHER:
        del groups[-1]  # it comes with what is unknown
    named_before = alone + [name for group in groups for name in group]
    queries = []
    for scope in scopes:
        queries += [_of_one("current", name, scope) for name in alone]
        queries += [_of_several("current", named(group, "current", scope)) for group in groups]
        rest = named(named_before, "current", scope, but=True)
        queries.append(_of_several("current", rest))
    return queries


def capacity_queries(
    metrics: Iterable[str], scopes: Sequence[Scope], wide: Container[str] = ()
) -> list[Query]:
    """Return the queries of the capacities of metrics that have one."""
    names = list(metrics)
    groups = _groups(name for name in names if name not in wide)
    queries = []
    for scope in scopes:
        queries += [_of_one("capacity", name, scope) for name in names if name in wide]
        queries += [_of_several("capacity", named(group, "capacity", scope)) for group in groups]
    return queries


def rate_queries(
    catalog: Catalog, metrics: Iterable[str], window_s: float, scopes: Sequence[Scope]
) -> list[Query]:
    """Return the queries of every per-second rate over a window, and of how it is filled.

    The rate comes before the choice among duplicate series; the largest is the one that moves.
    """
    groups = _groups(name for name in metrics if catalog[name].needs_rate)
    over = f"[{duration(window_s)}]"
    queries = []
    for scope in scopes if groups else ():
        for group in groups:
            queries.append(_of_several("rate", f"rate({named(group, 'current', scope)}{over})"))
        series = selector(ESSENTIAL[0], "current", scope)
        text = f"max by (kernel_id) (count_over_time({series}{over}))"
        queries.append(Query("samples", ESSENTIAL[0], text))
    return queries


def _groups(names: Iterable[str]) -> list[list[str]]:
    return [list(some) for some in portions(list(names), _TOGETHER)]


def _of_one(part: Literal["current", "capacity"], name: str, scope: Scope) -> Query:
    kept = _KEPT_WITH_AGENT if name == _TELLS_AGENT else _KEPT
    return Query(part, name, f"max {kept} ({selector(name, part, scope)})")


def _of_several(part: Part, series: str) -> Query:
    return Query(part, "", f"max by (kernel_id, container_metric_name) ({series})")
