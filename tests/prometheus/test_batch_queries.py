"""The queries of one batch: which parts, over which series, with which labels."""

from __future__ import annotations

import re

from poller.format.catalog import Catalog
from poller.prometheus import batch_queries
from poller.prometheus.selectors import EVERYTHING, Scope

METRICS = {"cpu_util": True, "net_rx": False, "io_read": False, "mem": True}


def test_every_gauge_is_asked_once_and_keeps_what_tells_series_apart():
    queries = batch_queries.gauge_queries(Catalog(), METRICS, [EVERYTHING], METRICS)
    assert sorted((query.part, query.metric) for query in queries) == [
        ("capacity", "cpu_util"), ("capacity", "mem"),
        ("current", "cpu_util"), ("current", "io_read"), ("current", "mem"), ("current", "net_rx"),
        ("rest", ""),
    ]  # fmt: skip
    dropped = {label for query in queries if query.part == "current"
               for label in re.search(r"without \((.*?)\)", query.text)[1].split(", ")}  # fmt: skip
    assert not dropped & {"kernel_id", "session_id", "instance", "service_id", "replica"}


def test_one_metric_tells_the_agent_and_the_exporter_of_each_kernel_in_every_batch():
    queries = batch_queries.gauge_queries(Catalog(), METRICS, [EVERYTHING], wide=frozenset())
    texts = {query.metric: query.text for query in queries if query.part == "current"}
    without = re.search(r"without \((.*?)\)", texts["cpu_util"])[1].split(", ")
    assert not set(without) & {"agent_id", "instance"}
    assert texts["mem"].startswith("max by (kernel_id)")


def test_a_rate_is_per_second_over_the_window_and_comes_before_the_choice_of_series():
    rate, samples = batch_queries.rate_queries(Catalog(), ["net_tx"], 25.0, [EVERYTHING])
    assert rate.text == (
        "max by (kernel_id) (rate(backendai_container_utilization{"
        'container_metric_name="net_tx",value_type="current"}[25000ms]))'
    )
    assert (samples.part, "count_over_time" in samples.text) == ("samples", True)


def test_no_rates_are_asked_of_metrics_that_have_none():
    assert batch_queries.rate_queries(Catalog(), ["mem"], 25.0, [EVERYTHING]) == []


def test_a_batch_in_slices_asks_each_metric_of_each_slice():
    scopes = [Scope(prefixes=("0",)), Scope(prefixes=("1",))]
    queries = batch_queries.gauge_queries(Catalog(), {"mem": False}, scopes, frozenset())
    assert sum(query.part == "current" for query in queries) == 2
