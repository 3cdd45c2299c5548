"""What Prometheus holds, and the intervals of agents that count no rounds."""

from __future__ import annotations

import pytest

from poller.batch import survey
from poller.batch.survey import Given, Surveyor
from poller.format.catalog import INTRINSIC
from poller.prometheus.answers import Labels, Row, Sample, Series
from poller.values import Survey
from tests.support.looks import series_of

MUTE = "a:1"
"""The exporter that counts no rounds."""


def counter(scrape_s: float, measure_s: float, length_s: float = 300.0, start: float = 10.0,
            agent: str = "i-a", instance: str = MUTE) -> Series:  # fmt: skip
    """Describe a counter of rounds that is measured and scraped so often."""
    stamps = [place * scrape_s for place in range(int(length_s / scrape_s) + 1)]
    values = [(at, str(start + int((at + 0.37 * measure_s) / measure_s))) for at in stamps]
    return series_of({"agent_id": agent, "instance": instance}, values)


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
    still = series_of({}, [(place * 5.0, "7") for place in range(60)])
    assert survey.measure_interval([still]) is None
    assert survey.measure_interval([still, counter(5.0, 5.0)]) == pytest.approx(5.0, rel=0.1)


def test_an_agents_restart_does_not_count_backwards():
    before, after = counter(5.0, 5.0, start=1000.0), counter(5.0, 5.0, start=0.0)
    joined = before.values + tuple(Sample(one.at + 305.0, one.text) for one in after.values)
    assert survey.measure_interval([Series({}, joined)]) == pytest.approx(5.0, rel=0.1)


def test_a_pause_of_the_agent_is_not_its_interval():
    before, after = counter(5.0, 5.0, 200.0), counter(5.0, 5.0, 200.0, start=60.0)
    joined = before.values + tuple(Sample(one.at + 500.0, one.text) for one in after.values)
    assert survey.measure_interval([Series({}, joined)]) == pytest.approx(5.0, rel=0.1)


def test_without_a_counter_busy_kernels_tell_the_interval():
    busy = counter(5.0, 30.0)
    idle = series_of({"agent_id": "i-a"}, [(place * 5.0, str(place // 20)) for place in range(61)])
    assert survey.change_interval([idle, busy]) == pytest.approx(30.0, rel=0.1)
    assert survey.change_interval([]) is None


class Told:
    """A Prometheus that knows one busy kernel, and perhaps the agents' writes."""

    def __init__(self, writes: Series | None = None, changes: Series | None = None) -> None:
        self.writes, self.changes = writes, changes
        self.asked: list[str] = []

    async def vector(self, text: str, at: float) -> list[Row]:
        self.asked.append(text)
        return [Row(Labels(kernel_id="k"), Sample(at, "1"))]

    async def matrix(self, text: str, at: float) -> list[Series]:
        self.asked.append(text)
        found = self.writes if "success_count" in text else self.changes
        return [] if found is None else [found]


async def look(surveyor: Surveyor, told: Told, at: float, roundless: bool) -> Survey:
    told.asked.clear()
    exporters = {MUTE} if roundless else set()
    return await surveyor.survey(told, at, exporters)  # type: ignore[arg-type]  # what is used


async def looked(
    told: Told, given: Given | None = None, roundless: bool = True, at: float = 0.0
) -> Surveyor:
    surveyor = Surveyor(given or Given())
    await look(surveyor, told, at, roundless)
    return surveyor


async def test_where_every_agent_counts_its_rounds_intervals_are_not_looked_for():
    told = Told(counter(5.0, 30.0), counter(5.0, 30.0))
    surveyor = await looked(told, roundless=False)
    assert surveyor.last is not None
    assert (surveyor.last.scrape_s, surveyor.last.measure_s, surveyor.last.timed) == (
        None,
        None,
        False,
    )
    assert told.asked == []


async def test_the_counter_of_writes_tells_intervals_before_the_busiest_kernels_do():
    surveyor = await looked(Told(writes=counter(5.0, 30.0), changes=counter(1.0, 1.0)))
    assert surveyor.last is not None
    assert surveyor.last.scrape_s == pytest.approx(5.0)
    assert surveyor.last.measure_s == pytest.approx(30.0, rel=0.1)


async def test_without_that_counter_the_busiest_kernels_tell_intervals():
    told = Told(changes=counter(2.0, 10.0))
    surveyor = await looked(told)
    assert surveyor.last is not None
    assert surveyor.last.scrape_s == pytest.approx(2.0)
    assert surveyor.last.measure_s == pytest.approx(10.0, rel=0.1)
    assert 'kernel_id=~"k"' in told.asked[-1]


async def test_the_measurement_interval_of_the_settings_goes_before_what_is_found():
    surveyor = await looked(Told(writes=counter(5.0, 30.0)), Given(measure_s=7.0))
    assert surveyor.last is not None
    assert surveyor.last.measure_s == 7.0


@pytest.mark.parametrize(
    ("told", "again_s"), [(Told(writes=counter(5.0, 30.0)), 60.0), (Told(), 15.0)]
)
async def test_intervals_are_looked_for_again_and_soon_where_none_was_found(
    told: Told, again_s: float
):
    surveyor = await looked(told, at=100.0)
    for at, asks in ((99.0 + again_s, False), (100.0 + again_s, True), (1.0, True)):
        await look(surveyor, told, at, roundless=True)
        assert bool(told.asked) is asks


async def test_intervals_are_looked_for_as_soon_as_an_agent_counts_no_rounds_and_no_longer():
    told = Told(writes=counter(5.0, 30.0))
    surveyor = await looked(told, roundless=False)
    assert (await look(surveyor, told, 1.0, roundless=True)).timed
    assert not (await look(surveyor, told, 2.0, roundless=False)).timed
    assert told.asked == []


@pytest.mark.parametrize("everything", [True, False])
async def test_the_usual_metrics_are_presumed_until_a_batch_tells_which_there_are(everything: bool):
    surveyor = await looked(Told(), roundless=False)
    assert surveyor.last is not None
    assert surveyor.last.metrics.keys() == set(INTRINSIC)
    surveyor.learn({}, True, 1.0)  # there is no kernel yet
    assert surveyor.last.metrics.keys() == set(INTRINSIC)
    surveyor.learn({"mem": True, "x": False}, everything, 1.0)
    assert {"mem": True, "x": False}.items() <= surveyor.last.metrics.items()
    assert ("io_read" in surveyor.last.metrics) is not everything


async def test_a_metric_that_batches_meet_is_known_until_none_has_met_it_for_long():
    surveyor = await looked(Told(), roundless=False)
    surveyor.learn({"mem": True}, True, 0.0)
    surveyor.learn({"new_mem": True}, False, 10.0)
    surveyor.learn({"mem": False}, True, 610.0)  # of these kernels none has a capacity
    assert surveyor.last is not None
    assert surveyor.last.metrics == {"mem": True, "new_mem": True}
    surveyor.learn({"mem": True}, True, 611.0)
    assert surveyor.last.metrics == {"mem": True}


async def test_exporters_that_count_their_rounds_tell_nothing_of_those_that_do_not():
    told = Told(counter(5.0, 5.0, instance="b:1"), counter(30.0, 60.0, length_s=600.0))
    surveyor = await looked(told)
    assert surveyor.last is not None
    assert surveyor.last.scrape_s == pytest.approx(30.0)
    assert surveyor.last.measure_s == pytest.approx(60.0, rel=0.1)
    assert all(f'instance=~"{MUTE}"' in text for text in told.asked if "cpu_used" in text)
