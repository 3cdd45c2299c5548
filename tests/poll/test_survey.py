"""What Prometheus holds, and the intervals of agents that count no rounds."""

from __future__ import annotations

import pytest

from poller.format.catalog import INTRINSIC
from poller.poll import survey
from poller.poll.survey import Given, Surveyor
from poller.prometheus.answers import Labels, Row, Series
from poller.prometheus.selectors import EVERYTHING


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
    rows = pairs(
        ("mem", "current"), ("mem", "capacity"), ("io_read", "current"), ("odd", "capacity")
    )
    assert survey.metrics_found(rows) == {"mem": True, "io_read": False}


def pairs(*found: tuple[str, str]) -> list[Row]:
    return [
        Row(Labels(container_metric_name=name, value_type=kind), (1.0, "3")) for name, kind in found
    ]


class Told:
    """A Prometheus that knows some metrics, one busy kernel, and perhaps the agents' writes."""

    def __init__(self, writes: Series | None = None, changes: Series | None = None) -> None:
        self.writes, self.changes = writes, changes
        self.metrics = pairs(("mem", "current"))
        self.asked: list[str] = []

    async def vector(self, text: str, at: float) -> list[Row]:
        self.asked.append(text)
        return [Row(Labels(kernel_id="k"), (at, "1"))] if "topk" in text else self.metrics

    async def matrix(self, text: str, at: float) -> list[Series]:
        self.asked.append(text)
        found = self.writes if "success_count" in text else self.changes
        return [] if found is None else [found]


async def looked(
    told: Told, given: Given | None = None, roundless: bool = True, at: float = 0.0
) -> Surveyor:
    surveyor = Surveyor(given or Given(), EVERYTHING)
    await surveyor.look(told, at, roundless)  # type: ignore[arg-type]  # all of it that is used
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
    assert len(told.asked) == 1


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


async def test_a_survey_is_made_anew_now_and_then():
    surveyor = Surveyor(Given(), EVERYTHING)
    assert surveyor.due(0.0, roundless=False)
    surveyor = await looked(Told(), roundless=False)
    assert not surveyor.due(599.0, roundless=False)
    assert surveyor.due(600.0, roundless=False)
    assert surveyor.due(-1.0, roundless=False)  # the clock was set back


async def test_intervals_are_looked_for_as_soon_as_an_agent_counts_no_rounds_and_more_often():
    surveyor = await looked(Told(), roundless=False)
    assert surveyor.due(1.0, roundless=True)
    surveyor = await looked(Told(writes=counter(5.0, 30.0)))
    assert not surveyor.due(59.0, roundless=True)
    assert surveyor.due(60.0, roundless=True)


async def test_what_was_not_found_is_looked_for_again_soon():
    nothing = Told()
    nothing.metrics = []
    for surveyor in (await looked(Told()), await looked(nothing)):
        assert not surveyor.due(14.0, roundless=True)
        assert surveyor.due(15.0, roundless=True)
    surveyor = await looked(nothing, roundless=False)
    assert surveyor.due(15.0, roundless=False)


async def test_a_metric_that_a_batch_meets_is_known_without_another_look():
    surveyor = await looked(Told(), roundless=False)
    surveyor.learn({"new_mem": True}, everything=False)
    assert surveyor.last is not None
    assert surveyor.last.metrics == {"mem": False, "new_mem": True}
    assert not surveyor.due(1.0, roundless=False)


@pytest.mark.parametrize("everything", [True, False])
async def test_at_a_start_the_usual_metrics_are_presumed_until_a_batch_tells_which_there_are(
    everything: bool,
):
    surveyor = Surveyor(Given(), EVERYTHING)
    presumed = await surveyor.survey(Told(), 1.0, roundless=False)  # type: ignore[arg-type]
    assert presumed.metrics.keys() == set(INTRINSIC)
    surveyor.learn({"mem": True, "x": False}, everything)
    assert surveyor.last is not None
    assert {"mem": True, "x": False}.items() <= surveyor.last.metrics.items()
    assert ("io_read" in surveyor.last.metrics) is not everything


async def test_nothing_is_presumed_where_an_agent_counts_no_rounds():
    surveyor = Surveyor(Given(), EVERYTHING)
    survey = await surveyor.survey(Told(), 1.0, roundless=True)  # type: ignore[arg-type]
    assert list(survey.metrics) == ["mem"]
