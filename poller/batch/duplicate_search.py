"""Looks for kernels that come in several series; which series counts, `duplicates` says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from poller.batch import duplicates
from poller.format.catalog import ESSENTIAL
from poller.history.state import KernelState
from poller.prometheus import lookup_queries
from poller.prometheus.client import Client
from poller.prometheus.selectors import Scope
from poller.rounds import rates
from poller.rounds.counters import target_of
from poller.rounds.rounds import Rounds
from poller.values import Batch, Stamp, Survey

_FEW = 200
"""So many kernels are named in a query; more are asked for as all."""


class DuplicateSearch:
    """Remembers which kernels lately came in several series, and settles which of these count."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._turn = 0
        self._until: dict[str, int] = {}

    def wide(self, metrics: Collection[str]) -> frozenset[str]:
        """Return the metrics whose duplicate series are looked for in the next batch.

        An agent measures all metrics of a kernel together, so duplicates of one are duplicates
        of all: the essential ones tell every time, each other one in its turn.
        """
        others = [name for name in metrics if name not in ESSENTIAL]
        if self._turn == 0 or not others:
            return frozenset(metrics)
        return frozenset((*ESSENTIAL, others[self._turn % len(others)]))

    def suspect(self, batch: Batch, known: Mapping[str, KernelState], turns: int) -> Batch:
        """Add kernels that came in several series in the last so many batches.

        In between a batch need not show it. Nor does one show those that another exporter tells
        of, which was not asked now.
        """
        self._turn += 1
        for kernel in batch.conflicts | _elsewhere(batch, known):
            self._until[kernel] = self._turn + turns
        until = self._until.items()
        self._until = {kernel: turn for kernel, turn in until if turn >= self._turn}
        there = {kernel for kernel in self._until if batch.observations.get(kernel)}
        return replace(batch, conflicts=frozenset(there))

    async def settle(
        self,
        client: Client,
        batch: Batch,
        scope: Scope,
        survey: Survey,
        known: Mapping[str, KernelState],
    ) -> Batch:
        """Ask what tells the series of a batch's conflicts apart, and let one of them count."""
        if len(batch.conflicts) <= _FEW:
            scope = Scope(kernels=tuple(sorted(batch.conflicts)))
        clocks = self._rounds.exporters.values()
        usual_s = rates.window(survey.scrape_s, survey.measure_s).range_s
        patience_s = max((one.patience_s for one in clocks), default=usual_s)
        queries = lookup_queries.conflict_queries(scope, patience_s)
        sets = duplicates.Sets(*[await client.sets(text, batch.time) for text in queries])
        tolerance_s = max((one.scrape_s or 0.0 for one in clocks), default=survey.scrape_s or 0.0)
        homes = {name: known[name].instance for name in batch.conflicts if name in known}
        return duplicates.settle(batch, sets, tolerance_s, self._stamp_of, homes)

    def _stamp_of(self, identity: duplicates.Identity) -> Stamp | None:
        clock = self._rounds.exporters.get(target_of(dict(identity)))
        return clock.stamp if clock is not None else None


def _elsewhere(batch: Batch, known: Mapping[str, KernelState]) -> set[str]:
    """Return the kernels that were read of another exporter before, which may have them still."""
    if batch.asked is None:
        return set()
    others = (batch.census or {}).keys() - batch.asked
    return {
        kernel
        for kernel, instance in batch.instances.items()
        if (before := known.get(kernel)) is not None
        and before.instance != instance
        and before.instance in others
    }
