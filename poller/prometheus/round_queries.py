"""The agents' rounds as query text: counters, and how long rounds last. Pure.

Raw samples are asked for, since a counter, its durations and the kernels' gauges of one scrape
carry one timestamp, and only that tells which belong together.
"""

from __future__ import annotations

from poller.format.catalog import ESSENTIAL
from poller.prometheus.selectors import EVERYTHING, Scope, duration, selector

STAGE_COUNT = "backendai_stage_count_total"
STAGE_DURATION = "backendai_stage_duration_sec_sum"
DURATION_COUNT = "backendai_stat_task_duration_sec_count"
DURATION_SUM = "backendai_stat_task_duration_sec_sum"
SUCCESS_COUNT = "backendai_stat_task_success_count_total"
WRITES = "redis_write"
"""The stage that an agent counts when it tries to write keys itself."""

LAYER = "collect_container_stat"
"""The label `upper_layer` of the stages that are part of a round."""
STAT_SCOPE = "container"
"""The label `stat_scope` of the tasks that are rounds."""


def rounds_query(range_s: float, scope: Scope = EVERYTHING) -> str:
    """Return the query of exporters' counters and durations in the last `range_s` seconds.

    It is one query, since what was scraped together must be read together: of two, one may be
    answered before a scrape is stored, the other after it. A label that some of these series do not
    have may be empty. `success` tells whether a stage ended well: a round that was cancelled has
    measured nothing, but an agent that was refused a write has tried one.
    """
    names = "|".join((STAGE_COUNT, STAGE_DURATION, DURATION_COUNT, DURATION_SUM, SUCCESS_COUNT))
    stages = f"gather_measures|before_observe|{WRITES}"
    return (
        f'{{__name__=~"{names}",upper_layer=~"{LAYER}|",stage=~"{stages}|",'
        f'stat_scope=~"{STAT_SCOPE}|"{scope.matcher()}}}[{duration(range_s)}]'
    )


def counters_query(range_s: float, scope: Scope) -> str:
    """Return the query of the counters alone, to see whether a scrape came in mid-batch."""
    return (
        f'{STAGE_COUNT}{{stage=~"gather_measures|before_observe",upper_layer="{LAYER}",'
        f'success!="False"'
        f"{scope.matcher()}}}[{duration(range_s)}]"
    )


def newest_query(scope: Scope) -> str:
    """Return when every exporter was last scraped, as far as its kernels' samples tell."""
    return f"max by (instance) (timestamp({selector(ESSENTIAL[0], 'current', scope)}))"
