"""Catalog and settings in, query text out. Pure.

A gauge query of the batch that looks for duplicate series keeps the labels that tell two
series of one kernel apart and drops the others (`max without (…)`): the owners' labels that
follow from `session_id`, and the agent's, which follows from the instance. In its answer one
row a kernel is the rule; several are told apart by `conflict_queries` instead of being added
up or maximised over: a sum doubles a kernel's memory, a maximum keeps a series alive that
stands still beside the true one. The other gauge queries keep the kernel alone
(`max by (kernel_id)`), which costs Prometheus and the network half as much.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from poller.format.catalog import ESSENTIAL, Catalog
from poller.values import Intervals, Part, Query

SERIES = "backendai_container_utilization"
ROUNDS = "backendai_stat_task_success_count_total"
"""Counts an agent's measurement rounds; moves even where every kernel is idle."""

_KEPT = "without (container_metric_name, value_type, job, agent_id, user_id, project_id)"
_EXTREMES: tuple[tuple[Part, str, str], ...] = (("peak", "max", "max"), ("trough", "min", "min"))


@dataclass(frozen=True, slots=True)
class Scope:
    """Which kernels a query is about: those listed, those of some id prefixes, or all."""

    kernels: tuple[str, ...] | None = None
    prefixes: tuple[str, ...] | None = None

    def matcher(self) -> str:
        """Return the label matcher with a leading comma, or nothing for all kernels."""
        if self.kernels is not None:
            return f",kernel_id=~{quoted('|'.join(map(escaped, self.kernels)))}"
        if self.prefixes is not None:
            return f",kernel_id=~{quoted(_prefix_pattern(self.prefixes))}"
        return ""


EVERYTHING = Scope()


HEX = "0123456789abcdef"


def shard(index: int, count: int) -> Scope:
    """Return the part of the kernels that shard `index` of `count` carries."""
    if count == 1:
        return EVERYTHING
    prefixes = tuple(HEX) if 16 % count == 0 else tuple(a + b for a in HEX for b in HEX)
    return Scope(prefixes=prefixes[index::count])


def sliced(scope: Scope, slices: int) -> list[Scope]:
    """Cut a scope of prefixes (or everything) into about `slices` disjoint parts."""
    prefixes = scope.prefixes or tuple(HEX)
    if len(prefixes) < slices:
        prefixes = tuple(prefix + digit for prefix in prefixes for digit in HEX)
    slices = min(slices, len(prefixes))
    return [Scope(prefixes=prefixes[part::slices]) for part in range(slices)]


def quoted(text: str) -> str:
    """Return text as a PromQL string literal."""
    body = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{body}"'


def escaped(text: str) -> str:
    """Return text as a regular expression (RE2) that matches exactly it."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)


def duration(seconds: float) -> str:
    """Return a PromQL duration, in whole milliseconds and at least one."""
    return f"{max(1, round(seconds * 1000))}ms"


def _prefix_pattern(prefixes: Sequence[str]) -> str:
    by_head: dict[str, list[str]] = {}
    for prefix in prefixes:
        by_head.setdefault(prefix[:-1], []).append(prefix[-1])
    heads = [f"{head}[{''.join(tails)}]" for head, tails in sorted(by_head.items())]
    return f"(?:{'|'.join(heads)}).*"


def selector(metric: str, value_type: str, scope: Scope = EVERYTHING) -> str:
    """Return the instant vector selector of one metric's series of one value type."""
    return (
        f"{SERIES}{{container_metric_name={quoted(metric)},value_type={quoted(value_type)}"
        f"{scope.matcher()}}}"
    )


def named(metrics: Iterable[str], value_type: str, scope: Scope, but: bool = False) -> str:
    """Return the selector of several metrics, or of all `but` them."""
    pattern = quoted("|".join(map(escaped, metrics)))
    return (
        f"{SERIES}{{container_metric_name{'!~' if but else '=~'}{pattern},"
        f"value_type=~{quoted(value_type)}{scope.matcher()}}}"
    )


def gauge_queries(
    catalog: Catalog, metrics: Mapping[str, bool], scope: Scope, wide: Container[str]
) -> list[Query]:
    """Return the queries of every metric's `current` and `capacity`, and of the unknown rest.

    `metrics` says of each metric known to exist whether it has a capacity series. `wide` are
    those whose duplicate series are looked for.
    """
    queries = []
    for name, has_capacity in metrics.items():
        kept = _KEPT if name in wide else "by (kernel_id)"
        if name == ESSENTIAL[0]:  # one metric tells which agent each kernel is on
            kept = _KEPT.replace("agent_id, ", "")
        queries.append(Query("current", name, f"max {kept} ({selector(name, 'current', scope)})"))
        if has_capacity or catalog[name].capacity:
            text = f"max {kept} ({selector(name, 'capacity', scope)})"
            queries.append(Query("capacity", name, text))
    rest = named(metrics, "current|capacity", scope, but=True)
    queries.append(Query("rest", "", f"max without (job, user_id, project_id) ({rest})"))
    return queries


def rate_queries(
    catalog: Catalog, metrics: Iterable[str], window_s: float, scope: Scope
) -> list[Query]:
    """Return the queries of every per-second rate: the diff and the rate part of the batch.

    The rate comes before the choice among duplicate series; the largest is the one that moves.
    """
    return [
        Query(
            "rate",
            name,
            f"max by (kernel_id) (rate({selector(name, 'current', scope)}[{duration(window_s)}]))",
        )
        for name in metrics
        if catalog[name].needs_rate
    ]


def peak_queries(
    catalog: Catalog, metrics: Iterable[str], since_s: float, scope: Scope
) -> list[Query]:
    """Return the queries of the extremes in the last `since_s` seconds.

    A counter has its extreme where it restarts; the history notices that and recalls it.
    """
    over = f"[{duration(since_s)}]"
    queries = []
    for name in metrics:
        series = selector(name, "current", scope)
        for part, stat, function in _EXTREMES:
            if stat in catalog[name].stats and not catalog[name].cumulative:
                text = f"{function} by (kernel_id) ({function}_over_time({series}{over}))"
                queries.append(Query(part, name, text))
    return queries


def mean_queries(
    catalog: Catalog, metrics: Iterable[str], since_s: float, scope: Scope
) -> list[Query]:
    """Return the queries of the means in the last `since_s` seconds, and of their weight."""
    over = f"[{duration(since_s)}]"
    queries = [
        Query(
            "mean",
            name,
            f"max by (kernel_id) (avg_over_time({selector(name, 'current', scope)}{over}))",
        )
        for name in metrics
        if catalog[name].needs_mean
    ]
    if queries:
        series = selector(ESSENTIAL[0], "current", scope)
        text = f"max by (kernel_id) (count_over_time({series}{over}))"
        queries.append(Query("samples", ESSENTIAL[0], text))
    return queries


def rounds_queries(stall_s: float) -> list[Query]:
    """Return the queries of each agent's measurement rounds per second; 0 where it stalls.

    And of the agents that counted them `stall_s` seconds ago already: of a younger one two
    samples of its first round say nothing.
    """
    series = f'{ROUNDS}{{stat_scope="container"}}'
    return [
        Query("rounds", "", f"max by (agent_id) (rate({series}[{duration(stall_s)}]))"),
        Query("counted", "", f"count by (agent_id) ({series} offset {duration(stall_s)})"),
    ]


@dataclass(frozen=True, slots=True)
class Asking:
    """What one batch asks beside the gauges and rates; times in seconds, None: not now.

    `wide` are the metrics whose duplicate series are looked for. `peaks_s` and `means_s` are
    how far back the extremes and the means of what happened between two polls reach.
    """

    wide: Container[str]
    peaks_s: float | None = None
    means_s: float | None = None


def batch(
    catalog: Catalog,
    metrics: Mapping[str, bool],
    intervals: Intervals,
    asking: Asking,
    scopes: Sequence[Scope],
) -> list[Query]:
    """Return one whole batch, sliced into scopes."""
    queries = rounds_queries(intervals.stall_s)
    for scope in scopes:
        queries += gauge_queries(catalog, metrics, scope, asking.wide)
        queries += rate_queries(catalog, metrics, intervals.window_s, scope)
        if asking.peaks_s is not None:
            queries += peak_queries(catalog, metrics, asking.peaks_s, scope)
        if asking.means_s is not None:
            queries += mean_queries(catalog, metrics, asking.means_s, scope)
    return queries
