"""How hard a simulated kernel works: as a function of its age, with the work done so far. Pure.

Counters need the integral of the load, so every shape of it has one in closed form: a counter's
value follows from the time alone, and nothing is stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Load(Protocol):
    """A load between 0 and 1, or more on several cores; ages in seconds."""

    def at(self, age_s: float) -> float:
        """Return the load at that age."""

    def total(self, age_s: float) -> float:
        """Return the load-seconds of the life up to that age."""


@dataclass(frozen=True, slots=True)
class Steady:
    """Always the same."""

    level: float

    def at(self, age_s: float) -> float:
        """Return the load at that age."""
        return self.level

    def total(self, age_s: float) -> float:
        """Return the load-seconds of the life up to that age."""
        return self.level * age_s


@dataclass(frozen=True, slots=True)
class Swell:
    """Up and down between `low` and `high`, as a training does from batch to batch."""

    low: float
    high: float
    period_s: float

    def at(self, age_s: float) -> float:
        """Return the load at that age."""
        return self._middle - self._reach * math.cos(self._turn * age_s)

    def total(self, age_s: float) -> float:
        """Return the load-seconds of the life up to that age."""
        return self._middle * age_s - self._reach / self._turn * math.sin(self._turn * age_s)

    @property
    def _middle(self) -> float:
        return (self.low + self.high) / 2

    @property
    def _reach(self) -> float:
        return (self.high - self.low) / 2

    @property
    def _turn(self) -> float:
        return 2 * math.pi / self.period_s


@dataclass(frozen=True, slots=True)
class Bursts:
    """`high` for the first `busy_s` of every period, then `low`: cells of a notebook."""

    low: float
    high: float
    period_s: float
    busy_s: float

    def at(self, age_s: float) -> float:
        """Return the load at that age."""
        return self.high if age_s % self.period_s < self.busy_s else self.low

    def total(self, age_s: float) -> float:
        """Return the load-seconds of the life up to that age."""
        periods, rest_s = divmod(age_s, self.period_s)
        busy_s = periods * self.busy_s + min(rest_s, self.busy_s)
        return self.high * busy_s + self.low * (age_s - busy_s)
