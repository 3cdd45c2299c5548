"""Whose capacities are asked for: at first, where one may have changed, and in turns."""

from __future__ import annotations

import pytest

from poller.batch.capacities import AGAIN_S, Capacities, may_have_changed
from poller.format.catalog import Catalog
from poller.history.state import KernelState, MetricState

KERNEL = "0b4f6a3e-7a0f-4c5e-9d53-0b7f5a7c2e11"
MANY = [f"agent-{number}:6003" for number in range(200)]


def test_capacities_that_were_never_read_are_due():
    assert Capacities().due(["a:1", "b:1"], 100.0) == {"a:1", "b:1"}


def test_those_that_were_just_read_are_not():
    known = Capacities()
    known.were_read(["a:1"], 100.0)
    assert known.due(["a:1", "b:1"], 101.0) == {"b:1"}


def test_after_the_longest_turn_all_are_due_and_never_all_at_once():
    known = Capacities()
    known.were_read(MANY, 0.0)
    due = [len(known.due(MANY, at)) for at in (AGAIN_S / 2 - 1, AGAIN_S * 0.75, AGAIN_S)]
    assert due[0] == 0
    assert 60 < due[1] < 140
    assert due[2] == 200


def test_they_are_due_where_the_clock_went_back():
    known = Capacities()
    known.were_read(["a:1"], 100.0)
    assert known.due(["a:1"], 99.0) == {"a:1"}


def test_what_is_not_kept_is_due_again():
    known = Capacities()
    known.were_read(["a:1", "b:1"], 100.0)
    known.keep({"b:1"})
    assert known.due(["a:1", "b:1"], 101.0) == {"a:1"}


@pytest.mark.parametrize(
    ("name", "kept", "now", "told"),
    [
        ("mem", None, "5", True),
        ("mem", MetricState("5", capacity=None), "5", True),
        ("mem", MetricState("5", capacity="10"), "10", False),
        ("mem", MetricState("5", capacity="10"), "11", True),
        ("mem", MetricState("5", capacity="10"), "1", False),
        ("cpu_util", MetricState("5000", capacity="1000"), "6000", False),
        ("cpu_util", MetricState("5000", capacity="1000"), "4999", True),
    ],
)
def test_a_capacity_is_not_believed_where_it_is_unknown_or_a_value_contradicts_it(
    name: str, kept: MetricState | None, now: str, told: bool
):
    kernel = KernelState(0.0)
    if kept is not None:
        kernel.metrics[name] = kept
    found = may_have_changed(name, {KERNEL: now}, {}, {KERNEL: kernel}, Catalog())
    assert list(found) == ([KERNEL] if told else [])


def test_a_kernel_that_nobody_knows_has_an_unknown_capacity():
    assert list(may_have_changed("mem", {KERNEL: "1"}, {}, {}, Catalog())) == [KERNEL]


def test_nothing_is_to_be_asked_where_the_batch_told_it():
    assert list(may_have_changed("mem", {KERNEL: "1"}, {KERNEL: "2"}, {}, Catalog())) == []
