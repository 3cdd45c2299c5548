"""What is asked of the agents' rounds: every counter there is, and raw samples alone."""

from __future__ import annotations

import re

import pytest

from poller.prometheus import round_queries
from poller.prometheus.selectors import Scope


def fits(text: str, labels: dict[str, str]) -> bool:
    """Whether a selector of patterns matches a series; a label that is not there is empty."""
    matchers = re.findall(r'(\w+)=~"([^"]+)"', text)
    assert len(matchers) == text.count("=")
    return all(re.fullmatch(wanted, labels.get(label, "")) for label, wanted in matchers)


STAGE = {"upper_layer": "collect_container_stat", "success": "True"}
TASK = {"stat_scope": "container"}


@pytest.mark.parametrize(
    ("labels", "asked"),
    [
        ({"__name__": "backendai_stage_count_total", "stage": "gather_measures", **STAGE}, True),
        ({"__name__": "backendai_stage_count_total", "stage": "before_observe", **STAGE}, True),
        ({"__name__": "backendai_stage_count_total", "stage": "redis_write", **STAGE}, True),
        ({"__name__": "backendai_stage_count_total", "stage": "redis_write", **STAGE,
          "success": "False"}, True),
        ({"__name__": "backendai_stage_count_total", "stage": "other", **STAGE}, False),
        ({"__name__": "backendai_stage_count_total", "stage": "gather_measures",
          "upper_layer": "collect_node_stat"}, False),
        ({"__name__": "backendai_stage_duration_sec_sum", "stage": "gather_measures", **STAGE},
         True),
        ({"__name__": "backendai_stage_duration_sec_count", "stage": "gather_measures", **STAGE},
         False),
        ({"__name__": "backendai_stat_task_duration_sec_count", **TASK}, True),
        ({"__name__": "backendai_stat_task_duration_sec_sum", **TASK}, True),
        ({"__name__": "backendai_stat_task_success_count_total", **TASK}, True),
        ({"__name__": "backendai_stat_task_success_count_total", "stat_scope": "node"}, False),
        ({"__name__": "backendai_stat_task_trigger_count_total", **TASK}, False),
    ],
)  # fmt: skip
def test_one_query_asks_for_every_counter_of_rounds_and_their_durations(
    labels: dict[str, str], asked: bool
):
    text = round_queries.rounds_query(20.0)
    assert text.endswith("[20000ms]")
    assert fits(text, labels) == asked


def test_the_second_look_asks_for_counters_alone_and_not_for_cancelled_rounds():
    assert round_queries.counters_query(15.0, Scope()) == (
        'backendai_stage_count_total{stage=~"gather_measures|before_observe",'
        'upper_layer="collect_container_stat",success!="False"}[15000ms]'
    )


def test_the_second_look_is_at_the_exporters_that_were_asked():
    text = round_queries.counters_query(15.0, Scope(instances=("a:1", "b:1")))
    assert text.endswith(',success!="False",instance=~"a:1|b:1"}[15000ms]')
