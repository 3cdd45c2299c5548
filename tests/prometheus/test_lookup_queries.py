"""What is asked once or now and then: of whom, over which range, and what it is merged by."""

from __future__ import annotations

import re

import pytest

from poller.format.catalog import Catalog, Override
from poller.prometheus import lookup_queries
from poller.prometheus.selectors import EVERYTHING, Scope, samples, shard

ONE = Scope(kernels=("k-1",))
PAST = lookup_queries.past_queries(Catalog(), ["cpu_util", "mem", "io_read"], 600.0, ONE)
CONFLICT = lookup_queries.conflict_queries(ONE, 25.0)


def metrics_of(text: str) -> list[str]:
    found = re.search(r'container_metric_name=~"([^"]+)"', text)
    assert found is not None
    return found[1].split("|")


def test_a_census_counts_a_kernel_once_however_many_series_it_has():
    assert lookup_queries.census_query(EVERYTHING) == (
        "count by (instance) (group by (instance, kernel_id) (backendai_container_utilization{"
        'container_metric_name="cpu_util",value_type="current"}))'
    )


def test_a_shard_counts_its_own_kernels_alone():
    assert 'kernel_id=~"(?:[3]).*"' in lookup_queries.census_query(shard(3, 16))


def test_the_past_is_asked_for_what_each_metric_keeps():
    assert {field: metrics_of(text) for field, text in PAST.items()} == {
        "maximum": ["cpu_util", "mem"], "total": ["cpu_util"], "samples": ["cpu_util"]
    }  # fmt: skip
    told = lookup_queries.past_queries(Catalog(), ["cpu_util", "mem"], 600.0, ONE, ["cpu_util"])
    assert metrics_of(told["minimum"]) == [
        "cpu_util"
    ]  # a key's average below it is of an older life
    both = Catalog(overrides={"mem": Override(stats=("min", "max"))})
    assert metrics_of(lookup_queries.past_queries(both, ["mem"], 600.0, ONE)["minimum"]) == ["mem"]


def test_extremes_are_of_all_series_of_a_kernel_and_samples_add_up():
    by = "by (kernel_id, container_metric_name)"
    assert PAST["maximum"].startswith(f"max {by} (max_over_time(")
    assert PAST["total"].startswith(f"sum {by} (sum_over_time(")
    assert PAST["samples"].startswith(f"sum {by} (count_over_time(")


def test_what_tells_duplicates_apart_keeps_every_label_but_the_metrics_and_the_agents():
    assert CONFLICT.values.startswith("max without (agent_id) (")
    for text in (CONFLICT.stamps, CONFLICT.changes):
        assert " without (container_metric_name, value_type, agent_id) (" in text
    assert "[25000ms]" in CONFLICT.changes


@pytest.mark.parametrize(
    "text",
    [
        *CONFLICT,
        *PAST.values(),
        *lookup_queries.range_queries(60.0, ONE),
        lookup_queries.measurements_query(ONE),
        lookup_queries.moved_query(60.0, ONE),
        lookup_queries.existed_query(60.0, ONE),
        lookup_queries.homes_query(60.0, ONE),
        lookup_queries.older_query(60.0, ONE),
        lookup_queries.births_query(["mem"], 60.0, ONE),
        samples(["mem"], 60.0, ONE),
    ],
)
def test_of_some_kernels_nothing_is_asked_of_others(text: str):
    assert text.count("backendai_container_utilization{") == 1
    assert 'kernel_id=~"k-1"' in text


def test_a_kernels_age_is_looked_for_before_the_range_and_not_within_it():
    assert lookup_queries.existed_query(600.0, ONE).endswith("offset 600000ms)")
    assert lookup_queries.older_query(600.0, ONE).endswith("offset 600000ms)")
