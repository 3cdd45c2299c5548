"""One batch into the history: who is new or was measured, what lies between, which gaps are owed.

Each measurement counts once, whether the batch tells of it or a scrape between it and the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from poller.history import recall
from poller.history.history import History
from poller.history.measure import MetricFacts, Steps, Taking, measure
from poller.history.state import KernelState, MetricState
from poller.rounds.rounds import Rounds
from poller.values import Batch, Glimpse, Observation, Stamp

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


class Feeding:
    """A batch on its way into the history; `fed` is filled on the way."""

    def __init__(self, history: History, batch: Batch, rounds: Rounds) -> None:
        self.fed = Fed()
        self._history = history
        self._batch = batch
        self._rounds = rounds
        self._facts = MetricFacts(history.catalog, history.time, batch.time)
        between = {one.stamp.instance: one.stamp for one in batch.glimpses if one.stamp is not None}
        self._steps = Steps(rounds, history.stamps | between)

    def portions(self) -> Iterator[None]:
        """Take the batch in portions: the caller may see to something else after each."""
        taken = 0
        for kernels in chain(self._take_glimpses(), self._find_standing(), self._take_kernels()):
            taken += kernels
            if taken >= _PORTION:
                taken = 0
                yield
        yield
        self.fed.vanished = self._history.living.note(self._batch, self._history.stamps)
        self._leave_out(self.fed.vanished)
        yield
        self.fed.forgotten = self._history.close_batch(self._batch, self._rounds)

    def _take_glimpses(self) -> Iterator[int]:
        """Take what scrapes between two batches saw; yield of how many kernels each one."""
        for glimpse in self._batch.glimpses:
            if (stamp := glimpse.stamp) is not None:
                read = ((kernel, told, stamp) for kernel, told in glimpse.values.items())
                self._history.standing.find(read, self._history.kernels)
            self._take_glimpse(glimpse)
            yield len(glimpse.values)

    def _find_standing(self) -> Iterator[int]:
        """Find the plugins that stand still; yield how many kernels of an exporter were read."""
        exporters: dict[str, list[tuple[str, Observation, Stamp]]] = {}
        for kernel, observation in self._batch.observations.items():
            stamp = self._batch.stamp_of(kernel)
            if stamp is not None:
                exporters.setdefault(stamp.instance, []).append((kernel, observation, stamp))
        for read in exporters.values():
            self._history.standing.find(read, self._history.kernels)
            yield len(read)

    def _take_kernels(self) -> Iterator[int]:
        """Take each kernel's readings; those of a mixed exporter are left to the next batch."""
        batch = self._batch
        for kernel_id, observation in batch.observations.items():
            if batch.instances.get(kernel_id) in batch.mixed:
                self.fed.mixed.add(kernel_id)
                self._owe_gap_of_mixed(kernel_id)
            elif observation:
                self._take_kernel(kernel_id, observation)
            yield 1

    def _take_glimpse(self, glimpse: Glimpse) -> None:
        """Take what one scrape saw of kernels that are known."""
        stamp, standing = glimpse.stamp, self._history.standing
        for kernel_id, values in glimpse.values.items():
            kernel = self._history.kernels.get(kernel_id)
            if kernel is None:
                continue
            for name, text in values.items():
                kept = kernel.metrics.get(name)
                if kept is None or not _is_new_to(kept, stamp):
                    continue
                if stamp and standing.holds(stamp.instance, name):
                    kept.stood = True
                    continue
                if kept.current != text:
                    kernel.moved, kernel.judged = self._facts.at, True
                measure(kept, text, self._facts[name], self._steps.step(kept.stamp, stamp))
                kept.stamp = stamp

    def _take_kernel(self, kernel_id: str, observation: Observation) -> None:
        batch, history = self._batch, self._history
        stamp = batch.stamp_of(kernel_id)
        kernel = history.kernels.get(kernel_id)
        newborn = kernel is None and self._is_new(kernel_id, stamp)
        if kernel is None:
            kernel = history.kernels[kernel_id] = KernelState(batch.time)
        if newborn:
            kernel.judged, kernel.moved, kernel.newborn = True, batch.time, True
        instance = batch.instances.get(kernel_id, kernel.instance)
        if (stamp.instance if stamp else "") in batch.gaps:
            self._owe_gap(kernel_id, kernel)
        if stamp is None or stamp.follows(kernel.stamp):
            self.fed.measured.add(kernel_id)
        kernel.agent = batch.agents.get(kernel_id, kernel.agent)
        kernel.instance = instance
        kernel.weight = self._steps.weight(instance)
        kernel.samples = batch.samples.get(kernel_id, kernel.samples)
        kernel.window = batch.windows.get(instance, kernel.window)
        taking = Taking(
            stamp,
            self._facts,
            self._steps,
            newborn=newborn or (stamp is not None and kernel.stamp is not None),
            missed=newborn and stamp is not None and self._steps.may_miss(stamp),
            counts=stamp is not None or instance not in batch.counted,
            standing=history.standing.of(instance),
        )
        if taking.take(kernel, observation):
            history.owing.add(kernel_id)

    def _is_new(self, kernel_id: str, stamp: Stamp | None) -> bool:
        """Whether the exporter was read a moment ago, and did not tell of this kernel since."""
        batch, history = self._batch, self._history
        before = history.stamps.get(stamp.instance) if stamp is not None else None
        if stamp is None or before is None or self._steps.step(before, stamp) is None:
            return False
        if before.scraped < batch.time - history.lookback_s:
            return False  # its kernels of then have been forgotten
        if self._steps.is_first(stamp):
            return False  # it may have been measured in rounds that nobody scraped
        between = any(kernel_id in glimpse.values for glimpse in batch.glimpses)
        return stamp.instance not in batch.gaps and not between

    def _owe_gap(self, kernel_id: str, kernel: KernelState) -> None:
        """Let what was not read of a kernel be backfilled; one may have waited for its turn."""
        since = self._history.time
        if since is not None and kernel.seen < since - _TURN_S:
            since = kernel.seen
        recall.owe_gap(kernel, since, self._batch.time)
        self._history.owing.add(kernel_id)

    def _owe_gap_of_mixed(self, kernel_id: str) -> None:
        """Let the gap be backfilled though the kernel's measurement is left to the next batch.

        That will take the rounds in between for unseen no more.
        """
        kernel = self._history.kernels.get(kernel_id)
        if kernel is None or self._batch.instances[kernel_id] not in self._batch.gaps:
            return
        self._owe_gap(kernel_id, kernel)
        for kept in kernel.metrics.values():
            kept.stood = True

    def _leave_out(self, vanished: Iterable[str]) -> None:
        """Take that rounds which were read left out some kernels: those are no unseen ones."""
        for kernel_id in vanished:
            kernel = self._history.kernels.get(kernel_id)
            if kernel is not None and kernel.instance in self._batch.stamps:
                for kept in kernel.metrics.values():
                    kept.stood = True


def _is_new_to(kept: MetricState, stamp: Stamp | None) -> bool:
    """Whether a measurement between two batches has not been counted yet."""
    if stamp is None:
        return True
    return kept.stamp is not None and stamp.scraped > kept.stamp.scraped
