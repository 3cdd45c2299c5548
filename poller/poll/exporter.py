"""One exporter's clock: its rounds, restarts and stalls, and how far apart two measurements are.

The interval itself is no series. Every round has a window in which it came, between two scrapes;
the windows of any two rounds bound the interval from both sides. Pure state.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from poller.values import DEFAULT_INTERVAL_S, Stamp

CounterName = Literal["gather_measures", "before_observe", "durations", "successes"]
COUNTERS: tuple[CounterName, ...] = ("gather_measures", "before_observe", "durations", "successes")
"""What may count an exporter's rounds, the best first. The last is a sign of life alone: it stands
still as soon as an agent's own writes are refused."""

_STALL_PERIODS = 4
_STALL_SCRAPES = 3
_GONE_SCRAPES = 3
"""A counter that so many scrapes in a row lacked is exported no more."""
_ARRIVALS = 48
"""So many rounds are held against a new one to find the interval."""
_LATE_S = 0.1
"""A scrape may see what happened so long after its timestamp."""
_LIKELY_S = (60.0, 30.0, 10.0, 5.0, 1.0, 0.5, 0.1)
"""People set intervals that are multiples of these."""
_FEW_SCRAPES = 12
_SILENT_ROUNDS = 3
"""An agent that tried no write in so many rounds writes no keys."""
_LONGEST_GAP = 3.0
_SILENT_SCRAPES = 3
_SILENT_S = 10.0
"""An exporter that was not scraped for longer, while others were, is silent: down, or gone."""


class Step(NamedTuple):
    """From one measurement to a later one: so many rounds, so many seconds."""

    rounds: float
    elapsed_s: float


@dataclass(slots=True)
class Scrape:
    """What one scrape saw of an exporter's counters; None where they are not there."""

    counts: dict[CounterName, float] = field(default_factory=dict)
    gathering_s: float | None = None
    lasted_s: float | None = None
    writes: float | None = None


class Arrival(NamedTuple):
    """A round was first seen by the scrape at `by`, and had not been there at `after`."""

    number: float
    shift_s: float
    after: float
    by: float


@dataclass(frozen=True, slots=True)
class ExporterState:
    """What an operator may want to know of one exporter. Times in Unix seconds, None: unknown."""

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


class Exporter:
    """One exporter's clock, fed with its scrapes in the order of time."""

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self.agent = ""
        self.counter: CounterName | None = None
        self.scraped: float | None = None
        self.restarts = 0
        self._count: float | None = None
        self._shift_s = 0.0
        self._first_scraped = 0.0
        self._without = 0
        self._arrivals: dict[float, Arrival] = {}
        self._steady: deque[Arrival] = deque(maxlen=_ARRIVALS)
        self._low_s, self._high_s = 0.0, float("inf")
        self._known_s: float | None = None
        self._lasted: tuple[float, float] | None = None
        self._rested_s = self._gathered_s = self._mean_s = 0.0
        self._ahead = float("inf")
        self._gaps: deque[float] = deque(maxlen=_FEW_SCRAPES)
        self._stood_s = 0.0
        self._writes: float | None = None
        self._wrote_in = 0.0
        self._writes_itself: bool | None = None

    @property
    def stamp(self) -> Stamp | None:
        """Which round its newest scrape saw; None where it counts none that can be relied on."""
        if self._count is None or self.counter in (None, "successes"):
            return None
        return Stamp(self.instance, self._count, self._shift_s, self._first_scraped)

    @property
    def newest(self) -> tuple[float, float]:
        """When it was last scraped, and when its round was first seen: the later, the truer."""
        return (self.scraped or 0.0, self._first_scraped)

    @property
    def scrape_s(self) -> float | None:
        """How far apart its scrapes are, in seconds."""
        return statistics.median(self._gaps) if self._gaps else None

    @property
    def interval_s(self) -> float | None:
        """The interval that the agent keeps beside its rounds' durations; None if not known."""
        likely = _likeliest(self._low_s, self._high_s)
        return self._known_s if likely is None else likely

    @property
    def period_s(self) -> float | None:
        """How often the agent measures, all in all, in seconds."""
        interval_s = self.interval_s
        if interval_s is None:
            return None
        return interval_s if self.counter == "before_observe" else interval_s + self._mean_s

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

    @property
    def arrivals(self) -> list[Arrival]:
        """The last rounds that its scrapes saw first, in order."""
        return list(self._arrivals.values())

    def state(self, newest: float) -> ExporterState:
        """Return what to tell of it; `newest` is the time of the newest scrape of all."""
        behind_s = newest - (self.scraped or 0.0)
        return ExporterState(
            self.instance,
            self.agent,
            self.counter,
            self._count,
            self.interval_s,
            self._first_scraped or None,
            self.scraped,
            self.stalled,
            behind_s > max(_SILENT_S, _SILENT_SCRAPES * (self.scrape_s or 0.0)),
            self._writes_itself,
        )

    def see(self, at: float, scrape: Scrape) -> Stamp | None:
        """Take one scrape, later than those before; return its stamp if it saw a new round."""
        before, self.scraped = self.scraped, at
        self._choose_counter(scrape)
        if before is not None and at - before < _LONGEST_GAP * (self.scrape_s or at - before):
            self._gaps.append(at - before)
        count = scrape.counts.get(self.counter) if self.counter else None
        if count is None:
            return None
        stamp = self._count_to(count, at, before, self._shift(scrape, count))
        self._weigh_writes(scrape.writes)
        return stamp

    def _count_to(
        self, count: float, at: float, before: float | None, shift_s: float
    ) -> Stamp | None:
        last = self._count
        if last == count:
            usual_s = self.scrape_s or 0.0
            self._stood_s += min(at - (before or at), 2 * usual_s)
            return None
        self._count, self._shift_s, self._first_scraped = count, shift_s, at
        self._stood_s = 0.0
        if last is not None and count < last:
            self._forget_rounds()
        elif last is not None and before is not None:
            unseen = count - last - 1
            after = before + unseen * max(0.0, self._low_s)
            self._arrive(Arrival(count, shift_s, min(after, at), at))
            return self.stamp
        self._arrive(Arrival(count, shift_s, float("-inf"), at))  # it may be long past
        return self.stamp

    def _forget_rounds(self) -> None:
        """Begin anew: the agent was restarted, perhaps with another interval."""
        self._known_s = self.interval_s
        self.restarts += 1
        self._arrivals.clear()
        self._steady.clear()
        self._low_s, self._high_s = 0.0, float("inf")

    def _choose_counter(self, scrape: Scrape) -> None:
        best = next((name for name in COUNTERS if name in scrape.counts), None)
        self._without = 0 if self.counter in scrape.counts else self._without + 1
        if best is None or best == self.counter:
            return
        gone = self._without > _GONE_SCRAPES  # the agent was set back to an older version
        if self.counter is None or gone or COUNTERS.index(best) < COUNTERS.index(self.counter):
            self.counter, self._count = best, None
            self._arrivals.clear()
            self._steady.clear()

    def _shift(self, scrape: Scrape, count: float) -> float:
        """Return what durations put a round's measurement off, in seconds.

        Since 26.4.4 an agent sleeps its interval after each round, so all durations before the
        measurement add up: the gathering of this round too, the rest of it not. Before, a timer
        fired every interval, and only the round's own duration counts.
        """
        rounds, lasted_s = scrape.counts.get("durations"), scrape.lasted_s
        if rounds and lasted_s is not None:
            self._mean_s = lasted_s / rounds
        if self.counter == "gather_measures":
            gathered_s = scrape.gathering_s or 0.0
            if not rounds or lasted_s is None:
                return gathered_s
            return gathered_s + self._rested(count, rounds, gathered_s, lasted_s)
        if self.counter == "durations":
            return lasted_s or 0.0
        return self._own_duration(rounds, lasted_s)

    def _rested(self, count: float, rounds: float, gathered_s: float, lasted_s: float) -> float:
        """Return the durations beside the gathering, of all rounds before this one, in seconds."""
        last, before_s, gathered_before_s = self._count, self._rested_s, self._gathered_s
        if last is None or count < last:  # the first round seen, of this agent's life
            last, before_s, gathered_before_s, self._ahead = 0.0, 0.0, 0.0, float("inf")
        self._ahead = min(self._ahead, count - rounds)
        running = count - rounds > self._ahead  # it has gathered, and has not ended yet
        if count == last:
            self._rested_s = before_s if running else max(0.0, lasted_s - gathered_s)
            return 0.0  # no new round
        self._gathered_s = gathered_s
        if running:
            own_s = (gathered_s - gathered_before_s) / (count - last)
            self._rested_s = max(0.0, lasted_s - gathered_s + own_s)
            return self._rested_s
        self._rested_s = rested_s = max(0.0, lasted_s - gathered_s)
        return rested_s - (rested_s - before_s) / (count - last)

    def _own_duration(self, rounds: float | None, lasted_s: float | None) -> float:
        """Return how long the last round of a timer's lasted, in seconds."""
        if rounds is None or lasted_s is None:
            return 0.0
        before, self._lasted = self._lasted, (rounds, lasted_s)
        if before is None or rounds > before[0] + 1:
            return self._mean_s
        return self._shift_s if rounds == before[0] else lasted_s - before[1]

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

    def _arrive(self, arrival: Arrival) -> None:
        """Hold a round against those before: their windows bound the interval from both sides."""
        low_s, high_s = self._bounds(arrival, self._steady, (self._low_s, self._high_s))
        if low_s <= high_s:
            self._low_s, self._high_s = low_s, high_s
        elif len(self._steady) > 1 and self._paused_before(arrival):  # twice running is no pause
            self._steady.clear()
        else:
            self._begin_again(arrival)
        self._steady.append(arrival)
        self._arrivals[arrival.number] = arrival
        while len(self._arrivals) > _ARRIVALS:
            del self._arrivals[next(iter(self._arrivals))]

    def _bounds(
        self, arrival: Arrival, others: Iterable[Arrival], within: tuple[float, float]
    ) -> tuple[float, float]:
        low_s, high_s = within
        for other in others:
            rounds = arrival.number - other.number
            shift_s = arrival.shift_s - other.shift_s
            low_s = max(low_s, (arrival.after - other.by - _LATE_S - shift_s) / rounds)
            high_s = min(high_s, (arrival.by + _LATE_S - other.after - shift_s) / rounds)
        return low_s, high_s

    def _paused_before(self, arrival: Arrival) -> bool:
        """Whether the agent stood still just before this round, by no duration's word."""
        least, _ = self._bounds(arrival, list(self._steady)[-1:], (0.0, float("inf")))
        return least > self._high_s

    def _begin_again(self, arrival: Arrival) -> None:
        """Drop the older half of the rounds until the others agree: the interval has changed."""
        self._known_s = self.interval_s
        low_s, high_s = 1.0, 0.0
        kept = list(self._steady)
        while low_s > high_s:
            kept = kept[(len(kept) + 1) // 2 :]
            low_s, high_s = 0.0, float("inf")
            for place, one in enumerate([*kept, arrival]):
                low_s, high_s = self._bounds(one, kept[:place], (low_s, high_s))
        self._low_s, self._high_s = low_s, high_s
        self._steady = deque(kept, maxlen=_ARRIVALS)

    def step(self, before: Stamp, after: Stamp) -> Step | None:
        """Return how far apart two measurements are; None if the counter began anew between."""
        rounds = after.number - before.number
        if rounds <= 0 or self._is_of_another_life(before):
            return None
        first, last = self._arrivals.get(before.number), self._arrivals.get(after.number)
        interval_s = self.interval_s
        if interval_s is None:
            return Step(rounds, max(0.001, after.scraped - before.scraped))
        elapsed_s = rounds * interval_s + after.shift_s - before.shift_s
        if first is not None and last is not None:
            least, most = last.after - first.by - _LATE_S, last.by + _LATE_S - first.after
            if not least <= elapsed_s <= most:  # it stood still in between, by no duration's word
                elapsed_s = (least + most) / 2 if most < float("inf") else least
        return Step(rounds, max(0.001, elapsed_s))

    def _is_of_another_life(self, stamp: Stamp) -> bool:
        """Whether a round was counted before this counter began: its number was met since."""
        met = self._arrivals.get(stamp.number)
        if met is None:
            return len(self._arrivals) < _ARRIVALS  # or it is among those that were dropped
        return abs(met.by - stamp.scraped) > self.patience_s


def _likeliest(low_s: float, high_s: float) -> float | None:
    """Return the roundest interval between two bounds, or their middle; None where open."""
    if high_s == float("inf") or low_s <= 0.0:
        return None
    middle = (low_s + high_s) / 2
    for unit in _LIKELY_S:
        nearest = max(1, round(middle / unit)) * unit
        if low_s <= nearest <= high_s:
            return nearest
    return middle
