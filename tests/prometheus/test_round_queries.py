"""What is asked of the agents' rounds: every counter there is, and raw samples alone."""

from __future__ import annotations

import re

from poller.prometheus import round_queries
from poller.prometheus.selectors import Scope

CONTAINERS = 'stat_scope="container"'
LAYER = 'upper_layer="collect_container_stat"'


def matched(text: str, label: str) -> list[str]:
    found = re.search(rf'{label}=~"([^"]+)"', text)
    assert found is not None
    return found[1].split("|")


def test_every_counter_of_rounds_is_asked_and_the_durations_that_shift_a_measurement():
    gathers, stages, tasks = round_queries.rounds_queries(20.0)
    assert matched(gathers, "__name__") == [
        "backendai_stage_count_total",
        "backendai_stage_duration_sec_sum",
    ]
    assert 'stage="gather_measures"' in gathers
    assert stages.startswith("backendai_stage_count_total{")
    assert matched(stages, "stage") == ["before_observe", "redis_write"]
    assert matched(tasks, "__name__") == [
        "backendai_stat_task_duration_sec_count",
        "backendai_stat_task_duration_sec_sum",
        "backendai_stat_task_success_count_total",
    ]
    assert LAYER in gathers
    assert LAYER in stages
    assert CONTAINERS in tasks
    assert [one[-9:] for one in (gathers, stages, tasks)] == ["[20000ms]"] * 3


def test_a_refused_write_is_a_try_so_both_outcomes_are_asked_for():
    _, stages, _ = round_queries.rounds_queries(20.0)
    assert "success" not in stages


def test_the_second_look_asks_for_counters_alone_and_not_for_cancelled_rounds():
    assert round_queries.counters_query(15.0, Scope()) == (
        'backendai_stage_count_total{stage=~"gather_measures|before_observe",'
        'upper_layer="collect_container_stat",success!="False"}[15000ms]'
    )


def test_the_second_look_is_at_the_exporters_that_were_asked():
    text = round_queries.counters_query(15.0, Scope(instances=("a:1", "b:1")))
    assert text.endswith(',success!="False",instance=~"a:1|b:1"}[15000ms]')


def test_a_trail_is_the_raw_samples_of_some_metrics_of_some_exporters():
    scope = Scope(instances=("10.0.0.1:6003",))
    assert round_queries.trail_query(["mem", "x.y"], 6.0, scope) == (
        'backendai_container_utilization{container_metric_name=~"mem|x\\\\.y",'
        'value_type="current",instance=~"10\\\\.0\\\\.0\\\\.1:6003"}[6000ms]'
    )
