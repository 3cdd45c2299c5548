"""How many kernels a batch asks for: as many as pass in its time, by how the last ones fared. Pure.

Where Prometheus cannot answer for all at once, some of them every time is better than none at all.
"""

from __future__ import annotations

LEAST = 500
_QUICK = 0.5
_LATE = 0.8
"""A batch that takes less than the one share of its time is followed by a larger one, a batch that
takes more than the other by a smaller one."""
_AIM = 0.65
_MOST_TIMES = 4.0
"""A larger batch is to take so large a share, but is so many times as large at the most."""
_TIMES_THE_CENSUS = 25.0
"""A batch with rates takes so many times as long as counting the same kernels."""


class Portion:
    """About how many `kernels` a batch may ask for at its start; never more than `most_kernels`."""

    def __init__(self, most_kernels: int, within_s: float) -> None:
        self._most = most_kernels
        self._within_s = within_s
        self._learnt = False
        self.kernels = most_kernels

    def of(self, left: float) -> int:
        """Return how many may be asked for where so much of a batch's time is left, 0 to 1."""
        return min(self._most, max(LEAST, int(self.kernels * left)))

    def saw_census(self, kernels: int, took_s: float) -> None:
        """Take how long it took to count so many kernels, where nothing better is known."""
        if not self._learnt and kernels > LEAST:
            batch_s = _TIMES_THE_CENSUS * took_s
            self._limit(kernels * _QUICK * self._within_s / max(batch_s, 0.001))

    def saw(self, kernels: int, took_s: float) -> None:
        """Take how long a batch of so many kernels took."""
        self._learnt = True
        share = took_s / self._within_s
        if share > _LATE:
            self._limit(kernels * 0.75)
        elif share < _QUICK:
            self._limit(max(self.kernels, kernels * min(_MOST_TIMES, _AIM / max(share, 0.001))))

    def overran(self, kernels: int) -> None:
        """Take that a batch of so many kernels was not answered in time; 0: it was never asked."""
        if kernels:
            self._learnt = True
            self._limit(min(kernels, self.kernels) / 2)

    def _limit(self, kernels: float) -> None:
        self.kernels = min(self._most, max(LEAST, int(kernels)))
