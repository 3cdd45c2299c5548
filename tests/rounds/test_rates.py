"""How a rate is got: from two measurements, or from a window that samples fill."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.rounds import rates
from poller.values import Window
from tests.support.examples import examples

HALF_MINUTE = Window(30.0, 5.0)
"""Six samples fill it."""


def test_a_rate_is_what_was_added_over_the_time_that_passed():
    assert rates.between(100.0, 250.5, 4.0) == 37.625


@pytest.mark.parametrize(("before", "after"), [(100.0, 100.0), (100.0, 3.0), (5e20, 0.0)])
def test_a_counter_that_stood_still_or_began_anew_has_the_rate_0(before: float, after: float):
    assert rates.between(before, after, 4.0) == 0.0


@examples(100)
@given(st.floats(0, 1e18), st.floats(0, 1e18), st.floats(0.001, 1e6))
def test_a_rate_is_never_negative(before: float, after: float, elapsed_s: float):
    assert rates.between(before, after, elapsed_s) >= 0


@pytest.mark.parametrize(
    ("scrape_s", "measure_s", "range_s"), [(5.0, 5.0, 25.0), (5.0, 30.0, 120.0), (0.7, 1.0, 4.0)]
)
def test_a_window_is_the_longer_of_five_scrapes_and_four_measurements(
    scrape_s: float, measure_s: float, range_s: float
):
    assert rates.window(scrape_s, measure_s) == Window(range_s, scrape_s)


def test_what_the_settings_give_goes_before_what_is_found():
    assert rates.window(5.0, 30.0, 60.0) == Window(60.0, 5.0)


def test_until_anything_is_known_the_agents_default_of_30_s_is_assumed():
    assert rates.window(None, None) == Window(120.0, None)


@pytest.mark.parametrize("rubbish", [0.0, -5.0, 1e9, float("inf")])
def test_no_interval_that_nobody_would_have_makes_a_window(rubbish: float):
    assert rates.likely(rubbish) is None
    assert rates.window(rubbish, rubbish) == Window(120.0, None)


def test_many_windows_become_a_few_and_none_becomes_shorter():
    sizes = {rates.rounded(Window(range_s / 10)).range_s for range_s in range(1, 6000)}
    assert len(sizes) < 20
    assert all(rates.rounded(Window(size)).range_s >= size for size in (4.3, 25.0, 600.0, 4000.0))
    assert rates.rounded(Window(25.0, 5.0)) == Window(30.0, 5.0)


def test_a_window_that_samples_fill_gives_its_rate():
    assert rates.stand_in(12.5, 6.0, HALF_MINUTE, None) == 12.5
    assert rates.stand_in(12.5, 5.0, HALF_MINUTE, None) == 12.5


@pytest.mark.parametrize("age_s", [None, 3600.0, 30.0, 20.0])
def test_a_window_with_a_gap_gives_none_however_old_the_kernel_is(age_s: float | None):
    assert rates.stand_in(12.5, 2.0, HALF_MINUTE, age_s) is None
    assert rates.stand_in(None, 1.0, HALF_MINUTE, age_s) is None


def test_where_nothing_tells_how_many_samples_there_should_be_a_rate_stands():
    assert rates.stand_in(12.5, 1.0, Window(30.0), None) == 12.5


def test_a_rate_that_prometheus_does_not_know_is_unknown_of_an_old_kernel_and_0_of_a_new_one():
    assert rates.stand_in(None, 6.0, HALF_MINUTE, None) is None
    assert rates.stand_in(None, 1.0, HALF_MINUTE, 2.0) == 0.0


@pytest.mark.parametrize(
    ("age_s", "scaled"),
    [
        (10.0, 24.0),  # 12.5 s of 30: Prometheus extrapolated by half a scrape, and divided by all
        (0.0, 60.0),  # at least one scrape
        (27.5, 10.0),
        (28.0, 10.0),
    ],
)
def test_a_young_kernels_rate_is_over_its_life_and_not_over_the_window(age_s: float, scaled: float):
    rate = rates.stand_in(10.0, 1.0 + age_s // 5.0, HALF_MINUTE, age_s)
    assert rate is not None
    assert float(rate) == pytest.approx(scaled)


def test_an_idle_young_kernel_stays_at_0():
    assert rates.stand_in(0.0, 2.0, HALF_MINUTE, 5.0) == 0.0
