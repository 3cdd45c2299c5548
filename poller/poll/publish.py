"""Values into keys: in portions, fenced by the lease, with an eye on who else writes there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from poller.errors import LeaseLost
from poller.store.keys import Store, Written
from poller.store.lease import Lease

QUIET_INTERVALS = 3
"""A rival's key is ours again when it has not changed for so many intervals."""
_AT_ONCE = 2


@dataclass(slots=True)
class Published:
    """What one publication did: keys written, keys failed by reason."""

    written: int = 0
    failed: Counter[str] = field(default_factory=Counter)


class Publisher:
    """Writes values and remembers what it wrote, so that a rival's value is noticed.

    `rivals` are kernels whose key somebody else keeps writing: {kernel: Unix time of the last
    foreign write noticed}. `foreign` are kernels whose key holds another type: left alone.
    """

    def __init__(self, store: Store, batch_size: int, yields: bool, interval_s: float) -> None:
        self._store = store
        self._batch_size = batch_size
        self._yields = yields
        self._quiet_s = QUIET_INTERVALS * interval_s
        self._left: dict[str, int] = {}
        self.rivals: dict[str, float] = {}
        self.foreign: set[str] = set()

    def found(self, values: Mapping[str, bytes]) -> None:
        """Remember what keys held when they were read: later changes are a rival's."""
        for kernel, value in values.items():
            self._left[kernel] = hash(value)

    def forget(self, living: Iterable[str]) -> None:
        """Drop what is remembered of kernels that live no more."""
        living = set(living)
        for memory in (self._left, self.rivals):
            for kernel in memory.keys() - living:
                del memory[kernel]
        self.foreign &= living

    async def yielded(self, kernels: Sequence[str], now: float) -> set[str]:
        """Return which kernels are left to their rivals now; those quiet for long are not."""
        ours = [kernel for kernel in kernels if kernel in self.rivals]
        if not ours:
            return set()
        if not self._yields:
            self._calm(now)
            return set()
        held = await self._store.read(ours)
        for kernel in ours:
            value = held.values.get(kernel)
            if value is not None and hash(value) != self._left.get(kernel):
                self._left[kernel] = hash(value)
                self.rivals[kernel] = now
        self._calm(now)
        return {kernel for kernel in ours if kernel in self.rivals}

    def _calm(self, now: float) -> None:
        quiet = [name for name, last in self.rivals.items() if now - last >= self._quiet_s]
        for kernel in quiet:
            del self.rivals[kernel]

    async def publish(
        self,
        kernels: Sequence[str],
        value_of: Callable[[str], bytes],
        now: float,
        lease: Lease | None = None,
    ) -> Published:
        """Write the values of kernels; one portion is on its way while the next is made."""
        published = Published()
        under_way: set[asyncio.Task[None]] = set()
        try:
            for start in range(0, len(kernels), self._batch_size):
                portion = kernels[start : start + self._batch_size]
                values = {kernel: value_of(kernel) for kernel in portion}
                under_way.add(asyncio.create_task(self._write(values, now, lease, published)))
                await asyncio.sleep(0)
                if len(under_way) >= _AT_ONCE:
                    under_way = await _one_less(under_way)
            while under_way:
                under_way = await _one_less(under_way)
        finally:
            for task in under_way:
                task.cancel()
            # The first failure is raised; a second one must not end in the log as unheard.
            await asyncio.gather(*under_way, return_exceptions=True)
        return published

    async def _write(
        self, values: Mapping[str, bytes], now: float, lease: Lease | None, into: Published
    ) -> None:
        if lease is not None and not lease.held:
            raise LeaseLost("lease", "the lease ran out before the write")
        try:
            written = await self._store.write(values, lease.fence if lease is not None else None)
        except BaseException:
            for kernel in values:  # perhaps written, perhaps not: no sign of anybody else
                self._left.pop(kernel, None)
            raise
        self._notice(written, values, now)
        into.written += len(written.before)
        into.failed += written.failures()

    def _notice(self, written: Written, values: Mapping[str, bytes], now: float) -> None:
        for kernel, before in written.before.items():
            left = self._left.get(kernel)
            if before is not None and left is not None and hash(before) != left:
                self.rivals[kernel] = now
            self._left[kernel] = hash(values[kernel])
        for kernel, reason in written.failed.items():
            if reason == "wrong_type":
                self.foreign.add(kernel)


async def _one_less(tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    return pending
