"""Before kernels are written: keys not yet read are read, the past asked for, in a cycle's time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from poller.backfill.backfill import Backfiller
from poller.backfill.key_reading import read_keys
from poller.batch.batch import Observer
from poller.errors import StoreError
from poller.history.history import History
from poller.poll.outcome import Outcome
from poller.poll.publish import Publisher
from poller.store.keys import Store
from poller.values import Patience, portions

KEYS_AT_ONCE = 1000
"""So many keys are read before it is looked at whether there is time for more."""


@dataclass(frozen=True, slots=True)
class Restoring:
    """How the past is brought back, and in how many seconds; None: in as many as it needs.

    `wait_s` is how long a cycle waits for what new kernels owe; what takes longer goes on in the
    background, and those kernels are written by a later cycle. `keys_within_s` is how old a cycle
    may be when it reads more keys that were there before; the rest of its time is for writing.
    `keep_missing`: with the metrics that only a key has. `needs_store`: a cycle fails where keys
    cannot be read; else it goes on without what they know.
    """

    wait_s: float | None
    keys_within_s: float | None
    keep_missing: bool = True
    needs_store: bool = True


class Restorer:
    """Brings back what is owed of kernels, from their keys and from Prometheus.

    `pace` is to be told of every batch.
    """

    def __init__(
        self,
        by: Restoring,
        observer: Observer,
        store: Store,
        history: History,
        backfiller: Backfiller,
        publisher: Publisher,
    ) -> None:
        self._by = by
        self._observer = observer
        self._store = store
        self._history = history
        self._backfiller = backfiller
        self._publisher = publisher
        self.pace = backfiller.pace
        self._under_way: asyncio.Task[int] | None = None
        self._restored = 0

    async def restore(self, due: Iterable[str], outcome: Outcome, patience: Patience) -> set[str]:
        """Read the keys of kernels that are due, and backfill what is owed, as there is time.

        Returns the kernels that have no key.
        """
        absent = set[str]()
        try:
            await self._read_keys(due, outcome, absent)
        except StoreError as error:
            if self._by.needs_store:
                raise
            outcome.store_trouble = error.detail
            for kernel in self._history.kernels.values():
                kernel.key_read = True
        await self._backfill(outcome, patience)
        return absent

    async def _read_keys(self, due: Iterable[str], outcome: Outcome, absent: set[str]) -> None:
        """Read the keys that are to be written next, where that has not been done.

        Those for which there is no time are read by the next cycle, and wait for it.
        """
        known, publisher, by = self._history.kernels, self._publisher, self._by
        for name in publisher.due_again(outcome.time):
            known[name].key_read = False
        unread = [name for name in due if name in known and not known[name].key_read]
        for some in portions(unread, KEYS_AT_ONCE):
            found = await read_keys(
                self._store, self._history, some, by.keep_missing, self._fresh_s
            )
            outcome.invalid_keys += found.invalid
            outcome.failed += Counter(found.failed.values())
            absent |= set(some) - found.values.keys() - found.foreign - found.failed.keys()
            publisher.found(found.values)
            publisher.found_foreign(found.foreign, outcome.time)
            if by.keys_within_s is not None and outcome.age_s > by.keys_within_s:
                break

    def _fresh_s(self, kernel_id: str) -> float:
        """Return how old a kernel's key may be for its rates to be those of the last rounds."""
        clock = self._observer.rounds.of(self._history.kernels[kernel_id].instance)
        return clock.patience_s if clock is not None else 0.0

    async def _backfill(self, outcome: Outcome, patience: Patience) -> None:
        """Go on with what is owed; what takes too long for this cycle is the next one's."""
        history, backfiller = self._history, self._backfiller
        if self._under_way is not None and self._under_way.done():
            ended, self._under_way = self._under_way, None
            ended.result()  # a bug of ours in there must be heard
        reads_on = outcome.unmet and not history.waiting  # keys that are stale go first
        if history.owing and not reads_on and self._under_way is None:
            self._under_way = asyncio.create_task(
                backfiller.backfill_all(self._observer.client, patience)
            )
        if self._under_way is not None:
            wait_s = self.pace.wait_s(self._by.wait_s)
            await asyncio.wait({self._under_way}, timeout=wait_s)
        outcome.owing, outcome.waiting = len(history.owing), history.waiting
        restored = backfiller.restored
        outcome.restored, self._restored = restored - self._restored, restored

    async def close(self) -> None:
        """End what goes on in the background."""
        if self._under_way is not None:
            ended, self._under_way = self._under_way, None
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)
