"""One exporter's clock: which counter tells its rounds, restarts, stalls, silence. Pure state."""

from __future__ import annotations

import statistics
from collections import deque

import msgspec

from poller.rounds.arrivals import Arrival, Arrivals, Step
from poller.rounds.durations import Durations
from poller.rounds.scrape import COUNTERS, CounterName, Scrape
from poller.values import DEFAULT_INTERVAL_S, Stamp

_STAGES = frozenset(COUNTERS[:2])
_STALL_PERIODS = 4
"""So long a standstill is none yet; by that it is also judged how fresh a key's rates are, whether
a round is of another life, and how far duplicate series are followed."""
_STALL_SCRAPES = 3
_GONE_SCRAPES = 3
"""A counter that so many scrapes in a row lacked is exported no more."""
_FEW_SCRAPES = 12
_SILENT_ROUNDS = 3
"""An agent that tried no write in so many rounds writes no keys."""
_NEW_ROUNDS = 3
_NEW_SUCCESSES = 12
"""An agent that counts no more has just begun, and wrote rates of 0 in its first round. By
successes alone rates are those over a window, which cannot be filled where an agent is new."""
_LONGEST_GAP = 3.0
_MOST_A_SECOND = 20.0
_SILENT_SCRAPES = 3
_SILENT_S = 10.0
"""An exporter that was not scraped for longer, while others were, is silent: down, or gone."""


class ExporterState(msgspec.Struct, frozen=True, gc=False):
    """What an operator may want to know of one exporter. Times in Unix seconds, None: unknown.

    `interval_s` is how often its agent measures, what a round takes included.
    """

    instance: str
    agent: str
    counter: CounterName | None
    rounds: float | None
    interval_s: float | None
    measured: float | None
    scraped: float | None
    stalled: bool
    silent: bool
    writes_itself: bool | None

    @property
    def name(self) -> str:
        """The agent's name, or its exporter's where no series tells it."""
        return self.agent or self.instance


class Exporter:
    """One exporter's clock, fed with its scrapes in the order of time.

    `scraped` is the time of the last one, `met` of the first, `counted` of the last one that had
    the count of a stage, `scrape_s` how far apart they are, in seconds; `began` that of the first
    one, or of the first after some that failed, if rounds that were never scraped went before it.
    `late_s`: so long before the newest scrape of all the last one was when it was seen, as where
    it is stored later than those of others.
    `shared`: several agents of one process measure there, and only their sum is counted with the
    gauges, so it tells of none of them which round its kernels are in.
    """

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self.agent = ""
        self.shared = False
        self.counter: CounterName | None = None
        self.scraped: float | None = None
        self.counted: float | None = None
        self.began: float | None = None
        self.met: float | None = None
        self.scrape_s: float | None = None
        self.late_s = 0.0
        self.arrivals = Arrivals()
        self._count: float | None = None
        self._shift_s = 0.0
        self._first_scraped = 0.0
        self._without = 0
        self._durations = Durations()
        self._gaps: deque[float] = deque(maxlen=_FEW_SCRAPES)
        self._stood_s = 0.0
        self._writes: float | None = None
        self._wrote_in = 0.0
        self._writes_itself: bool | None = None

    @property
    def stamp(self) -> Stamp | None:
        """Which round its newest scrape saw; None where it counts none that can be relied on."""
        if self._count is None or self.counter in (None, "successes") or self.shared:
            return None
        return Stamp(self.instance, self._count, self._shift_s, self._first_scraped)

    @property
    def newest(self) -> tuple[float, float]:
        """When it was last scraped, and when its round was first seen: the later, the truer."""
        return (self.scraped or 0.0, self._first_scraped)

    @property
    def interval_s(self) -> float | None:
        """The interval that the agent keeps beside its rounds' durations; None if not known."""
        return self.arrivals.interval_s

    @property
    def period_s(self) -> float | None:
        """How often the agent measures, all in all, in seconds."""
        interval_s = self.interval_s
        if interval_s is None:
            return None
        return interval_s + (0.0 if self.counter == "before_observe" else self._durations.mean_s)

    @property
    def weight(self) -> float | None:
        """How many measurements a scrape stands for; None if not known."""
        period_s = self.period_s
        return self.scrape_s / period_s if self.scrape_s and period_s else None

    @property
    def stalled(self) -> bool:
        """Whether it answers scrapes while its rounds stand still for several intervals."""
        if self.stamp is None:
            return False
        return self._stood_s > self.patience_s

    @property
    def lives(self) -> bool:
        """Whether its count of successes, the only one that it has, moved lately."""
        counted = self.counter == "successes" and self.scrape_s is not None
        return counted and self._stood_s <= self.patience_s

    @property
    def patience_s(self) -> float:
        """How long a standstill is none yet, in seconds."""
        period_s = self.period_s or DEFAULT_INTERVAL_S
        return max(_STALL_PERIODS * period_s, _STALL_SCRAPES * (self.scrape_s or 0.0))

    def is_behind(self, at: float) -> bool:
        """Whether a scrape should have come since the last one, and has not, or failed."""
        return at - (self.scraped or 0.0) > (self.scrape_s or 0.0)

    def misses(self, last: float, scrapes: float) -> bool:
        """Whether a series whose last sample is of that time was lately told of, and is not now.

        Lately: no more than so many scrape intervals before the newest scrape.
        """
        return 0 < (self.scraped or 0.0) - last < scrapes * (self.scrape_s or 0.0)

    def state(self, behind_s: float) -> ExporterState:
        """Return what to tell of it; others have been scraped for so many seconds since it was."""
        return ExporterState(
            self.instance,
            self.agent,
            self.counter,
            self._count,
            self.period_s,
            self._first_scraped or None,
            self.scraped,
            self.stalled,
            behind_s - self.late_s > max(_SILENT_S, _SILENT_SCRAPES * (self.scrape_s or 0.0)),
            self._writes_itself,
        )

    def see(self, at: float, scrape: Scrape) -> Stamp | None:
        """Take one scrape, later than those before; return its stamp if it saw a new round."""
        before, self.scraped = self.scraped, at
        if self.met is None:
            self.met = at
        self._choose_counter(scrape)
        self.shared = scrape.shared
        if before is not None and not self._is_late(at - before):
            self._gaps.append(at - before)
            self.scrape_s = statistics.median(self._gaps)
        if not _STAGES.isdisjoint(scrape.counts):
            self.counted = at
        count = scrape.counts.get(self.counter) if self.counter else None
        if count is None:
            return None
        if self._follows_unscraped(count, at, before):
            self.began = at
        shift_s = self._durations.shift(self.counter, scrape, (self._count, count), self._shift_s)
        stamp = self._count_to(count, at, before, shift_s)
        self._weigh_writes(scrape.writes)
        return stamp

    def _follows_unscraped(self, count: float, at: float, before: float | None) -> bool:
        """Whether rounds that were never scraped may have gone before a scrape."""
        if before is not None:
            return self._is_late(at - before)
        return count > (_NEW_SUCCESSES if self.counter == "successes" else _NEW_ROUNDS)

    def _is_late(self, gap_s: float) -> bool:
        """Whether scrapes before one that came so long after the last have failed."""
        return gap_s >= _LONGEST_GAP * (self.scrape_s or gap_s)

    def _count_to(
        self, count: float, at: float, before: float | None, shift_s: float
    ) -> Stamp | None:
        last, busy_s = self._count, max(0.0, shift_s - self._shift_s)
        if last == count:
            usual_s = self.scrape_s or 0.0
            self._stood_s += min(at - (before or at), 2 * usual_s)
            return None
        self._count, self._shift_s, self._first_scraped = count, shift_s, at
        self._stood_s = 0.0
        if last is not None and (count < last or self._is_a_jump(count - last, at, before)):
            self.arrivals.begin_anew()
        elif last is not None and before is not None:
            unseen = count - last - 1
            after = before + unseen * self.arrivals.least_s
            vague = self.arrivals.stood_still(count - last, at - before, busy_s)
            self.arrivals.take(Arrival(count, shift_s, min(after, at), at, vague))
            return self.stamp
        self.arrivals.take(Arrival(count, shift_s, float("-inf"), at))  # it may be long past
        return self.stamp

    def _is_a_jump(self, rounds: float, at: float, before: float | None) -> bool:
        """Whether there are more rounds than any agent runs: another counter's value, or rubbish.

        To take them for unseen ones would outweigh all that was measured.
        """
        return before is not None and rounds > _MOST_A_SECOND * (at - before + 1.0)

    def _choose_counter(self, scrape: Scrape) -> None:
        best = next((name for name in COUNTERS if name in scrape.counts), None)
        self._without = 0 if self.counter in scrape.counts else self._without + 1
        if best is None or best == self.counter:
            return
        gone = self._without > _GONE_SCRAPES  # the agent was set back to an older version
        if self.counter is None or gone or COUNTERS.index(best) < COUNTERS.index(self.counter):
            self.counter, self._count = best, None
            self.arrivals.begin_anew()

    def _weigh_writes(self, writes: float | None) -> None:
        """Learn whether the agent still tries to write keys: a try comes after each round."""
        if writes is None and self.counter in ("gather_measures", "before_observe"):
            writes = 0.0  # the stage has no series before its first try
        if writes is None or self._count is None:
            return
        if writes != self._writes:
            self._writes_itself = True if self._writes is not None else None
            self._writes, self._wrote_in = writes, self._count
        elif self._count - self._wrote_in >= _SILENT_ROUNDS:
            self._writes_itself = False

    def step(self, before: Stamp, after: Stamp) -> Step | None:
        """Return how far apart two measurements are; None if the counter began anew between."""
        return self.arrivals.step(before, after, self.patience_s)
