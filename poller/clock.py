"""Our clock, put right by the `Date` of the server's answers; how large a difference is told of.

The wall clock is read once and then carried on by the monotonic clock, so a step of it moves
nothing. It is corrected by the server's `Date`, which every answer carries: what counts is the
time that the server's samples have.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

TOLERANCE_S = 3.0
"""Less than this between our clock and the server's is no skew: `Date` has whole seconds."""


def told_time(date: str) -> float | None:
    """Return the Unix time that a `Date` header tells; None if it is none."""
    try:
        told = parsedate_to_datetime(date)
        # Whole seconds: on average the server is half a second further.
        return told.replace(tzinfo=told.tzinfo or UTC).timestamp() + 0.5
    except (ValueError, TypeError, OverflowError):
        return None


class Clock:
    """Unix seconds that never jump with the wall clock."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()
        self.corrected_s = 0.0

    def now(self) -> float:
        """Return the time, in Unix seconds."""
        return self._monotonic() + self._offset

    @property
    def step_s(self) -> float:
        """How far the wall clock is ahead of this one."""
        return self._wall() - self.now()

    def follow(self, ahead_s: float | None) -> bool:
        """Go along with the server's clock, which is `ahead_s` ahead; whether that was a jump."""
        if ahead_s is None:
            return False
        if abs(ahead_s) <= TOLERANCE_S:
            self._slew()
            return False
        self._offset += ahead_s
        self.corrected_s += ahead_s
        return True

    def _slew(self) -> None:
        """Go along with the wall clock while it is adjusted in small steps."""
        step = self.step_s
        if abs(step) < 1.0:
            self._offset += step
