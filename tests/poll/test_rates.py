"""How a rate is got: from two measurements, or from Prometheus over a window that is filled."""

from __future__ import annotations

import pytest

from poller.poll import rates
from poller.values import Window

WINDOW = Window(120.0, 15.0)


def test_a_rate_is_the_difference_over_the_time_that_passed():
    assert float(rates.between("1000", "4000", 2.5)) == 1200.0


@pytest.mark.parametrize("after", ["1000", "999", "0"])
def test_a_counter_that_stands_or_began_anew_has_the_rate_0(after: str):
    assert rates.between("1000", after, 3.0) == "0"


@pytest.mark.parametrize(
    ("scrape_s", "measure_s", "range_s"),
    [
        (5.0, 5.0, 25.0),
        (5.0, 30.0, 120.0),
        (0.7, 1.0, 4.0),
        (None, None, 120.0),
        (60.0, 5.0, 300.0),
    ],
)
def test_the_window_is_the_larger_of_five_scrapes_and_four_measurements(
    scrape_s: float | None, measure_s: float | None, range_s: float
):
    assert rates.window(scrape_s, measure_s).range_s == range_s


def test_what_the_settings_give_goes_before_what_is_found():
    assert rates.window(5.0, 30.0, 60.0) == Window(60.0, 5.0)


@pytest.mark.parametrize("rubbish", [0.0, -3.0, 1e9, float("inf"), float("nan")])
def test_an_interval_that_nobody_would_have_is_none(rubbish: float):
    assert rates.likely(rubbish) is None


def test_a_filled_window_gives_its_rate():
    assert rates.stand_in("12.5", 8, WINDOW, None) == "12.5"


def test_a_window_with_a_gap_gives_none():
    assert rates.stand_in("12.5", 5, WINDOW, None) is None


def test_a_window_without_two_samples_gives_none_of_an_old_kernel_and_0_of_a_young_one():
    assert rates.stand_in(None, 1, WINDOW, None) is None
    assert rates.stand_in(None, 1, WINDOW, 3.0) == "0"


def test_a_young_kernels_rate_is_over_its_life():
    # 22.5 s of 120 s are covered: 15 s of life and half a scrape.
    assert float(rates.stand_in("3", 2, WINDOW, 15.0) or "") == pytest.approx(16.0)


def test_a_kernel_that_fills_the_window_is_not_scaled():
    assert rates.stand_in("3", 8, WINDOW, 119.0) == "3"


def test_windows_of_about_one_size_are_asked_for_together():
    assert (
        rates.rounded(Window(97.0, 5.0)) == rates.rounded(Window(113.0, 5.0)) == Window(120.0, 5.0)
    )


def test_the_widest_of_no_windows_is_the_default_one():
    assert rates.widest([]).range_s == 120.0
    assert rates.widest([Window(10.0), Window(30.0), Window(20.0)]).range_s == 30.0
