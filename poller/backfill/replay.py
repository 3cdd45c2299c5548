"""A young kernel's mean from the raw samples of its life, each measurement counted once. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from poller.format import numbers
from poller.history.measure import with_unseen
from poller.prometheus.answers import Sample
from poller.rounds.arrivals import Arrival


def replayed(samples: Iterable[Sample], arrivals: Sequence[Arrival]) -> tuple[float, float] | None:
    """Return the sum and the number of a kernel's measurements since its first sample.

    `samples` are in the order of time, `arrivals` the rounds that its exporter's scrapes saw first.
    None where the round of a sample is not known any more.
    """
    seen_by = [one.by for one in arrivals]
    total = count = number = value = 0.0
    for one in samples:
        place = bisect_right(seen_by, one.at)
        if place == 0 or numbers.fault(one.text) is not None:
            return None
        before, last = value, number
        number, value = arrivals[place - 1].number, float(one.text)
        if not count:
            total, count = value, 1.0
        elif number > last:
            unseen = number - last - 1
            total += with_unseen(before, value, unseen)
            count += 1 + unseen
    return (total, count) if count else None
