"""The agents' rounds as query text: counters, and how long rounds last. Pure.

Raw samples are asked for, since a counter, its durations and the kernels' gauges of one scrape
carry one timestamp, and only that tells which belong together.
"""

from __future__ import annotations

from collections.abc import Iterable

from poller.prometheus.selectors import SERIES, Scope, duration, escaped, quoted

STAGE_COUNT = "backendai_stage_count_total"
STAGE_DURATION = "backendai_stage_duration_sec_sum"
DURATION_COUNT = "backendai_stat_task_duration_sec_count"
DURATION_SUM = "backendai_stat_task_duration_sec_sum"
SUCCESS_COUNT = "backendai_stat_task_success_count_total"
WRITES = "redis_write"
"""The stage that an agent counts when it tries to write keys itself."""

_LAYER = 'upper_layer="collect_container_stat"'
_SCOPE = 'stat_scope="container"'


def rounds_queries(range_s: float) -> tuple[str, ...]:
    """Return the queries of every exporter's counters and durations in the last `range_s` seconds.

    The label `success` tells whether a stage ended well: a round that was cancelled has measured
    nothing, but an agent that was refused a write has tried one.
    """
    over = f"[{duration(range_s)}]"
    stages = f"{STAGE_COUNT}|{STAGE_DURATION}"
    tasks = "|".join((DURATION_COUNT, DURATION_SUM, SUCCESS_COUNT))
    return (
        f'{{__name__=~"{stages}",stage="gather_measures",{_LAYER}}}{over}',
        f'{STAGE_COUNT}{{stage=~"before_observe|{WRITES}",{_LAYER}}}{over}',
        f'{{__name__=~"{tasks}",{_SCOPE}}}{over}',
    )


def counters_query(range_s: float, scope: Scope) -> str:
    """Return the query of the counters alone, to see whether a scrape came in mid-batch."""
    return (
        f'{STAGE_COUNT}{{stage=~"gather_measures|before_observe",{_LAYER},success!="False"'
        f"{scope.matcher()}}}[{duration(range_s)}]"
    )


def trail_query(metrics: Iterable[str], range_s: float, scope: Scope) -> str:
    """Return the raw samples of these metrics in the last `range_s` seconds."""
    pattern = quoted("|".join(map(escaped, metrics)))
    return (
        f'{SERIES}{{container_metric_name=~{pattern},value_type="current"{scope.matcher()}}}'
        f"[{duration(range_s)}]"
    )
