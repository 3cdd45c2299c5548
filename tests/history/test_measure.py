"""Rates, extremes and means: of measurements, or of a window where there are no rounds."""

from __future__ import annotations

import pytest

from poller.format.catalog import Catalog, Override
from poller.history.history import History
from poller.history.measure import MetricFacts, measure
from poller.rounds.arrivals import Step
from poller.rounds.rounds import Rounds
from poller.values import Owed, Reading, Remembered
from tests.support.histories import (
    CATALOG,
    CLOCKS,
    KERNEL,
    OTHER,
    A,
    batch,
    cluster,
    history,
    kept,
    life,
    mean,
    names,
    rate,
    roundless,
    scraped_at,
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
    feed(made, batch(15.0, 1, net_rx=Reading("6")), CLOCKS)  # its agent began anew
    assert kept(made, "net_rx").current == "6"
    assert kept(made, "net_rx").rate == 12.5


def test_a_capacity_that_a_batch_does_not_tell_stays_as_it_was():
    made = history(batch(10.0, mem=Reading("5", "100")), batch(15.0, mem=Reading("6", "200")))
    assert kept(made, "mem").capacity == "200"
    feed(made, batch(20.0, mem=Reading("7")), CLOCKS)
    assert kept(made, "mem").capacity == "200"


def test_a_step_that_is_not_sure_changes_no_rate_but_a_zero():
    made = history(batch(10.0, io_read=Reading("100")), batch(15.0, io_read=Reading("600")))
    metric, fact = kept(made, "io_read"), MetricFacts(CATALOG, None, 20.0)["io_read"]
    measure(metric, "1600", fact, Step(1.0, 5.0, sure=False))
    assert metric.rate == pytest.approx(100.0)
    measure(metric, "1600", fact, Step(1.0, 5.0))
    assert metric.rate == 0.0
    measure(metric, "1800", fact, Step(1.0, 5.0, sure=False))
    assert metric.rate == pytest.approx(40.0)


def test_a_rate_of_prometheus_stands_in_only_where_none_is_known():
    made = history(batch(50.0, io_read=Reading("100")), batch(55.0, io_read=Reading("600")))
    again = batch(70.0, 1, io_read=Reading("900", rate="7"))  # the agent began anew
    feed(made, again, CLOCKS)
    assert rate(made, "io_read") == pytest.approx(100.0)
    made = history(batch(50.0, io_read=Reading("100")))
    assert rate(made, "io_read") is None
    feed(made, again, CLOCKS)
    assert rate(made, "io_read") == 7.0
    made = history(batch(50.0, io_read=Reading("100")))
    feed(made, batch(55.0, io_read=Reading("600", rate="7")), CLOCKS)
    assert rate(made, "io_read") == pytest.approx(100.0)


def test_a_metric_that_rounds_left_out_was_not_measured_in_them():
    made = history(
        batch(10.0, cpu_util=Reading("10"), mem=Reading("5")),
        batch(15.0, mem=Reading("6")),
        batch(20.0, cpu_util=Reading("40"), mem=Reading("7")),
        batch(30.0, cpu_util=Reading("60"), mem=Reading("8")),
    )
    # The round of 15 s did not measure it, that of 25 s nobody saw.
    assert mean(made, "cpu_util") == (40.0 + 60.0 + 50.0, 3.0)


@pytest.mark.parametrize("outage_s", [290.0, 310.0])
def test_the_ends_of_a_long_outage_tell_no_rate_and_of_no_gauge_in_between(outage_s: float):
    clocks = scraped_at(range(0, 501, 5))
    made = History(Catalog(overrides={"mem": Override(stats=("avg",))}), 600.0)
    for at, moved in ((10.0, "100"), (15.0, "600"), (15.0 + outage_s, "30600")):
        told = dict.fromkeys(("io_read", "mem", "cpu_util"), Reading(moved))
        feed(made, batch(at, **told), clocks)
    unseen = outage_s / 5 - 1
    if outage_s > 300.0:
        assert rate(made, "io_read") is None
        assert mean(made, "mem") == (600.0 + 30600.0, 2.0)
        assert mean(made, "cpu_util") == (31200.0 + unseen * 15600.0, 2.0 + unseen)
    else:
        assert rate(made, "io_read") == pytest.approx(30000.0 / outage_s)
        assert mean(made, "mem") == (600.0 + 30600.0 + unseen * 15600.0, 2.0 + unseen)


def test_the_first_measurement_after_a_plugin_stood_still_for_long_tells_a_rate():
    """Its kernel was measured all the while, so this is no outage."""
    clocks = scraped_at(range(0, 501, 5))
    made = History(CATALOG, 600.0)
    for at in range(10, 330, 5):
        read = {"io_read": Reading(str(at))} if at < 20 or at == 325 else {}
        feed(made, batch(float(at), mem=Reading(str(at)), **read), clocks)
    assert rate(made, "io_read") == pytest.approx(1.0)


def test_a_new_kernel_of_which_rounds_may_be_missing_has_no_rate_yet():
    made = history(batch(10.0, io_read=Reading("5")))
    both = {KERNEL: {"io_read": Reading("6")}, OTHER: {"io_read": Reading("900")}}
    feed(made, cluster(25.0, both), CLOCKS)
    assert kept(made, "io_read", OTHER).rate is None
    both[OTHER] = {"io_read": Reading("950")}
    feed(made, cluster(30.0, both), CLOCKS)
    assert kept(made, "io_read", OTHER).rate == pytest.approx(10.0)


def test_what_only_a_key_told_of_owes_its_past_when_it_is_measured():
    made = history(batch(10.0, mem=Reading("5")))
    told = Remembered("7", None, None, "50", None, "6.5")
    made.recall_key(KERNEL, {"cpu_util": told})
    made.recall_life(KERNEL, life(), Owed(None, 10.0))
    feed(made, batch(15.0, mem=Reading("5"), cpu_util=Reading("60")), CLOCKS)
    assert kept(made, "cpu_util").owed == Owed(None, 15.0)
    assert made.owing == {KERNEL}


def test_movement_is_noticed_and_dated():
    made = history(batch(10.0, mem=Reading("5")), batch(15.0, mem=Reading("5")))
    assert made.kernels[KERNEL].seen == 15.0
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


def test_without_rounds_a_counter_that_restarts_owes_what_it_had_reached():
    made = history(roundless(10.0, cpu_util=Reading("900")))
    made.recall_life(KERNEL, life(), Owed(None, 10.0))
    feed(made, roundless(15.0, cpu_util=Reading("900")), CLOCKS)
    assert not made.owing
    feed(made, roundless(20.0, cpu_util=Reading("3")), CLOCKS)
    assert kept(made, "cpu_util").owed == Owed(15.0, 20.0)
    assert made.owing == {KERNEL}


def test_an_exporter_that_begins_to_count_rounds_has_its_means_weighed_anew():
    made = history(roundless(10.0, cpu_util=Reading("10")))
    made.recall_life(KERNEL, life(), Owed(None, 10.0))
    feed(made, roundless(15.0, cpu_util=Reading("30")), CLOCKS)
    strange = Rounds()  # how many measurements a scrape stands for is not known by these
    feed(made, batch(20.0, cpu_util=Reading("50")), strange)
    assert kept(made, "cpu_util").owed is None
    feed(made, batch(25.0, cpu_util=Reading("70")), CLOCKS)
    assert kept(made, "cpu_util").owed == Owed(None, 25.0)
    made.recall_life(KERNEL, life(), Owed(None, 25.0))
    feed(made, batch(30.0, cpu_util=Reading("90")), CLOCKS)
    assert kept(made, "cpu_util").owed is None


def test_without_rounds_a_value_that_a_glimpse_told_is_taken_and_not_counted_again():
    made = history(roundless(10.0, cpu_util=Reading("10"), cpu_used=Reading("10")))
    last = {KERNEL: {"cpu_util": Reading("40"), "cpu_used": Reading("40")}}
    feed(made, cluster(15.0, last, stamps={}, counted={A}), CLOCKS)
    assert kept(made, "cpu_used").current == "40"
    assert mean(made, "cpu_util") == (0.0, 0.0)


def test_without_rounds_a_kernel_is_written_from_its_first_true_rate_on():
    made = history(roundless(10.0, 1.0, io_read=Reading("5", rate="7")))
    made.recall_life(KERNEL, life(older=True), Owed(None, 10.0))
    assert names(made) == []
    feed(made, roundless(15.0, io_read=Reading("6", rate="8")), CLOCKS)
    assert names(made) == ["io_read"]
