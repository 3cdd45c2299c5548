"""Plugins that stand still while their agent's rounds go on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from poller.values import Batch, Glimpse, Reading, Stamp
from tests.support.histories import (
    CLOCKS,
    KERNEL,
    OTHER,
    A,
    B,
    cluster,
    history,
    ids,
    mean,
    rate,
    stamp,
)
from tests.support.looks import feed


def pair(number: int, io: Iterable[str], gpu: Iterable[str], cpu: int) -> Batch:
    kernels = {
        kernel: {
            "cpu_util": Reading(str(cpu + place)),
            "io_read": Reading(read),
            "cuda_util": Reading(used),
        }
        for place, (kernel, read, used) in enumerate(zip(KERNELS, io, gpu, strict=True))
    }
    return cluster(5.0 * number, kernels)


KERNELS = (KERNEL, OTHER)
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


def test_a_kernel_that_alone_used_its_disk_and_stops_has_lost_no_plugin():
    made = history(
        pair(2, ("100", "500"), ("10", "20"), 1000),
        pair(3, ("150", "500"), ("30", "40"), 2000),
        pair(4, ("150", "500"), ("50", "60"), 3000),
    )
    assert made.standing.plugins == set()
    assert rate(made, "io_read") == 0.0


def test_a_plugin_stands_still_on_while_all_else_is_idle_too():
    made = history(
        *BUSY,
        pair(4, ("150", "600"), ("50", "60"), 3000),
        pair(5, ("150", "600"), ("50", "60"), 3000),
    )
    assert made.standing.plugins == {(A, "mem")}
    assert rate(made, "io_read") == pytest.approx(10.0)


def test_a_round_that_is_seen_twice_tells_of_no_plugin():
    """As by a replica: nothing moves within it, and the next round is judged by the one before."""
    again = replace(BUSY[1], time=17.0)
    made = history(*BUSY, again, pair(4, ("150", "600"), ("50", "60"), 3000))
    assert made.standing.plugins == {(A, "mem")}


@pytest.mark.parametrize("first", ["io_read", "io_write"])
def test_one_metric_that_moves_tells_of_its_whole_plugin(first: str):
    other = {"io_read": "io_write", "io_write": "io_read"}[first]

    def told(number: int, moving: int) -> Batch:
        observation = {first: Reading(str(moving)), other: Reading("7")}
        kernels = {name: observation | {"cpu_util": Reading(str(number))} for name in KERNELS}
        return cluster(5.0 * number, kernels)

    made = history(told(2, 100), told(3, 200), told(4, 300))
    assert made.standing.plugins == set()
    feed(made, told(5, 300), CLOCKS)
    assert made.standing.plugins == {(A, "mem")}


def test_whoever_starts_while_a_plugin_hangs_knows_by_the_keys_that_it_measured():
    hung = [pair(number, ("100", "500"), ("10", "20"), 1000 * number) for number in (2, 3)]
    made = history(hung[0])
    for kernel in KERNELS:
        made.standing.recall(kernel, A, "io_read")
    feed(made, hung[1], CLOCKS)
    assert made.standing.plugins == {(A, "mem")}


def test_what_was_seen_before_a_new_beginning_tells_of_no_plugin():
    made = history(*BUSY)
    for kernel in KERNELS:
        made.standing.recall(kernel, A, "io_read")
    made.standing.clear()
    feed(made, pair(4, ("150", "600"), ("50", "60"), 3000), CLOCKS)
    assert made.standing.plugins == set()
    made = history(*BUSY, pair(4, ("150", "600"), ("50", "60"), 3000))
    made.standing.clear()
    assert made.standing.plugins == set()


def test_each_exporter_is_judged_by_its_own_kernels():
    """Those of one that fall idle together lost no plugin because another's go on."""
    others = ids(2)

    def both(number: int, moves: int, idle: int) -> Batch:
        busy = pair(number, (str(moves), str(moves)), (str(moves), str(moves)), moves)
        readings = {"cpu_util": Reading(str(idle)), "io_read": Reading(str(idle))}
        return replace(
            busy,
            observations={**busy.observations, **dict.fromkeys(others, readings)},
            instances={**busy.instances, **dict.fromkeys(others, B)},
            stamps={A: stamp(number), B: stamp(number, B)},
        )

    made = history(both(2, 100, 100), both(3, 200, 200), both(4, 300, 200))
    assert made.standing.plugins == set()
    assert rate(made, "io_read", others[0]) == 0.0
    assert rate(made, "io_read") == pytest.approx(20.0)


def test_which_round_of_an_exporter_was_looked_at_last_is_kept_while_others_are():
    made = history(*BUSY)
    between = pair(4, ("200", "700"), ("50", "60"), 3000)
    glimpses = [glimpse_of(4, between, "cpu_util", "cuda_util")]  # of disks it tells nothing
    mixed = cluster(22.0, {}, stamps={}, mixed=frozenset({A}), glimpses=glimpses)
    (other,) = ids(1)
    told = {other: {"cpu_util": Reading("5")}}
    elsewhere = Batch(
        23.0, told, instances={other: B}, asked=frozenset({B}), stamps={B: stamp(4, B)}
    )
    before = replace(elsewhere, time=18.0, stamps={B: stamp(3, B)})
    for one in (before, mixed, elsewhere, pair(5, ("150", "600"), ("70", "80"), 4000)):
        feed(made, one, CLOCKS)
    assert made.standing.plugins == set()  # disks may have been used in the round before
