"""Rows of one batch into observations: pure and total."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.batch import merge
from poller.format.catalog import Catalog
from poller.prometheus.answers import Labels, Row, Sample
from poller.values import Part, Query, Reading
from tests.support.examples import examples

KERNEL = "0b4f6a3e-7a0f-4c5e-9d53-0b7f5a7c2e11"
OTHER = "ffffffff-7a0f-4c5e-9d53-0b7f5a7c2e11"


def row(text: str | None, kernel: str | None = KERNEL, **labels: str) -> Row:
    return Row(Labels(kernel_id=kernel, **labels), None if text is None else Sample(1.0, text))


def merged(*answers: tuple[Query, list[Row]], asked: tuple[str, ...] = ()):
    merger = merge.Merger(Catalog())
    for query, rows in answers:
        merger.take(query, rows)
    for _ in merger.fold():
        pass
    return merger.finish(100.0, asked=asked)


def current(metric: str) -> Query:
    return Query("current", metric, "")


def several(part: Part) -> Query:
    return Query(part, "", "")


def of(metric: str, text: str, kernel: str = KERNEL) -> Row:
    return row(text, kernel, container_metric_name=metric)


def test_the_parts_of_a_batch_meet_in_one_reading_per_metric():
    batch = merged(
        (current("cpu_util"), [row("500", agent_id="i-a", instance="a:1")]),
        (Query("capacity", "cpu_util", ""), [row("1000")]),
        (Query("rate", "cpu_util", ""), [row("12.5")]),
        (Query("samples", "cpu_util", ""), [row("5")]),
        (current("mem"), [row("7", OTHER)]),
    )
    assert batch.observations == {
        KERNEL: {"cpu_util": Reading("500", "1000", "12.5")},
        OTHER: {"mem": Reading("7")},
    }
    assert (batch.samples, batch.time) == ({KERNEL: 5.0}, 100.0)
    assert (batch.agents, batch.instances) == ({KERNEL: "i-a"}, {KERNEL: "a:1"})


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_exporters_of_one_kernel_the_same_counts_whichever_comes_first(order: int):
    rows = [
        row("5", agent_id="i-a", instance="a:1"),
        row("5", agent_id="i-b", instance="b:1"),
        row("5", agent_id=""),
    ]
    batch = merged((current("cpu_util"), rows[::order]))
    assert (batch.agents, batch.instances) == ({KERNEL: "i-b"}, {KERNEL: "b:1"})


def test_what_came_is_told_with_whether_it_has_a_capacity():
    merger = merge.Merger(Catalog())
    merger.take(several("current"), [of("a_mem", "1"), of("b", "1")])
    merger.take(several("capacity"), [of("a_mem", "1"), of("c", "1")])
    assert merger.found() == {"a_mem": True, "b": False}


def test_a_kernel_asked_for_and_not_found_is_there_and_empty():
    assert merged(asked=(KERNEL,)).observations == {KERNEL: {}}
    assert merged((current("mem"), [row("1")]), asked=(OTHER,)).observations == {
        OTHER: {},
        KERNEL: {"mem": Reading("1")},
    }


def test_an_empty_batch_has_no_kernel():
    assert merged().observations == {}


NO_NUMBERS = (
    "", "abc", "1_0", " 1", "0x10", "Infinity", "1e99999", "9" * 5000, "0" + "9" * 5000,
    "1." + "3" * 5000, "\N{ARABIC-INDIC DIGIT ONE}", "\N{SUPERSCRIPT TWO}",
)  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        *((row(text), "not_a_number") for text in NO_NUMBERS),
        *((row(text), "infinite") for text in ("+Inf", "-Inf", "1e999", "9" * 400)),
        (row("NaN"), "nan"),
        (row("-5"), "negative"),
        (row(None), "histogram"),
        (row("5", None), "missing_label"),
        (row("5", ""), "missing_label"),
        (row("5", KERNEL.upper()), "bad_uuid"),
        (row("5", KERNEL[:-1]), "bad_uuid"),
        (row("5", KERNEL + "\n"), "bad_uuid"),
        (row("5", "x" * 10_000_000), "bad_uuid"),
        (row("5", KERNEL.replace("-", "")), "bad_uuid"),
        (row("5", "{" + KERNEL + "}"), "bad_uuid"),
    ],
    ids=lambda value: "" if isinstance(value, Row) else value,
)
def test_a_bad_row_costs_only_itself_and_is_counted_by_reason(bad: Row, reason: str):
    batch = merged((current("cpu_used"), [row("3", OTHER), bad]))
    assert batch.observations == {OTHER: {"cpu_used": Reading("3")}}
    assert batch.dropped == {reason: 1}


def test_a_gauge_may_be_negative_and_an_exponent_is_a_number():
    batch = merged((current("io_scratch_size"), [row("-5"), row("1e+21", OTHER)]))
    assert batch.observations[KERNEL]["io_scratch_size"].current == "-5"
    assert batch.observations[OTHER]["io_scratch_size"].current == "1e+21"
    assert not batch.dropped


def test_rows_of_several_metrics_are_sorted_and_what_no_reader_can_bear_is_dropped():
    rows = [
        of("acme_mem", "1"),
        of("mem", "7", OTHER),
        of("acme_mem", "NaN", OTHER),
        of("version", "5"),
        of("x" * 10_000_000, "5"),
        row("5"),
    ]
    batch = merged((several("current"), rows), (several("capacity"), [of("acme_mem", "9")]))
    assert batch.observations == {
        KERNEL: {"acme_mem": Reading("1", "9")},
        OTHER: {"mem": Reading("7")},
    }
    assert batch.dropped == {"bad_metric_name": 2, "missing_label": 1, "nan": 1}


def test_equal_duplicates_are_one_row_and_unequal_ones_a_conflict():
    batch = merged(
        (current("mem"), [row("5"), row("5"), row("7", OTHER), row("8", OTHER)]),
    )
    assert batch.conflicts == {OTHER}
    assert batch.dropped == {"duplicate": 2}


@examples(100)
@given(st.permutations(range(6)), st.randoms())
def test_the_order_of_answers_and_rows_does_not_matter(order: list[int], dice: random.Random):
    answers = [
        (current("cpu_util"), [row("5"), row("5"), row("NaN", OTHER), row("9", OTHER)]),
        (current("mem"), [row("1"), row("2"), row("3", OTHER)]),
        (Query("capacity", "mem", ""), [row("10"), row("x", OTHER), row("11", OTHER)]),
        (Query("rate", "cpu_util", ""), [row("0.5"), row("+Inf", OTHER)]),
        (several("current"), [of("q", "4"), of("r", "5"), of("q", "6", OTHER)]),
        (Query("samples", "cpu_util", ""), [row("5"), row("4"), row("3", OTHER)]),
    ]
    straight = merged(*answers)
    mixed = [answers[place] for place in order]
    for _, rows in mixed:
        dice.shuffle(rows)
    assert merged(*mixed) == straight


def test_metrics_are_put_together_one_at_a_time():
    merger = merge.Merger(Catalog())
    for name in ("cpu_util", "mem", "net_rx"):
        merger.take(Query("current", name, ""), [row("7"), row("8", OTHER)])
    steps = merger.fold()
    next(steps)
    assert merger.observations.keys() == {KERNEL, OTHER}
    assert [len(seen) for seen in merger.observations.values()] == [1, 1]
    assert len(list(steps)) == 2
    batch = merger.finish(100.0)
    assert [reading.current for reading in batch.observations[OTHER].values()] == ["8", "8", "8"]
