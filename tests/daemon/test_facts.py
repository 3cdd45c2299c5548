"""What is kept of the last cycles, and since when things are so."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

from poller.daemon.facts import Facts
from poller.daemon.status import AgentStatus, CycleRecord, Status, Trouble, WithheldKernel
from poller.poll.outcome import Outcome
from poller.rounds.exporter import ExporterState
from tests.support.hand_clock import HandClock

README = Path(__file__).parents[2] / "README.md"


def exporter(instance: str, agent: str, stalled: bool = False) -> ExporterState:
    return ExporterState(
        instance, agent, "gather_measures", 7.0, 5.0, 990.0, 995.0, stalled, False, None
    )


def test_publishing_and_failing_begin_with_the_first_of_their_kind() -> None:
    wall = HandClock()
    facts = Facts(wall)
    for result in ("success", "success", "failed", "failed", "success"):
        wall.now += 10
        facts.ended(result, "", Outcome(), 1.0)
        status = facts.status("leads", 5.0)
        assert (status.publishes_since is None) != (status.fails_since is None)
        if result == "failed":
            assert status.fails_since == 1030.0
    assert status.publishes_since == status.last_success == 1050.0
    assert [one.result for one in status.cycles].count("failed") == 2
    assert status.cycles[0].began == 1009.0


def test_the_last_sixty_cycles_are_kept() -> None:
    facts = Facts(HandClock())
    for number in range(100):
        facts.ended("success", "", Outcome(written=number), 1.0)
    assert [one.written for one in facts.status("leads", 5.0).cycles] == list(range(40, 100))


def test_who_stands_by_tells_nothing_of_kernels() -> None:
    facts = Facts(HandClock())
    facts.saw(Outcome(kernels=3, withheld={"a": "still"}, exporters=(exporter("a:1", "i"),)))
    facts.ended("success", "", Outcome(), 1.0)
    facts.ended("standby", "", Outcome(), 0.1)
    status = facts.status("stands by", 5.0)
    assert (status.kernels, status.withheld, status.agents) == (0, {}, ())
    assert len(status.cycles) == 1
    assert status.publishes_since is status.fails_since is None


def test_a_kernel_is_named_when_it_is_withheld_for_more_than_a_few_cycles() -> None:
    wall = HandClock()
    facts = Facts(wall)

    def named() -> list[tuple[str, str]]:
        lasting = facts.status("leads", 5.0).withheld_kernels
        return [(one.kernel, one.reason) for one in lasting]

    facts.saw(Outcome(withheld={"a": "stalled", "b": "waiting"}))
    assert named() == []
    wall.now += 16
    facts.saw(Outcome(withheld={"a": "stalled", "b": "incomplete"}))
    assert named() == [("a", "stalled")]  # b's reason is new
    wall.now += 16
    facts.saw(Outcome(withheld={"b": "incomplete"}))
    assert named() == [("b", "incomplete")]


def test_agents_are_told_with_their_kernels_and_whether_they_stand_still() -> None:
    facts = Facts(HandClock())
    told = (exporter("a:1", "i-1"), exporter("b:1", "i-2", stalled=True), exporter("c:1", ""))
    facts.saw(Outcome(exporters=told, kernels_of={"a:1": 2, "b:1": 1}))
    found = [(one.name, one.kernels, one.stalled) for one in facts.status("leads", 5.0).agents]
    assert found == [("i-1", 2, False), ("i-2", 1, True), ("c:1", 0, False)]


def test_a_status_is_json() -> None:
    facts = Facts(HandClock())
    facts.saw(Outcome(withheld={"a": "still"}, exporters=(exporter("a:1", "i-1"),)))
    facts.ended("failed", "timeout", Outcome(seconds={"query": 0.5}), 1.0)
    told = json.loads(json.dumps(facts.status("leads", 5.0).as_json()))
    assert told["ready"] is True
    assert told["cycles"][0]["parts"] == {"query": 0.5}
    assert told["agents"][0]["name"] == "i-1"


def test_the_readme_tells_of_every_fact() -> None:
    section = README.read_text("utf-8").partition("\n### The page and its facts\n")[2]
    table = section.partition("\n## ")[0]
    told = set(re.findall(r"`(\w+)`", table))
    for kind in (Status, CycleRecord, AgentStatus, Trouble, WithheldKernel):
        assert {field.name for field in fields(kind)} <= told, kind
