"""The queries of one batch: gauge, diff and rate parts, all asked at one time. Pure.

A gauge query that looks for duplicate series keeps the labels that tell two series of one kernel
apart and drops the others (`max without (…)`): the owners' labels that follow from `session_id`,
and the agent's, which follows from the instance. In its answer one row a kernel is the rule;
several are told apart by `conflict_queries` instead of being added up or maximised over: a sum
doubles a kernel's memory, a maximum keeps a series alive that stands still beside the true one.
The other gauge queries keep the kernel alone (`max by (kernel_id)`), which costs Prometheus and
the network half as much.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Sequence
from typing import Literal

from poller.format.catalog import ESSENTIAL, Catalog
from poller.prometheus.selectors import Scope, duration, named, selector
from poller.values import Query

_KEPT = "without (container_metric_name, value_type, job, agent_id, user_id, project_id)"
_KEPT_WITH_AGENT = "without (container_metric_name, value_type, job, user_id, project_id)"


def gauge_queries(
    metrics: Collection[str], scopes: Sequence[Scope], wide: Container[str]
) -> list[Query]:
    """Return the queries of the `current` of every metric known to exist, and of the unknown rest.

    `wide` are the metrics whose duplicate series are looked for.
    """
    queries = []
    for scope in scopes:
        queries += [_gauge_query("current", name, scope, wide) for name in metrics]
        rest = named(metrics, "current|capacity", scope, but=True)
        queries.append(Query("rest", "", f"max without (job, user_id, project_id) ({rest})"))
    return queries


def capacity_queries(
    metrics: Iterable[str], scopes: Sequence[Scope], wide: Container[str] = ()
) -> list[Query]:
    """Return the queries of the capacities of metrics that have one."""
    names = list(metrics)
    return [_gauge_query("capacity", name, scope, wide) for scope in scopes for name in names]


def _gauge_query(
    part: Literal["current", "capacity"], name: str, scope: Scope, wide: Container[str]
) -> Query:
    kept = _KEPT if name in wide else "by (kernel_id)"
    if name == ESSENTIAL[0]:  # one metric tells which agent each kernel is on
        kept = _KEPT_WITH_AGENT
    return Query(part, name, f"max {kept} ({selector(name, part, scope)})")


def rate_queries(
    catalog: Catalog, metrics: Iterable[str], window_s: float, scopes: Sequence[Scope]
) -> list[Query]:
    """Return the queries of every per-second rate over a window, and of how it is filled.

    The rate comes before the choice among duplicate series; the largest is the one that moves.
    """
    names = [name for name in metrics if catalog[name].needs_rate]
    over = f"[{duration(window_s)}]"
    queries = []
    for scope in scopes if names else ():
        for name in names:
            series = selector(name, "current", scope)
            queries.append(Query("rate", name, f"max by (kernel_id) (rate({series}{over}))"))
        series = selector(ESSENTIAL[0], "current", scope)
        text = f"max by (kernel_id) (count_over_time({series}{over}))"
        queries.append(Query("samples", ESSENTIAL[0], text))
    return queries
