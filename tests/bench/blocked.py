"""How long an event loop was held up in one piece."""

from __future__ import annotations

import asyncio
import gc
import time

BEAT_S = 0.002


class Heartbeat:
    """Beats every two milliseconds; `late_s` is how late the latest beat was.

    That is the longest time for which the loop could do nothing else, whoever took it: our
    code, another thread of ours, or other processes on the same cores. `own_s` is the most
    processor time that the loop's thread used between two beats: our code alone.
    """

    def __init__(self) -> None:
        self.late_s = 0.0
        self.own_s = 0.0
        self._due = 0.0
        self._used = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Heartbeat:
        self._plan()
        return self

    def __exit__(self, *exc: object) -> None:
        self._note()
        if self._timer is not None:
            self._timer.cancel()

    def _plan(self) -> None:
        self._due = time.perf_counter() + BEAT_S
        self._used = time.thread_time()
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _beat(self) -> None:
        self._note()
        self._plan()

    def _note(self) -> None:
        self.late_s = max(self.late_s, time.perf_counter() - self._due)
        self.own_s = max(self.own_s, time.thread_time() - self._used)


class Collector:
    """The time that the garbage collector takes."""

    def __init__(self) -> None:
        self.total_s = 0.0
        self._started = 0.0

    def __enter__(self) -> Collector:
        gc.callbacks.append(self._told)
        return self

    def __exit__(self, *exc: object) -> None:
        gc.callbacks.remove(self._told)

    def _told(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._started = time.perf_counter()
            return
        self.total_s += time.perf_counter() - self._started
