"""What the poller would write beside what is there: for an operator about to cut over. Pure.

Two maps of live stats in, one verdict per kernel and field out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from poller.values import Fields, LiveStat

Verdict = Literal["equal", "within", "different", "missing", "extra"]
VERDICTS: tuple[Verdict, ...] = ("equal", "within", "different", "missing", "extra")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far apart two values may be: a share, and an absolute difference for small ones.

    `rate` is for what moves by nature (rates and percentages of them, the latest gauge),
    `life` for life-long statistics, where the average weighs samples, not measurements.
    """

    rate: float = 0.25
    life: float = 0.05
    absolute: float = 1.0


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one kernel. `ours` and `theirs` are text, None where there is no such field."""

    kernel: str
    metric: str
    field: str
    verdict: Verdict
    ours: str | None
    theirs: str | None


Lately = Mapping[tuple[str, str], tuple[float, float]]
"""{(kernel, metric): (least, greatest raw value lately)}."""


def compare(
    ours: Mapping[str, LiveStat],
    theirs: Mapping[str, LiveStat],
    tolerance: Tolerance,
    lately: Lately,
) -> list[Difference]:
    """Return a verdict on every field of every kernel in either map.

    `missing` is what is there and would not be written, `extra` what would be new. What is
    there may be a measurement older than what would be written, so a value that Prometheus
    has seen `lately` is within tolerance.
    """
    differences: list[Difference] = []
    for kernel in sorted(ours.keys() | theirs.keys()):
        stats = ours.get(kernel, {}), theirs.get(kernel, {})
        differences += _kernel(kernel, *stats, tolerance, lately)
    return differences


def _kernel(
    kernel: str, ours: LiveStat, theirs: LiveStat, tolerance: Tolerance, lately: Lately
) -> Iterable[Difference]:
    for metric in dict.fromkeys((*theirs, *ours)):
        mine, other = ours.get(metric, {}), theirs.get(metric, {})
        for field in dict.fromkeys((*other, *mine)):
            left, right = mine.get(field), other.get(field)
            verdict = _verdict(field, left, right, tolerance)
            seen = lately.get((kernel, metric))
            if verdict == "different" and seen is not None and _was_seen(field, other, seen):
                verdict = "within"
            yield Difference(kernel, metric, field, verdict, left, right)


def _verdict(field: str, ours: str | None, theirs: str | None, tolerance: Tolerance) -> Verdict:
    if ours == theirs:
        return "equal"
    if ours is None:
        return "missing"
    if theirs is None:
        return "extra"
    if field in ("unit_hint", "capacity"):
        return "different"
    share = tolerance.life if field in ("stats.max", "stats.min", "stats.avg") else tolerance.rate
    try:
        left, right = float(ours), float(theirs)
    except ValueError:
        return "different"
    near = abs(left - right) <= max(tolerance.absolute, share * max(abs(left), abs(right)))
    return "within" if near else "different"


def _was_seen(field: str, theirs: Fields, seen: tuple[float, float]) -> bool:
    """Whether a current value, or the one behind a percentage, is one that was there lately."""
    try:
        if field == "current":
            value = float(theirs["current"])
        elif field == "pct":
            value = float(theirs["pct"]) * float(theirs["capacity"]) / 100
        else:
            return False
    except (KeyError, ValueError):
        return False
    slack = 0.01 * max(abs(seen[0]), abs(seen[1]))  # `pct` has two places only
    return seen[0] - slack <= value <= seen[1] + slack


def totals(differences: Iterable[Difference]) -> dict[tuple[str, str], Counter[Verdict]]:
    """Return how often each verdict fell, by metric and field, in order of appearance."""
    table: dict[tuple[str, str], Counter[Verdict]] = {}
    for one in differences:
        table.setdefault((one.metric, one.field), Counter())[one.verdict] += 1
    return table


def differs(differences: Iterable[Difference]) -> bool:
    """Whether anything would change for a reader."""
    return any(one.verdict not in ("equal", "within") for one in differences)
