"""How many kernels a batch asks for: as many as pass in its time, by how the last fared. Pure.

Where Prometheus cannot answer for all at once, some of them every time is better than none at all.
"""

from __future__ import annotations

LEAST = 500.0
_QUICK = 0.4
_LATE = 0.65
"""A batch that takes less than the one share of its time is followed by a larger one, a batch that
takes more than the other by a smaller one: what it brought is to be written, too."""
_AIM = 0.5
_MOST_TIMES = 4.0
"""Larger batches are to take so large a share in the end; the next one is half the way there, and
so many times as large at the most."""
_TIMES_THE_CENSUS = 15.0
"""To ask for the gauges of kernels takes so many times as long as to count them: ten times on a
quiet machine, and more where others compute beside it."""


class Portion:
    """How large a `load` a batch may ask for at its start; never more than `most`.

    A load is told in kernels of which the gauges alone are asked.
    """

    def __init__(self, most: float, within_s: float) -> None:
        self._most = most
        self._within_s = within_s
        self._learnt = False
        self.load = most

    def of(self, left: float) -> float:
        """Return how much may be asked for where so much of a batch's time is left, 0 to 1."""
        return min(self._most, max(LEAST, self.load * left))

    def saw_census(self, kernels: int, took_s: float) -> None:
        """Take how long it took to count so many kernels, where nothing better is known."""
        if not self._learnt and kernels > LEAST:
            batch_s = _TIMES_THE_CENSUS * took_s
            self._limit(kernels * _AIM * self._within_s / max(batch_s, 0.001))

    def saw(self, load: float, took_s: float, left_s: float) -> None:
        """Take how long it took to ask for such a load, of the time that was left for it."""
        self._learnt = True
        left_s = max(left_s, 0.001)
        whole, share = load * self._within_s / left_s, took_s / left_s
        if share > _LATE:
            self._limit(whole * 0.75)
        elif share < _QUICK:
            times = min(_MOST_TIMES, (_AIM / max(share, 0.001)) ** 0.5)
            self._limit(max(self.load, whole * times))

    def overran(self, load: float) -> None:
        """Take that a batch of such a load was not answered in time; 0: it was never asked."""
        if load:
            self._learnt = True
            self._limit(min(load, self.load) / 2)

    def _limit(self, load: float) -> None:
        self.load = min(self._most, max(LEAST, load))
