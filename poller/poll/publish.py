"""A cycle's portions (cut by `cycle`) to the store; a key that changed since tells of a rival."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence

from poller.errors import LeaseLost
from poller.store.keys import Store, Written
from poller.store.lease import Lease

QUIET_INTERVALS = 3
"""A rival's key is ours again when it has not changed for so many intervals: of polls, or of the
slowest agent's measurements, whichever is longer."""
AGAIN_INTERVALS = 12
"""A key of another type is looked at again after so many intervals."""
_AT_ONCE = 2


class Publisher:
    """Writes values and remembers what it wrote, so that a rival's value is noticed.

    `rivals` are kernels whose key somebody else keeps writing: {kernel: Unix time of the last
    foreign write noticed}; one is quiet when it was looked at often enough since. `foreign` are
    kernels whose key holds another type: left alone, but looked at again now and then. Each with
    the time when it was last seen so.
    """

    def __init__(self, store: Store, yields: bool, interval_s: float) -> None:
        self._store = store
        self._yields = yields
        self._interval_s = interval_s
        self.know_slowest(0.0)
        self._again_s = AGAIN_INTERVALS * interval_s
        self._left: dict[str, int] = {}
        self._left_before: dict[str, int] = {}
        self._since: float | None = None
        self.rivals: dict[str, float] = {}
        self.foreign: dict[str, float] = {}

    def know_slowest(self, period_s: float) -> None:
        """Take how often the slowest agent measures, in seconds: it writes no more often."""
        self._quiet_s = QUIET_INTERVALS * max(self._interval_s, period_s)

    def begin_anew(self) -> None:
        """Forget for how long keys have been watched: somebody else may have written meanwhile."""
        self._since = None

    def has_watched(self, now: float) -> bool:
        """Whether a rival would have been noticed by now."""
        return self._since is not None and now - self._since >= self._quiet_s

    def found(self, values: Mapping[str, bytes]) -> None:
        """Remember what keys held when they were read: later changes are a rival's."""
        for kernel, value in values.items():
            self._left[kernel] = hash(value)

    def forget(self, kernels: Iterable[str]) -> None:
        """Drop what is remembered of kernels that live no more."""
        for kernel in kernels:
            for memory in (self._left, self._left_before, self.rivals, self.foreign):
                memory.pop(kernel, None)

    def due_again(self, now: float) -> list[str]:
        """Return the kernels whose key held another type, and is to be looked at again."""
        due = [name for name, last in self.foreign.items() if now - last >= self._again_s]
        for kernel in due:
            del self.foreign[kernel]
        return due

    def found_foreign(self, kernels: Iterable[str], now: float) -> None:
        """Remember kernels whose key holds another type."""
        self.foreign |= dict.fromkeys(kernels, now)

    async def yielded(self, kernels: Sequence[str], now: float) -> set[str]:
        """Return which kernels are left to their rivals now; those quiet for long are not."""
        ours = [kernel for kernel in kernels if kernel in self.rivals]
        if not self._yields:
            return set()
        await self._look_at(ours, now)
        return {kernel for kernel in ours if kernel in self.rivals}

    async def _look_at(self, rivals: Sequence[str], now: float) -> None:
        """Read rivals' keys: one that is not as it was last seen has been written by its rival."""
        if not rivals:
            return
        held = await self._store.read(rivals)
        for kernel in rivals:
            value = held.values.get(kernel)
            if value is not None and hash(value) != self._left.get(kernel):
                self._left[kernel] = hash(value)
                self.rivals[kernel] = now
            elif kernel not in held.failed:
                self._calm(kernel, now)

    async def _look_again(self, now: float) -> None:
        """Look at rivals that may be quiet and were not looked at: their agent stands still."""
        due = [name for name, last in self.rivals.items() if now - last >= self._quiet_s]
        await self._look_at(due, now)

    def _calm(self, kernel: str, now: float) -> None:
        """Take that a key was as it had been left; for long enough, and nobody else writes it."""
        last = self.rivals.get(kernel)
        if last is not None and now - last >= self._quiet_s:
            del self.rivals[kernel]

    async def publish(
        self, portions: Iterable[Mapping[str, bytes]], now: float, lease: Lease | None = None
    ) -> AsyncIterator[Written]:
        """Write portions of (kernel, bytes), and yield what became of each.

        One portion is on its way while the next is made. What was written before a failure is
        yielded before it is raised. Afterwards rivals' keys that are written no more are looked at.
        """
        under_way: set[asyncio.Task[Written]] = set()
        self._since = now if self._since is None else self._since
        try:
            for values in portions:
                under_way.add(asyncio.create_task(self._write(values, now, lease)))
                await asyncio.sleep(0)
                if len(under_way) >= _AT_ONCE:
                    done, under_way = await _some(under_way)
                    for written in _results(done):
                        yield written
            while under_way:
                done, under_way = await _some(under_way)
                for written in _results(done):
                    yield written
            await self._look_again(now)
        finally:
            for task in under_way:
                task.cancel()
            # The first failure is raised; a second one must not end in the log as unheard.
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _write(self, values: Mapping[str, bytes], now: float, lease: Lease | None) -> Written:
        if lease is not None and not await lease.allows_write():
            raise LeaseLost("lease", "the lease ran out or was lost before the write")
        try:
            written = await self._store.write(values, lease.fence if lease is not None else None)
        except BaseException:
            for kernel in values:  # perhaps written, perhaps not: no sign of anybody else
                self._left.pop(kernel, None)
            raise
        self._notice(written, values, now)
        return written

    def _notice(self, written: Written, values: Mapping[str, bytes], now: float) -> None:
        for kernel, before in written.before.items():
            left = self._left.get(kernel)
            if before is not None and left is not None:
                found = hash(before)
                if found == left:
                    self._calm(kernel, now)
                elif found != self._left_before.get(kernel):  # else a failover lost our last one
                    self.rivals[kernel] = now
                self._left_before[kernel] = left
            self._left[kernel] = hash(values[kernel])
        for kernel, reason in written.failed.items():
            if reason == "wrong_type":
                self.foreign[kernel] = now


Writes = set[asyncio.Task[Written]]


async def _some(tasks: Writes) -> tuple[Writes, Writes]:
    """Wait until some writes have ended, or all of them where one failed: they are few."""
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    if pending and any(task.exception() for task in done):
        more, pending = await asyncio.wait(pending)
        done |= more
    return done, pending


def _results(done: Writes) -> Iterator[Written]:
    """Yield what ended well, then raise the first failure."""
    for task in sorted(done, key=lambda task: task.exception() is not None):  # each is heard
        yield task.result()
