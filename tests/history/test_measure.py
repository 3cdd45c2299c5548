"""Rates, extremes and means: of measurements, or of a window where there are no rounds."""

from __future__ import annotations

import pytest

from poller.history.history import History
from poller.values import Reading
from tests.support.histories import (
    CATALOG,
    CLOCKS,
    KERNEL,
    A,
    batch,
    cluster,
    history,
    kept,
    mean,
    rate,
    roundless,
    seen,
)
from tests.support.looks import feed


def test_a_rate_is_the_difference_between_two_measurements_over_the_time_between_them():
    made = history(batch(10.0, io_read=Reading("100")), batch(15.0, io_read=Reading("700")))
    assert rate(made, "io_read") == pytest.approx(120.0)
    feed(made, batch(30.0, io_read=Reading("1000")), CLOCKS)
    assert rate(made, "io_read") == pytest.approx(20.0)


def test_a_measurement_counts_once_however_often_it_is_polled():
    made = history(*(batch(10.0 + at, 2, cpu_util=Reading("50")) for at in range(4)))
    for at in range(5):
        feed(made, batch(15.0 + at, 3, cpu_util=Reading("60")), CLOCKS)
    assert mean(made, "cpu_util") == (60.0, 1.0)  # the first one is among what is owed
    assert rate(made, "cpu_util") == pytest.approx(2.0)


def test_a_kernel_is_measured_by_a_new_round_and_not_by_a_poll():
    made = History(CATALOG, 300.0)
    told = [feed(made, batch(at, number, mem=Reading("5")), CLOCKS).measured
            for at, number in ((10.0, 2), (12.0, 2), (15.0, 3))]  # fmt: skip
    assert told == [{KERNEL}, set(), {KERNEL}]


def test_an_idle_kernel_has_the_rate_0_from_one_round_to_the_next():
    made = history(
        batch(10.0, io_read=Reading("100")),
        batch(15.0, io_read=Reading("700")),
        batch(20.0, io_read=Reading("700")),
    )
    assert rate(made, "io_read") == 0.0


def test_rounds_that_no_scrape_saw_lie_between_both_ends():
    made = history(batch(10.0, cpu_util=Reading("10")), batch(25.0, cpu_util=Reading("40")))
    # Three measurements: the one that was seen, and two that were 25 on average.
    assert mean(made, "cpu_util") == (90.0, 3.0)


def test_a_counter_that_restarts_has_the_rate_0_for_one_round():
    made = history(batch(10.0, io_read=Reading("500")), batch(15.0, io_read=Reading("900")))
    feed(made, batch(20.0, io_read=Reading("3")), CLOCKS)
    assert rate(made, "io_read") == 0.0
    feed(made, batch(25.0, io_read=Reading("53")), CLOCKS)
    assert rate(made, "io_read") == pytest.approx(10.0)


def test_a_counter_that_restarts_in_a_round_that_nobody_saw_keeps_its_rate():
    """The agent writes 0 for the one interval in which it fell, and this need not be the last."""
    made = history(batch(10.0, io_read=Reading("500")), batch(15.0, io_read=Reading("900")))
    feed(made, batch(35.0, io_read=Reading("150")), CLOCKS)
    assert rate(made, "io_read") == pytest.approx(80.0)
    feed(made, batch(40.0, io_read=Reading("200")), CLOCKS)
    assert rate(made, "io_read") == pytest.approx(10.0)


def test_a_maximum_never_falls_when_a_counter_restarts():
    made = history(batch(10.0, cpu_util=Reading("500")), batch(15.0, cpu_util=Reading("3")))
    assert kept(made, "cpu_util").maximum == "500"


def test_an_agents_restart_keeps_the_last_rate_until_two_rounds_of_it_are_known():
    made = history(batch(50.0, io_read=Reading("100")), batch(55.0, io_read=Reading("600")))
    feed(made, batch(70.0, 1, io_read=Reading("900")), CLOCKS)
    assert rate(made, "io_read") == pytest.approx(100.0)
    feed(made, batch(75.0, 2, io_read=Reading("950")), CLOCKS)
    assert rate(made, "io_read") == pytest.approx(10.0)


def test_an_unknown_rate_leaves_the_last_one():
    made = history(batch(10.0, net_rx=Reading("5", rate="12.5")))
    feed(made, batch(10.0, 2, net_rx=Reading("6")), CLOCKS)
    assert kept(made, "net_rx").rate == 12.5


def test_movement_is_noticed_and_dated():
    made = history(batch(10.0, mem=Reading("5")), batch(15.0, mem=Reading("5")))
    assert not made.kernels[KERNEL].judged
    feed(made, batch(20.0, mem=Reading("6")), CLOCKS)
    assert (made.kernels[KERNEL].judged, made.kernels[KERNEL].moved) == (True, 20.0)


def test_a_batch_without_cpu_util_or_mem_is_incomplete():
    made = history(batch(10.0, mem=Reading("5"), cpu_util=Reading("5")))
    assert made.kernels[KERNEL].lacks == ()
    feed(made, batch(15.0, mem=Reading("5")), CLOCKS)
    assert made.kernels[KERNEL].lacks == ("cpu_util",)


# Exporters without rounds.


def test_without_rounds_every_sample_counts_and_the_batchs_own_not_twice():
    made = history(roundless(10.0, cpu_util=Reading("10")))
    glimpses = [seen(None, cpu_util="20"), seen(None, cpu_util="40")]
    last = {KERNEL: {"cpu_util": Reading("40")}}
    feed(made, cluster(20.0, last, stamps={}, glimpses=glimpses, counted={A}), CLOCKS)
    assert mean(made, "cpu_util") == (60.0, 2.0)


def test_without_rounds_a_scrape_counts_once_however_often_it_is_read():
    made = history(roundless(10.0, cpu_util=Reading("10")))
    for at, counted, text in ((15.0, {A}, "10"), (20.0, (), "40"), (25.0, {A}, "40")):
        last = {KERNEL: {"cpu_util": Reading(text)}}
        feed(made, cluster(at, last, stamps={}, counted=counted), CLOCKS)
    assert mean(made, "cpu_util") == (40.0, 1.0)  # of the first sight the past will tell


def test_without_rounds_the_glimpses_of_another_exporter_change_nothing():
    made = history(roundless(10.0, cpu_util=Reading("10")))
    last = {KERNEL: {"cpu_util": Reading("40")}}
    feed(made, cluster(20.0, last, stamps={}, glimpses=[seen(3, mem="99")]), CLOCKS)
    assert mean(made, "cpu_util") == (40.0, 1.0)


def test_without_rounds_the_rate_is_that_of_a_window_that_samples_fill():
    made = history(
        roundless(10.0, io_read=Reading("5", rate="7")),
        roundless(15.0, io_read=Reading("6", rate="8.5")),
    )
    assert rate(made, "io_read") == 8.5


def test_without_rounds_a_window_with_a_gap_leaves_the_last_rate():
    made = history(
        roundless(10.0, io_read=Reading("5", rate="7")),
        roundless(15.0, 3.0, io_read=Reading("6", rate="0.4")),
        roundless(20.0, io_read=Reading("6")),
    )
    assert rate(made, "io_read") == 7.0
