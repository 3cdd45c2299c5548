"""What is asked once, or now and then, as query text: surveys, duplicate series, the past. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import NamedTuple

from poller.format.catalog import ESSENTIAL, Catalog
from poller.prometheus.round_queries import STAT_SCOPE, SUCCESS_COUNT
from poller.prometheus.selectors import SERIES, Scope, duration, named, samples, selector

BIRTH_STEP_S = 60
"""Resolution at which a kernel's birth is looked for; below any server's lookback."""

_SURVEY_RANGE = "10m"  # twenty rounds of the slowest default (30 s)
_SUCCESSES = f'{SUCCESS_COUNT}{{stat_scope="{STAT_SCOPE}"}}'
_EACH = "by (kernel_id, container_metric_name)"


def _current(scope: Scope) -> str:
    """Return the selector of all values of all metrics."""
    return f'{SERIES}{{value_type="current"{scope.matcher()}}}'


def successes_query() -> str:
    """Return the agents' counts of successful writes, which tell intervals if nothing else does."""
    return f"{_SUCCESSES}[{_SURVEY_RANGE}]"


def census_query(scope: Scope) -> str:
    """Return how many kernels every exporter tells of; an exporter without a name comes too."""
    series = selector(ESSENTIAL[0], "current", scope)
    return f"count by (instance) (group by (instance, kernel_id) ({series}))"


def agents_query(range_s: float) -> str:
    """Return the query of how many rounds a second each agent writes; 0 after its first one."""
    return f"max by (agent_id) (rate({_SUCCESSES}[{duration(range_s)}]))"


def busiest_query(count: int, scope: Scope) -> str:
    """Return the query of the kernels whose processor time grows fastest."""
    series = selector("cpu_used", "current", scope)
    return f"topk({count}, max by (kernel_id) (rate({series}[{_SURVEY_RANGE}])))"


def measurements_query(scope: Scope) -> str:
    """Return the raw samples of the kernels' processor time: they change at a measurement."""
    return f"{selector('cpu_used', 'current', scope)}[{_SURVEY_RANGE}]"


class ConflictQueries(NamedTuple):
    """The queries that tell a kernel's duplicate series apart; full label sets in the answers."""

    values: str
    stamps: str
    changes: str


def conflict_queries(scope: Scope, window_s: float) -> ConflictQueries:
    """Return what is asked of kernels that came in several series with differing values."""
    series = f'{SERIES}{{value_type=~"current|capacity"{scope.matcher()}}}'
    moving = _current(scope)
    one_set = "without (container_metric_name, value_type, agent_id)"
    return ConflictQueries(
        values=f"max without (agent_id) ({series})",
        stamps=f"max {one_set} (timestamp({moving}))",
        changes=f"sum {one_set} (changes({moving}[{duration(window_s)}]))",
    )


def past_queries(
    catalog: Catalog,
    metrics: Iterable[str],
    range_s: float,
    scope: Scope,
    told: Container[str] = (),
) -> dict[str, str]:
    """Return the queries of what is kept of the last `range_s` seconds, by the field of `Past`.

    `told` are metrics whose average a key tells: a counter's least value says if that is older.
    """
    names = list(metrics)
    means = [name for name in names if catalog[name].needs_mean]
    counters = [name for name in means if catalog[name].cumulative and name in told]
    lows = [name for name in names if "min" in catalog[name].stats or name in counters]
    highs = [name for name in names if "max" in catalog[name].stats]
    asked = {
        "maximum": ("max", "max", highs),
        "minimum": ("min", "min", lows),
        "total": ("sum", "sum", means),
        "samples": ("sum", "count", means),
    }
    return {
        field: f"{merged} {_EACH} ({function}_over_time({samples(wanted, range_s, scope)}))"
        for field, (merged, function, wanted) in asked.items()
        if wanted
    }


def range_queries(range_s: float, scope: Scope) -> tuple[str, str]:
    """Return the queries of the least and the greatest raw value lately, by kernel and metric."""
    series = f"{_current(scope)}[{duration(range_s)}]"
    return f"min {_EACH} (min_over_time({series}))", f"max {_EACH} (max_over_time({series}))"


def moved_query(range_s: float, scope: Scope) -> str:
    """Return how often anything of each kernel changed in the last `range_s` seconds."""
    return f"max by (kernel_id) (changes({_current(scope)}[{duration(range_s)}]))"


def existed_query(ago_s: float, scope: Scope) -> str:
    """Return the kernels that were there already `ago_s` seconds ago."""
    return f"count by (kernel_id) ({_current(scope)} offset {duration(ago_s)})"


def homes_query(range_s: float, scope: Scope) -> str:
    """Return which agents and exporters told of each kernel in the last `range_s` seconds."""
    series = f"{selector(ESSENTIAL[0], 'current', scope)}[{duration(range_s)}]"
    return f"count by (kernel_id, agent_id, instance) (last_over_time({series}))"


def older_query(ago_s: float, scope: Scope) -> str:
    """Return the kernels that are older than that, by their essential metrics: a third as dear."""
    series = named(ESSENTIAL, "current", scope)
    return f"count by (kernel_id) ({series} offset {duration(ago_s)})"


def births_query(metrics: Iterable[str], range_s: float, scope: Scope) -> str:
    """Return when each metric of each kernel was first seen, on a grid of `BIRTH_STEP_S`.

    The value is the time of the sample that was visible at the first grid point; the first
    sample of all lies in the step before that point.
    """
    series = named(metrics, "current", scope)
    grid = f"[{duration(range_s)}:{BIRTH_STEP_S}s]"
    return f"min {_EACH} (min_over_time(timestamp({series}){grid}))"
