"""Query text: escaping, scopes, shards, slices."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.format.catalog import Catalog
from poller.prometheus import selectors
from poller.prometheus.selectors import Scope
from poller.values import Intervals

FOUND = Intervals(scrape_s=5.0, measure_s=5.0, window_s=25.0, stall_s=25.0)


def unquoted(literal: str) -> str:
    """Read a PromQL string literal back, by the rules of Go's double quotes."""
    assert literal[0] == literal[-1] == '"'
    return re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), literal[1:-1])


@given(st.text())
def test_any_id_reaches_the_server_as_itself(text: str):
    pattern = unquoted(selectors.quoted(selectors.escaped(text)))
    assert re.fullmatch(pattern, text, re.DOTALL)
    assert not re.fullmatch(pattern, text + "x", re.DOTALL)


def test_ids_are_escaped_in_the_selector():
    text = selectors.selector("mem", "current", Scope(kernels=('a"} or vector(1) #', "b.c")))
    assert text == (
        'backendai_container_utilization{container_metric_name="mem",value_type="current",'
        'kernel_id=~"a\\"\\\\} or vector\\\\(1\\\\) #|b\\\\.c"}'
    )


def test_no_list_of_ids_is_needed_for_all_kernels():
    assert "kernel_id=" not in selectors.selector("mem", "current")


def test_the_batch_asks_every_part_once_and_keeps_what_tells_series_apart():
    metrics = {"cpu_util": True, "net_rx": False, "io_read": False, "mem": True}
    asking = selectors.Asking(metrics, peaks_s=5.0, means_s=5.0)
    queries = selectors.batch(Catalog(), metrics, FOUND, asking, [selectors.EVERYTHING])
    parts = sorted((query.part, query.metric) for query in queries)
    assert parts == [
        ("capacity", "cpu_util"), ("capacity", "mem"), ("counted", ""),
        ("current", "cpu_util"), ("current", "io_read"), ("current", "mem"), ("current", "net_rx"),
        ("mean", "cpu_util"),
        ("peak", "mem"),
        ("rate", "cpu_util"), ("rate", "io_read"), ("rate", "net_rx"),
        ("rest", ""), ("rounds", ""), ("samples", "cpu_util"),
    ]  # fmt: skip
    dropped = {label for query in queries if query.part == "current"
               for label in re.search(r"without \((.*?)\)", query.text)[1].split(", ")}  # fmt: skip
    assert not dropped & {"kernel_id", "session_id", "instance", "service_id", "replica"}


def test_a_rate_is_per_second_over_the_window_and_comes_before_the_choice_of_series():
    (query,) = selectors.rate_queries(Catalog(), ["net_tx"], 25.0, selectors.EVERYTHING)
    assert query.text == (
        "max by (kernel_id) (rate(backendai_container_utilization{"
        'container_metric_name="net_tx",value_type="current"}[25000ms]))'
    )


def test_nothing_is_asked_between_cycles_that_have_nothing_between_them():
    asking = selectors.Asking(frozenset())
    queries = selectors.batch(Catalog(), {"mem": True}, FOUND, asking, [selectors.EVERYTHING])
    assert not {query.part for query in queries} & {"peak", "mean", "samples"}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 16, 17, 100, 256])
def test_shards_are_disjoint_and_add_up_to_the_whole(count: int):
    ids = [str(uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128))
           for number in range(2000)]  # fmt: skip
    patterns = []
    for index in range(count):
        matcher = selectors.shard(index, count).matcher()
        patterns.append(re.compile(unquoted(matcher.partition("=~")[2]) if matcher else ".*"))
    for kernel in ids:
        assert sum(pattern.fullmatch(kernel) is not None for pattern in patterns) == 1


@pytest.mark.parametrize("slices", [2, 3, 16, 20])
@pytest.mark.parametrize(
    "scope", [selectors.EVERYTHING, selectors.shard(1, 4), selectors.shard(2, 100)]
)
def test_slices_of_a_scope_are_disjoint_and_add_up_to_it(scope: Scope, slices: int):
    whole = re.compile(unquoted(scope.matcher().partition("=~")[2]) if scope.matcher() else ".*")
    parts = [re.compile(unquoted(part.matcher().partition("=~")[2]))
             for part in selectors.sliced(scope, slices)]  # fmt: skip
    assert len(parts) >= min(slices, 3)
    for number in range(2000):
        kernel = str(uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128))
        hits = sum(part.fullmatch(kernel) is not None for part in parts)
        assert hits == (1 if whole.fullmatch(kernel) else 0)
