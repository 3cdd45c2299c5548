"""Since when kernels are withheld: which the page names, the log tells, a gauge counts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from poller.daemon.status import WithheldKernel
from poller.poll.withhold import Reason

LONG_CYCLES = 5
"""A kernel that is withheld for more cycles than this, one after another, is told of."""
TOLD_ELSEWHERE: frozenset[Reason] = frozenset({"still", "stalled", "foreign", "yielded"})
"""Ended kernels are in order; agents, foreign keys and rivals have lines of their own."""
_NAMED = 5
_NAMED_CYCLES = 3
"""The page names a kernel that is withheld for more cycles than this."""
_NAMED_ON_PAGE = 100


class Long(NamedTuple):
    """Kernels that have become withheld for long: the names of a few."""

    reason: Reason
    names: tuple[str, ...]


class Noted(NamedTuple):
    """What one cycle changed: kernels withheld for long from now on, and reasons with none left."""

    begun: list[Long]
    ended: list[Reason]


class Withheld:
    """Counts for how many cycles each kernel has been withheld for one reason.

    `long` is how many are withheld for long now, by reason.
    """

    def __init__(self) -> None:
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
            if cycles > LONG_CYCLES:
                long[reason] = long.get(reason, 0) + 1
            if cycles == LONG_CYCLES + 1:
                begun.setdefault(reason, []).append(kernel)
        ended = [reason for reason in self.long if reason not in long]
        self.long = long
        named = [Long(why, tuple(sorted(begun[why])[:_NAMED])) for why in sorted(begun)]
        return Noted(named, sorted(ended))

    def _before(self, kernel: str, reason: Reason) -> int:
        last, cycles = self._cycles.get(kernel, (reason, 0))
        return cycles if last == reason else 0


class Lasting:
    """Remembers since when each kernel has been withheld for one reason, whichever it is."""

    def __init__(self) -> None:
        self._kernels: dict[str, WithheldKernel] = {}

    def note(self, withheld: Mapping[str, Reason], now: float) -> None:
        """Take the kernels that a finished cycle withheld at a Unix time."""
        before = self._kernels
        self._kernels = {
            kernel: before[kernel]
            if kernel in before and before[kernel].reason == reason
            else WithheldKernel(kernel, reason, now)
            for kernel, reason in withheld.items()
        }

    def named(self, now: float, interval_s: float) -> tuple[WithheldKernel, ...]:
        """Return those that have been for more than a few cycles, by reason and age."""
        least_s = _NAMED_CYCLES * interval_s
        lasting = [one for one in self._kernels.values() if now - one.since > least_s]
        return tuple(sorted(lasting, key=_by_reason)[:_NAMED_ON_PAGE])


def _by_reason(one: WithheldKernel) -> tuple[str, float, str]:
    return one.reason, one.since, one.kernel
