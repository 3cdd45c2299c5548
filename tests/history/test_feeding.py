"""A batch into the history: what lies between two, who is met, whose exporter is mixed."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from poller.format.catalog import Catalog, Override
from poller.history.feeding import Feeding
from poller.history.history import History
from poller.values import Batch, Glimpse, Life, Owed, Past, Reading, Window
from tests.support.histories import (
    CATALOG,
    CLOCKS,
    KERNEL,
    NOTHING,
    OTHER,
    A,
    B,
    batch,
    cluster,
    history,
    ids,
    kept,
    life,
    mean,
    names,
    rate,
    roundless,
    scraped_at,
    seen,
    stamp,
)
from tests.support.looks import feed


def test_rounds_between_two_batches_count_as_measurements():
    catalog = Catalog(overrides={"mem": Override(stats=("min", "max"))})
    made = history(batch(10.0, mem=Reading("5"), cpu_util=Reading("10")), catalog=catalog)
    between = [seen(3, mem="99", cpu_util="100"), seen(4, mem="1", cpu_util="110")]
    last = {KERNEL: {"mem": Reading("6"), "cpu_util": Reading("160")}}
    feed(made, cluster(25.0, last, glimpses=between), CLOCKS)
    assert (kept(made, "mem").maximum, kept(made, "mem").minimum) == ("99", "1")
    assert mean(made, "cpu_util") == (370.0, 3.0)
    assert rate(made, "cpu_util") == pytest.approx(10.0)


def test_a_glimpse_of_a_round_that_was_counted_is_passed_over():
    made = history(*(batch(at, mem=Reading("7"), cpu_util=Reading(str(at * 100))) for at in
                     (10.0, 15.0, 20.0)))  # fmt: skip
    before = (mean(made, "cpu_util"), rate(made, "cpu_util"), kept(made, "mem").maximum)
    again = [seen(2, mem="99", cpu_util="1000"), seen(3, cpu_util="1500")]
    feed(made, cluster(21.0, {}, number=4, glimpses=again), CLOCKS)
    assert (mean(made, "cpu_util"), rate(made, "cpu_util"), kept(made, "mem").maximum) == before


def test_a_glimpse_of_what_is_not_known_is_passed_over():
    made = History(CATALOG, 300.0)
    feed(made, cluster(25.0, {}, glimpses=[seen(3, mem="99")]), CLOCKS)
    assert not made.kernels


# Kernels that are met.


def test_a_kernel_that_comes_to_an_exporter_that_is_followed_is_new():
    made = history(batch(10.0, io_read=Reading("5")))
    both = {KERNEL: {"io_read": Reading("6")}, OTHER: {"io_read": Reading("900", rate="77")}}
    feed(made, cluster(15.0, both), CLOCKS)
    new = kept(made, "io_read", OTHER)
    assert (new.rate, new.first, new.known, new.owed) == (0.0, "900", True, None)
    assert made.owing == {KERNEL}
    both[OTHER] = {"io_read": Reading("950")}
    feed(made, cluster(20.0, both), CLOCKS)
    assert new.rate == pytest.approx(10.0)


def test_a_new_kernels_mean_has_every_measurement_from_the_first_on():
    made = history(batch(10.0, mem=Reading("5")))
    for at, value in ((15.0, "40"), (20.0, "60"), (25.0, "110")):
        feed(made, cluster(at, {OTHER: {"cpu_util": Reading(value)}}), CLOCKS)
    assert mean(made, "cpu_util", OTHER) == (210.0, 3.0)


@pytest.mark.parametrize("between", [(), (Glimpse(stamp(3), {OTHER: {"io_read": "800"}}),)])
def test_a_kernel_that_came_while_the_exporter_was_not_followed_owes_its_past(
    between: Iterable[Glimpse],
):
    made = history(batch(10.0, io_read=Reading("5")))
    both = {KERNEL: {"io_read": Reading("6")}, OTHER: {"io_read": Reading("900")}}
    gaps = frozenset() if between else frozenset({A})
    at = 20.0 if between else 150.0
    feed(made, cluster(at, both, glimpses=tuple(between), gaps=gaps), CLOCKS)
    assert made.kernels[OTHER].owing == Owed(None, at)
    assert OTHER in made.owing
    assert all(made.kernels[kernel].owing for kernel in made.owing)


def test_a_kernel_that_was_there_at_the_start_has_its_windows_rate():
    made = history(batch(10.0, io_read=Reading("5", rate="7")))
    made.recall_life(KERNEL, life(io_read=Past(first="1")), Owed(None, 10.0))
    assert rate(made, "io_read") == 7.0


def test_a_window_with_a_gap_is_no_rate_and_the_kernel_waits_for_a_round():
    half = {"samples": {KERNEL: 2.0}}
    met = cluster(10.0, {KERNEL: {"io_read": Reading("5", rate="7")}}, **half)
    made = history(met)
    made.recall_life(KERNEL, life(io_read=Past(first="1")), Owed(None, 10.0))
    assert rate(made, "io_read") is None
    assert names(made) == []
    feed(made, batch(15.0, io_read=Reading("55")), CLOCKS)
    assert rate(made, "io_read") == pytest.approx(10.0)
    assert names(made) == ["io_read"]


@pytest.mark.parametrize(("fresh", "chosen"), [(True, 3.0), (False, 7.0)])
def test_a_fresh_keys_rate_goes_before_that_of_a_window(fresh: bool, chosen: float):
    made = history(batch(10.0, io_read=Reading("5", rate="7")))
    made.recall_key(KERNEL, {"io_read": NOTHING._replace(raw="4", rate="3")}, fresh=fresh)
    made.recall_life(KERNEL, life(io_read=Past(first="1")), Owed(None, 10.0))
    assert rate(made, "io_read") == chosen


def test_where_prometheus_knows_no_rate_an_old_keys_stands():
    made = history(batch(10.0, io_read=Reading("5")))
    made.recall_key(KERNEL, {"io_read": NOTHING._replace(raw="4", rate="3")}, fresh=False)
    assert rate(made, "io_read") == 3.0


def test_a_rate_of_two_rounds_goes_before_any_key():
    made = history(batch(10.0, io_read=Reading("5", rate="7")), batch(15.0, io_read=Reading("55")))
    made.recall_key(KERNEL, {"io_read": NOTHING._replace(raw="4", rate="3")}, fresh=True)
    assert rate(made, "io_read") == pytest.approx(10.0)


def test_a_young_kernels_window_is_judged_by_its_life():
    made = history(batch(110.0, io_read=Reading("5", rate="2")))
    made.recall_life(KERNEL, Life(110.0, 100.0, False, {}), Owed(None, 110.0))
    # It lived for 10 s, and the window of 25 s takes half a scrape for granted.
    assert rate(made, "io_read") == pytest.approx(2 * 25 / 12.5)


def test_a_windows_rate_is_judged_by_that_window_when_the_past_comes_later_than_other_batches():
    made = history(batch(110.0, io_read=Reading("5", rate="2")))
    nameless = {"": Window(600.0, 5.0)}  # that of an exporter without a name, and of no other one
    read = {KERNEL: {"io_read": Reading("5")}}
    feed(made, cluster(112.0, read, number=22, windows=nameless), CLOCKS)
    made.recall_life(KERNEL, Life(110.0, 100.0, False, {}), Owed(None, 110.0))
    assert rate(made, "io_read") == pytest.approx(2 * 25 / 12.5)


def test_a_young_kernel_of_which_there_is_one_sample_has_the_rate_0():
    made = history(cluster(112.0, {KERNEL: {"io_read": Reading("5")}}, number=22))
    made.recall_life(KERNEL, Life(112.0, 110.0, False, {}), Owed(None, 112.0))
    assert rate(made, "io_read") == 0.0


def test_a_young_kernel_of_which_one_sample_is_left_of_two_measurements_has_no_rate():
    made = history(batch(110.0, io_read=Reading("5")))
    made.recall_life(KERNEL, Life(110.0, 108.0, False, {}), Owed(None, 110.0))
    assert rate(made, "io_read") is None


def test_a_kernel_that_is_met_by_the_first_scrape_after_some_that_failed_owes_its_past():
    """Rounds that nobody scraped may have measured it, and told its first value."""
    clocks = scraped_at([*range(0, 41, 5), 80])
    made = History(CATALOG, 300.0)
    feed(made, batch(40.0, io_read=Reading("5")), clocks)
    both = {KERNEL: {"io_read": Reading("6")}, OTHER: {"io_read": Reading("900")}}
    feed(made, cluster(80.0, both), clocks)
    assert made.kernels[OTHER].owing == Owed(None, 80.0)


@pytest.mark.parametrize(("other_at", "since"), [(60.0, 60.0), (100.0, 10.0)])
def test_a_gap_is_owed_from_where_the_kernel_was_seen_if_it_waited_for_its_turn(
    other_at: float, since: float
):
    made = history(batch(10.0, mem=Reading("5")))
    made.recall_life(KERNEL, life(mem=Past(first="1")), Owed(None, 10.0))
    feed(made, Batch(other_at, {}, asked=frozenset({B})), CLOCKS)
    feed(made, cluster(150.0, {KERNEL: {"mem": Reading("6")}}, gaps=frozenset({A})), CLOCKS)
    assert made.kernels[KERNEL].owing == Owed(since, 150.0)


# Exporters.


def test_a_kernel_of_a_mixed_exporter_waits_for_the_next_batch():
    made = history(batch(10.0, io_read=Reading("100")))
    mixed = cluster(15.0, {KERNEL: {"io_read": Reading("700")}}, stamps={}, mixed=frozenset({A}))
    fed = feed(made, mixed, CLOCKS)
    assert (fed.mixed, fed.measured) == ({KERNEL}, set())
    assert kept(made, "io_read").current == "100"
    assert made.living.roundless == frozenset()
    feed(made, batch(16.0, 3, io_read=Reading("700")), CLOCKS)
    assert rate(made, "io_read") == pytest.approx(120.0)


def test_a_gap_of_a_mixed_exporter_is_owed_though_the_next_batch_measures():
    made = history(batch(10.0, cpu_util=Reading("10")))
    made.recall_life(KERNEL, life(cpu_util=Past(total=10.0, samples=1.0)), Owed(None, 10.0))
    told = {KERNEL: {"cpu_util": Reading("100")}}
    mixed = {"stamps": {}, "mixed": frozenset({A})}
    feed(made, cluster(55.0, told, gaps=frozenset({A}), **mixed), CLOCKS)
    assert kept(made, "cpu_util").owed == Owed(10.0, 55.0)
    assert made.owing == {KERNEL}
    feed(made, batch(60.0, cpu_util=Reading("110")), CLOCKS)
    assert mean(made, "cpu_util") == (120.0, 2.0)  # the rounds between are what is owed
    made = history(batch(10.0, cpu_util=Reading("10")))
    made.recall_life(KERNEL, life(cpu_util=Past(total=10.0, samples=1.0)), Owed(None, 10.0))
    feed(made, cluster(15.0, told, **mixed), CLOCKS)
    assert not made.owing


def test_rounds_that_left_a_kernel_out_did_not_measure_it():
    both = {KERNEL: {"cpu_util": Reading("10")}, OTHER: {"cpu_util": Reading("5")}}
    one = {OTHER: {"cpu_util": Reading("6")}}
    made = history(cluster(10.0, both), cluster(15.0, one), cluster(20.0, one))
    both[KERNEL] = {"cpu_util": Reading("30")}
    feed(made, cluster(30.0, both), CLOCKS)
    assert mean(made, "cpu_util") == (30.0, 1.0)
    assert mean(made, "cpu_util", OTHER) == (6.0 + 6.0 + 5.0 + 5.5, 4.0)


def test_what_a_glimpse_saw_move_has_moved():
    made = history(batch(10.0, mem=Reading("5")))
    last = {KERNEL: {"mem": Reading("5")}}
    feed(made, cluster(20.0, last, glimpses=[seen(3, mem="5")]), CLOCKS)
    assert made.kernels[KERNEL].moved is None
    moved = {KERNEL: {"mem": Reading("7")}}  # as the glimpse, so the batch saw nothing move
    feed(made, cluster(30.0, moved, glimpses=[seen(5, mem="7")]), CLOCKS)
    assert (made.kernels[KERNEL].judged, made.kernels[KERNEL].moved) == (True, 30.0)


def test_a_metric_that_comes_to_a_kernel_that_is_followed_is_new():
    made = history(batch(10.0, mem=Reading("5")))
    feed(made, batch(15.0, mem=Reading("5"), io_read=Reading("900", rate="77")), CLOCKS)
    new = kept(made, "io_read")
    assert (new.rate, new.first, new.known, new.owed) == (0.0, "900", True, None)
    made = history(roundless(10.0, mem=Reading("5")))
    feed(made, batch(15.0, mem=Reading("5"), io_read=Reading("900", rate="77")), CLOCKS)
    new = kept(made, "io_read")
    assert (new.rate, new.known, new.owed) == (77.0, False, Owed(None, 15.0))


def test_a_new_kernel_has_moved_and_has_its_agent():
    made = history(batch(10.0, io_read=Reading("5")))
    both = {KERNEL: {"io_read": Reading("6")}, OTHER: {"io_read": Reading("900")}}
    feed(made, cluster(15.0, both), CLOCKS)
    new = made.kernels[OTHER]
    assert (new.judged, new.moved, new.newborn, new.agent) == (True, 15.0, True, "i-a")
    feed(made, cluster(20.0, both, agents={}), CLOCKS)
    assert new.agent == "i-a"


@pytest.mark.parametrize(("lookback_s", "owing"), [(30.0, True), (40.0, False)])
def test_a_kernel_is_not_new_where_those_of_then_may_have_been_forgotten(
    lookback_s: float, owing: bool
):
    made = history(batch(10.0, io_read=Reading("5")), lookback_s=lookback_s)
    both = {KERNEL: {"io_read": Reading("6")}, OTHER: {"io_read": Reading("900")}}
    feed(made, cluster(45.0, both), CLOCKS)
    assert (OTHER in made.owing) == owing


def test_a_large_batch_is_taken_in_portions():
    names = ids(1500)
    parts = [names[place : place + 500] for place in range(0, 1500, 500)]
    made = history(cluster(10.0, {name: {"mem": Reading("5")} for name in names}))
    glimpses = [Glimpse(stamp(3), dict.fromkeys(part, {"mem": "6"})) for part in parts]
    told = cluster(20.0, {name: {"mem": Reading("7")} for name in names}, glimpses=glimpses)
    feeding = Feeding(made, told, CLOCKS)
    taken = [made.kernels[names[-1]].metrics["mem"].current for _ in feeding.portions()]
    # Three glimpses; the search for what stands still, and two portions; the last; who is gone.
    assert taken == ["5", "5", "6", "6", "6", "6", "7", "7", "7"]
