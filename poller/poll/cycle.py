"""One poll: ask at one time, merge, remember, encode, write in portions; when it begins anew."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from poller.batch.batch import Observer
from poller.batch.plan import Read
from poller.clock import Clock
from poller.errors import EmptyAnswer, LeaseLost
from poller.history.feeding import Fed, Feeding
from poller.history.history import History
from poller.poll import withhold
from poller.poll.evaluation import EvaluationTime
from poller.poll.outcome import Computed, Manners, Outcome, Stats
from poller.poll.publish import Publisher
from poller.poll.restore import Restorer
from poller.poll.withhold import Grounds
from poller.rounds import rates
from poller.store.keys import Store
from poller.store.lease import Lease
from poller.values import Batch, Patience


@dataclass(frozen=True, slots=True)
class Rules:
    """What a cycle goes by; durations in seconds.

    `write_within_s`: how old a cycle may be when it begins with one more portion; what is left is
    written by the next one, first of all. None: it takes its time.
    """

    query_offset_s: float
    still_after_s: float
    write_within_s: float | None
    capacity_of: str
    batch_size: int = 500


class Cycle:
    """Everything a poll needs, and what it keeps from one poll to the next."""

    def __init__(
        self,
        rules: Rules,
        clock: Clock,
        observer: Observer,
        store: Store,
        history: History,
        restorer: Restorer,
        publisher: Publisher,
    ) -> None:
        self.rules = rules
        self.observer = observer
        self.evaluation = EvaluationTime(clock, observer, rules.query_offset_s)
        self.store = store
        self.history = history
        self.restorer = restorer
        self.publisher = publisher
        self._due: dict[str, None] = {}  # in the order of their measurements
        self._doubted: list[str] = []
        self._anew = True
        self._had_kernels = False

    async def poll(
        self,
        lease: Lease | None = None,
        at: float | None = None,
        outcome: Outcome | None = None,
    ) -> Outcome:
        """Poll once: the key of every kernel that was measured is fresh, or a `CycleError` says
        why not.

        `at`: evaluate at that Unix time instead of now. `outcome` is filled on the way.
        """
        outcome = outcome if outcome is not None else Outcome()
        try:
            return await self._poll(lease, at, outcome)
        except asyncio.CancelledError:  # a deadline, as a rule
            self.observer.ask_for_less()
            raise

    async def _poll(self, lease: Lease | None, at: float | None, outcome: Outcome) -> Outcome:
        computed = await self.compute(at, outcome)
        await asyncio.sleep(0)  # the event loop's turn, before values are made
        if lease is not None and lease.held and lease.runs_out:
            await lease.renew()  # the last cycle failed and did not, or this one took long
        if lease is not None and not lease.held:
            raise LeaseLost("lease", "the lease ran out during this cycle", "look at its duration")
        with outcome.timed("write"):
            portions = self._in_time(computed, outcome)
            try:
                async for written in self.publisher.publish(portions, computed.time, lease):
                    outcome.written += len(written.before)
                    outcome.failed += written.failures()
                    for kernel in written.before:
                        self._due.pop(kernel, None)
            finally:
                outcome.saw_writers(self.publisher)
        if outcome.unwritten:
            self.observer.ask_for_less()
        return outcome

    def _in_time(self, computed: Computed, outcome: Outcome) -> Iterator[dict[str, bytes]]:
        """Yield portions while there is time to write them, and one at the least."""
        within_s = self.rules.write_within_s
        outcome.unwritten = len(computed.kernels)
        for portion in computed.portions(self.rules.batch_size):
            outcome.unwritten -= len(portion)
            yield portion
            if within_s is not None and outcome.age_s > within_s:
                break

    async def compute(self, at: float | None = None, outcome: Outcome | None = None) -> Computed:
        """Return what a poll would write now. Nothing is written."""
        outcome = outcome if outcome is not None else Outcome()
        batch = await self._batch(at, outcome)
        self._check_empty(batch)
        fed = await self._remember(batch, outcome)
        with outcome.timed("backfill"):
            await self._restore(outcome)
        kernels = await self._writable(batch, fed, outcome)
        self._anew = False
        outcome.absent = tuple(name for name, seen in batch.observations.items() if not seen)
        return Computed(
            batch.time,
            kernels,
            outcome.absent,
            Stats(self.history, Manners(self.rules.capacity_of, self.observer)),
        )

    async def _batch(self, at: float | None, outcome: Outcome) -> Batch:
        """Return what was measured, as of now or `at`; anew where scrapes came in parts."""
        outcome.time = await self.evaluation.now() if at is None else at
        batch = await self._observe(outcome)
        if at is None and self.evaluation.went_back():
            self.start_afresh()
            self.observer.begin_anew()
            outcome.time = await self.evaluation.now()
            batch = await self._observe(outcome)
        outcome.in_parts = self.evaluation.goes_back
        outcome.offset_s = self.evaluation.offset_s
        if at is None:
            self.evaluation.check()
        return batch

    async def _observe(self, outcome: Outcome) -> Batch:
        history = self.history
        read = Read(
            history.time,
            history.stamps,
            {instance: len(kernels) for instance, kernels in history.living.kernels.items()},
            history.kernels,
            history.waiting,
            self._anew,
        )
        self._anew = True  # until this cycle has gone through
        with self.restorer.pace.batch(self.observer.limits.within_s):
            batch = await self.observer.batch(outcome.time, read, outcome.timed)
        outcome.saw_batch(batch, self.observer)
        return batch

    async def _remember(self, batch: Batch, outcome: Outcome) -> Fed:
        """Let the history take the batch."""
        feeding = Feeding(self.history, batch, self.observer.rounds)
        fed, portions = feeding.fed, feeding.portions()
        self.observer.taken(batch)
        with outcome.timed("history"):
            try:
                await asyncio.sleep(0)
                for _ in portions:
                    await asyncio.sleep(0)
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                for _ in portions:  # half a batch would be counted again by the next one
                    pass
                raise
            finally:
                self.publisher.forget(fed.forgotten)
                self._due |= dict.fromkeys(fed.measured)
                for kernel in fed.vanished:
                    self._due.pop(kernel, None)
        outcome.saw_history(self.history)
        outcome.roundless_agents = frozenset(self._agents_of(self.history.living.roundless))
        return fed

    async def _restore(self, outcome: Outcome) -> None:
        """Bring back what is owed; keys that turn out to be lost are due."""
        doubted = self._in_doubt()
        read = self._due | dict.fromkeys(doubted) if doubted else self._due
        absent = await self.restorer.restore(read, outcome, self.patience())
        self._due |= dict.fromkeys(name for name in doubted if name in absent)

    def _in_doubt(self) -> list[str]:
        """Return the kernels whose key may have been lost, though nothing was measured since.

        Only those that their agent still tells of.
        """
        if self._doubted:
            known, living = self.history.kernels, self.history.living.all()
            self._doubted = [
                name for name in self._doubted if name in living and not known[name].key_read
            ]
        return self._doubted

    def patience(self) -> Patience:
        """Return how long standing still is believed, by what is known of the intervals."""
        survey = self.observer.surveyor.last
        stall_s = self.rules.still_after_s
        if survey is not None:
            given_s = self.observer.surveyor.given.window_s or 0.0
            stall_s = max(rates.window(survey.scrape_s, survey.measure_s).range_s, given_s)
        return Patience(self.rules.still_after_s, stall_s)

    async def _writable(self, batch: Batch, fed: Fed, outcome: Outcome) -> list[str]:
        """Return the kernels whose keys are written now; the others are told by reason."""
        patience, known = self.patience(), self.history.kernels
        silent = self.observer.rounds.stalled()
        mute = self.history.living.roundless - self.observer.rounds.living()
        asleep = withhold.stalled_agents(known, mute, batch.time, patience)
        due = [kernel for kernel in self._due if kernel in known]
        self.publisher.know_slowest(self.observer.rounds.slowest_s)
        yielded = await self.publisher.yielded(due, batch.time)
        stalled = list(self._kernels_of(silent))
        grounds = Grounds(silent, asleep, self.publisher.foreign, yielded, fed.mixed, stalled)
        for some in withhold.withheld(due, known, grounds, batch.time, patience):
            outcome.withheld |= some
            await asyncio.sleep(0)
        outcome.missing = {
            kernel: known[kernel].lacks
            for kernel, why in outcome.withheld.items()
            if why == "incomplete"
        }
        outcome.stalled = frozenset(asleep | self._agents_of(silent))
        outcome.skew_s = -self.evaluation.clock.step_s
        return [kernel for kernel in due if kernel not in outcome.withheld]

    def _kernels_of(self, instances: Iterable[str]) -> Iterator[str]:
        for instance in instances:
            yield from self.history.living.kernels.get(instance, ())

    def _agents_of(self, instances: Iterable[str]) -> set[str]:
        """Return the agents behind some exporters; an exporter without kernels has no say."""
        agents = set()
        for instance in instances:
            for name in self.history.living.kernels.get(instance, ()):
                kernel = self.history.kernels.get(name)
                agents.add((kernel.agent if kernel is not None else None) or instance)
        return agents

    def _check_empty(self, batch: Batch) -> None:
        """Refuse an answer without kernels while there were some.

        Where agents still count their rounds the cluster is empty indeed.
        """
        if any(batch.observations.values()):
            self._had_kernels = True
        elif self._had_kernels and not any((batch.census or {}).values()) and not batch.counting:
            raise EmptyAnswer(
                "empty",
                "Prometheus holds no kernel any more, and no agent counts its rounds",
                "check the agents' scrape job; if the cluster is empty, this is in order",
            )

    def read_keys_again(self) -> None:
        """Read every key once more before it is written: another poller may have written it.

        One that is gone is written at once; one that is there waits for its next measurement, since
        what it holds may be newer than what is known here.
        """
        for kernel in self.history.kernels.values():
            kernel.key_read = False
        self._doubted = list(self.history.kernels)
        self.publisher.begin_anew()
        self._anew = True

    def start_afresh(self) -> None:
        """Forget every kernel: another poller has written, or what is known is not true."""
        self.publisher.forget(self.history.kernels)
        self.publisher.begin_anew()
        self.history.forget_all()
        self._due.clear()
        self._doubted.clear()
        self._anew = True

    async def stand_by(self) -> None:
        """End what is asked after the past: another poller writes."""
        await self.restorer.close()

    async def close(self) -> None:
        """End what goes on in the background."""
        await self.restorer.close()
        await self.observer.close()
