"""One poll: ask Prometheus for all active kernels at one time, merge, remember, encode, write."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from poller.clock import Clock
from poller.errors import ClockError, EmptyAnswer, LeaseLost
from poller.format import encode
from poller.poll import withhold
from poller.poll.backfill import Recaller
from poller.poll.batch import Observer
from poller.poll.history import History
from poller.poll.publish import Publisher
from poller.poll.state import KernelHistory
from poller.poll.withhold import Patience
from poller.store.keys import Store
from poller.store.lease import Lease
from poller.values import Batch, LiveStat, Survey

KEYS_A_CYCLE = 10_000
"""So many keys are read at most in one cycle, at a start beside a large cluster."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a cycle goes by; durations in seconds.

    `recall_wait_s` is how long a cycle waits for what new kernels owe; what takes longer goes
    on in the background, and those kernels are written by a later cycle.
    """

    query_offset_s: float
    still_after_s: float
    lookback_s: float
    recall_wait_s: float | None
    capacity_of: str


@dataclass(slots=True)
class Outcome:
    """What a cycle saw and did: kernels, keys and rows; `seconds` are wall time by part."""

    time: float
    kernels: int = 0
    written: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    withheld: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    stalled: frozenset[str] = frozenset()
    recalled: int = 0
    invalid_keys: int = 0
    observed: bool = False
    stage: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Measure one part of the cycle, and know in which one it is."""
        started = time.perf_counter()
        self.stage = part
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started


class Cycle:
    """Everything a poll needs, and what it keeps from one poll to the next."""

    def __init__(
        self,
        rules: Rules,
        clock: Clock,
        observer: Observer,
        store: Store,
        history: History,
        recaller: Recaller,
        publisher: Publisher,
    ) -> None:
        self.rules = rules
        self.clock = clock
        self.observer = observer
        self.store = store
        self.history = history
        self.recaller = recaller
        self.publisher = publisher
        self.outcome = Outcome(0.0)
        self.withheld: dict[str, str] = {}
        self._recalling: asyncio.Task[int] | None = None
        self._manners: tuple[Survey, encode.Manner] | None = None
        self._last_kernels: float | None = None

    async def poll(self, lease: Lease | None = None, at: float | None = None) -> Outcome:
        """Poll once: every active kernel's key is fresh, or a `CycleError` says why not.

        `at`: evaluate at that Unix time instead of now.
        """
        outcome = self.outcome = Outcome(await self.evaluation_time() if at is None else at)
        batch = await self.observe(outcome)
        if at is None:
            self.check_clock()
        self._check_empty(batch)
        await self.remember(batch, outcome)
        kernels = await self.writable(batch, outcome)
        if lease is not None and not lease.held:
            raise LeaseLost("lease", "the lease ran out during this cycle", "look at its duration")
        with outcome.timed("write"):
            published = await self.publisher.publish(kernels, self.value_of, batch.time, lease)
        outcome.written = published.written
        outcome.failed += published.failed
        return outcome

    async def evaluation_time(self) -> float:
        """Return the one time of a batch: now by the server's clock, less the offset."""
        client = self.observer.client
        if client.server_ahead_s is None:
            await self.probe()  # every answer tells the time; one of several servers has it
            self.clock.follow(client.server_ahead_s)
        return round(self.clock.now() - self.rules.query_offset_s, 3)

    async def observe(self, outcome: Outcome) -> Batch:
        """Ask and merge one batch at the outcome's time."""
        batch = await self.observer.batch(outcome.time, self.history.time, outcome.timed)
        outcome.observed = True
        outcome.dropped = batch.dropped
        outcome.kernels = sum(1 for seen in batch.observations.values() if seen)
        return batch

    async def remember(self, batch: Batch, outcome: Outcome, keep_missing: bool = True) -> None:
        """Let the history take the batch, and recall what it owes as far as there is time."""
        with outcome.timed("history"):
            await self._feed(batch)
        with outcome.timed("recall"):
            await self._read_keys(outcome, keep_missing)
            await self._recall(outcome)
        self.publisher.forget(self.history.kernels)

    async def _feed(self, batch: Batch) -> None:
        portions = self.history.feeding(batch)
        try:
            for _ in portions:
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            for _ in portions:  # half a batch would be counted again by the next one
                pass
            raise

    async def remember_without_keys(self, outcome: Outcome) -> None:
        """Recall what is owed from Prometheus alone, for a dry run without a store."""
        for kernel in self.history.kernels.values():
            kernel.key_read = True
        await self._recall(outcome)

    async def _read_keys(self, outcome: Outcome, keep_missing: bool) -> None:
        unread = [name for name, kernel in self.history.kernels.items() if not kernel.key_read]
        if not unread:
            return
        if self.rules.recall_wait_s is not None:
            unread = unread[:KEYS_A_CYCLE]
        keys = await self.recaller.read_keys(self.store, unread, keep_missing)
        outcome.invalid_keys = keys.invalid
        outcome.failed += Counter(keys.failed.values())
        self.publisher.found(keys.values)
        self.publisher.foreign |= keys.foreign

    async def _recall(self, outcome: Outcome) -> None:
        before = len(self.history.owing)
        if self._recalling is not None and self._recalling.done():
            ended, self._recalling = self._recalling, None
            ended.result()  # a bug of ours in there must be heard
        if before and self._recalling is None:
            self._recalling = asyncio.create_task(
                self.recaller.recall_all(self.observer.client, self.patience())
            )
        if self._recalling is not None:
            await asyncio.wait({self._recalling}, timeout=self.rules.recall_wait_s)
        outcome.recalled = before - len(self.history.owing)

    def patience(self) -> Patience:
        """Return how long standing still is believed, by what the last survey found."""
        survey = self.observer.surveyor.last
        stall_s = survey.intervals.stall_s if survey else self.rules.still_after_s
        return Patience(self.rules.still_after_s, stall_s)

    async def writable(self, batch: Batch, outcome: Outcome) -> list[str]:
        """Return the kernels whose keys are written now; the others are counted by reason."""
        patience = self.patience()
        known = self.history.kernels
        stalled = withhold.stalled_agents(known, batch.rounds, batch.time, patience)
        yielded = await self.publisher.yielded(list(batch.observations), batch.time)
        kernels = []
        self.withheld = {}
        for kernel, seen in batch.observations.items():
            if not seen:
                continue
            why: str | None = withhold.reason(known[kernel], stalled, batch.time, patience)
            if why is None and kernel in self.publisher.foreign:
                why = "foreign"
            elif why is None and kernel in yielded:
                why = "yielded"
            if why is None:
                kernels.append(kernel)
            else:
                self.withheld[kernel] = why
        outcome.withheld = Counter(self.withheld.values())
        outcome.stalled = frozenset(stalled)
        return kernels

    def live_stat(self, kernel: str) -> LiveStat:
        """Return one kernel as readers are to see it."""
        catalog = self.history.catalog
        known = self.history.kernels[kernel]
        return encode.live_stat(known.known(catalog), self._manner(known))

    def _manner(self, kernel: KernelHistory) -> encode.Manner:
        survey = self.observer.surveyor.last
        assert survey is not None, "a kernel was seen, so there was a survey"
        found = survey.intervals
        scale = kernel.rate_scale(found.window_s, found.scrape_s or 0.0)
        if self._manners is None or self._manners[0] is not survey:
            usual = encode.Manner(self.rules.capacity_of, found.measure_s or 1.0)
            self._manners = (survey, usual)
        usual = self._manners[1]
        return usual if scale == 1.0 else replace(usual, rate_scale=scale)

    def value_of(self, kernel: str) -> bytes:
        """Return the bytes of one kernel's key."""
        return encode.pack(self.live_stat(kernel))

    def check_clock(self) -> None:
        """Refuse a batch whose time was not the server's; the next one will be."""
        ahead_s = self.observer.client.server_ahead_s
        if self.clock.follow(ahead_s):
            raise ClockError(
                "skew",
                f"the server's clock is {ahead_s:+.0f} s from ours; its time is used from now on",
                "synchronise the clocks of this host and of Prometheus",
            )

    def _check_empty(self, batch: Batch) -> None:
        """Refuse an answer without kernels while there were some.

        Where agents still count their rounds and the lookback has passed, the cluster is
        empty indeed.
        """
        if any(batch.observations.values()):
            self._last_kernels = batch.time
            return
        if self._last_kernels is None:
            return
        lasted_s = batch.time - self._last_kernels
        if not batch.rounds or lasted_s <= self.rules.lookback_s:
            raise EmptyAnswer(
                "empty",
                "Prometheus holds no kernel any more",
                "check the agents' scrape job; if the cluster is empty, this is in order",
            )

    async def probe(self) -> None:
        """Raise `PrometheusError` if Prometheus answers not even the lightest query."""
        client = self.observer.client
        await client.fail_over(
            lambda: client.vector("vector(1)", self.clock.now()), self.observer.asked.within_s
        )

    def read_keys_again(self) -> None:
        """Read every key once more before it is written: another poller may have written it."""
        for kernel in self.history.kernels.values():
            kernel.key_read = False

    def start_afresh(self) -> None:
        """Forget every kernel: another poller has written in the meantime."""
        self.history.kernels.clear()
        self.history.owing.clear()
        self.history.time = None

    async def close(self) -> None:
        """End what goes on in the background."""
        if self._recalling is not None:
            self._recalling.cancel()
            await asyncio.gather(self._recalling, return_exceptions=True)
