"""All kernels' states: what batches, keys and the past add to them, and what is owed. Pure state.

Every cycle feeds it a batch, and each measurement counts once. What happened before the poller
looked, or while it could not, is owed: it is backfilled once per kernel, from the key that is
already there (`recall_key`) and from Prometheus (`recall_life`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from poller.format.catalog import ESSENTIAL, Catalog
from poller.history import recall
from poller.history.living import Living
from poller.history.measure import MetricFacts, Steps, Taking, is_same_round, measure
from poller.history.standing import Standing
from poller.history.state import ALL_SEEN, KernelState, MetricState
from poller.rounds.rounds import Rounds
from poller.values import Batch, Glimpse, Life, Observation, Owed, Past, Remembered, Stamp

_LOOKS = 0.1
"""Share of the lookback after which it is looked for kernels to forget."""
_TURN_S = 60.0
"""Kernels that were seen longer before the last batch were not in it: they waited for it."""
_PORTION = 500
"""Kernels that are taken before the event loop may have its turn: some 20 ms at the most."""


@dataclass(slots=True)
class Fed:
    """What a batch brought: kernels that were measured, vanished, or must wait for the next.

    `forgotten`: those that vanished so long ago that nothing is kept of them any more.
    """

    measured: set[str] = field(default_factory=set)
    vanished: set[str] = field(default_factory=set)
    mixed: set[str] = field(default_factory=set)
    forgotten: list[str] = field(default_factory=list)


class History:
    """All kernels that live now. `time` is the evaluation time of the last batch fed.

    `owing` are the kernels of which something is still to be backfilled, `stamps` the round that
    each exporter was last read in, `living` the kernels of each exporter's last answer. What was
    not seen for `lookback_s` seconds is forgotten, unless its exporter was not scraped since.
    """

    def __init__(self, catalog: Catalog, lookback_s: float) -> None:
        self.catalog = catalog
        self.time: float | None = None
        self.kernels: dict[str, KernelState] = {}
        self.owing: set[str] = set()
        self.stamps: dict[str, Stamp] = {}
        self.living = Living()
        self.standing = Standing(catalog)
        self.lookback_s = lookback_s
        self._looked_through = float("-inf")
        self._resumed = float("-inf")

    @property
    def waiting(self) -> int:
        """How many kernels cannot be written before something is backfilled."""
        there = (self.kernels[name] for name in self.owing)
        return sum(not kernel.vouched and not _is_known(kernel) for kernel in there)

    def feeding(self, batch: Batch, rounds: Rounds, fed: Fed) -> Iterator[None]:
        """Take one batch in portions: the caller may see to something else after each."""
        facts = MetricFacts(self.catalog, self.time, batch.time)
        between = {one.stamp.instance: one.stamp for one in batch.glimpses if one.stamp is not None}
        steps = Steps(rounds, self.stamps | between)
        for glimpse in batch.glimpses:
            self.standing.find(
                ((kernel, values, glimpse.stamp) for kernel, values in glimpse.values.items()),
                self.kernels,
            )
            self._take_glimpse(glimpse, facts, steps)
        self.standing.find(
            (
                (kernel, observation, batch.stamp_of(kernel))
                for kernel, observation in batch.observations.items()
            ),
            self.kernels,
        )
        yield
        for place, (kernel_id, observation) in enumerate(batch.observations.items()):
            if batch.instances.get(kernel_id) in batch.mixed:
                fed.mixed.add(kernel_id)
                self._owe_gap_of_mixed(kernel_id, batch)
            elif observation:
                self._take_kernel(kernel_id, observation, batch, facts, steps, fed)
            if place % _PORTION == _PORTION - 1:
                yield
        yield
        fed.vanished = self.living.note(batch, self.stamps)
        self._leave_out(fed.vanished, batch)
        self.living.note_held(batch, self.stamps, rounds)
        known = self.stamps if batch.asked is not None else {}
        kept = {name: self.stamps[name] for name in batch.mixed if name in self.stamps}
        self.stamps = {**known, **kept, **batch.stamps}
        if self.time is not None and batch.time - self.time > self.lookback_s:
            self._resumed = batch.time
        self.time = batch.time
        fed.forgotten = self._forget(batch.time, rounds)

    def _take_kernel(
        self,
        kernel_id: str,
        observation: Observation,
        batch: Batch,
        facts: MetricFacts,
        steps: Steps,
        fed: Fed,
    ) -> None:
        stamp = batch.stamp_of(kernel_id)
        kernel = self.kernels.get(kernel_id)
        newborn = kernel is None and self._is_new(kernel_id, stamp, batch, steps)
        missed = newborn and stamp is not None and steps.may_miss(stamp)
        if kernel is None:
            kernel = self.kernels[kernel_id] = KernelState(batch.time)
        if newborn:
            kernel.judged, kernel.moved, kernel.newborn = True, batch.time, True
        instance = batch.instances.get(kernel_id, kernel.instance)
        if (stamp.instance if stamp else "") in batch.gaps:
            self._owe_gap(kernel_id, kernel, batch)
        if stamp is None or kernel.stamp is None or not is_same_round(stamp, kernel.stamp):
            fed.measured.add(kernel_id)
        kernel.agent = batch.agents.get(kernel_id, kernel.agent)
        kernel.instance = instance
        kernel.weight = steps.weight(instance)
        kernel.samples = batch.samples.get(kernel_id, kernel.samples)
        kernel.window = batch.window_of(instance) or kernel.window
        taking = Taking(
            stamp,
            facts,
            steps,
            batch.time,
            newborn=newborn or (stamp is not None and kernel.stamp is not None),
            missed=missed,
            counts=stamp is not None or instance not in batch.counted,
            standing=self.standing.of(instance),
        )
        if taking.take(kernel, observation):
            self.owing.add(kernel_id)

    def _leave_out(self, vanished: Iterable[str], batch: Batch) -> None:
        """Take that rounds which were read left out some kernels: those are no unseen ones."""
        for kernel_id in vanished:
            kernel = self.kernels.get(kernel_id)
            if kernel is not None and kernel.instance in batch.stamps:
                for kept in kernel.metrics.values():
                    kept.stood = True

    def _owe_gap(self, kernel_id: str, kernel: KernelState, batch: Batch) -> None:
        """Let what was not read of a kernel be backfilled; one may have waited for its turn."""
        since = self.time
        if since is not None and kernel.seen < since - _TURN_S:
            since = kernel.seen
        recall.owe_gap(kernel, since, batch.time)
        self.owing.add(kernel_id)

    def _owe_gap_of_mixed(self, kernel_id: str, batch: Batch) -> None:
        """Let the gap be backfilled though the kernel's measurement is left to the next batch.

        That will take the rounds in between for unseen no more.
        """
        kernel = self.kernels.get(kernel_id)
        if kernel is None or batch.instances[kernel_id] not in batch.gaps:
            return
        self._owe_gap(kernel_id, kernel, batch)
        for kept in kernel.metrics.values():
            kept.stood = True

    def _is_new(self, kernel_id: str, stamp: Stamp | None, batch: Batch, steps: Steps) -> bool:
        """Whether the exporter was read a moment ago, and did not tell of this kernel since."""
        before = self.stamps.get(stamp.instance) if stamp is not None else None
        if stamp is None or before is None or steps.step(before, stamp) is None:
            return False
        if before.scraped < batch.time - self.lookback_s:
            return False  # its kernels of then have been forgotten
        if steps.is_first(stamp):
            return False  # it may have been measured in rounds that nobody scraped
        between = any(kernel_id in glimpse.values for glimpse in batch.glimpses)
        return stamp.instance not in batch.gaps and not between

    def _take_glimpse(self, glimpse: Glimpse, facts: MetricFacts, steps: Steps) -> None:
        """Take what one scrape between two batches saw of kernels that are known."""
        for kernel_id, values in glimpse.values.items():
            kernel = self.kernels.get(kernel_id)
            if kernel is None:
                continue
            for name, text in values.items():
                kept = kernel.metrics.get(name)
                if kept is not None and _is_new_to(kept, glimpse.stamp):
                    if glimpse.stamp and self.standing.holds(glimpse.stamp.instance, name):
                        kept.stood = True
                        continue
                    if kept.current != text:
                        kernel.moved, kernel.judged = facts.at, True
                    measure(kept, text, facts[name], steps.step(kept.stamp, glimpse.stamp))
                    kept.stamp = glimpse.stamp

    def _forget(self, at: float, rounds: Rounds) -> list[str]:
        """Forget kernels that were not seen for long. To look at all is dear, so now and then.

        Those of an exporter's last round live on as far as is known: it may not have been scraped.
        """
        if 0 <= at - self._looked_through < _LOOKS * self.lookback_s:
            return []
        if 0 <= at - self._resumed < self.lookback_s:
            return []  # nobody was looked at, and not all have been scraped again
        self._looked_through = at
        before = at - self.lookback_s
        living = self.living.all()  # also of agents that measure nothing
        last = rounds.last_rounds()
        gone = [
            name
            for name, kernel in self.kernels.items()
            if kernel.seen < before
            and name not in living
            and (kernel.stamp is None or (kernel.stamp.instance, kernel.stamp.number) not in last)
        ]
        for name in gone:
            del self.kernels[name]
            self.owing.discard(name)
        return gone

    def forget_all(self) -> None:
        """Begin anew, as at a start."""
        self.time = None
        for memory in (self.kernels, self.owing, self.living, self.standing):
            memory.clear()
        self.stamps = {}

    def recall_key(
        self,
        kernel_id: str,
        told: Mapping[str, Remembered],
        keep_missing: bool = True,
        fresh: bool = False,
    ) -> None:
        """Learn what only the key knows, by metric; nothing if there is no valid key.

        `keep_missing`: a metric that the key has and Prometheus has not stays, as it was.
        `fresh`: the key is of the last few rounds, so its rates go before those over a window, and
        the kernel had not stood still for too long.
        """
        kernel = self.kernels[kernel_id]
        kernel.key_read = True
        was_there = kernel.newborn and bool(told)
        kernel.newborn = False
        for name, remembered in told.items():
            kept = kernel.metrics.get(name)
            metric = self.catalog[name]
            if kept is not None:
                hung = recall.stands_where_left(kept, metric, remembered)
                recall.recall_rate(kept, remembered, fresh or hung)
                if kernel.stamp is not None and (fresh or hung) and kept.rate:
                    self.standing.recall(kernel_id, kernel.stamp.instance, name)
                if was_there and self.time is not None:  # its exporter had left it out for long
                    kept.owe_all(self.time)
                    self.owing.add(kernel_id)
                recall.recall_fields(kept, metric, remembered)
            elif keep_missing and (made := recall.from_key(metric, remembered)) is not None:
                kernel.metrics[name] = made
        kernel.vouched = fresh and all(
            kept.can_be_written(self.catalog[name])
            for name, kept in kernel.metrics.items()
            if name in told
        )
        kernel.reorder()

    def recall_life(self, kernel_id: str, life: Life, owed: Owed) -> None:
        """Learn what Prometheus tells of the stretch that was owed."""
        kernel = self.kernels.get(kernel_id)
        if kernel is None:
            return
        if not kernel.judged:
            kernel.judged, kernel.moved = True, life.moved
        if owed.start is None:
            kernel.born = life.born
            # Without rounds the rate is that of the last poll, however late the past comes.
            rated = owed.end if kernel.stamp is not None or self.time is None else self.time
            recall.fit_rates(kernel, self.catalog, rated)
        owing = {name: kept for name, kept in kernel.metrics.items() if kept.owed == owed}
        older = life.older or any(
            kept.outlives(
                life.metrics.get(name, Past()),
                self.catalog[name].cumulative,
                all_seen=kernel.weight <= ALL_SEEN,
            )
            for name, kept in owing.items()
        )
        for name, kept in owing.items():
            kept.backfill(life.metrics.get(name, Past()), older, kernel.weight, life.spans)
            kept.owed, kept.known = None, True
        self._settle(kernel_id, kernel)

    def give_up(self, kernel_id: str) -> bool:
        """Let a kernel go on with what is known of it; whether it is there."""
        kernel = self.kernels.get(kernel_id)
        if kernel is None:
            return False
        for kept in kernel.metrics.values():
            if kept.owed is not None:
                kept.backfill(Past(), older=True)
                kept.owed, kept.known = None, True
        if not kernel.judged:
            kernel.judged, kernel.moved = True, kernel.seen
        self._settle(kernel_id, kernel)
        return True

    def _settle(self, kernel_id: str, kernel: KernelState) -> None:
        kernel.reorder()
        if kernel.owing is None:
            self.owing.discard(kernel_id)


def _is_known(kernel: KernelState) -> bool:
    """Whether enough is known of a kernel's past, as far as the first essential metric tells."""
    kept = kernel.metrics.get(ESSENTIAL[0])
    return kept is not None and kept.known


def _is_new_to(kept: MetricState, stamp: Stamp | None) -> bool:
    """Whether a measurement between two batches has not been counted yet."""
    if stamp is None:
        return True
    return kept.stamp is not None and stamp.scraped > kept.stamp.scraped
