"""Ticks every n seconds, whatever the wall clock does; which one starts a cycle, `daemon` says.

APScheduler is the tick source only: its jobs are timed by the wall clock, so a trigger of
ours never lets runs pile up, and a guard timed by the monotonic clock moves the next run back
into place when the wall clock was set. The daemon watches what a tick starts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.job import Job
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

_GUARD_S = 0.5


class EveryInterval(BaseTrigger):  # type: ignore[misc]
    """The next run is one interval after the last, but never in the past: no catching up."""

    def __init__(self, interval_s: float) -> None:
        self._interval = timedelta(seconds=interval_s)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """Return when to run next."""
        if previous is None:
            return now
        following = previous + self._interval
        return following if now < following <= now + self._interval else now + self._interval


class Ticker:
    """Calls `on_tick(missed)` every `interval_s` seconds from a running event loop.

    `missed` is how many ticks did not happen since the last one, because the loop or the
    process stood still. `on_clock_step(seconds)` is told when the wall clock was set.
    """

    def __init__(
        self,
        interval_s: float,
        on_tick: Callable[[int], None],
        on_clock_step: Callable[[float], None] = lambda seconds: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval_s = interval_s
        self._on_tick = on_tick
        self._on_clock_step = on_clock_step
        self._monotonic = monotonic
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._job: Job | None = None
        self._guard: asyncio.Task[None] | None = None
        self._last: float | None = None

    def start(self) -> None:
        """Tick at once, and from then on every interval."""
        self._scheduler.start()
        self._job = self._scheduler.add_job(
            self._tick,
            EveryInterval(self._interval_s),
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        self._guard = asyncio.get_running_loop().create_task(self._watch_clock())

    def stop(self) -> None:
        """Tick no more."""
        if self._guard is not None:
            self._guard.cancel()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    async def _tick(self) -> None:
        # A coroutine: APScheduler runs it in the loop, a plain function in a thread.
        now = self._monotonic()
        missed = 0
        if self._last is not None:
            missed = max(0, round((now - self._last) / self._interval_s) - 1)
        self._last = now
        self._on_tick(missed)

    async def _watch_clock(self) -> None:
        offset = time.time() - self._monotonic()
        while True:
            await asyncio.sleep(min(_GUARD_S, self._interval_s / 4))
            step = time.time() - self._monotonic() - offset
            if abs(step) > min(1.0, self._interval_s / 2):
                offset += step
                self._on_clock_step(step)
                self._put_back()

    def _put_back(self) -> None:
        """Let the next run be one interval after the last, in the wall clock's new time."""
        if self._job is None or self._last is None:
            return
        left = max(0.0, self._interval_s - (self._monotonic() - self._last))
        self._job.modify(next_run_time=datetime.now(UTC) + timedelta(seconds=left))
