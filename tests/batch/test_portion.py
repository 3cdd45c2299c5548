"""How many kernels a batch asks for, by how the last ones fared."""

from __future__ import annotations

import pytest

from poller.batch.portion import LEAST, Portion


@pytest.fixture
def portion() -> Portion:
    return Portion(20_000, 3.6)


def test_all_are_asked_for_until_something_is_known(portion: Portion):
    assert portion.load == 20_000


def test_a_quick_census_changes_nothing(portion: Portion):
    portion.saw_census(10_000, 0.03)
    assert portion.load > 10_000


def test_a_slow_census_makes_the_first_batch_smaller(portion: Portion):
    portion.saw_census(10_000, 1.0)
    assert portion.load == 1_200


def test_a_batch_that_overran_is_halved_again_and_again_but_not_to_nothing(portion: Portion):
    portion.overran(10_000)
    assert portion.load == 5_000
    portion.overran(1)
    assert portion.load == LEAST


def test_quick_batches_bring_it_back_however_small_they_are(portion: Portion):
    for _ in range(12):
        portion.overran(min(20_000, portion.load))
    for _ in range(6):
        portion.saw(portion.load - 20, 0.3, 3.6)
    assert portion.load > 15_000


@pytest.mark.parametrize(
    ("took_s", "next_one"), [(0.1, 8_000), (0.5, 3_794), (1.0, 2_683), (1.7, 2_000)]
)
def test_a_quick_batch_is_followed_by_one_half_the_way_to_half_of_the_time(
    portion: Portion, took_s: float, next_one: int
):
    portion.overran(4_000)
    portion.saw(2_000, took_s, 3.6)
    assert int(portion.load) == next_one


def test_a_look_around_that_was_not_answered_tells_nothing_of_batches(portion: Portion):
    portion.overran(0)
    assert portion.load == 20_000


def test_a_late_batch_makes_the_next_one_smaller(portion: Portion):
    portion.saw(10_000, 3.2, 3.6)
    assert portion.load == 7_500


def test_one_that_is_neither_quick_nor_late_changes_nothing(portion: Portion):
    portion.overran(10_000)
    portion.saw(4_900, 2.0, 3.6)
    assert portion.load == 5_000


def test_a_small_batch_tells_nothing_of_a_large_one(portion: Portion):
    portion.saw(10, 0.1, 3.6)
    portion.saw_census(10_000, 1.0)
    assert portion.load == 20_000


def test_a_limit_below_the_least_holds():
    portion = Portion(100, 3.6)
    portion.overran(100)
    assert portion.load == 100


def test_what_the_look_around_took_does_not_keep_batches_small(portion: Portion):
    portion.overran(8_000)
    for _ in range(20):  # a third of the time is gone before anything is asked for
        load = portion.of(2 / 3)
        portion.saw(load, load * 1.2 / 5_000, 2.4)
    assert 4_000 <= portion.of(2 / 3) <= 5_000  # 40 to 50 % of what is left


def test_what_was_spent_on_looking_around_is_not_there_to_ask(portion: Portion):
    assert portion.of(0.5) == 10_000
    assert portion.of(-0.1) == LEAST
    assert Portion(100, 3.6).of(0.0) == 100
