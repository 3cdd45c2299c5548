"""All kernels' states: who is known, owed a past, forgotten; takes in keys and pasts. Pure.

Batches come by `feeding`. What happened before the poller looked, or while it could not, is owed:
it is backfilled once per kernel, from the key that is already there (`recall_key`) and from
Prometheus (`recall_life`).
"""

from __future__ import annotations

from collections.abc import Mapping

from poller.format.catalog import ESSENTIAL, Catalog
from poller.history import recall
from poller.history.living import Living
from poller.history.standing import Standing
from poller.history.state import ALL_SEEN, KernelState
from poller.rounds.rounds import Rounds
from poller.values import Batch, Life, Owed, Past, Remembered, Stamp

_LOOKS = 0.1
"""Share of the lookback after which it is looked for kernels to forget."""


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

    def close_batch(self, batch: Batch, rounds: Rounds) -> list[str]:
        """Take that a batch has been fed; return the kernels that are forgotten now."""
        self.living.note_held(batch, self.stamps, rounds)
        known = self.stamps if batch.asked is not None else {}
        kept = {name: self.stamps[name] for name in batch.mixed if name in self.stamps}
        self.stamps = {**known, **kept, **batch.stamps}
        if self.time is not None and batch.time - self.time > self.lookback_s:
            self._resumed = batch.time
        self.time = batch.time
        return self._forget(batch.time, rounds)

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
                recall.recall_rate(kept, metric, remembered, fresh or hung)
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
