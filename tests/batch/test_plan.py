"""What one batch asks: what was measured since it was read, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from poller.batch.capacities import Capacities
from poller.batch.plan import (
    GAP_S,
    NEW_COSTS,
    WITHOUT_ROUNDS,
    Known,
    Plan,
    Read,
    plan,
    trail_range_s,
)
from poller.rounds.rounds import Rounds
from poller.values import Stamp, Survey, Window
from tests.support.looks import COUNTER, look, series_of

METRICS = {"cpu_util": True, "mem": True}
AT = 100.0


def stamp(instance: str, number: float) -> Stamp:
    return Stamp(instance, number, 0.0, 5.0 * number)


def ticking(*intervals: tuple[str, float]) -> Rounds:
    """Return the clocks of agents that measure so often, scraped every second."""
    clocks = Rounds()
    answer = [
        series_of(
            {**COUNTER, "instance": name}, [(float(at), str(at // every_s)) for at in range(300)]
        )
        for name, every_s in intervals
    ]
    look(clocks, answer, 300.0)
    return clocks


def read(numbers: Mapping[str, float], since: float | None = 95.0, **more: Any) -> Read:
    stamps = {name: stamp(name, number) for name, number in numbers.items()}
    return Read(since, stamps, more.pop("kernels", dict.fromkeys(numbers, 2)), **more)


def known(numbers: Mapping[str, float], **more: Any) -> Known:
    told: dict[str, Any] = {
        "census": dict.fromkeys(numbers, 2),
        "stamps": {name: stamp(name, number) for name, number in numbers.items()},
        "scrapes": dict.fromkeys(numbers, 1),
        "rounds": ticking(*((name, 5) for name in numbers)),
        "capacities": Capacities(),
        "survey": Survey(METRICS, None, None, False, AT),
        "given_s": None,
        "most_load": 1000,
    }
    return Known(**(told | more))


FIVE = {"a": 20.0, "b": 20.0, "c": 20.0, "d": 20.0, "e": 20.0}


def test_nothing_is_asked_where_nothing_was_measured():
    assert plan(AT, read(FIVE), known(FIVE)) == Plan(frozenset(), 0)


def test_asked_for_are_the_exporters_that_measured_since_they_were_read():
    todo = plan(AT, read(FIVE), known(FIVE | {"b": 21.0, "d": 1.0}))
    assert (todo.asked, todo.kernels) == (frozenset("bd"), 4)
    assert (todo.rates, todo.windows) == ({}, {})


def test_where_most_have_measured_all_are_asked_for_in_one():
    todo = plan(AT, read(FIVE), known(FIVE | {"a": 21.0, "b": 21.0, "c": 21.0, "d": 21.0}))
    assert todo.asked is None


def test_exporters_that_are_new_gone_or_have_other_kernels_are_asked_for():
    census = {"a": 2, "b": 3, "c": 2, "d": 2, "new": 1}
    there = {name: 20.0 for name in "abcdefghij"} | {"new": 4.0}
    before = read({name: 20.0 for name in "abcdefghij"}, kernels={"a": 2, "b": 2, "c": 2, "d": 2,
                                                                   "e": 2})  # fmt: skip
    todo = plan(AT, before, known(there, census=census))
    assert todo.asked == frozenset({"b", "e", "new"})


def test_exporters_without_rounds_are_asked_for_every_time():
    there = known(FIVE, census=dict.fromkeys([*FIVE, "mute"], 2))
    before = read(FIVE, kernels=dict.fromkeys([*FIVE, "mute"], 2))
    assert plan(AT, before, there).asked == frozenset({"mute"})


def test_a_batch_carries_so_many_kernels_and_some_of_exporters_never_read():
    before = read({"a": 18.0, "b": 15.0, "c": 17.0, "d": 16.0})
    there = known(FIVE, census=dict.fromkeys("abcde", 40), most_load=100)
    todo = plan(AT, before, there)
    assert todo.asked == frozenset("be")  # a share is kept for e, which was never read
    assert todo.kernels == 80


def test_exporters_whose_rates_and_capacities_are_asked_for_are_a_larger_load():
    again = plan(AT, read({"a": 20.0}), known({"a": 21.0}))
    assert (again.kernels, again.load) == (2, 2)
    never = plan(AT, read({}, None), known({"a": 21.0}))
    assert (never.kernels, never.load) == (2, 2 * NEW_COSTS)
    roundless = known({}, census={"a": 2})
    assert plan(AT, read({}, kernels={"a": 2}), roundless).load == 2 * NEW_COSTS


def test_those_read_longest_ago_go_first_where_all_were_read():
    before = read({"a": 18.0, "b": 15.0, "c": 17.0, "d": 16.0, "e": 19.0})
    there = known(FIVE, census=dict.fromkeys("abcde", 40), most_load=100)
    assert plan(AT, before, there).asked == frozenset("bd")


def test_nobody_new_is_read_while_a_whole_batch_of_kernels_waits_for_the_past():
    there = known({"a": 21.0, "b": 20.0, "new": 7.0}, census=dict.fromkeys(["a", "b", "new"], 80),
                  most_load=100)  # fmt: skip
    before = {"a": 20.0, "b": 20.0}
    assert plan(AT, read(before, waiting=99), there).asked == frozenset(["a", "new"])
    assert plan(AT, read(before, waiting=100), there).asked == frozenset(["a"])
    idle = replace(there, stamps={name: stamp(name, number) for name, number in
                                  {"a": 20.0, "b": 20.0, "new": 7.0, "x": 1.0}.items()},
                   census=there.census | {"x": 80})  # fmt: skip
    nothing = plan(AT, read(before, waiting=100, kernels={"a": 80, "b": 80}), idle)
    assert (nothing.asked, nothing.kernels) == (frozenset(), 0)


def test_where_some_must_wait_nobodys_scrapes_in_between_are_read():
    before = read({"a": 18.0, "b": 15.0, "c": 17.0})
    two = {"scrapes": dict.fromkeys("abc", 2), "census": dict.fromkeys("abc", 40)}
    at_ease = plan(AT, before, known({"a": 20.0, "b": 20.0, "c": 20.0}, **two, most_load=120))
    assert (at_ease.trail, at_ease.late) == (frozenset("abc"), 0)
    hurried = plan(AT, before, known({"a": 20.0, "b": 20.0, "c": 20.0}, **two, most_load=100))
    assert (hurried.asked, hurried.late) == (frozenset("bc"), 1)
    assert (hurried.trail, hurried.gaps) == (frozenset(), frozenset())


def test_what_an_interruption_hid_is_a_gap_though_some_must_wait():
    before = read({"a": 18.0, "b": 15.0, "c": 17.0}, since=AT - GAP_S - 1)
    two = {"scrapes": dict.fromkeys("abc", 2), "census": dict.fromkeys("abc", 40)}
    todo = plan(AT, before, known({"a": 20.0, "b": 20.0, "c": 20.0}, **two, most_load=100))
    assert (todo.late, todo.gaps) == (1, frozenset({"b", "c", WITHOUT_ROUNDS}))


def test_newcomers_that_wait_are_not_late():
    before = read({"a": 20.0})
    there = known({"a": 21.0, "new": 7.0}, census={"a": 80, "new": 80}, scrapes={"a": 2},
                  most_load=100)  # fmt: skip
    todo = plan(AT, replace(before, waiting=100), there)
    assert (todo.asked, todo.trail, todo.late) == (frozenset("a"), frozenset("a"), 0)


def test_newcomers_for_whom_there_is_no_room_are_unmet():
    there = known(FIVE, census=dict.fromkeys("abcde", 20), most_load=100)
    todo = plan(AT, read({}, None), there)
    assert todo.asked == frozenset("ab")
    assert (todo.unmet, todo.late) == (3, 0)
    assert plan(AT, read(FIVE), there).unmet == 0


def test_newcomers_that_wait_for_the_others_past_are_not_unmet():
    there = known(FIVE, census=dict.fromkeys("abcde", 20), most_load=100)
    before = read({"a": 20.0, "b": 20.0}, waiting=100, kernels={"a": 20, "b": 20})
    todo = plan(AT, before, there)
    assert (todo.asked, todo.unmet) == (frozenset(), 0)


def test_an_exporter_without_rounds_that_was_read_before_is_not_unmet():
    mute = {name: 20 for name in "vwxyz"}
    todo = plan(AT, read({}, kernels=mute), known({}, census=mute, most_load=100))
    assert len(todo.asked or ()) == 2
    assert todo.unmet == 0


def test_an_exporter_that_is_too_large_for_a_batch_is_asked_for_all_the_same():
    there = known({"a": 21.0, "b": 20.0}, census={"a": 5000, "b": 5000}, most_load=100)
    assert plan(AT, read({"a": 20.0, "b": 20.0}), there).asked == frozenset("a")


# Rates that Prometheus must give.


def test_at_a_start_all_rates_are_asked_for_over_one_window_where_it_serves_all():
    todo = plan(AT, read({}, None), known(FIVE))
    assert todo.asked is None
    assert todo.rates == {20.0: None}  # four measurements of 5 s
    assert set(todo.windows.values()) == {Window(20.0, 1.0)}


def test_an_agents_window_is_by_its_own_interval_and_not_by_the_slowest():
    numbers = {"fast": 100.0, "slow": 9.0}
    todo = plan(AT, read({}, None), known(numbers, rounds=ticking(("fast", 3), ("slow", 30))))
    assert todo.rates == {15.0: frozenset({"fast"}), 120.0: frozenset({"slow"})}
    assert (todo.windows["fast"].range_s, todo.windows["slow"].range_s) == (15.0, 120.0)


def test_only_the_rates_of_exporters_that_were_not_read_are_asked_for():
    todo = plan(AT, read({"a": 20.0}), known({"a": 21.0, "b": 7.0}))
    assert todo.rates == {20.0: frozenset("b")}


def test_the_settings_window_goes_before_all_others():
    todo = plan(AT, read({}, None), known(FIVE, given_s=77.0))
    assert todo.rates == {77.0: None}


def test_exporters_without_rounds_have_the_window_of_the_surveys_intervals():
    survey = Survey(METRICS, 4.0, 10.0, True, AT)
    todo = plan(AT, read({}, None), known({}, census={"mute": 2}, survey=survey))
    assert todo.rates == {40.0: None}
    assert todo.windows == {"mute": Window(40.0, 4.0)}


# Scrapes since the last batch.


def test_only_the_scrapes_of_exporters_that_measured_more_than_once_are_read():
    todo = plan(AT, read(FIVE), known(FIVE | {"a": 21.0, "b": 23.0}, scrapes={"a": 1, "b": 3}))
    assert (todo.trail, todo.gaps) == (frozenset("b"), frozenset())


def test_what_an_exporter_did_before_it_was_met_is_no_trail():
    todo = plan(AT, read({"a": 20.0}), known({"a": 21.0, "b": 7.0}, scrapes={"a": 1, "b": 9}))
    assert todo.trail == frozenset()


@pytest.mark.parametrize(("between_s", "is_gap"), [(60.0, False), (61.0, True)])
def test_what_lies_further_back_is_a_gap(between_s: float, is_gap: bool):
    there = known(FIVE | {"b": 40.0}, scrapes={"b": 20})
    todo = plan(AT, read(FIVE, AT - between_s), there)
    assert ("b" in todo.gaps) is is_gap
    assert ("b" in (todo.trail or ())) is not is_gap


def test_a_trail_of_too_many_samples_is_a_gap():
    there = known(FIVE | {"b": 30.0}, scrapes={"b": 10}, census=FIVE | {"b": 20_000},
                  most_load=100_000)  # fmt: skip
    before = read(FIVE, kernels=FIVE | {"b": 20_000})
    todo = plan(AT, before, there)
    assert (todo.trail, todo.gaps) == (frozenset(), frozenset("b"))


@pytest.mark.parametrize(("scrape_s", "slips"), [(2.0, True), (None, True), (15.0, False)])
def test_without_rounds_samples_are_read_where_one_may_slip_between_two_polls(
    scrape_s: float | None, slips: bool
):
    survey = Survey(METRICS, scrape_s, 15.0, True, AT)
    there = known({}, census={"mute": 2}, scrapes={}, survey=survey)
    todo = plan(AT, read({}, kernels={"mute": 2}), there)
    assert todo.trail == (frozenset({"mute"}) if slips else frozenset())
    assert todo.newest == (frozenset() if slips else frozenset({"mute"}))


def test_nothing_lies_before_the_first_batch_and_nothing_in_the_future():
    there = known(FIVE | {"b": 40.0}, scrapes={"b": 20})
    for since in (None, AT, AT + 5.0):
        todo = plan(AT, read(FIVE, since), there)
        assert (todo.trail, todo.gaps) == (frozenset(), frozenset())


def test_a_trail_reaches_back_to_the_last_batch_and_little_further():
    assert 7.0 < trail_range_s(AT, read(FIVE, 93.0)) <= 12.0
    assert trail_range_s(AT, read(FIVE, None)) <= 5.0
