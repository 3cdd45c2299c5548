"""A young kernel's mean: each measurement counts once, whatever the scrapes repeat or miss."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from poller.backfill.replay import replayed
from poller.rounds.exporter import Exporter
from poller.rounds.scrape import Scrape
from tests.support.looks import series_of

SCRAPES = [(100.0, 7.0), (102.0, 7.0), (104.0, 8.0), (106.0, 9.0), (108.0, 9.0), (110.0, 11.0)]
"""When an exporter was scraped, and how many rounds it had counted then."""


def exporter(*scrapes: tuple[float, float]) -> Exporter:
    made = Exporter("a:1")
    for at, count in scrapes:
        made.see(at, Scrape(counts={"gather_measures": count}))
    return made


def mean(
    *samples: tuple[float, str], scrapes: Sequence[tuple[float, float]] = SCRAPES
) -> tuple[float, float] | None:
    return replayed(series_of({}, samples).values, exporter(*scrapes).arrivals.last)


def test_what_a_scrape_repeats_counts_once():
    assert mean((100.0, "10"), (102.0, "10"), (104.0, "40")) == (50.0, 2.0)


def test_a_kernel_that_came_later_counts_from_its_first_sample_on():
    assert mean((106.0, "5"), (108.0, "5")) == (5.0, 1.0)


def test_what_no_scrape_saw_lies_between_its_neighbours():
    assert mean((106.0, "10"), (108.0, "10"), (110.0, "30")) == (10.0 + 20.0 + 30.0, 3.0)


def test_the_measurement_that_the_first_scrapes_missed_is_not_made_up():
    assert mean((104.0, "40"), (110.0, "40")) == (160.0, 4.0)


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [(98.0, "1"), (100.0, "2")],  # from before the rounds that are known
        [(100.0, "1"), (104.0, "NaN")],
    ],
)
def test_what_cannot_be_known_is_left_to_the_samples(samples: list[tuple[float, str]]):
    assert mean(*samples) is None


def test_an_agent_that_began_anew_leaves_no_round_to_count_from():
    assert mean((110.0, "1"), (112.0, "2"), scrapes=[*SCRAPES, (112.0, 1.0)]) is None
