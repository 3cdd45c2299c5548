"""How long this machine stood still: nobody can be on time then."""

from __future__ import annotations

import threading
import time
from typing import Self

_STEP_S = 0.01


class Stalls:
    """Measures how long a thread of ours was not let run. A context manager.

    `longest_s` is the longest time, `lost_s` all times together: what takes several processes
    one after another may wait for each.
    """

    def __init__(self) -> None:
        self.longest_s = self.lost_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stalls", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(_STEP_S):
            now = time.monotonic()
            late_s = max(0.0, now - before - _STEP_S)
            self.longest_s = max(self.longest_s, late_s)
            self.lost_s += late_s
            before = now
