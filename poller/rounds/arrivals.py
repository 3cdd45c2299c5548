"""When rounds came, and the interval that follows from it. Pure state.

The interval itself is no series. Every round has a window in which it came, between two scrapes;
the windows of any two rounds bound the interval from both sides.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from poller.values import Stamp

_KEPT = 48
"""So many rounds are held against a new one to find the interval."""
_AGREED = 3
"""A break after more rounds than this that agreed may be a pause; if breaks are as frequent, the
interval is another one."""
_LATE_S = 0.1
"""A scrape may see what happened so long after its timestamp."""
_SLACK_S = 1.0
"""Rounds are not missing yet that are so late."""
_LIKELY_S = (60.0, 30.0, 10.0, 5.0, 1.0, 0.5, 0.1)
"""People set intervals that are multiples of these."""
_NEAR = 1.2
"""An interval is not likely that is so many times longer or shorter than the bounds' middle."""


class Step(NamedTuple):
    """From one measurement to a later one: so many rounds, so many seconds.

    `sure`: by the windows of both; else the first one may have been long before it was seen.
    """

    rounds: float
    elapsed_s: float
    sure: bool = True


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A round was first seen by the scrape at `by`, and had not been there at `after`.

    `vague`: rounds are missing that had time to come in between, so the agent stood still there,
    before this one or after it. A large cluster has a hundred thousand, which the collector must
    not see: it would stop everything to look at them.
    """

    number: float
    shift_s: float
    after: float
    by: float
    vague: bool = False


class Arrivals:
    """The last rounds of one exporter, and what they say of its interval."""

    def __init__(self) -> None:
        self._seen: dict[float, Arrival] = {}
        self._steady: deque[Arrival] = deque(maxlen=_KEPT)
        self._low_s, self._high_s = 0.0, float("inf")
        self._known_s: float | None = None
        self._likely_s: float | None = None

    @property
    def last(self) -> list[Arrival]:
        """The last rounds that scrapes saw first, in order."""
        return list(self._seen.values())

    @property
    def interval_s(self) -> float | None:
        """The interval that the agent keeps beside its rounds' durations; None if not known."""
        return self._known_s if self._likely_s is None else self._likely_s

    @property
    def least_s(self) -> float:
        """What the interval is at the least, in seconds."""
        return self._low_s

    def stood_still(self, rounds: float, gap_s: float, busy_s: float) -> bool:
        """Whether so few rounds came in so many seconds without a scrape that some are missing.

        `busy_s` is what those took beside their intervals; the next one may be under way for as
        long as one of them.
        """
        return (rounds + 1) * (self._high_s + busy_s / rounds) + _SLACK_S < gap_s

    def suppose(self, interval_s: float | None) -> None:
        """Take an interval that is likely, until rounds tell."""
        self._known_s = interval_s

    def forget(self) -> None:
        """Forget the rounds: they are counted anew, or otherwise."""
        self._seen.clear()
        self._steady.clear()

    def begin_anew(self) -> None:
        """Begin anew: the agent was restarted, perhaps with another interval."""
        self._known_s = self.interval_s
        self.forget()
        self._narrow_to(0.0, float("inf"))

    def take(self, arrival: Arrival) -> None:
        """Take a round. The interval is learnt from one of which it is known when it came."""
        if arrival.vague and not self._is_vague_now:  # twice running is no standstill
            self._steady.clear()
        else:
            self._hold(arrival)
        self._seen[arrival.number] = arrival
        while len(self._seen) > _KEPT:
            del self._seen[next(iter(self._seen))]

    @property
    def _is_vague_now(self) -> bool:
        return bool(self._seen) and next(reversed(self._seen.values())).vague

    def _hold(self, arrival: Arrival) -> None:
        """Hold a round against those before: their windows bound the interval from both sides."""
        low_s, high_s = self._bounds(arrival, self._steady, (self._low_s, self._high_s))
        if low_s <= high_s:
            self._narrow_to(low_s, high_s)
        elif len(self._steady) > _AGREED and self._broke_off_before(arrival):  # it may be a pause
            self._steady.clear()
        else:
            self._begin_with(arrival)
        self._steady.append(arrival)

    def _narrow_to(self, low_s: float, high_s: float) -> None:
        self._low_s, self._high_s = low_s, high_s
        self._likely_s = _likeliest(low_s, high_s, self._known_s)

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

    def _broke_off_before(self, arrival: Arrival) -> bool:
        """Whether this round came at no distance from the one before that the bounds allow.

        By no duration's word: the agent stood still, or the clock of the scrapes was set back.
        """
        least, most = self._bounds(arrival, list(self._steady)[-1:], (0.0, float("inf")))
        return least > self._high_s or most < self._low_s

    def _begin_with(self, arrival: Arrival) -> None:
        """Drop the older half of the rounds until the others agree: the interval has changed."""
        self._known_s = self.interval_s
        low_s, high_s = 1.0, 0.0
        kept = list(self._steady)
        while low_s > high_s:
            kept = kept[(len(kept) + 1) // 2 :]
            low_s, high_s = 0.0, float("inf")
            for place, one in enumerate([*kept, arrival]):
                low_s, high_s = self._bounds(one, kept[:place], (low_s, high_s))
        self._narrow_to(low_s, high_s)
        self._steady = deque(kept, maxlen=_KEPT)

    def step(self, before: Stamp, after: Stamp, patience_s: float) -> Step | None:
        """Return how far apart two measurements are; None if the counter began anew between.

        `patience_s`: a round that was met so long before or after is another one.
        """
        rounds = after.number - before.number
        if rounds <= 0 or self._is_of_another_life(before, patience_s):
            return None
        first, last = self._seen.get(before.number), self._seen.get(after.number)
        interval_s = self.interval_s
        if interval_s is None:
            sure = first is not None and first.after > float("-inf")
            return Step(rounds, max(0.001, after.scraped - before.scraped), sure)
        elapsed_s = rounds * interval_s + after.shift_s - before.shift_s
        if first is not None and last is not None and first.after == float("-inf"):
            seen_s = last.by - first.by  # neither was older than an interval when it was seen
            if abs(elapsed_s - seen_s) > interval_s + _LATE_S + abs(after.shift_s - before.shift_s):
                elapsed_s = seen_s  # the interval is that of another life
        elif first is not None and last is not None:
            least, most = _apart(first, last)
            if elapsed_s > most:  # more rounds than there was time for: which is wrong is not known
                return Step(rounds, max(0.001, elapsed_s), sure=False)
            if elapsed_s < least:  # it stood still in between, by no duration's word
                least, most = _apart(self._narrowed(first, interval_s), last)
                elapsed_s = (least + most) / 2 if most < float("inf") else least
            elif first.vague or last.vague:
                # The standstill may be part of it, and a rate that is too low is no multiple.
                return Step(rounds, max(0.001, most), sure=False)
        return Step(rounds, max(0.001, elapsed_s))

    def _narrowed(self, arrival: Arrival, interval_s: float) -> Arrival:
        """Return a round with its window as narrow as those of the rounds before it make it."""
        after, by = arrival.after, arrival.by
        for other in reversed(self._seen.values()):
            if other.number >= arrival.number:
                continue
            apart_s = (arrival.number - other.number) * interval_s
            apart_s += arrival.shift_s - other.shift_s
            later, sooner = max(after, other.after + apart_s), min(by, other.by + apart_s)
            if later - _LATE_S > sooner:
                break  # it stood still in between, too
            after, by = later, sooner
        return msgspec.structs.replace(arrival, after=after, by=by)

    def _is_of_another_life(self, stamp: Stamp, patience_s: float) -> bool:
        """Whether a round was counted before this counter began: its number was met since.

        Or passed, where these scrapes skipped it and those of a replica saw it.
        """
        met = next((one for one in self._seen.values() if one.number >= stamp.number), None)
        if met is None or stamp.number < next(iter(self._seen)):
            return len(self._seen) < _KEPT  # or it is among those that were dropped
        return abs(met.by - stamp.scraped) > patience_s


def _apart(first: Arrival, last: Arrival) -> tuple[float, float]:
    """Return how far apart two rounds came at the least and at the most, in seconds."""
    return last.after - first.by - _LATE_S, last.by + _LATE_S - first.after


def _likeliest(low_s: float, high_s: float, known_s: float | None) -> float | None:
    """Return the likeliest interval between two bounds; None where open.

    It is the one that was known before, the roundest, or the middle. Bounds that are far apart, as
    after three scrapes, have rounder ones than the true one near their ends: one that is twice as
    long halves every rate.
    """
    if high_s == float("inf") or low_s <= 0.0:
        return None
    if known_s is not None and low_s <= known_s <= high_s:
        return known_s
    middle = math.sqrt(low_s * high_s)
    low_s, high_s = max(low_s, middle / _NEAR), min(high_s, middle * _NEAR)
    for unit in _LIKELY_S:
        nearest = max(1, round(middle / unit)) * unit
        if low_s <= nearest <= high_s:
            return nearest
    return middle
