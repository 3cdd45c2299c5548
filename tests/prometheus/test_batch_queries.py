"""What one batch asks: every part once, and nothing that hides a duplicate series."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from poller.format.catalog import Catalog, Override
from poller.prometheus.batch_queries import capacity_queries, gauge_queries, rate_queries
from poller.prometheus.selectors import EVERYTHING, sliced
from poller.values import Query

METRICS = {"cpu_util": True, "net_rx": False, "io_read": False, "mem": True}
TELL_APART = {"kernel_id", "session_id", "instance", "job", "service_id", "replica"}


WHOLE = ("cpu_util", "mem", "io_read", "io_write", "net_rx", "net_tx")


def about(text: str, known: Iterable[str]) -> list[str]:
    """Return which of some metrics a query is about, by its matcher."""
    found = re.search('container_metric_name(=|=~|!~)"([^"]*)"', text)
    assert found is not None, text
    return [name for name in known if (name in found[2].split("|")) == (found[1] != "!~")]


def parts(queries: list[Query], known: Iterable[str] = METRICS) -> list[tuple[str, str]]:
    """Return what is asked for: (part, metric), as often as it is asked for."""
    return sorted((query.part, name) for query in queries for name in about(query.text, known))


def dropped(text: str) -> set[str]:
    found = re.match(r"max without \((.*?)\)", text)
    assert found is not None, text
    return set(found[1].split(", "))


@pytest.mark.parametrize("known", [WHOLE[:count] for count in range(7)])
@pytest.mark.parametrize("wide", [(), ("cpu_util", "mem"), WHOLE])
def test_every_metrics_value_is_asked_once_and_that_of_the_unknown(
    known: tuple[str, ...], wide: tuple[str, ...]
):
    queries = gauge_queries(known, [EVERYTHING], wide)
    everything = (*WHOLE, "unknown")
    assert parts(queries, everything) == sorted(("current", name) for name in everything)


def test_a_query_is_about_one_metric_that_it_names_or_about_several_that_its_rows_name():
    for query in gauge_queries(WHOLE, [EVERYTHING], ("cpu_util", "mem")):
        several = "max by (kernel_id, container_metric_name) (" in query.text
        assert several == (not query.metric)
        assert 1 <= len(about(query.text, WHOLE)) <= 3


def test_every_rate_is_asked_once_and_how_its_window_is_filled():
    assert parts(rate_queries(Catalog(), METRICS, 25.0, [EVERYTHING])) == [
        ("rate", "cpu_util"), ("rate", "io_read"), ("rate", "net_rx"), ("samples", "cpu_util"),
    ]  # fmt: skip


def test_where_duplicates_are_looked_for_everything_that_tells_them_apart_is_kept():
    queries = gauge_queries(METRICS, [EVERYTHING], ("mem",))
    queries += capacity_queries(["cpu_util", "mem"], [EVERYTHING], ("mem",))
    asked = {query.part: query.text for query in queries if query.metric == "mem"}
    assert not dropped(asked["current"]) & TELL_APART
    assert not dropped(asked["capacity"]) & TELL_APART


def test_one_metric_always_tells_every_kernels_exporter_and_agent():
    (query,) = (one for one in gauge_queries(METRICS, [EVERYTHING], ()) if one.metric == "cpu_util")
    assert not dropped(query.text) & {*TELL_APART, "agent_id"}


def test_where_duplicates_are_not_looked_for_a_metric_of_a_kernel_is_one_row():
    assert gauge_queries(WHOLE, [EVERYTHING], ("cpu_util", "mem"))[-2:] == [
        Query("current", "",
              "max by (kernel_id, container_metric_name) (backendai_container_utilization{"
              'container_metric_name=~"io_read|io_write|net_rx",value_type="current"})'),
        Query("current", "",
              "max by (kernel_id, container_metric_name) (backendai_container_utilization{"
              'container_metric_name!~"cpu_util|mem|io_read|io_write|net_rx",'
              'value_type="current"})'),
    ]  # fmt: skip


def test_every_capacity_is_asked_once():
    queries = capacity_queries(["cpu_util", "mem", "cuda_mem"], [EVERYTHING], ("mem",))
    known = (*METRICS, "cuda_mem")
    assert parts(queries, known) == sorted(
        ("capacity", name) for name in ("cpu_util", "mem", "cuda_mem")
    )
    assert all('value_type="capacity"' in query.text for query in queries)


def test_a_rate_is_per_second_over_the_window_and_comes_before_the_choice_of_series():
    rate, samples = rate_queries(Catalog(), ["net_tx"], 25.0, [EVERYTHING])
    assert rate.text == (
        "max by (kernel_id, container_metric_name) (rate(backendai_container_utilization{"
        'container_metric_name=~"net_tx",value_type="current"}[25000ms]))'
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
