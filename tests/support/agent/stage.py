"""The course of a run: which kernels there are now, and how far they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from .kernels import Kernel, make_kernels, write_files
from .options import Options


class Stage:
    """The kernels, moved on at each measurement. `scrapes` is how often they were scraped."""

    def __init__(
        self, options: Options, root: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.options = options
        self.root = root
        self.kernels = make_kernels(options)
        self.scrapes = 0
        self._clock = clock
        self._began = self._last = clock()
        self._measured_at: dict[int, int] = {}

    def begin(self) -> None:
        """Let the run's time begin now."""
        self._began = self._last = self._clock()

    @property
    def age_s(self) -> float:
        """How long it has run."""
        return self._clock() - self._began

    @property
    def living(self) -> list[Kernel]:
        """The kernels that have started."""
        age_s = self.age_s
        return [kernel for kernel in self.kernels if age_s >= kernel.start_s]

    def advance(self) -> None:
        """Let every kernel work for the time that has passed, and write its files."""
        now = self._clock()
        passed_s, self._last = now - self._last, now
        for kernel in self.living:
            self._advance(kernel, passed_s)

    def _advance(self, kernel: Kernel, passed_s: float) -> None:
        first = self._measured_at.setdefault(kernel.number, self.scrapes)
        if self.age_s >= kernel.restart_s:
            kernel.restart()
        # It stands still until a scrape has seen it: its first values are told only once.
        if self.scrapes > first:
            kernel.work(passed_s, self.options)
        write_files(kernel, self.root)
