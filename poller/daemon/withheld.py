"""How long kernels have been withheld: what is worth a line of log and counts in a gauge. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from poller.poll.withhold import Reason

LONG_CYCLES = 5
"""A kernel that is withheld for more cycles than this, one after another, is told of."""
TOLD_ELSEWHERE: frozenset[Reason] = frozenset({"still", "stalled", "foreign", "yielded"})
"""Ended kernels are in order; agents, foreign keys and rivals have lines of their own."""
_NAMED = 5


class Long(NamedTuple):
    """Kernels that have become withheld for long: how many, and the names of a few."""

    reason: Reason
    kernels: int
    names: tuple[str, ...]


class Noted(NamedTuple):
    """What one cycle changed: kernels withheld for long from now on, and reasons with none left."""

    begun: list[Long]
    ended: list[Reason]


class Withheld:
    """Counts for how many cycles each kernel has been withheld for one reason.

    `long` is how many are withheld for long now, by reason.
    """

    def __init__(self, long_cycles: int = LONG_CYCLES) -> None:
        self._long_cycles = long_cycles
        self._cycles: dict[str, tuple[Reason, int]] = {}
        self.long: dict[Reason, int] = {}

    def note(self, withheld: Mapping[str, Reason]) -> Noted:
        """Take the kernels that a good cycle withheld; return what that changed."""
        self._cycles = {
            kernel: (reason, self._before(kernel, reason) + 1)
            for kernel, reason in withheld.items()
            if reason not in TOLD_ELSEWHERE
        }
        begun: dict[Reason, list[str]] = {}
        long: dict[Reason, int] = {}
        for kernel, (reason, cycles) in self._cycles.items():
            if cycles > self._long_cycles:
                long[reason] = long.get(reason, 0) + 1
            if cycles == self._long_cycles + 1:
                begun.setdefault(reason, []).append(kernel)
        ended = [reason for reason in self.long if reason not in long]
        self.long = long
        return Noted([_long(reason, begun[reason]) for reason in sorted(begun)], sorted(ended))

    def _before(self, kernel: str, reason: Reason) -> int:
        last, cycles = self._cycles.get(kernel, (reason, 0))
        return cycles if last == reason else 0


def _long(reason: Reason, kernels: list[str]) -> Long:
    return Long(reason, len(kernels), tuple(sorted(kernels)[:_NAMED]))
