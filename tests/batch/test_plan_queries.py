"""A plan as queries: whose, of which kernels, over which windows."""

from __future__ import annotations

import re

import pytest

from poller.batch.merge import Merger
from poller.batch.plan import Plan, Read
from poller.batch.plan_queries import PlanQueries
from poller.format.catalog import Catalog
from poller.history.state import KernelState, MetricState
from poller.prometheus.answers import Labels, Row, Sample
from poller.prometheus.selectors import EVERYTHING, Scope
from poller.values import Query, Stamp

METRICS = {"cpu_util": True, "cpu_used": False, "mem": True, "io_read": False}
"""Of `cpu_used` no statistics are kept."""
KERNEL = "0b4f6a3e-7a0f-4c5e-9d53-0b7f5a7c2e11"
AT = 100.0
SOME = frozenset(["a:1", "b:1"])


def asking(plan: Plan, scope: Scope = EVERYTHING, most_kernels: int = 100) -> PlanQueries:
    return PlanQueries(plan, METRICS, Catalog(), scope, most_kernels)


def of(part: str, queries: list[Query]) -> list[str]:
    return [query.text for query in queries if query.part == part]


def named(text: str, label: str) -> list[str]:
    """Return what a query's matcher of a label allows, whole."""
    return re.findall(rf'{label}=~"([^"]*)"', text)


def test_all_are_asked_for_without_naming_one():
    queries = asking(Plan(None, 50, capacities=None)).batch(())
    assert of("current", queries)
    assert of("capacity", queries)
    assert not any("instance=" in query.text or "kernel_id=" in query.text for query in queries)
    assert not of("rate", queries)


def test_each_part_is_asked_of_its_own_exporters():
    plan = Plan(SOME, 50, capacities=frozenset(["b:1"]), rates={20.0: frozenset(["a:1"])})
    queries = asking(plan).batch(())
    assert {tuple(named(text, "instance")) for text in of("current", queries)} == {("a:1|b:1",)}
    assert {tuple(named(text, "instance")) for text in of("capacity", queries)} == {("b:1",)}
    (rate,) = of("rate", queries)
    assert named(rate, "instance") == ["a:1"]
    assert "[20000ms]" in rate


def test_every_window_has_queries_of_its_own():
    plan = Plan(SOME, 50, rates={20.0: frozenset(["a:1"]), 60.0: frozenset(["b:1"])})
    asked = {text[text.index("[") :]: named(text, "instance") for text in
             of("rate", asking(plan).batch(()))}  # fmt: skip
    assert asked == {"[20000ms]))": ["a:1"], "[60000ms]))": ["b:1"]}


def test_no_query_is_for_more_kernels_than_it_may_be_and_each_kernel_is_in_one():
    queries = of("current", asking(Plan(None, 50), most_kernels=20).batch(()))
    digits = [re.search(r"\(\?:\[(\w+)\]\)", text) for text in queries]
    assert all(digits)
    there = {found[1] for found in digits if found}
    assert len(there) == 3
    assert sorted("".join(there)) == list("0123456789abcdef")


@pytest.mark.parametrize("kernels", [50, 5000])
def test_no_query_is_longer_than_victoria_metrics_takes_and_each_exporter_is_in_one(kernels: int):
    names = frozenset(f"gpu-{number:04}.rack-07.example.org:6003" for number in range(1500))
    plan = Plan(names, kernels, rates={20.0: names}, trail=names, newest=names)
    queries = asking(plan, most_kernels=1000)
    texts = [query.text for query in queries.batch(())] + queries.newest()
    texts += queries.trails(AT, Read(90.0, {}, {}), {})
    assert max(len(text.encode()) for text in texts) <= 16384  # `-search.maxQueryLen`
    asked = {pattern for text in queries.newest() for pattern in named(text, "instance")}
    parts = [part.replace("\\\\", "").split("|") for part in asked]
    assert sorted(name for part in parts for name in part) == sorted(names)


def test_kernels_that_were_named_are_not_cut():
    queries = asking(Plan(None, 50), Scope(kernels=(KERNEL,)), most_kernels=20).batch(())
    assert {tuple(named(text, "kernel_id")) for text in of("current", queries)} == {(KERNEL,)}


def test_of_a_metric_met_just_now_rate_and_capacity_are_still_missing():
    plan = Plan(SOME, 50, rates={20.0: SOME})
    parts = {query.part for query in asking(plan).of_new(["io_write"])}
    assert parts == {"rate", "capacity", "samples"}


def merged(current: str) -> Merger:
    merger = Merger(Catalog())
    labels = Labels(kernel_id=KERNEL, instance="a:1", agent_id="i-a")
    merger.take(Query("current", "mem", ""), [Row(labels, Sample(AT, current))])
    return merger


def test_a_capacity_is_asked_for_where_the_answers_contradict_it():
    kept = {KERNEL: KernelState(AT, metrics={"mem": MetricState("5", capacity="10")})}

    def changed(value: str, capacities: frozenset[str] | None = frozenset()) -> set[str]:
        ask = asking(Plan(SOME, 50, capacities=capacities))
        return set().union(*ask.changed_capacities(merged(value), kept))

    assert changed("9") == set()
    assert changed("11") == {"a:1"}
    assert changed("11", frozenset(["a:1"])) == changed("11", None) == set()
    queries = asking(Plan(SOME, 50)).more_capacities(frozenset(["a:1"]))
    assert {tuple(named(query.text, "instance")) for query in queries} == {("a:1",)}
    assert asking(Plan(SOME, 50)).more_capacities(frozenset()) == []


def test_a_trail_reaches_back_to_the_first_round_that_was_not_read():
    read = Read(AT - 5.0, {}, {})
    assert asking(Plan(SOME, 50)).trails(AT, read, {}) == []
    ask = asking(Plan(SOME, 50, trail=frozenset(["a:1"])))
    unread = {"a:1": [Stamp("a:1", 7.0, 0.0, AT - 30.0), Stamp("a:1", 8.0, 0.0, AT - 1.0)],
              "b:1": [Stamp("b:1", 7.0, 0.0, AT - 90.0)]}  # fmt: skip
    reach_s = []
    for known in ({}, unread):
        (text,) = ask.trails(AT, read, known)
        assert named(text, "instance") == ["a:1"]
        assert named(text, "container_metric_name") == ["cpu_util|mem|io_read"]
        reach_s.append(int(text.rpartition("[")[2].removesuffix("ms]")) / 1000)
    assert 5.0 < reach_s[0] <= 10.0
    assert 30.0 < reach_s[1] <= 35.0


def test_when_exporters_were_last_scraped_is_asked_of_those_that_count_no_rounds():
    (newest,) = asking(Plan(SOME, 50, newest=frozenset(["b:1"]))).newest()
    assert "timestamp(" in newest
    assert named(newest, "instance") == ["b:1"]
    assert asking(Plan(SOME, 50)).newest() == []
