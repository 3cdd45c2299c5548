"""What is worth a line of log, over several cycles."""

from __future__ import annotations

import logging
import math
from collections import Counter

import pytest
from msgspec.structs import replace

from poller.daemon import agents
from poller.daemon.conditions import Conditions
from poller.daemon.metrics import Telemetry
from poller.daemon.report import Report
from poller.daemon.withheld_since import LONG_CYCLES
from poller.errors import CycleError, PrometheusError, StoreError
from poller.poll.outcome import Outcome
from poller.rounds.exporter import ExporterState
from poller.values import Drop

WELL = ExporterState("a:1", "i-a", "gather_measures", 5.0, 30.0, 1.0, 1.0, False, False, None)


class Seen:
    """What an operator sees of the cycles that `report` takes: log, metrics, troubles."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self.log = caplog
        self.telemetry, self.conditions = Telemetry(), Conditions()
        self.report = Report(self.telemetry, self.conditions)

    def lines(self, part: str = "") -> list[str]:
        """Return what was logged with a text in it."""
        told = (record.getMessage() for record in self.log.records)
        return [line for line in told if part in line]

    def metric(self, name: str) -> float | None:
        """Return one metric, by its name without the prefix."""
        return self.telemetry.registry.get_sample_value(f"livestat_poller_{name}")


@pytest.fixture
def seen(caplog: pytest.LogCaptureFixture) -> Seen:
    return Seen(caplog)


def test_measurements_that_wait_are_told_after_some_cycles_once_each_way(seen: Seen):
    for _ in range(LONG_CYCLES):
        seen.report.succeeded(Outcome(kernels=9, written=1, late=312))
    assert seen.lines("load") == []
    for _ in range(3):
        seen.report.succeeded(Outcome(kernels=9, written=1, late=312))
    (told,) = seen.lines("load")
    assert "312 agents and 0 keys wait for a later cycle" in told
    assert seen.metric("late_exporters") == 312
    seen.report.succeeded(Outcome(kernels=9, written=9))
    assert seen.lines("load")[1].startswith("load: well again")
    assert seen.metric("late_exporters") == 0


def test_keys_that_wait_are_told_too(seen: Seen):
    for _ in range(LONG_CYCLES + 1):
        seen.report.succeeded(Outcome(kernels=9, written=1, unwritten=8))
    (told,) = seen.lines("load")
    assert "0 agents and 8 keys wait for a later cycle" in told
    assert seen.metric("unwritten_kernels") == 8


def test_a_moment_in_which_measurements_wait_is_not_told(seen: Seen):
    for late in (5, 5, 0) * 4:
        seen.report.succeeded(Outcome(kernels=9, written=1, late=late))
    assert seen.lines("load") == []


def test_that_somebody_else_writes_may_stay_so_and_is_no_error(seen: Seen):
    seen.report.succeeded(Outcome(kernels=9, written=9, rivals=2, failed=Counter(timeout=1)))
    told = {record.getMessage().partition(":")[0]: record.levelname for record in seen.log.records}
    assert told == {"rivals": "WARNING", "redis": "ERROR"}


def test_a_key_of_another_type_is_told_once_with_the_names_of_a_few(seen: Seen):
    for _ in range(2):
        seen.report.succeeded(Outcome(kernels=9, foreign=2, foreign_kernels=("0b", "3f")))
    (told,) = seen.lines()
    assert told.startswith(
        "foreign keys: 2 kernels' keys hold another type than string (0b, 3f); they are left alone"
    )
    seen.log.clear()
    seen.report.succeeded(Outcome(kernels=9))
    seen.report.succeeded(Outcome(kernels=9, foreign=7, foreign_kernels=tuple("abcde")))
    assert "7 kernels' keys hold another type than string (a, b, c, d, e, …)" in seen.log.text


def test_one_of_a_kind_is_told_in_the_singular(seen: Seen):
    one = Outcome(
        kernels=9, written=1, late=1, unwritten=1, rivals=1, foreign=1, foreign_kernels=("3f",),
        failed=Counter(timeout=1), dropped=Counter(nan=1), withheld={"kernel": "incomplete"},
        roundless=("a:1",),
    )  # fmt: skip
    for _ in range(LONG_CYCLES + 1):
        seen.report.succeeded(one)
    for told in (
        "redis: 1 key was not written (timeout)",
        "foreign keys: 1 kernel's key holds another type than string (3f)",
        "rows (nan): 1 row of the answers cannot serve",
        "rounds: 1 exporter counts no rounds (a:1)",
        "load: there is not time for all that was measured; 1 agent and 1 key wait",
        "withheld (incomplete): 1 kernel is not written for longer than",
    ):
        assert told in seen.log.text
    seen.report.failed(CycleError("unavailable", "HTTP 503"), Outcome())
    assert seen.report.status(stands_by=False) == "1 cycle failed: cycle"
    assert seen.report.why_not_ready(1, stands_by=False) == "1 cycle failed: cycle"


def test_what_to_do_about_scrapes_that_stay_mixed_is_told(seen: Seen):
    for _ in range(LONG_CYCLES + 1):
        seen.report.succeeded(Outcome(withheld={"k": "mixed"}))
    assert "raise poll.query_offset_s" in seen.log.text


def test_scrapes_that_are_stored_in_parts_are_told_once_with_what_to_set(seen: Seen):
    for _ in range(3):
        seen.report.succeeded(Outcome(kernels=9, in_parts=True))
    (told,) = seen.log.records
    assert told.levelname == "WARNING"
    assert told.getMessage().startswith("scrapes: they are stored in parts")
    assert "set poll.query_offset_s = 6.5" in told.getMessage()


def test_how_often_agents_measure_is_told_also_where_it_is_not_known(seen: Seen):
    known = replace(WELL, interval_s=3.2)
    seen.report.succeeded(Outcome(exporters=(known, replace(known, interval_s=None, counter=None))))
    assert (
        "rounds: counted 1 by gather_measures, every 3.2 s; "
        "1 by nothing, at an interval not known yet"
    ) in seen.log.text


def test_who_stands_by_is_well_again_where_its_neighbours_are_and_tells_nothing_of_kernels(
    seen: Seen,
):
    busy = Outcome(
        kernels=9, written=1, late=3, unwritten=8, skew_s=45.0, lag_s=60.0,
        withheld={"kernel": "incomplete"},
    )  # fmt: skip
    for _ in range(LONG_CYCLES + 1):
        seen.report.succeeded(busy)
    seen.report.failed(CycleError("unavailable", "HTTP 503"), Outcome())
    assert len(seen.conditions.troubles(0.0)) > 1
    seen.log.clear()
    seen.report.stood_by()
    assert seen.conditions.troubles(0.0) == ()
    assert seen.lines() == []
    for name in ("late_exporters", "unwritten_kernels", "clock_skew_seconds"):
        assert seen.metric(name) == 0
    assert math.isnan(seen.telemetry.lag._value.get())
    assert seen.telemetry.long.labels("incomplete")._value.get() == 0
    assert not seen.report.failing


def test_who_stands_by_says_that_a_neighbour_is_well_again(seen: Seen):
    for _ in range(2):
        seen.report.failed(PrometheusError("unavailable", "HTTP 503"), Outcome())
        seen.report.failed(PrometheusError("unavailable", "HTTP 503"), Outcome())
        seen.report.stood_by()
        seen.report.stood_by()
    said = [record.getMessage().partition(" after")[0] for record in seen.log.records]
    assert said == ["prometheus: HTTP 503", "prometheus: well again"] * 2


def test_who_stands_by_is_ready_while_its_neighbours_answer(seen: Seen):
    seen.report.stood_by()
    assert seen.report.why_not_ready(3, stands_by=True) == ""
    assert seen.report.status(stands_by=True) == "standing by"
    for _ in range(3):
        seen.report.failed(StoreError("refused", "connection refused"), Outcome())
    assert (
        seen.report.why_not_ready(3, stands_by=True) == "3 cycles failed one after another: redis"
    )
    assert seen.report.status(stands_by=True) == "3 cycles failed: redis"
    seen.report.stood_by()
    assert seen.report.why_not_ready(3, stands_by=True) == ""


def test_the_service_manager_is_told_of_kernels_also_when_no_agent_has_measured(seen: Seen):
    assert seen.report.status(stands_by=False) == "starting"
    seen.report.succeeded(Outcome(kernels=9, written=0))
    assert seen.report.status(stands_by=False) == "leads, 9 active kernels"
    seen.report.succeeded(Outcome(kernels=1, withheld={"3f": "incomplete"}))
    assert seen.report.status(stands_by=False) == "leads, 1 active kernel, 1 withheld"


def test_that_another_prometheus_answers_is_told_once_each_way(seen: Seen):
    why = PrometheusError("refused", "connection refused", "start it").at("http://first:9090")
    for passed_over in (None, why, why, None, None):
        seen.report.succeeded(Outcome(kernels=1, written=1, passed_over=passed_over))
        assert seen.metric("fallback") == (passed_over is not None)
    told, again = seen.lines()
    assert told == (
        "fallback: connection refused (http://first:9090); another Prometheus answers instead; "
        "start it"
    )
    assert again.startswith("fallback: the first Prometheus answers again after ")


def test_keys_that_are_no_live_stat_are_counted_in_a_cycle_that_fails_too(seen: Seen):
    seen.report.failed(StoreError("refused", ""), Outcome(invalid_keys=2))
    assert seen.metric("invalid_keys_total") == 2


@pytest.mark.parametrize(("asks_lease", "at_fault"), [(True, "redis"), (False, "prometheus")])
def test_a_deadline_while_the_lease_is_asked_for_is_redis(
    seen: Seen, asks_lease: bool, at_fault: str
):
    seen.report.overran(Outcome(asks_lease=asks_lease), 4.0)
    assert [one.subject for one in seen.conditions.troubles(0.0)] == [at_fault]


def test_rows_that_cannot_serve_are_told_once_though_most_cycles_read_other_agents(seen: Seen):
    for place in range(24):  # the agent measures every 30 s, the poller polls every 5 s
        dropped = Counter(nan=1) if place % 6 == 0 else Counter[Drop]()
        seen.report.succeeded(Outcome(time=5.0 * place, exporters=(WELL,), dropped=dropped))
    assert seen.lines("rows") == [
        "rows (nan): 1 row of the answers cannot serve; look for the exporter or relabelling that "
        "makes them"
    ]
    seen.report.succeeded(Outcome(time=150.0, exporters=(WELL,)))
    assert seen.lines()[-1].startswith("rows (nan): well again")


def test_answers_that_miss_data_and_are_taken_nevertheless_are_told_once_each_way(seen: Seen):
    agent = replace(WELL, interval_s=5.0)
    for place, warned in enumerate(["store-7\nis down", "", "store-8 is down", "", ""]):
        seen.report.succeeded(Outcome(time=5.0 * place, exporters=(agent,), warned=warned))
    told, again = seen.lines("partial")
    assert told == (
        "partial answers: store-7 is down; what is there is written; find the store or shard that "
        "is down"
    )
    assert again.startswith("partial answers: well again after ")


def test_an_agent_that_died_stays_told_when_its_rounds_are_forgotten(seen: Seen):
    dead = replace(WELL, instance="b:1", agent="i-b", silent=True)
    seen.report.succeeded(Outcome(exporters=(WELL, dead), held_of={"a:1": 1, "b:1": 1}))
    seen.report.succeeded(Outcome(exporters=(WELL,), held_of={"a:1": 1}))
    assert seen.metric("silent_agents") == 1
    back = replace(dead, silent=False)
    seen.report.succeeded(Outcome(exporters=(WELL, back), held_of={"a:1": 1, "b:1": 1}))
    assert seen.metric("silent_agents") == 0
    told = seen.lines("agent i-b")
    assert len(told) == 2
    assert told[1].startswith("agent i-b: measures again after")


def test_an_agent_that_died_is_told_no_more_when_another_one_tells_by_its_exporter(seen: Seen):
    """It was set up anew under another name."""
    dead = replace(WELL, instance="b:1", agent="i-b", silent=True)
    seen.report.succeeded(Outcome(exporters=(WELL, dead), held_of={"a:1": 1, "b:1": 1}))
    anew = replace(dead, agent="i-new", silent=False)
    seen.report.succeeded(Outcome(exporters=(WELL, anew), held_of={"a:1": 1, "b:1": 1}))
    assert seen.metric("silent_agents") == 0
    assert seen.lines("agent i-b")[1].startswith("agent i-b: is gone after")


def test_an_agent_that_tells_by_another_instance_now_is_not_down():
    gone = replace(WELL, instance="old:1", silent=True)
    there = replace(gone, instance="new:1", silent=False)
    held = {"old:1": 5, "new:1": 5}
    assert agents.troubles(Outcome(exporters=(gone, there), held_of=held)) == {}
    assert set(agents.troubles(Outcome(exporters=(gone,), held_of=held))) == {"i-a"}


def test_an_agent_that_was_drained_before_it_went_is_not_missed():
    gone = replace(WELL, silent=True)
    assert set(agents.troubles(Outcome(exporters=(gone,), held_of={"a:1": 1}))) == {"i-a"}
    assert agents.troubles(Outcome(exporters=(gone,), held_of={"a:1": 0})) == {}
