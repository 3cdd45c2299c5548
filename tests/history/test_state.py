"""What is kept of one metric: extremes, the past that is backfilled, whose word counts on it."""

from __future__ import annotations

import pytest

from poller.history.state import KernelState, MetricState
from poller.values import Owed, Past, Stamp


def test_the_value_at_first_sight_is_the_stand_in_where_nothing_older_is_known():
    kept = MetricState("5")
    kept.take("7")
    kept.backfill(Past(), older=False)
    assert (kept.first, kept.current, kept.value) == ("5", "7", 7.0)
    older, known = MetricState("5"), MetricState("5", first="1")
    for one in (older, known):
        one.backfill(Past(first="3"), older=False)
    assert (older.first, known.first) == ("3", "1")


def test_extremes_are_widened_by_what_lies_outside_them():
    kept = MetricState("5")
    for text in ("5", "9", "7", "2", "3"):
        kept.widen(text)
    assert (kept.maximum, kept.highest, kept.minimum, kept.lowest) == ("9", 9.0, "2", 2.0)
    kept.backfill(Past(maximum="8", minimum="1"), older=False)
    assert (kept.maximum, kept.minimum) == ("9", "1")


def test_while_the_whole_past_is_owed_the_average_so_far_stands():
    kept = MetricState("5", total=30.0, count=4.0)
    kept.owe_all(20.0)
    assert (kept.owed, kept.prior_average) == (Owed(None, 20.0), "7.5")
    assert (kept.total, kept.count) == (0.0, 0.0)
    kept.total, kept.count = 100.0, 1.0
    kept.owe_all(30.0)
    assert (kept.owed, kept.prior_average) == (Owed(None, 30.0), "7.5")
    bare = MetricState("5")
    bare.owe_all(20.0)
    assert bare.prior_average is None


@pytest.mark.parametrize(("replayed", "count"), [(False, 20.0), (True, 10.0)])
def test_a_sample_stands_for_several_measurements_but_not_a_replayed_one(
    replayed: bool, count: float
):
    kept = MetricState("5")
    kept.backfill(Past(total=50.0, samples=10.0, replayed=replayed), older=False, weight=2.0)
    assert (kept.total / kept.count, kept.count) == (5.0, count)


@pytest.mark.parametrize(("samples", "count"), [(10.0, 120.0), (50.0, 200.0)])
def test_a_keys_average_stands_for_what_prometheus_knows_of_a_life_and_an_hour_at_the_least(
    samples: float, count: float
):
    kept = MetricState("5", prior_average="3", prior_maximum=9.0)
    kept.backfill(Past(total=500.0, samples=samples), older=True, weight=2.0, spans=2.0)
    assert (kept.total, kept.count) == (3.0 * count, count)
    assert (kept.prior_average, kept.prior_maximum) == (None, None)


@pytest.mark.parametrize(
    ("past", "counts_up", "all_seen", "outlives"),
    [
        (Past(maximum="90"), False, True, True),
        (Past(maximum="90"), False, False, False),  # one that no scrape saw may have been higher
        (Past(maximum="100"), False, True, False),
        (Past(), True, True, False),
        (Past(minimum="31"), True, True, True),
        (Past(minimum="31"), False, True, False),
        (Past(minimum="30"), True, True, False),
    ],
)
def test_a_key_tells_of_a_longer_life_by_its_maximum_or_a_counters_average(
    past: Past, counts_up: bool, all_seen: bool, outlives: bool
):
    kept = MetricState("5", prior_average="30", prior_maximum=100.0)
    assert kept.outlives(past, counts_up, all_seen) is outlives


def test_a_key_that_tells_nothing_outlives_nothing():
    assert not MetricState("5").outlives(Past(maximum="90", minimum="31"), True)


@pytest.mark.parametrize(
    ("scraped", "born", "weight", "at_once"),
    [
        (20.0, 20.0, 1.0, True),
        (20.0, 15.0, 1.0, False),
        (20.0, 20.0, 2.0, False),
        (20.0, None, 2.0, True),
        (None, 15.0, 2.0, True),
    ],
)
def test_a_kernel_was_seen_at_once_if_the_first_scrape_told_of_its_only_measurement(
    scraped: float | None, born: float | None, weight: float, at_once: bool
):
    stamp = None if scraped is None else Stamp("a:1", 4.0, 0.0, scraped)
    kernel = KernelState(20.0, stamp, born=born, weight=weight)
    assert kernel.seen_at_once is at_once


def test_the_stretch_that_ended_first_is_owed_next():
    owed = {"mem": Owed(None, 20.0), "cpu_util": Owed(5.0, 10.0), "io_read": None}
    metrics = {name: MetricState("5", owed=one) for name, one in owed.items()}
    assert KernelState(20.0, metrics=metrics).owing == Owed(5.0, 10.0)
    assert KernelState(20.0, metrics={"io_read": MetricState("5")}).owing is None
