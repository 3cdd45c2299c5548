"""What one batch asks: every part once, and nothing that hides a duplicate series."""

from __future__ import annotations

import re

from poller.format.catalog import Catalog, Override
from poller.prometheus.batch_queries import capacity_queries, gauge_queries, rate_queries
from poller.prometheus.selectors import EVERYTHING, sliced
from poller.values import Query

METRICS = {"cpu_util": True, "net_rx": False, "io_read": False, "mem": True}
TELL_APART = {"kernel_id", "session_id", "instance", "service_id", "replica"}


def parts(queries: list[Query]) -> list[tuple[str, str]]:
    return sorted((query.part, query.metric) for query in queries)


def gauges(wide: tuple[str, ...] = ()) -> dict[tuple[str, str], str]:
    queries = gauge_queries(METRICS, [EVERYTHING], wide)
    queries += capacity_queries(["cpu_util", "mem"], [EVERYTHING], wide)
    return {(query.part, query.metric): query.text for query in queries}


def dropped(text: str) -> set[str]:
    found = re.match(r"max without \((.*?)\)", text)
    assert found is not None, text
    return set(found[1].split(", "))


def test_every_metrics_value_is_asked_once_and_the_unknown_rest():
    assert parts(gauge_queries(METRICS, [EVERYTHING], METRICS)) == [
        ("current", "cpu_util"), ("current", "io_read"), ("current", "mem"), ("current", "net_rx"),
        ("rest", ""),
    ]  # fmt: skip


def test_every_rate_is_asked_once_and_how_its_window_is_filled():
    assert parts(rate_queries(Catalog(), METRICS, 25.0, [EVERYTHING])) == [
        ("rate", "cpu_util"), ("rate", "io_read"), ("rate", "net_rx"), ("samples", "cpu_util"),
    ]  # fmt: skip


def test_where_duplicates_are_looked_for_everything_that_tells_them_apart_is_kept():
    asked = gauges(wide=("mem",))
    assert not dropped(asked["current", "mem"]) & TELL_APART
    assert not dropped(asked["capacity", "mem"]) & TELL_APART


def test_one_metric_always_tells_every_kernels_exporter_and_agent():
    assert not dropped(gauges()["current", "cpu_util"]) & {*TELL_APART, "agent_id"}


def test_where_duplicates_are_not_looked_for_a_kernel_is_one_row():
    assert gauges()["current", "mem"] == (
        "max by (kernel_id) (backendai_container_utilization{"
        'container_metric_name="mem",value_type="current"})'
    )


def test_the_rest_is_what_has_no_query_of_its_own():
    assert gauges()["rest", ""] == (
        "max without (job, user_id, project_id) (backendai_container_utilization{"
        'container_metric_name!~"cpu_util|net_rx|io_read|mem",value_type=~"current|capacity"})'
    )


def test_every_capacity_is_asked_once():
    queries = capacity_queries(["cpu_util", "mem"], [EVERYTHING])
    assert parts(queries) == [("capacity", "cpu_util"), ("capacity", "mem")]
    assert 'value_type="capacity"' in queries[0].text


def test_a_rate_is_per_second_over_the_window_and_comes_before_the_choice_of_series():
    rate, samples = rate_queries(Catalog(), ["net_tx"], 25.0, [EVERYTHING])
    assert rate.text == (
        "max by (kernel_id) (rate(backendai_container_utilization{"
        'container_metric_name="net_tx",value_type="current"}[25000ms]))'
    )
    assert samples.text == (
        "max by (kernel_id) (count_over_time(backendai_container_utilization{"
        'container_metric_name="cpu_util",value_type="current"}[25000ms]))'
    )


def test_without_a_rate_nothing_is_asked_of_the_window():
    assert rate_queries(Catalog(), ["mem", "io_scratch_size"], 25.0, [EVERYTHING]) == []


def test_a_gauge_that_the_settings_make_a_counter_is_asked_for_its_rate():
    catalog = Catalog(overrides={"mem": Override(kind="rate")})
    assert parts(rate_queries(catalog, ["mem"], 25.0, [EVERYTHING]))[0] == ("rate", "mem")


def test_every_slice_asks_every_part_of_its_own_kernels():
    slices = sliced(EVERYTHING, 4)
    whole = parts(gauge_queries(METRICS, [EVERYTHING], ()))
    queries = gauge_queries(METRICS, slices, ())
    assert parts(queries) == sorted(whole * 4)
    for scope in slices:
        own = [query for query in queries if scope.matcher() in query.text]
        assert parts(own) == whole
