"""When the backfill may ask beside batches, and whose past comes first: slowly beside slow ones."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from poller.history.history import History
from poller.history.state import KernelState
from poller.values import Owed, portions

_SLOW = 1 / 3
"""A batch that takes more than this share of its time leaves little for anything else."""
_REST = 0.25
"""Where batches are slow, a chunk is followed by a rest of so large a share of its time."""


class Pace:
    """Lets questions of the past pass between the batches, fewer of them where those are slow.

    `waited_s` is how long questions have waited for batches so far.
    """

    def __init__(self) -> None:
        self.slow = False
        self.waited_s = 0.0
        self._free = asyncio.Event()
        self._free.set()

    @contextmanager
    def batch(self, within_s: float) -> Iterator[None]:
        """Hold every new question back, and see how long this batch takes of `within_s`."""
        started = time.perf_counter()
        self._free.clear()
        try:
            yield
        finally:
            self.slow = time.perf_counter() - started > _SLOW * within_s
            self._free.set()

    async def turn(self) -> None:
        """Wait until no batch is asked."""
        started = time.perf_counter()
        await self._free.wait()
        self.waited_s += time.perf_counter() - started

    def at_once(self, most: int) -> int:
        """Return how many chunks may be asked at once."""
        return 1 if self.slow else most

    def wait_s(self, usual_s: float | None) -> float | None:
        """Return how long a cycle waits for what is owed; None: for as long as it takes.

        After a slow batch the rest of the deadline is for what can be written.
        """
        return 0.0 if self.slow and usual_s is not None else usual_s

    async def rest(self, after_s: float) -> None:
        """Where batches are slow, leave some time after a chunk that was asked for so long.

        Not much: no question is put beside a batch, and kernels without a key wait for this.
        """
        if self.slow:
            await asyncio.sleep(_REST * after_s)


class Queue:
    """The chunks that are still to be recalled: what a kernel without a key waits for, first."""

    def __init__(self, history: History, chunk: int) -> None:
        self._history, self._chunk = history, chunk
        self._chunks: list[tuple[int, int, int, Owed, Sequence[str]]] = []
        self._number = itertools.count()
        self._taken: set[str] = set()

    async def next(self) -> tuple[Owed, Sequence[str]] | None:
        """Return kernels that owe the same stretch; None if nothing is left to be taken."""
        await self._fill()
        while self._chunks:
            owed, chunk = heapq.heappop(self._chunks)[3:]
            kernels = [kernel for kernel in chunk if kernel in self._history.owing]
            self._taken.difference_update(set(chunk).difference(kernels))
            if kernels:
                return owed, kernels
        return None

    def done(self, kernels: Iterable[str]) -> None:
        """Let these be taken again if they owe something more."""
        self._taken.difference_update(kernels)

    async def _fill(self) -> None:
        """Put what came to be owed in its place: of one urgency, the fewest kernels first."""
        groups: dict[tuple[int, Owed], list[str]] = {}
        for place, kernel_id in enumerate(sorted(self._history.owing - self._taken)):
            kernel = self._history.kernels.get(kernel_id)
            owed = kernel.owing if kernel is not None else None
            if kernel is not None and owed is not None:
                groups.setdefault((_urgency(kernel), owed), []).append(kernel_id)
                self._taken.add(kernel_id)
            if place % 500 == 499:
                await asyncio.sleep(0)
        for (urgency, owed), kernels in groups.items():
            for chunk in portions(kernels, self._chunk):
                entry = (urgency, len(kernels), next(self._number), owed, chunk)
                heapq.heappush(self._chunks, entry)


def _urgency(kernel: KernelState) -> int:
    """Return 0 for a kernel that cannot be written yet, 2 for one whose key told enough."""
    if not kernel.key_read:
        return 1
    return 2 if all(kept.known for kept in kernel.metrics.values()) else 0
