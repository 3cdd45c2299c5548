"""First values, life-long statistics, and what is owed and recalled."""

from __future__ import annotations

from poller.format.catalog import Catalog, Override
from poller.poll.history import History
from poller.values import Batch, Life, Owed, Past, Reading, Remembered

KERNEL = "0b4f6a3e-7a0f-4c5e-9d53-0b7f5a7c2e11"
CATALOG = Catalog()
NOTHING = Remembered(None, None, None, None, None, None)


def batch(at: float, coverage: str = "instant", samples: float = 0.0, **readings: Reading) -> Batch:
    return Batch(at, {KERNEL: dict(readings)}, coverage, {KERNEL: samples})


def history(*batches: Batch, lookback_s: float = 300.0) -> History:
    made = History(CATALOG, lookback_s)
    for one in batches:
        made.feed(one)
    return made


def life(older: bool = False, moved: float | None = 1.0, **metrics: Past) -> Life:
    return Life(moved, None, older, metrics)


def kept(made: History, metric: str):
    return made.kernels[KERNEL].metrics[metric]


def test_a_new_kernel_owes_its_past_and_is_not_known_before():
    made = history(batch(10.0, mem=Reading("5")))
    assert made.owing == {KERNEL}
    assert made.kernels[KERNEL].owing == Owed(None, 10.0)
    assert made.kernels[KERNEL].known(CATALOG) == []


def test_the_past_gives_the_first_value_the_extremes_and_the_mean():
    made = history(batch(10.0, cpu_util=Reading("50"), io_read=Reading("7")))
    told = life(
        cpu_util=Past(maximum="80", minimum="2", total=300.0, samples=10.0), io_read=Past(first="3")
    )
    made.recall_life(KERNEL, told, Owed(None, 10.0))
    assert (kept(made, "cpu_util").maximum, kept(made, "io_read").first) == ("80", "3")
    assert (kept(made, "cpu_util").total, kept(made, "cpu_util").count) == (300.0, 10.0)
    assert not made.owing
    assert [metric.name for metric, _ in made.kernels[KERNEL].known(CATALOG)] == [
        "cpu_util",
        "io_read",
    ]


def test_the_batch_of_the_first_sight_is_not_counted_twice():
    made = history(batch(10.0, cpu_util=Reading("50")), batch(15.0, cpu_util=Reading("60")))
    made.recall_life(KERNEL, life(cpu_util=Past(total=50.0, samples=1.0)), Owed(None, 10.0))
    assert (kept(made, "cpu_util").total, kept(made, "cpu_util").count) == (110.0, 2.0)


def test_a_peak_between_two_polls_counts():
    made = History(Catalog(overrides={"mem": Override(stats=("min", "max"))}), 300.0)
    made.feed(batch(10.0, mem=Reading("5")))
    made.feed(batch(15.0, "between", 5.0, mem=Reading("6", peak="99", trough="1")))
    assert (kept(made, "mem").maximum, kept(made, "mem").minimum) == ("99", "1")


def test_the_mean_between_two_polls_weighs_its_samples():
    made = history(
        batch(10.0, cpu_util=Reading("5")),
        batch(15.0, "between", 4.0, cpu_util=Reading("9", mean="7")),
        batch(20.0, "between", 0.0, cpu_util=Reading("9")),
    )
    assert (kept(made, "cpu_util").total, kept(made, "cpu_util").count) == (28.0, 4.0)


def test_a_maximum_never_falls_when_a_counter_restarts():
    made = history(batch(10.0, cpu_util=Reading("500")), batch(15.0, cpu_util=Reading("3")))
    assert kept(made, "cpu_util").maximum == "500"


def test_a_gap_is_owed_from_the_last_good_batch_to_the_next():
    made = history(batch(10.0, mem=Reading("5")))
    made.recall_life(KERNEL, life(mem=Past(first="1")), Owed(None, 10.0))
    made.feed(batch(400.0, "gap", mem=Reading("6")))
    assert made.kernels[KERNEL].owing == Owed(10.0, 400.0)
    made.recall_life(KERNEL, life(mem=Past(maximum="77")), Owed(10.0, 400.0))
    assert kept(made, "mem").maximum == "77"
    assert not made.owing


def test_a_gap_before_the_past_was_told_makes_one_stretch_of_both():
    made = history(
        batch(10.0, cpu_util=Reading("5")),
        batch(15.0, cpu_util=Reading("6")),
        batch(400.0, "gap", cpu_util=Reading("7")),
    )
    assert made.kernels[KERNEL].owing == Owed(None, 400.0)
    assert kept(made, "cpu_util").count == 0.0


def test_the_key_knows_the_stand_in_the_maximum_and_the_average():
    made = history(batch(10.0, cpu_util=Reading("50", "1000"), io_read=Reading("70")))
    told = {
        "cpu_util": NOTHING._replace(maximum="900", average="321.5"),
        "io_read": NOTHING._replace(raw="60", rate="1", capacity="3"),
    }
    made.recall_key(KERNEL, told)
    assert (kept(made, "cpu_util").maximum, kept(made, "cpu_util").prior_average) == (
        "900",
        "321.5",
    )
    assert kept(made, "io_read").first == "3"
    assert [metric.name for metric, _ in made.kernels[KERNEL].known(CATALOG)] == [
        "cpu_util",
        "io_read",
    ]
    assert made.owing == {KERNEL}


def test_prometheus_goes_before_the_keys_average_where_it_knows_the_whole_life():
    made = history(batch(10.0, cpu_util=Reading("50", "1000")))
    made.recall_key(KERNEL, {"cpu_util": NOTHING._replace(maximum="80", average="30")})
    told = life(cpu_util=Past(maximum="80", total=400.0, samples=10.0))
    made.recall_life(KERNEL, told, Owed(None, 10.0))
    assert kept(made, "cpu_util").total / kept(made, "cpu_util").count == 40.0


def test_the_keys_average_goes_on_for_a_kernel_older_than_the_window():
    made = history(batch(10.0, cpu_util=Reading("50", "1000")))
    made.recall_key(KERNEL, {"cpu_util": NOTHING._replace(maximum="80", average="30")})
    told = life(older=True, cpu_util=Past(maximum="80", total=400.0, samples=10.0))
    made.recall_life(KERNEL, told, Owed(None, 10.0))
    assert kept(made, "cpu_util").total / kept(made, "cpu_util").count == 30.0


def test_the_keys_average_goes_on_where_prometheus_lost_data_the_key_still_knows():
    made = history(batch(10.0, cpu_util=Reading("50", "1000")))
    made.recall_key(KERNEL, {"cpu_util": NOTHING._replace(maximum="5000", average="30")})
    told = life(cpu_util=Past(maximum="80", total=400.0, samples=10.0))
    made.recall_life(KERNEL, told, Owed(None, 10.0))
    assert kept(made, "cpu_util").total / kept(made, "cpu_util").count == 30.0
    assert kept(made, "cpu_util").maximum == "5000"


def test_a_metric_that_is_gone_stays_with_its_last_values():
    made = history(
        batch(10.0, mem=Reading("5", "9"), cuda_mem=Reading("3", "8")),
        batch(15.0, mem=Reading("6", "9")),
    )
    assert (kept(made, "cuda_mem").current, kept(made, "cuda_mem").capacity) == ("3", "8")


def test_a_metric_that_only_the_key_has_stays_too_unless_it_is_to_be_compared():
    told = {"cuda_util": NOTHING._replace(raw="35.5", capacity="100", maximum="90", average="20")}
    made = history(batch(10.0, mem=Reading("5")))
    made.recall_key(KERNEL, told)
    assert [metric.name for metric, _ in made.kernels[KERNEL].known(CATALOG)] == ["cuda_util"]
    strict = history(batch(10.0, mem=Reading("5")))
    strict.recall_key(KERNEL, told, keep_missing=False)
    assert "cuda_util" not in strict.kernels[KERNEL].metrics


def test_an_unknown_rate_leaves_the_last_one():
    made = history(batch(10.0, net_rx=Reading("5", rate="12.5")), batch(15.0, net_rx=Reading("6")))
    assert kept(made, "net_rx").rate == "12.5"


def test_a_kernel_gone_for_longer_than_the_lookback_is_forgotten():
    made = history(batch(10.0, mem=Reading("5")))
    made.feed(Batch(309.0, {}))
    assert KERNEL in made.kernels
    made.feed(Batch(311.0, {}))
    assert not made.kernels
    assert not made.owing


def test_memory_does_not_grow_with_the_kernels_that_ever_lived():
    made = History(CATALOG, 300.0)
    for number in range(1000):
        name = f"{number:08x}-7a0f-4c5e-9d53-0b7f5a7c2e11"
        made.feed(Batch(number * 5.0, {name: {"mem": Reading("5")}}))
    assert len(made.kernels) <= 61


def test_what_cannot_be_recalled_is_given_up_after_some_attempts():
    made = history(batch(10.0, io_read=Reading("70")), batch(15.0, io_read=Reading("80")))
    assert [made.give_up(KERNEL, 3) for _ in range(3)] == [False, False, True]
    assert kept(made, "io_read").first == "70"
    assert [metric.name for metric, _ in made.kernels[KERNEL].known(CATALOG)] == ["io_read"]
    assert not made.owing


def test_movement_is_noticed_and_dated():
    made = history(batch(10.0, mem=Reading("5")), batch(15.0, mem=Reading("5")))
    assert not made.kernels[KERNEL].judged
    made.feed(batch(20.0, mem=Reading("6")))
    assert (made.kernels[KERNEL].judged, made.kernels[KERNEL].moved) == (True, 20.0)


def test_a_batch_without_cpu_util_or_mem_is_incomplete():
    made = history(batch(10.0, mem=Reading("5"), cpu_util=Reading("5")))
    assert made.kernels[KERNEL].complete
    made.feed(batch(15.0, mem=Reading("5")))
    assert not made.kernels[KERNEL].complete


def test_a_young_kernels_rate_is_over_its_life_and_not_over_the_window():
    made = history(batch(110.0, mem=Reading("5")))
    made.recall_life(KERNEL, Life(110.0, 100.0, False, {}), Owed(None, 110.0))
    kernel = made.kernels[KERNEL]
    assert kernel.rate_scale(window_s=120.0, scrape_s=4.0) == 120.0 / 12.0
    made.feed(batch(218.0, mem=Reading("6")))
    assert kernel.rate_scale(window_s=120.0, scrape_s=4.0) == 1.0
    assert kernel.born is None


def test_what_a_counter_reached_before_it_restarted_is_recalled():
    made = history(batch(10.0, cpu_util=Reading("500")))
    made.recall_life(KERNEL, life(cpu_util=Past(total=500.0, samples=1.0)), Owed(None, 10.0))
    made.feed(batch(15.0, cpu_util=Reading("3")))
    assert made.kernels[KERNEL].owing == Owed(10.0, 15.0)
    told = life(cpu_util=Past(maximum="590", total=593.0, samples=2.0))
    made.recall_life(KERNEL, told, Owed(10.0, 15.0))
    assert kept(made, "cpu_util").maximum == "590"
    assert (kept(made, "cpu_util").total, kept(made, "cpu_util").count) == (1093.0, 3.0)
