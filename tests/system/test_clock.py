"""Clocks that are set, wrong or far apart: polling goes on in step, and never asks the future."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.clock import TOLERANCE_S, Clock, told_time
from poller.daemon.schedule import EveryInterval, Ticker
from poller.errors import ClockError, PrometheusError
from poller.poll import assembly
from tests.support.answers import bad_gateway
from tests.support.examples import examples
from tests.support.live import PATIENT, LivePoller, settings, tables
from tests.support.process import require
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Redis, wait_until
from tests.support.world import World

HOUR_S = 3600.0
YEAR_S = 365 * 86_400.0
STEPS = [HOUR_S, -HOUR_S, YEAR_S, -YEAR_S]


class Fake:
    """A wall clock and a monotonic one that a test moves."""

    def __init__(self) -> None:
        self.wall_s, self.monotonic_s = 1_700_000_000.0, 50.0

    def pass_by(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.wall_s, lambda: self.monotonic_s)


# --- the clock ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step_s", STEPS)
def test_a_step_of_the_wall_clock_moves_nothing_and_is_known(step_s: float) -> None:
    fake = Fake()
    clock = fake.clock()
    before = clock.now()
    fake.wall_s += step_s
    fake.pass_by(10)
    assert clock.now() == before + 10
    assert clock.step_s == pytest.approx(step_s)


@pytest.mark.parametrize("ahead_s", STEPS)
def test_the_servers_clock_is_followed_at_once(ahead_s: float) -> None:
    fake = Fake()
    clock = fake.clock()
    assert clock.follow(ahead_s)
    assert clock.now() == fake.wall_s + ahead_s
    assert clock.step_s == pytest.approx(-ahead_s)
    assert not clock.follow(0.4)


@examples(100)
@given(st.floats(-TOLERANCE_S, TOLERANCE_S))
def test_a_difference_within_the_tolerance_is_no_skew(ahead_s: float) -> None:
    fake = Fake()
    clock = fake.clock()
    assert not clock.follow(ahead_s)
    assert clock.now() == fake.wall_s


def test_a_wall_clock_that_is_slewed_is_followed() -> None:
    fake = Fake()
    clock = fake.clock()
    for _ in range(100):
        fake.pass_by(5)
        fake.wall_s += 0.1
        clock.follow(0.0)
    assert clock.now() == pytest.approx(fake.wall_s)


@pytest.mark.parametrize(
    ("date", "told"),
    [
        ("Tue, 14 Nov 2023 22:13:20 GMT", 1_700_000_000.5),
        ("Tue, 14 Nov 2023 22:13:20 -0000", 1_700_000_000.5),
        ("Tue, 14 Nov 2023 23:13:20 +0100", 1_700_000_000.5),
        ("yesterday", None),
        ("", None),
        ("Tue, 14 Nov 99999 22:13:20 GMT", None),
    ],
)
def test_a_date_header_tells_a_time_or_nothing(date: str, told: float | None) -> None:
    assert told_time(date) == told


# --- the tick -----------------------------------------------------------------------------------


@examples(100)
@given(
    st.floats(0.1, 3600), st.floats(-2 * YEAR_S, 2 * YEAR_S, allow_nan=False, allow_infinity=False)
)
def test_the_next_run_is_never_in_the_past_and_never_later_than_one_interval(
    interval_s: float, since_s: float
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    trigger = EveryInterval(interval_s)
    assert trigger.get_next_fire_time(None, now) == now
    following = trigger.get_next_fire_time(now - timedelta(seconds=since_s), now)
    assert now < following <= now + timedelta(seconds=interval_s)


async def test_missed_ticks_are_counted_exactly() -> None:
    fake = Fake()
    missed: list[int] = []
    ticker = Ticker(5.0, missed.append, monotonic=lambda: fake.monotonic_s)
    for passed_s in (0.0, 5.0, 5.1, 4.9, 10.0, 5.0, 35.2, 5.0):
        fake.pass_by(passed_s)
        await ticker._tick()
    assert missed == [0, 0, 0, 0, 1, 0, 6, 0]


# --- the server's clock -------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _world(prometheus: ScriptedPrometheus) -> None:
    prometheus.handler = World(2).handler


@pytest.mark.parametrize("offset_s", [120.0, -120.0, YEAR_S])
async def test_a_server_of_another_time_is_asked_at_its_own_from_the_first_batch_on(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path, offset_s: float
) -> None:
    prometheus.date_offset_s = offset_s
    async with assembly.cycle(settings(tmp_path, prometheus.url, redis.url), PATIENT) as cycle:
        for _ in range(2):
            outcome = await cycle.poll()
            assert outcome.written == 2
            assert abs(outcome.time - (time.time() + offset_s)) < 2


async def test_a_server_whose_clock_is_set_costs_one_cycle_and_is_told(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    async with assembly.cycle(settings(tmp_path, prometheus.url, redis.url), PATIENT) as cycle:
        before = (await cycle.poll()).time
        prometheus.date_offset_s = -HOUR_S
        with pytest.raises(ClockError) as raised:
            await cycle.poll()
        assert raised.value.reason == "skew"
        assert "-3600 s" in raised.value.detail
        outcome = await cycle.poll()
        assert outcome.written == 2
        assert outcome.time < before - HOUR_S + 10


async def test_a_server_that_tells_no_time_is_asked_at_ours(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    prometheus.date_offset_s = None
    async with assembly.cycle(settings(tmp_path, prometheus.url, redis.url), PATIENT) as cycle:
        outcome = await cycle.poll()
        assert outcome.written == 2
        assert abs(outcome.time - time.time()) < 2


async def test_a_time_that_a_server_told_once_is_followed_once(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    async with assembly.cycle(settings(tmp_path, prometheus.url, redis.url), PATIENT) as cycle:
        await cycle.poll()
        prometheus.date_offset_s = HOUR_S
        with pytest.raises(ClockError):
            await cycle.poll()
        prometheus.date_offset_s = None
        for _ in range(2):
            outcome = await cycle.poll()
            assert abs(outcome.time - (time.time() + HOUR_S)) < 2


async def test_the_date_of_an_error_page_is_not_the_time_of_the_samples(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    async with assembly.cycle(settings(tmp_path, prometheus.url, redis.url), PATIENT) as cycle:
        await cycle.poll()
        prometheus.date_offset_s = HOUR_S
        prometheus.next_answers(bad_gateway())
        with pytest.raises(PrometheusError):
            await cycle.poll()
        prometheus.date_offset_s = None
        assert abs((await cycle.poll()).time - time.time()) < 2


def test_a_skew_is_told_once_and_when_it_is_gone(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    prometheus.date_offset_s = 120.0
    with LivePoller(tmp_path, tables(prometheus.url, redis.url, 0.4)) as live:
        live.wait_metric("cycles_total", 4, result="success")
        assert abs(live.metric("clock_skew_seconds") - 120) < 2
        prometheus.date_offset_s = 0.0
        live.wait_line("clock: well again")
        assert abs(live.metric("clock_skew_seconds")) < 3
        assert live.stop() == 0
    told = live.lines("clock: Prometheus' clock is +1")
    assert len(told) == 1
    assert any(f"+{ahead} s from this host's" in told[0] for ahead in (119, 120, 121))  # if busy
    assert len(live.lines("clock: well again")) == 1


# --- the wall clock of the process --------------------------------------------------------------


def preloaded(path: Path) -> dict[str, str]:
    """Return the environment in which the wall clock goes by what the file says."""
    require("faketime")
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "faketime is there without its library"
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(path),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


@pytest.mark.parametrize("step", ["+1h", "-1h", "+365d"])
def test_polling_goes_on_within_two_intervals_when_the_wall_clock_is_set(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path, step: str
) -> None:
    stamp = tmp_path / "offset"
    stamp.write_text("+0\n")
    made = tables(prometheus.url, redis.url, 0.6)
    with LivePoller(tmp_path, made, environ=preloaded(stamp)) as live:
        live.wait_metric("cycles_total", 3, result="success")
        next_stamp = tmp_path / "next"
        next_stamp.write_text(f"{step}\n")
        before = len(prometheus.batches)
        set_at = time.time()
        os.replace(next_stamp, stamp)
        wait_until(lambda: len(prometheus.batches) > before + 5, "five more batches")
        live.wait_line("clock: the wall clock was set by")
        assert live.metric("clock_steps_total") == 1
        assert live.metric("missed_cycles_total") <= 1
        now = time.time()
        times = prometheus.batches
        assert max(times) <= now + 0.1, "nothing was asked of the future"
        assert times[before] - set_at < 2 * 0.6 + 0.3
        gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
        assert min(gaps) > 0.2, "no burst"
        assert max(gaps) < 2 * 0.6 + 0.3
        assert live.stop() == 0
    assert len(live.lines("clock: the wall clock was set by")) == 1
    assert len(live.lines("clock: Prometheus' clock is")) == 1
    assert "Traceback" not in live.log
