"""Live stats held against each other: which fields and keys differ, what is tolerated. Pure.

Two maps of live stats in, one verdict per kernel and field out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from poller.commands.finding import counted
from poller.values import Fields, LiveStat

Verdict = Literal["equal", "within", "different", "missing", "extra"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

_MOVING = 0.25
"""So large a share what moves by nature may be apart: rates, percentages, the latest gauge."""
_LASTING = 0.05
"""The same of life-long statistics, where the average weighs samples, not measurements."""
_SMALL = 1.0
"""Two values that are no further apart than this agree, whatever share of them it is."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one kernel. `ours` and `theirs` are text, None where there is no such field."""

    kernel: str
    metric: str
    field: str
    verdict: Verdict
    ours: str | None
    theirs: str | None


WHOLE_KEY = "(whole key)"
"""Stands for the metric where one side has nothing at all of a kernel."""
_LIFE = ("stats.max", "stats.min", "stats.avg")


class Seen(NamedTuple):
    """The least and the greatest raw value of one metric lately.

    `counts`: it only grows. `young`: the kernel began in that time, so a counter grew from 0.
    `rated`: readers see a rate of it as `current`, not itself.
    """

    low: float
    high: float
    counts: bool = False
    young: bool = False
    rated: bool = False

    @property
    def grown(self) -> float:
        """How much a counter has grown in that time."""
        return self.high if self.young else self.high - self.low


Lately = Mapping[tuple[str, str], Seen]
"""{(kernel, metric): what was seen of it lately}."""


def compare(
    ours: Mapping[str, LiveStat], theirs: Mapping[str, LiveStat], lately: Lately
) -> list[Difference]:
    """Return a verdict on every field of every kernel in either map.

    `missing` is what is there and would not be written, `extra` what would be new; of a kernel
    of which one side has nothing it is one difference. What is there may be some measurements
    older than what would be written, so what follows from a value that Prometheus has seen
    `lately` is within tolerance.
    """
    differences: list[Difference] = []
    for kernel in sorted(ours.keys() | theirs.keys()):
        differences += _kernel(kernel, ours.get(kernel, {}), theirs.get(kernel, {}), lately)
    return differences


def _kernel(kernel: str, ours: LiveStat, theirs: LiveStat, lately: Lately) -> Iterable[Difference]:
    if not ours or not theirs:
        if ours or theirs:
            yield _one_sided(kernel, ours, theirs)
        return
    for metric in dict.fromkeys((*theirs, *ours)):
        mine, other = ours.get(metric, {}), theirs.get(metric, {})
        for field in dict.fromkeys((*other, *mine)):
            left, right = mine.get(field), other.get(field)
            verdict = _verdict(field, left, right)
            seen = lately.get((kernel, metric))
            if verdict == "different" and seen is not None and _was_seen(field, mine, other, seen):
                verdict = "within"
            yield Difference(kernel, metric, field, verdict, left, right)


def _one_sided(kernel: str, ours: LiveStat, theirs: LiveStat) -> Difference:
    """Return the one difference of a kernel of which a side has nothing at all."""
    count = counted(sum(map(len, (ours or theirs).values())), "field")
    if ours:
        return Difference(kernel, WHOLE_KEY, "", "extra", count, None)
    return Difference(kernel, WHOLE_KEY, "", "missing", None, count)


def _verdict(field: str, ours: str | None, theirs: str | None) -> Verdict:
    if ours == theirs:
        return "equal"
    if ours is None:
        return "missing"
    if theirs is None:
        return "extra"
    if field in ("unit_hint", "capacity"):
        return "different"
    share = _LASTING if field in _LIFE else _MOVING
    try:
        left, right = float(ours), float(theirs)
    except ValueError:
        return "different"
    near = abs(left - right) <= max(_SMALL, share * max(abs(left), abs(right)))
    return "within" if near else "different"


def _was_seen(field: str, ours: Fields, theirs: Fields, seen: Seen) -> bool:
    """Whether what differs follows from a value that was there lately, or is one measurement on."""
    try:
        if field == "current" and not seen.rated:
            return _in_range(float(theirs[field]), seen)
        if field == "pct" and not seen.rated:
            return _in_range(float(theirs["pct"]) * float(theirs["capacity"]) / 100, seen)
        if field in _LIFE:
            return _life_may_be(float(ours[field]), float(theirs[field]), seen)
    except (KeyError, ValueError):
        pass
    return False


def _in_range(value: float, seen: Seen) -> bool:
    slack = 0.01 * max(abs(seen.low), abs(seen.high))  # `pct` has two places only
    return seen.low - slack <= value <= seen.high + slack


def _life_may_be(ours: float, theirs: float, seen: Seen) -> bool:
    """Whether life-long statistics may be some measurements apart.

    Those of a counter are no further apart than it grew in that time; those of a gauge lie between
    its values if its whole life does.
    """
    if seen.counts:
        return abs(ours - theirs) <= seen.grown
    return seen.young and _in_range(theirs, seen)


def totals(differences: Iterable[Difference]) -> dict[tuple[str, str], Counter[Verdict]]:
    """Return how often each verdict fell, by metric and field, in order of appearance."""
    table: dict[tuple[str, str], Counter[Verdict]] = {}
    for one in differences:
        table.setdefault((one.metric, one.field), Counter())[one.verdict] += 1
    return table


def differs(differences: Iterable[Difference]) -> bool:
    """Whether anything would change for a reader."""
    return any(not agrees(one) for one in differences)


def differing(differences: Iterable[Difference]) -> list[str]:
    """Return the kernels of which anything would change for a reader."""
    return list(dict.fromkeys(one.kernel for one in differences if not agrees(one)))


def agrees(one: Difference) -> bool:
    """Whether a field is the same for a reader."""
    return one.verdict in ("equal", "within")


def settled(earlier: Sequence[Difference], again: Iterable[Difference]) -> list[Difference]:
    """Return the verdicts after another look: what has agreed once is left so.

    Of what differed so far the newer verdict counts, also of a kernel whose key came meanwhile. A
    kernel that could not be looked at, or whose key has gone, stays as it was.
    """
    seen: dict[str, dict[tuple[str, str], Difference]] = {}
    for one in again:
        seen.setdefault(one.kernel, {})[one.metric, one.field] = one
    found: list[Difference] = []
    for one in earlier:
        newer = seen.get(one.kernel, {})
        if not newer or agrees(one) or (WHOLE_KEY, "") in newer:
            found.append(one)
        elif one.metric == WHOLE_KEY:
            found += newer.values()
        elif (one.metric, one.field) in newer:
            found.append(newer[one.metric, one.field])
    return found  # without what neither side has any more
