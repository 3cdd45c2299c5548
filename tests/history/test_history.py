"""What is kept of kernels: what is owed and recalled, who is forgotten."""

from __future__ import annotations

import pytest

from poller.history.history import History
from poller.values import Batch, Life, Owed, Past, Reading
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
)
from tests.support.looks import feed


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
    feed(made, batch(10.0, cpu_util=Reading("50")), scraped_at(range(201)))
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


def test_a_kernel_of_an_exporter_that_is_not_asked_for_long_is_kept():
    """Its agent hangs: it is scraped, and measures nothing."""
    made = history(batch(10.0, mem=Reading("5")))
    for at in range(100, 701, 100):
        assert feed(made, Batch(float(at), {}, asked=frozenset({B})), CLOCKS).forgotten == []


@pytest.mark.parametrize(("last", "forgotten"), [(2, []), (3, [KERNEL])])
def test_a_kernel_of_its_exporters_last_round_is_kept_though_nobody_tells_of_it(
    last: int, forgotten: list[str]
):
    """The exporter is not scraped; its kernels may live on."""
    clocks = scraped_at(range(0, 5 * last + 1, 5))
    made = History(CATALOG, 300.0)
    feed(made, batch(10.0, mem=Reading("5")), clocks)
    found = [feed(made, Batch(float(at), {}), clocks).forgotten for at in range(100, 401, 100)]
    assert found[-1] == forgotten
    assert not any(found[:-1])


def test_after_a_long_outage_kernels_are_kept_until_their_exporters_may_be_scraped_again():
    both = {KERNEL: {"mem": Reading("5")}, OTHER: {"mem": Reading("6")}}
    one = {KERNEL: {"mem": Reading("7")}}
    made = history(cluster(10.0, both))
    fed = feed(made, cluster(400.0, one), CLOCKS)  # the exporter of OTHER is not yet
    later = feed(made, cluster(690.0, one), CLOCKS)
    assert (fed.forgotten, later.forgotten) == ([], [])
    assert kept(made, "mem", OTHER).current == "6"
    assert feed(made, cluster(705.0, one), CLOCKS).forgotten == [OTHER]


def test_memory_does_not_grow_with_the_kernels_that_ever_lived():
    made = History(CATALOG, 300.0)
    for number, name in enumerate(ids(1000)):
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


def test_what_is_given_up_goes_on_with_its_keys_average_and_is_taken_to_have_moved():
    made = history(batch(10.0, cpu_util=Reading("50", "1000")))
    made.recall_key(KERNEL, {"cpu_util": NOTHING._replace(maximum="80", average="30")})
    assert made.give_up(KERNEL)
    kernel = made.kernels[KERNEL]
    assert (kernel.judged, kernel.moved) == (True, 10.0)
    assert mean(made, "cpu_util") == (30.0 * 120.0, 120.0)  # an hour of measurements, as by default
    feed(made, batch(15.0, cpu_util=Reading("60")), CLOCKS)
    made.give_up(KERNEL)
    assert kernel.moved == 15.0
    assert mean(made, "cpu_util") == (30.0 * 120.0 + 60.0, 121.0)


def test_when_a_kernel_moved_before_it_was_looked_at_is_learnt_once():
    made = history(batch(10.0, mem=Reading("5")))
    assert made.kernels[KERNEL].moved is None
    made.recall_life(KERNEL, Life(3.0, 1.0, False, {}), Owed(None, 10.0))
    assert (made.kernels[KERNEL].judged, made.kernels[KERNEL].moved) == (True, 3.0)
    feed(made, batch(15.0, mem=Reading("6")), CLOCKS)
    made.recall_life(KERNEL, Life(3.0, 1.0, False, {}), Owed(None, 10.0))
    assert made.kernels[KERNEL].moved == 15.0
    made.recall_life(OTHER, Life(3.0, 1.0, False, {}), Owed(None, 10.0))  # it has gone meanwhile
    assert OTHER not in made.kernels


def test_kernels_wait_until_the_first_essential_metric_is_known_or_a_key_vouches():
    both = {KERNEL: {"cpu_util": Reading("50", "9")}, OTHER: {"cpu_util": Reading("60", "9")}}
    made = history(cluster(10.0, both))
    assert made.waiting == 2
    made.recall_life(KERNEL, life(), Owed(None, 10.0))
    assert made.waiting == 1
    told = NOTHING._replace(maximum="80", average="30", rate="4")
    made.recall_key(OTHER, {"cpu_util": told}, fresh=True)
    assert made.waiting == 0
    assert made.owing == {OTHER}


def test_a_kernel_whose_key_was_there_is_not_new():
    made = history(batch(10.0, io_read=Reading("5")))
    both = {KERNEL: {"io_read": Reading("6")}, OTHER: {"io_read": Reading("900")}}
    feed(made, cluster(15.0, both), CLOCKS)
    new = made.kernels[OTHER]
    assert (new.newborn, new.key_read) == (True, False)
    made.recall_key(OTHER, {})
    assert (new.newborn, new.key_read, OTHER in made.owing) == (False, True, False)
    new.newborn = True
    made.recall_key(OTHER, {"io_read": NOTHING._replace(raw="700", rate="3")})
    assert kept(made, "io_read", OTHER).owed == Owed(None, 15.0)
    assert OTHER in made.owing


def test_a_key_of_a_kernel_that_was_followed_owes_nothing():
    made = history(batch(10.0, io_read=Reading("5")))
    made.recall_life(KERNEL, life(), Owed(None, 10.0))
    made.recall_key(KERNEL, {"io_read": NOTHING._replace(raw="4", rate="3")})
    assert not made.owing


@pytest.mark.parametrize(
    ("raw", "rate", "fresh", "hangs"),
    [
        ("100", "3", False, True),  # where the key left it, with a rate
        ("90", "3", True, True),
        ("90", "3", False, False),
        ("100", "0", True, False),
    ],
)
def test_a_start_beside_a_plugin_that_hangs_knows_so_by_the_keys(
    raw: str, rate: str, fresh: bool, hangs: bool
):
    def told(number: int) -> Batch:
        readings = {"io_read": Reading("100", rate="2"), "cpu_util": Reading(str(number))}
        return cluster(5.0 * number, {KERNEL: readings, OTHER: readings})

    made = history(told(2))
    for kernel in (KERNEL, OTHER):
        made.recall_key(kernel, {"io_read": NOTHING._replace(raw=raw, rate=rate)}, fresh=fresh)
    feed(made, told(3), CLOCKS)
    assert made.standing.plugins == ({(A, "mem")} if hangs else set())


def test_a_metric_that_a_key_knows_alone_is_written_at_once():
    made = history(batch(10.0, mem=Reading("5")))
    made.recall_life(KERNEL, life(), Owed(None, 10.0))
    assert names(made) == ["mem"]
    made.recall_key(KERNEL, {"cuda_util": NOTHING._replace(raw="35.5")})
    assert set(names(made)) == {"mem", "cuda_util"}
