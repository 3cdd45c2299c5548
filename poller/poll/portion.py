"""How many kernels a batch asks for: as many as pass in its time, by how the last ones fared. Pure.

Where Prometheus cannot answer for all at once, some of them every time is better than none at all.
"""

from __future__ import annotations

LEAST = 500
_SHARE = 0.7
"""A batch is to take no more than this share of its time."""
_TIMES_THE_CENSUS = 25.0
"""A batch with rates takes so many times as long as counting the same kernels."""
_STEADY = 0.5
"""The weight of one more batch in what is expected of the next."""


class Portion:
    """Learns from a census what a first batch may take, and then from every batch."""

    def __init__(self, most_kernels: int, within_s: float) -> None:
        self._most = most_kernels
        self._within_s = within_s
        self._kernel_s: float | None = None

    @property
    def kernels(self) -> int:
        """About how many kernels the next batch may ask for."""
        if not self._kernel_s:
            return self._most
        fitting = int(_SHARE * self._within_s / self._kernel_s)
        return max(min(LEAST, self._most), min(self._most, fitting))

    def saw_census(self, kernels: int, took_s: float) -> None:
        """Take how long it took to count so many kernels, where nothing better is known."""
        if self._kernel_s is None and kernels > LEAST:
            self._kernel_s = _TIMES_THE_CENSUS * took_s / kernels

    def saw(self, kernels: int, took_s: float) -> None:
        """Take how long a batch of so many kernels took; a small one tells nothing."""
        if kernels >= min(LEAST, self._most):
            before = self._kernel_s if self._kernel_s is not None else took_s / kernels
            self._kernel_s = _STEADY * took_s / kernels + (1 - _STEADY) * before

    def overran(self, kernels: int) -> None:
        """Take that a batch of so many kernels was not answered in time: ask for half of it."""
        self._kernel_s = 2 * _SHARE * self._within_s / max(kernels, LEAST)
