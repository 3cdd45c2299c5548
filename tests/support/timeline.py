"""What a real agent wrote, and when: the truth that a poller which follows it is held against."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

LOOK_S = 0.25
"""Somebody looked five times a second: a value was there a little earlier than it was seen."""
RATES = {
    ("cpu_util", "current"), ("cpu_util", "pct"), ("io_read", "stats.rate"),
    ("io_write", "stats.rate"), ("net_rx", "current"), ("net_rx", "pct"), ("net_tx", "current"),
    ("net_tx", "pct"),
}  # fmt: skip
GUESS = 2.0
"""A rate over an interval that is not known yet is at most so many times the agent's."""
ROUGHLY = "rates within 3 %"
COUNTERS = ("cpu_util", "cpu_used", "io_read", "io_write", "net_rx", "net_tx")

Fields = Mapping[str, Mapping[str, str]]


class Written(NamedTuple):
    """One value of one kernel's key, seen first at that time."""

    time: float
    fields: Fields


class Timeline:
    """Everything the agent wrote, by kernel, in order."""

    def __init__(self, entries: list[tuple[float, str, Fields]]) -> None:
        self.kernels: dict[str, list[Written]] = {}
        for time, kernel, fields in entries:
            self.kernels.setdefault(kernel, []).append(Written(time, fields))
        self._times = {
            kernel: [one.time for one in written] for kernel, written in self.kernels.items()
        }

    def between(self, kernel: str, start: float, end: float) -> list[Written]:
        """Return what the key held at some moment between two times, oldest first."""
        times = self._times[kernel]
        first = max(0, bisect_right(times, start) - 1)
        return self.kernels[kernel][first : bisect_right(times, end + LOOK_S)]

    def held(self, kernel: str, at: float) -> bool:
        """Whether the agent had written a kernel by that time."""
        return self._times[kernel][0] <= at

    def worked(self, kernel: str, by: float) -> bool:
        """Whether a kernel had worked since it was first seen, by that time."""
        first, *_ = self.kernels[kernel]
        since = self.between(kernel, first.time, by)
        return any(one.fields["cpu_used"] != first.fields["cpu_used"] for one in since)


class Miss(NamedTuple):
    """A field that is not one that the agent wrote lately."""

    kind: str
    time: float
    kernel: str
    metric: str
    field: str
    ours: str | None
    theirs: tuple[str, ...]


@dataclass
class Tally:
    """Instants by kind of field: `held` of so many `looks`, and what was missed."""

    looks: Counter[str] = field(default_factory=Counter)
    misses: list[Miss] = field(default_factory=list)

    @property
    def shares(self) -> dict[str, float]:
        """Return the share of instants at which a kind of field was the agent's."""
        missed = Counter(miss.kind for miss in self.misses)
        return {kind: 1 - missed[kind] / looks for kind, looks in self.looks.items()}


def kind_of(metric: str, name: str) -> str:
    """Return what kind of field one is: by how near to the agent's it must be."""
    if (metric, name) in RATES:
        return "rates"
    if name == "stats.avg":
        return "means of counters" if metric in COUNTERS else "means of gauges"
    return "peaks of gauges" if name == "stats.max" and metric not in COUNTERS else "the rest"


@dataclass(frozen=True)
class Measure:
    """How near is near enough, for one recording.

    `late_s`: a value may be one that the agent wrote so long ago. `unseen_s`: measurements of so
    long a stretch come in one step, so that a rate may lie between two of them. `settling_s`: a
    mean counts from then on, since a kernel began to work. `learnt`: before that time the agent's
    interval cannot be known, and rates are a guess. `mean_between`: it may lie between two.
    """

    late_s: float
    unseen_s: float = 0.0
    mean: float = 0.001
    counters_only: bool = False
    settling_s: float = 0.0
    learnt: float = 0.0
    mean_between: bool = False

    def hold(
        self, tally: Tally, timeline: Timeline, kernel: str, at: float, ours: Fields | None
    ) -> None:
        """Hold what we have of a kernel at a time against what the agent had written."""
        if not timeline.held(kernel, at - self.late_s):
            return
        theirs = timeline.between(kernel, at - self.late_s, at)
        longer = timeline.between(kernel, at - self.late_s - self.unseen_s, at)
        for metric, name in _fields_of(theirs[0].fields):
            kind = kind_of(metric, name)
            if self.counters_only and kind.endswith("of gauges"):
                continue
            settling = self.settling_s and not timeline.worked(kernel, at - self.settling_s)
            if kind.startswith("means") and settling:
                continue
            text = (ours or {}).get(metric, {}).get(name)
            over = longer if kind == "rates" else theirs
            lately = tuple(one.fields[metric][name] for one in over if metric in one.fields)
            kinds = [kind]
            if kind == "rates":
                kinds = ["first rates"] if at < self.learnt else ["rates", ROUGHLY]
            for kind in kinds:
                tally.looks[kind] += 1
                if text is None or not self._fits(kind, text, lately):
                    tally.misses.append(Miss(kind, at, kernel, metric, name, text, lately))

    def _fits(self, kind: str, text: str, lately: tuple[str, ...]) -> bool:
        if "rates" not in kind and not kind.startswith("means"):
            return text in lately
        value, values = float(text), [float(one) for one in lately]
        if kind == "first rates":
            return min(values) / GUESS <= value <= max(values) * GUESS
        if "rates" in kind:
            share = 0.03 if kind == ROUGHLY else 0.01
            if self.unseen_s:
                return _between(values, value, share)
            return any(_near(one, value, share) for one in values)
        if self.mean_between:
            return _between(values, value, self.mean)
        return any(_near(one, value, self.mean) for one in values)


def _near(theirs: float, ours: float, share: float) -> bool:
    """Whether a value is theirs. Its text has few decimals."""
    return abs(ours - theirs) <= share * abs(theirs) + 0.0051


def _between(theirs: list[float], ours: float, share: float) -> bool:
    """Whether a value lies between two of theirs, or near one of them."""
    least, most = min(theirs), max(theirs)
    return least <= ours <= most or _near(least, ours, share) or _near(most, ours, share)


def _fields_of(fields: Fields) -> Iterator[tuple[str, str]]:
    for metric, one in fields.items():
        for name in one:
            yield metric, name
