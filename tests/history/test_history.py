"""What is kept of kernels: by rounds, by windows where there are none, and what is recalled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from poller.format.catalog import Catalog, Override
from poller.history.feeding import Fed
from poller.history.history import History
from poller.history.state import MetricState
from poller.prometheus.answers import Series
from poller.rounds.rounds import Rounds
from poller.values import Batch, Glimpse, Life, Owed, Past, Reading, Remembered, Stamp, Window
from tests.support.looks import COUNTER, feed, look

KERNEL = "0b4f6a3e-7a0f-4c5e-9d53-0b7f5a7c2e11"
OTHER = "ffffffff-7a0f-4c5e-9d53-0b7f5a7c2e11"
CATALOG = Catalog()
NOTHING = Remembered(None, None, None, None, None, None)
A, B = "a:1", "b:1"
WINDOW = Window(25.0, 5.0)
"""Five samples fill it."""


def ticking(scrape_s: float = 5.0) -> Rounds:
    """Return the clocks of two agents that measure at 0, 5, 10 … s: the round n at 5 n."""
    times = [place * scrape_s for place in range(int(200 / scrape_s) + 1)]
    counts = [(at, str(int(at / 5))) for at in times]
    clocks = Rounds()
    look(clocks, [Series({**COUNTER, "instance": name}, counts) for name in (A, B)], 200.0)
    return clocks


CLOCKS = ticking()


def stamp(number: float, instance: str = A) -> Stamp:
    return Stamp(instance, float(number), 0.0, 5.0 * number)


Kernels = Mapping[str, Mapping[str, Reading]]


def cluster(at: float, kernels: Kernels, number: float | None = None, **more: object) -> Batch:
    """Return a batch of kernels of one exporter, in the round of that time or another one."""
    stamps = {A: stamp(at / 5 if number is None else number)}
    told = {
        "instances": dict.fromkeys(kernels, A),
        "agents": dict.fromkeys(kernels, "i-a"),
        "stamps": stamps,
        "windows": {A: WINDOW},
        "samples": dict.fromkeys(kernels, 5.0),
    }
    observations = {kernel: dict(readings) for kernel, readings in kernels.items()}
    return Batch(at, observations, **(told | more))  # type: ignore[arg-type]


def batch(at: float, number: float | None = None, **readings: Reading) -> Batch:
    return cluster(at, {KERNEL: readings}, number)


def roundless(at: float, samples: float = 5.0, **readings: Reading) -> Batch:
    return cluster(at, {KERNEL: readings}, stamps={}, samples={KERNEL: samples})


def history(*batches: Batch, catalog: Catalog = CATALOG, lookback_s: float = 300.0) -> History:
    made = History(catalog, lookback_s)
    for one in batches:
        feed(made, one, CLOCKS)
    return made


def life(older: bool = False, **metrics: Past) -> Life:
    return Life(1.0, None, older, metrics)


def kept(made: History, metric: str, kernel: str = KERNEL) -> MetricState:
    return made.kernels[kernel].metrics[metric]


def rate(made: History, metric: str) -> float | None:
    return kept(made, metric).rate


def names(made: History) -> list[str]:
    return [metric.name for metric, _ in made.kernels[KERNEL].known(CATALOG)]


def mean(made: History, metric: str, kernel: str = KERNEL) -> tuple[float, float]:
    return kept(made, metric, kernel).total, kept(made, metric, kernel).count


# Rates and means by rounds.


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


# Scrapes between two batches.


def seen(number: float | None, **values: str) -> Glimpse:
    return Glimpse(None if number is None else stamp(number), {KERNEL: values})


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


# Plugins that stand still.


def pair(number: int, io: Iterable[str], gpu: Iterable[str], cpu: int) -> Batch:
    kernels = {
        kernel: {
            "cpu_util": Reading(str(cpu + place)),
            "io_read": Reading(read),
            "cuda_util": Reading(used),
        }
        for place, (kernel, read, used) in enumerate(zip((KERNEL, OTHER), io, gpu, strict=True))
    }
    return cluster(5.0 * number, kernels)


BUSY = (
    pair(2, ("100", "500"), ("10", "20"), 1000),
    pair(3, ("150", "600"), ("30", "40"), 2000),
)
"""Two kernels of which everything moves."""


def glimpse_of(number: int, told: Batch, *names: str) -> Glimpse:
    """Return a scrape in a round that saw what a batch tells, of some metrics alone."""
    values = {
        kernel: {name: readings[name].current for name in names or readings}
        for kernel, readings in told.observations.items()
    }
    return Glimpse(stamp(number), values)


def test_a_plugin_that_stands_still_alone_keeps_its_values_and_rates():
    made = history(*BUSY)
    for number, gpu in ((4, ("50", "60")), (5, ("70", "80")), (6, ("90", "10"))):
        feed(made, pair(number, ("150", "600"), gpu, number * 1000), CLOCKS)
    assert made.standing.plugins == {(A, "mem")}
    assert rate(made, "io_read") == pytest.approx(10.0)
    assert mean(made, "cuda_util") == (240.0, 4.0)


@pytest.mark.parametrize("steady", ["100", "93", "0"])
def test_devices_in_steady_use_are_no_plugin_that_stands_still(steady: str):
    made = history(*BUSY)
    for number in (4, 5, 6):
        moving = (str(150 + number), str(600 + number))
        feed(made, pair(number, moving, (steady, steady), number * 1000), CLOCKS)
    assert made.standing.plugins == set()
    assert mean(made, "cuda_util") == (30.0 + 3 * float(steady), 4.0)


def test_devices_in_steady_use_are_none_either_where_rounds_take_much_of_their_time():
    made = history(*BUSY)
    for number in (4, 5, 6):
        told = pair(number, (str(150 + number), str(600 + number)), ("93", "93"), number * 1000)
        slow = Stamp(A, float(number), 2.0 * (number - 3), 5.0 * number)
        feed(made, replace(told, stamps={A: slow}), CLOCKS)
        assert made.standing.plugins == set()


def test_a_plugin_of_devices_that_a_round_waited_for_in_vain_has_measured_nothing_in_it():
    """An agent waits four intervals for a plugin, then measures without it."""
    made = history(*BUSY)
    hung = pair(8, ("200", "700"), ("30", "40"), 3000)
    feed(made, replace(hung, stamps={A: Stamp(A, 4.0, 20.0, 40.0)}), CLOCKS)
    assert made.standing.plugins == {(A, "cuda")}
    assert mean(made, "cuda_util") == (30.0, 1.0)
    well = pair(9, ("250", "800"), ("50", "60"), 4000)
    feed(made, replace(well, stamps={A: Stamp(A, 5.0, 20.0, 45.0)}), CLOCKS)
    assert made.standing.plugins == set()
    assert mean(made, "cuda_util") == (80.0, 2.0)


def test_kernels_that_fall_idle_together_are_no_failure_while_their_devices_are_in_no_use():
    made = history(
        pair(2, ("100", "500"), ("0", "0"), 1000),
        pair(3, ("150", "600"), ("0", "0"), 2000),
    )
    for number in (4, 5):
        feed(made, pair(number, ("150", "600"), ("0", "0"), 2000), CLOCKS)
    assert made.standing.plugins == set()
    assert rate(made, "io_read") == 0.0


def test_a_plugin_that_stands_still_is_found_between_two_batches_too():
    made = history(*BUSY)
    for number in (5, 7):
        last = pair(number, ("150", "600"), ("30", "40"), number * 1000)
        between = pair(number - 1, ("150", "600"), ("30", "40"), number * 1000 - 500)
        glimpses = [glimpse_of(number - 1, between)]
        feed(made, cluster(5.0 * number, last.observations, glimpses=glimpses), CLOCKS)
        assert made.standing.plugins == {(A, "mem")}
        assert rate(made, "io_read") == pytest.approx(10.0)
        assert rate(made, "cpu_util") == pytest.approx(100.0)


def test_a_plugin_that_failed_between_two_batches_makes_no_zero_though_a_plain_value_is_older():
    def with_used(one: Batch, used: int) -> Batch:
        for observation in one.observations.values():
            observation["cpu_used"] = Reading(str(used))
        return one

    made = history(
        with_used(pair(2, ("100", "500"), ("10", "20"), 1000), 1000),
        with_used(pair(3, ("150", "600"), ("30", "40"), 2000), 2000),
    )
    glimpses = []  # which tell nothing of plain metrics; the plugin fails after round 4
    for number, cpu in ((4, 2500), (5, 2500)):
        seen = pair(number, (str(number), str(number)), (str(number), str(number)), cpu)
        glimpses.append(glimpse_of(number, seen))
    last = with_used(pair(6, ("250", "800"), ("70", "80"), 2500), 2500)
    feed(made, cluster(30.0, last.observations, glimpses=glimpses), CLOCKS)
    feed(made, with_used(pair(7, ("260", "810"), ("75", "85"), 2500), 2500), CLOCKS)
    assert made.standing.plugins == {(A, "cpu")}
    assert rate(made, "cpu_util") == pytest.approx(100.0)
    assert mean(made, "cpu_util") == (2000.0 + 2500.0, 2.0)
    assert made.kernels[KERNEL].metrics["cpu_used"].current == "2500"


def test_a_plugin_that_goes_on_is_counted_from_its_last_measurement():
    made = history(
        *BUSY,
        pair(4, ("150", "600"), ("30", "40"), 3000),
        pair(5, ("250", "800"), ("90", "80"), 4000),
    )
    assert made.standing.plugins == set()
    assert rate(made, "io_read") == pytest.approx(10.0)  # 100 bytes in two rounds


def test_kernels_that_fall_idle_together_have_lost_no_plugin():
    made = history(
        *BUSY,
        pair(4, ("150", "600"), ("30", "40"), 2000),
    )
    assert made.standing.plugins == set()
    assert rate(made, "io_read") == 0.0


def test_kernels_that_fall_idle_together_after_a_round_between_two_batches_have_lost_no_plugin():
    made = history(*BUSY)
    last = pair(5, ("200", "700"), ("50", "60"), 3000)
    # The round before, of which no rate is seen: all moved in it, and nothing since.
    glimpses = [glimpse_of(4, last, "cpu_util", "cuda_util")]
    feed(made, cluster(25.0, last.observations, glimpses=glimpses), CLOCKS)
    assert made.standing.plugins == set()
    feed(made, pair(6, ("200", "700"), ("50", "60"), 3000), CLOCKS)
    assert made.standing.plugins == set()
    assert rate(made, "cpu_util") == rate(made, "io_read") == 0.0
    assert mean(made, "cuda_util") == (30.0 + 3 * 50.0, 4.0)


def test_one_kernel_that_falls_idle_beside_a_busy_one_has_the_rate_0():
    made = history(
        *BUSY,
        pair(4, ("150", "900"), ("30", "50"), 3000),
    )
    assert made.standing.plugins == set()
    assert rate(made, "io_read") == 0.0


# Exporters: mixed, vanished, living.


def test_a_kernel_of_a_mixed_exporter_waits_for_the_next_batch():
    made = history(batch(10.0, io_read=Reading("100")))
    mixed = cluster(15.0, {KERNEL: {"io_read": Reading("700")}}, stamps={}, mixed=frozenset({A}))
    fed = feed(made, mixed, CLOCKS)
    assert (fed.mixed, fed.measured) == ({KERNEL}, set())
    assert kept(made, "io_read").current == "100"
    assert made.living.roundless == frozenset()
    feed(made, batch(16.0, 3, io_read=Reading("700")), CLOCKS)
    assert rate(made, "io_read") == pytest.approx(120.0)


def two(at: float, kernels: Mapping[str, str], **more: object) -> Batch:
    """Return a batch of {kernel: its exporter}."""
    return Batch(
        at,
        {kernel: {"mem": Reading(str(at))} for kernel in kernels},
        instances=dict(kernels),
        stamps={name: stamp(at / 5, name) for name in set(kernels.values())},
        **more,  # type: ignore[arg-type]
    )


def vanished(last: Batch) -> set[str]:
    made = history(two(10.0, {KERNEL: A, OTHER: B}))
    fed: Fed = feed(made, last, CLOCKS)
    return fed.vanished


def test_a_kernel_that_is_not_in_the_answer_any_more_has_vanished():
    assert vanished(two(15.0, {OTHER: B})) == {KERNEL}


def test_a_kernel_of_an_exporter_that_was_not_asked_has_not_vanished():
    assert vanished(two(15.0, {OTHER: B}, asked=frozenset({B}))) == set()
    assert vanished(two(15.0, {}, asked=frozenset({A}))) == {KERNEL}


def test_kernels_of_an_exporter_that_is_gone_have_vanished():
    last = two(15.0, {OTHER: B}, asked=frozenset({B}), census={B: 1})
    assert vanished(last) == {KERNEL}


def test_a_kernel_that_went_to_another_exporter_has_not_vanished():
    assert vanished(two(15.0, {KERNEL: B, OTHER: B})) == set()


def test_kernels_are_living_by_exporter_and_those_without_rounds_are_told():
    made = history(two(10.0, {KERNEL: A, OTHER: B}))
    assert (made.living.kernels, made.living.count) == ({A: {KERNEL}, B: {OTHER}}, 2)
    assert made.living.roundless == frozenset()
    silent = two(15.0, {KERNEL: A, OTHER: B})
    made = history(Batch(15.0, silent.observations, instances=silent.instances))
    assert made.living.roundless == {A, B}


def test_the_round_an_exporter_was_read_in_stays_known_while_others_are_asked():
    made = history(two(10.0, {KERNEL: A, OTHER: B}))
    feed(made, two(15.0, {OTHER: B}, asked=frozenset({B})), CLOCKS)
    assert made.stamps == {A: stamp(2, A), B: stamp(3, B)}


# What is owed and recalled.


def test_a_kernel_that_is_met_owes_its_past_and_is_not_known_before():
    made = history(batch(10.0, mem=Reading("5")))
    assert made.owing == {KERNEL}
    assert made.kernels[KERNEL].owing == Owed(None, 10.0)
    assert made.kernels[KERNEL].known(CATALOG) == []


def test_the_past_gives_the_first_value_the_extremes_and_the_mean():
    met = batch(10.0, cpu_util=Reading("50", rate="1"), io_read=Reading("7", rate="1"))
    made = history(met)
    told = life(
        cpu_util=Past(maximum="80", minimum="2", total=300.0, samples=10.0), io_read=Past(first="3")
    )
    made.recall_life(KERNEL, told, Owed(None, 10.0))
    assert (kept(made, "cpu_util").maximum, kept(made, "io_read").first) == ("80", "3")
    assert mean(made, "cpu_util") == (300.0, 10.0)
    assert not made.owing
    assert names(made) == ["cpu_util", "io_read"]


def test_samples_stand_for_as_many_measurements_as_there_are_between_two_of_them():
    made = History(CATALOG, 300.0)
    feed(made, batch(10.0, cpu_util=Reading("50")), ticking(scrape_s=1.0))
    told = life(cpu_util=Past(maximum="80", total=3000.0, samples=100.0))
    made.recall_life(KERNEL, told, Owed(None, 10.0))
    assert mean(made, "cpu_util") == (pytest.approx(600.0), pytest.approx(20.0))


def test_the_batch_of_the_first_sight_is_not_counted_twice():
    made = history(batch(10.0, cpu_util=Reading("50")), batch(15.0, cpu_util=Reading("60")))
    made.recall_life(KERNEL, life(cpu_util=Past(total=50.0, samples=1.0)), Owed(None, 10.0))
    assert mean(made, "cpu_util") == (110.0, 2.0)


def gap(at: float, **readings: Reading) -> Batch:
    return cluster(at, {KERNEL: readings}, gaps=frozenset({A}))


def test_a_gap_is_owed_from_the_last_good_batch_to_the_next():
    made = history(batch(10.0, mem=Reading("5")))
    made.recall_life(KERNEL, life(mem=Past(first="1")), Owed(None, 10.0))
    feed(made, gap(150.0, mem=Reading("6")), CLOCKS)
    assert made.kernels[KERNEL].owing == Owed(10.0, 150.0)
    made.recall_life(KERNEL, life(mem=Past(maximum="77")), Owed(10.0, 150.0))
    assert kept(made, "mem").maximum == "77"
    assert not made.owing


def test_what_a_gap_owes_is_counted_by_what_prometheus_tells_alone():
    made = history(batch(10.0, cpu_util=Reading("5")))
    made.recall_life(KERNEL, life(cpu_util=Past(total=5.0, samples=1.0)), Owed(None, 10.0))
    feed(made, gap(150.0, cpu_util=Reading("285")), CLOCKS)
    told = life(older=True, cpu_util=Past(total=4200.0, samples=28.0))
    made.recall_life(KERNEL, told, Owed(10.0, 150.0))
    assert mean(made, "cpu_util") == (4205.0, 29.0)
    assert rate(made, "cpu_util") == pytest.approx(2.0)


def test_a_gap_before_the_past_was_told_makes_one_stretch_of_both():
    made = history(
        batch(10.0, cpu_util=Reading("5")),
        batch(15.0, cpu_util=Reading("6")),
        gap(150.0, cpu_util=Reading("7")),
    )
    assert made.kernels[KERNEL].owing == Owed(None, 150.0)
    assert kept(made, "cpu_util").count == 0.0


@pytest.mark.parametrize("last", [batch(25.0, cpu_util=Reading("3")), roundless(
    25.0, cpu_util=Reading("3"))])  # fmt: skip
def test_what_a_counter_reached_before_it_restarted_is_recalled(last: Batch):
    made = history(batch(10.0, cpu_util=Reading("500")))
    made.recall_life(KERNEL, life(cpu_util=Past(total=500.0, samples=1.0)), Owed(None, 10.0))
    feed(made, last, CLOCKS)
    assert made.kernels[KERNEL].owing == Owed(10.0, 25.0)
    told = life(cpu_util=Past(maximum="590", total=1183.0, samples=3.0))
    made.recall_life(KERNEL, told, Owed(10.0, 25.0))
    assert kept(made, "cpu_util").maximum == "590"
    assert mean(made, "cpu_util") == (1683.0, 4.0)


def test_where_every_round_was_seen_a_restarted_counter_owes_nothing():
    made = history(batch(10.0, cpu_util=Reading("500")))
    made.recall_life(KERNEL, life(cpu_util=Past(total=500.0, samples=1.0)), Owed(None, 10.0))
    feed(made, batch(15.0, cpu_util=Reading("3")), CLOCKS)
    assert not made.owing
    assert mean(made, "cpu_util") == (503.0, 2.0)


def test_the_key_knows_the_stand_in_the_maximum_and_the_average():
    met = batch(10.0, cpu_util=Reading("50", "1000", "1"), io_read=Reading("70", rate="1"))
    made = history(met)
    told = {
        "cpu_util": NOTHING._replace(maximum="900", average="321.5"),
        "io_read": NOTHING._replace(raw="60", rate="1", capacity="3"),
    }
    made.recall_key(KERNEL, told)
    assert kept(made, "cpu_util").maximum == "900"
    assert kept(made, "cpu_util").prior_average == "321.5"
    assert kept(made, "io_read").first == "3"
    assert names(made) == ["cpu_util", "io_read"]
    assert made.owing == {KERNEL}


@pytest.mark.parametrize(
    ("average", "fresh", "vouched"),
    [
        ("30", True, True),
        ("30", False, False),  # the kernel may have stood still for too long since
        (None, True, False),  # what readers have seen would be missing until it is backfilled
    ],
)
def test_a_fresh_key_that_tells_enough_vouches_for_its_kernel(
    average: str | None, fresh: bool, vouched: bool
):
    made = history(
        batch(10.0, cpu_util=Reading("50", "1000"), mem=Reading("1", "2"), new=Reading("3"))
    )
    told = {
        "cpu_util": NOTHING._replace(maximum="80", average=average, rate="4"),
        "mem": NOTHING._replace(raw="1", maximum="1"),
    }
    made.recall_key(KERNEL, told, fresh=fresh)
    kernel = made.kernels[KERNEL]
    assert (kernel.vouched, kernel.judged, made.owing) == (vouched, False, {KERNEL})


@pytest.mark.parametrize(
    ("key_maximum", "older", "average"),
    [
        ("80", False, 40.0),  # Prometheus knows the whole life
        ("80", True, 30.0),  # the kernel is older than what was asked for
        ("5000", False, 30.0),  # Prometheus lost data that the key still knows
    ],
)
def test_the_keys_average_goes_on_where_prometheus_cannot_know_the_whole(
    key_maximum: str, older: bool, average: float
):
    made = history(batch(10.0, cpu_util=Reading("50", "1000")))
    told = NOTHING._replace(maximum=key_maximum, average="30")
    made.recall_key(KERNEL, {"cpu_util": told})
    past = life(older, cpu_util=Past(maximum="80", total=400.0, samples=10.0))
    made.recall_life(KERNEL, past, Owed(None, 10.0))
    total, count = mean(made, "cpu_util")
    assert total / count == average
    assert kept(made, "cpu_util").maximum == key_maximum


def test_a_metric_that_is_gone_stays_with_its_last_values():
    made = history(
        batch(10.0, mem=Reading("5", "9"), cuda_mem=Reading("3", "8")),
        batch(15.0, mem=Reading("6")),
    )
    assert (kept(made, "cuda_mem").current, kept(made, "cuda_mem").capacity) == ("3", "8")
    assert kept(made, "mem").capacity == "9"


def test_a_metric_that_only_the_key_has_stays_too_unless_it_is_to_be_compared():
    told = {"cuda_util": NOTHING._replace(raw="35.5", capacity="100", maximum="90", average="20")}
    made = history(batch(10.0, mem=Reading("5")))
    made.recall_key(KERNEL, told)
    assert names(made) == ["cuda_util"]
    strict = history(batch(10.0, mem=Reading("5")))
    strict.recall_key(KERNEL, told, keep_missing=False)
    assert "cuda_util" not in strict.kernels[KERNEL].metrics


def test_a_kernel_gone_for_longer_than_the_lookback_is_forgotten():
    made = history(batch(10.0, mem=Reading("5")))
    feed(made, Batch(309.0, {}), CLOCKS)
    assert KERNEL in made.kernels
    fed = feed(made, Batch(340.0, {}), CLOCKS)  # it is looked for them now and then
    assert fed.forgotten == [KERNEL]
    assert not made.kernels
    assert not made.owing


def test_memory_does_not_grow_with_the_kernels_that_ever_lived():
    made = History(CATALOG, 300.0)
    for number in range(1000):
        name = f"{number:08x}-7a0f-4c5e-9d53-0b7f5a7c2e11"
        feed(made, Batch(number * 5.0, {name: {"mem": Reading("5")}}), CLOCKS)
    assert len(made.kernels) <= 67
    assert made.living.count == 1


def test_a_start_afresh_forgets_everything():
    made = history(batch(10.0, mem=Reading("5")), batch(15.0, mem=Reading("6")))
    made.forget_all()
    empty = History(CATALOG, 300.0)
    for what in ("time", "kernels", "owing", "stamps"):
        assert getattr(made, what) == getattr(empty, what)
    for what in ("kernels", "held", "roundless"):
        assert getattr(made.living, what) == getattr(empty.living, what)
    assert made.standing.plugins == set()


def test_what_cannot_be_recalled_is_given_up():
    made = history(batch(10.0, io_read=Reading("70")), batch(15.0, io_read=Reading("80")))
    assert made.give_up(KERNEL)
    assert not made.give_up(OTHER)
    assert kept(made, "io_read").first == "70"
    assert names(made) == ["io_read"]
    assert not made.owing


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
