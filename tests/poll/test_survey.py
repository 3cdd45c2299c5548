"""What Prometheus holds, and how often exporters without rounds measure."""

from __future__ import annotations

import pytest

from poller.poll import survey
from poller.prometheus.answers import Labels, Row, Series


def counter(scrape_s: float, measure_s: float, length_s: float = 300.0, start: float = 10.0,
            agent: str = "i-a") -> Series:  # fmt: skip
    """Describe a counter of rounds that is measured and scraped so often."""
    stamps = [place * scrape_s for place in range(int(length_s / scrape_s) + 1)]
    values = [(at, str(start + int((at + 0.37 * measure_s) / measure_s))) for at in stamps]
    return Series({"agent_id": agent}, values)


@pytest.mark.parametrize(
    ("scrape_s", "measure_s"), [(1.0, 1.0), (0.7, 1.0), (2.0, 3.0), (5.0, 5.0), (15.0, 30.0),
                                (20.0, 30.0), (1.0, 5.0), (5.0, 30.0)],
)  # fmt: skip
def test_both_intervals_are_found_from_the_counter_of_rounds(scrape_s: float, measure_s: float):
    series = [counter(scrape_s, measure_s)]
    assert survey.scrape_interval(series) == pytest.approx(scrape_s)
    assert survey.measure_interval(series) == pytest.approx(measure_s, rel=0.15)


def test_the_slowest_agent_decides():
    series = [counter(5.0, 5.0), counter(5.0, 30.0, agent="i-b")]
    assert survey.measure_interval(series) == pytest.approx(30.0, rel=0.1)


def test_an_agent_that_stands_still_tells_nothing():
    still = Series({}, [(place * 5.0, "7") for place in range(60)])
    assert survey.measure_interval([still]) is None
    assert survey.measure_interval([still, counter(5.0, 5.0)]) == pytest.approx(5.0, rel=0.1)


def test_an_agents_restart_does_not_count_backwards():
    before, after = counter(5.0, 5.0, start=1000.0), counter(5.0, 5.0, start=0.0)
    joined = before.values + [(at + 305.0, text) for at, text in after.values]
    assert survey.measure_interval([Series({}, joined)]) == pytest.approx(5.0, rel=0.1)


def test_a_pause_of_the_agent_is_not_its_interval():
    before, after = counter(5.0, 5.0, 200.0), counter(5.0, 5.0, 200.0, start=60.0)
    joined = before.values + [(at + 500.0, text) for at, text in after.values]
    assert survey.measure_interval([Series({}, joined)]) == pytest.approx(5.0, rel=0.1)


def test_without_a_counter_busy_kernels_tell_the_interval():
    busy = counter(5.0, 30.0)
    idle = Series({"agent_id": "i-a"}, [(place * 5.0, str(place // 20)) for place in range(61)])
    assert survey.change_interval([idle, busy]) == pytest.approx(30.0, rel=0.1)
    assert survey.change_interval([]) is None


def test_the_metrics_that_exist_are_known_with_their_capacities():
    rows = [
        Row(Labels(container_metric_name=name, value_type=kind), (1.0, "3"))
        for name, kind in (("mem", "current"), ("mem", "capacity"), ("io_read", "current"),
                           ("odd", "capacity"))
    ]  # fmt: skip
    assert survey.metrics_found(rows) == {"mem": True, "io_read": False}
