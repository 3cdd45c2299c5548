"""Who leads, by what the lease says; who takes over begins afresh."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from poller.daemon.conditions import Conditions
from poller.daemon.leadership import Leadership
from poller.daemon.metrics import Telemetry
from poller.daemon.report import Report
from poller.errors import PrometheusError
from poller.poll.outcome import Outcome
from poller.rounds.exporter import ExporterState
from tests.support.process import PATIENCE_S


class Recorder:
    """Stands for a cycle and its evaluation time: remembers what it was told to do."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.reachable = True
        self.evaluation = self

    async def probe(self) -> None:
        if not self.reachable:
            raise PrometheusError("refused", "connection refused")

    def start_afresh(self) -> None:
        self.calls.append("afresh")

    def read_keys_again(self) -> None:
        self.calls.append("read again")

    async def stand_by(self) -> None:
        self.calls.append("rest")


class PaperLease:
    """A lease that a test gives and takes."""

    def __init__(self) -> None:
        self.held = False
        self.other: str | None = None

    async def take(self) -> bool:
        self.held = self.other is None
        return self.held

    async def renew(self) -> bool:
        return self.held

    async def holder(self) -> str | None:
        return self.other


@pytest.fixture
def leadership() -> Leadership:
    telemetry = Telemetry()
    return Leadership(telemetry, Report(telemetry, Conditions()))


async def test_who_cannot_have_the_lease_stands_by_and_takes_over_afresh(
    leadership: Leadership, caplog: pytest.LogCaptureFixture
) -> None:
    cycle: Any = Recorder()
    lease: Any = PaperLease()
    caplog.set_level(logging.INFO, "poller")
    assert leadership.role == "does not lead"
    lease.other = "host:1:abc"
    for _ in range(2):
        assert not await leadership.leads(cycle, lease)
    assert (leadership.role, leadership.holder) == ("stands by", "host:1:abc")
    lease.other = None
    for _ in range(2):
        assert await leadership.leads(cycle, lease)
    assert (leadership.role, leadership.holder) == ("leads", None)
    assert cycle.calls == ["rest", "rest", "afresh"]
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", "leader: standing by, host:1:abc writes"),
        ("WARNING", "leader: this poller writes from now on"),
    ]


async def test_whose_lease_ran_out_reads_the_keys_again(leadership: Leadership) -> None:
    cycle: Any = Recorder()
    lease: Any = PaperLease()
    assert await leadership.leads(cycle, lease)
    lease.held = False
    assert await leadership.leads(cycle, lease)
    assert cycle.calls == ["read again", "read again"]


async def test_who_cannot_ask_prometheus_does_not_take_the_lease(leadership: Leadership) -> None:
    cycle: Any = Recorder()
    lease: Any = PaperLease()
    cycle.reachable = False
    with pytest.raises(PrometheusError):
        await leadership.leads(cycle, lease)
    assert not lease.held
    assert leadership.role == "does not lead"


async def test_who_lost_the_lease_by_failing_tells_nothing_of_kernels_any_more() -> None:
    telemetry = Telemetry()
    report = Report(telemetry, Conditions())
    leadership = Leadership(telemetry, report)
    cycle: Any = Recorder()
    lease: Any = PaperLease()
    told = ("leader", "active_kernels", "late_exporters", "silent_agents", "fallback")

    def shown() -> list[float | None]:
        return [telemetry.registry.get_sample_value(f"livestat_poller_{name}") for name in told]

    assert await leadership.leads(cycle, lease)
    why = PrometheusError("refused", "connection refused")
    silent = ExporterState("b:1", "i-b", None, None, None, None, None, False, True, None)
    report.succeeded(
        Outcome(kernels=9, late=3, exporters=(silent,), held_of={"b:1": 1}, passed_over=why)
    )
    seen = [1, 9, 3, 1, 1]
    assert shown() == seen
    lease.held = False
    assert await leadership.leads(cycle, lease)
    assert shown() == seen  # nobody else had it meanwhile
    lease.held, cycle.reachable = False, False
    with pytest.raises(PrometheusError):
        await leadership.leads(cycle, lease)
    assert shown() == [0, 0, 0, 0, 0]


async def test_who_stands_by_and_fails_asks_at_ticks_alone() -> None:
    telemetry = Telemetry()
    report = Report(telemetry, Conditions())
    leadership = Leadership(telemetry, report)
    cycle: Any = Recorder()
    lease: Any = PaperLease()
    lease.other = "host:1:abc"
    assert not await leadership.leads(cycle, lease)
    asked = asyncio.Event()
    asking = asyncio.create_task(leadership.ask_again(0.02, asked.set))
    report.failed(PrometheusError("refused", "connection refused"), Outcome())
    await asyncio.sleep(0.1)
    assert not asked.is_set()
    report.stood_by()
    await asyncio.wait_for(asked.wait(), PATIENCE_S)
    asking.cancel()


async def test_without_a_lease_it_leads_and_says_so_once(
    leadership: Leadership, caplog: pytest.LogCaptureFixture
) -> None:
    cycle: Any = Recorder()
    caplog.set_level(logging.INFO, "poller")
    for _ in range(3):
        assert await leadership.leads(cycle, None)
    assert [one.getMessage() for one in caplog.records] == [
        "leader: this poller writes; no lease is asked for"
    ]


async def test_who_stood_by_and_is_to_ask_for_no_lease_any_more_leads_afresh(
    leadership: Leadership, caplog: pytest.LogCaptureFixture
) -> None:
    cycle: Any = Recorder()
    lease: Any = PaperLease()
    lease.other = "host:1:abc"
    assert not await leadership.leads(cycle, lease)
    caplog.set_level(logging.INFO, "poller")
    for _ in range(2):
        assert await leadership.leads(cycle, None)
    assert leadership.role == "leads"
    assert cycle.calls == ["rest", "afresh"]
    assert [one.getMessage() for one in caplog.records] == [
        "leader: this poller writes; no lease is asked for"
    ]
