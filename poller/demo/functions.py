"""What PromQL's functions make of numbers, as Prometheus 2 does. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

_NEAR = 1.1
"""A range's end within so many sample distances of a sample is taken to be covered by it."""


class Sample(NamedTuple):
    """One sample; the time is Unix milliseconds."""

    at_ms: int
    value: float


class Span(NamedTuple):
    """The range that a function looks at, in Unix milliseconds."""

    start_ms: int
    end_ms: int


def size(value: float) -> tuple[bool, float]:
    """Order numbers with NaN below all others."""
    return (False, 0.0) if math.isnan(value) else (True, value)


def _maximum(values: Sequence[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _minimum(values: Sequence[float]) -> float:
    return min((value for value in values if not math.isnan(value)), default=math.nan)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _count(values: Sequence[float]) -> float:
    return float(len(values))


AGGREGATIONS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "max": _maximum,
    "min": _minimum,
    "avg": _mean,
    "sum": math.fsum,
    "count": _count,
    "group": lambda values: 1.0,
}


def _changes(values: Sequence[float]) -> float:
    pairs = zip(values, values[1:], strict=False)
    moves = (
        earlier != later and not (math.isnan(earlier) and math.isnan(later))
        for earlier, later in pairs
    )
    return float(sum(moves))


def _increase(samples: Sequence[Sample]) -> float:
    """Return how much a counter grew; where it falls, it started again from zero."""
    grown = samples[-1].value - samples[0].value
    for earlier, later in zip(samples, samples[1:], strict=False):
        if later.value < earlier.value:
            grown += earlier.value
    return grown


def rate(samples: Sequence[Sample], over: Span) -> float | None:
    """Return a counter's growth per second over the whole span; None of a single sample.

    The samples rarely reach the ends of the span. What is missing is taken to be like the rest,
    but for no more than half a sample distance where the gap is wide, and never below zero.
    """
    if len(samples) < 2:
        return None
    grown = _increase(samples)
    first, last = samples[0], samples[-1]
    sampled_s = (last.at_ms - first.at_ms) / 1000
    distance_s = sampled_s / (len(samples) - 1)
    before_s = (first.at_ms - over.start_ms) / 1000
    after_s = (over.end_ms - last.at_ms) / 1000
    if grown > 0 and first.value >= 0:
        before_s = min(before_s, sampled_s * (first.value / grown))
    covered_s = sampled_s + _reach(before_s, distance_s) + _reach(after_s, distance_s)
    return grown * (covered_s / sampled_s / ((over.end_ms - over.start_ms) / 1000))


def _reach(gap_s: float, distance_s: float) -> float:
    return gap_s if gap_s < _NEAR * distance_s else distance_s / 2


def _of_values(
    function: Callable[[Sequence[float]], float],
) -> Callable[[Sequence[Sample], Span], float | None]:
    return lambda samples, over: function([sample.value for sample in samples])


OVER_RANGE: Mapping[str, Callable[[Sequence[Sample], Span], float | None]] = {
    "rate": rate,
    "changes": _of_values(_changes),
    "max_over_time": _of_values(_maximum),
    "min_over_time": _of_values(_minimum),
    "avg_over_time": _of_values(_mean),
    "sum_over_time": _of_values(math.fsum),
    "count_over_time": _of_values(_count),
}
