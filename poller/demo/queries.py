"""What the simulated Prometheus can be asked, and its answers by the rules of Prometheus 2. Pure.

Two patterns are the whole of it; what they do not match is refused, never answered wrongly. An
instant vector sees a sample until it is as old as the lookback; a range includes both its ends.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from poller.demo.cluster import Sample, SimulatedSeries

LOOKBACK_MS = 300_000
_NEAR = 1.1
"""A range's end within so many sample distances of a sample is taken to be covered by it."""
LabelSet = frozenset[tuple[str, str]]
Tracks = dict[LabelSet, Sequence[Sample]]
Points = dict[LabelSet, float]


class QueryError(Exception):
    """The text is no query that is answered here."""


def increase(samples: Sequence[Sample], start_ms: int, end_ms: int, per_s: float = 1) -> float:
    """Return a counter's growth over a whole range, of two samples or more.

    They rarely reach the ends of the range. What is missing is taken to be like the rest, but
    for no more than half a sample distance where the gap is wide, and never below zero.
    """
    grown, first, last = _grown(samples), samples[0], samples[-1]
    covered_s = sampled_s = (last.at_ms - first.at_ms) / 1000
    distance_s = sampled_s / (len(samples) - 1)
    before_s, after_s = (first.at_ms - start_ms) / 1000, (end_ms - last.at_ms) / 1000
    if grown > 0 and first.value >= 0:
        before_s = min(before_s, sampled_s * (first.value / grown))
    for gap_s in (before_s, after_s):
        covered_s += gap_s if gap_s < _NEAR * distance_s else distance_s / 2
    return grown * (covered_s / sampled_s / per_s)


def _grown(samples: Sequence[Sample]) -> float:
    """Return how much a counter grew; where it falls, it started again from zero."""
    pairs = zip(samples, samples[1:], strict=False)
    lost = (earlier.value for earlier, later in pairs if later.value < earlier.value)
    return sum(lost, start=samples[-1].value - samples[0].value)


def rate(samples: Sequence[Sample], start_ms: int, end_ms: int) -> float:
    """Return a counter's growth per second over a whole range, of two samples or more."""
    return increase(samples, start_ms, end_ms, per_s=(end_ms - start_ms) / 1000)


def irate(samples: Sequence[Sample], start_ms: int, end_ms: int) -> float:
    """Return a counter's growth per second between the last two of its samples."""
    return rate(samples[-2:], samples[-2].at_ms, samples[-1].at_ms)


def changes(values: Sequence[float]) -> float:
    """Return how often a value differs from the one before; NaN does not differ from NaN."""
    pairs = zip(values, values[1:], strict=False)
    return sum(a != b and not (math.isnan(a) and math.isnan(b)) for a, b in pairs)


def _numbers(values: Iterable[float]) -> Iterable[float]:
    return (value for value in values if not math.isnan(value))


MERGES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "sum": math.fsum,
    "max": lambda values: max(_numbers(values), default=math.nan),
    "min": lambda values: min(_numbers(values), default=math.nan),
    "count": len,
    "group": lambda values: 1.0,
}
OVER_TIME: Mapping[str, Callable[[Sequence[float]], float]] = {
    **{f"{name}_over_time": MERGES[name] for name in ("sum", "max", "min", "count")},
    "avg_over_time": lambda values: math.fsum(values) / len(values),
    "last_over_time": lambda values: values[-1],
    "changes": changes,
}
OF_COUNTERS = {"rate": rate, "irate": irate, "increase": increase}


def _pattern(text: str) -> re.Pattern[str]:
    """Compile a pattern in which a blank stands for any number of blanks."""
    return re.compile(text.replace(" ", r"\s*"), re.ASCII)


_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = r"[1-9]\d*(?:ms|[smhd])"
_LABEL, _OPERATOR, _STRING = r"[a-zA-Z_]\w*+", "=~|!~|!=|=", r'"(?:[^"\\\n]|\\.)*+"'
_MATCHER = _pattern(f"({_LABEL}) ({_OPERATOR}) ({_STRING})")
_BRACES = rf"\{{(?: {_LABEL} (?:{_OPERATOR}) {_STRING} (?:,|(?=\}})))* \}}"
_SELECTOR = rf"(?P<name>[a-zA-Z_:][\w:]*+)? (?P<braces>{_BRACES})? "
_OFFSET = rf"(?:\boffset\b (?P<offset>{_DURATION}) )?"
_GROUPING = rf"\b(?P<how>by|without) \((?P<names>(?: {_LABEL} (?:,|(?=\))))*) \)"
_MERGE, _FUNCTION = "|".join(MERGES), "|".join([*OVER_TIME, *OF_COUNTERS])
_TRACKS = _pattern(rf"{_SELECTOR}\[ (?P<range>{_DURATION}) \] {_OFFSET}")
_POINTS = _pattern(
    r"(?:topk \( (?P<top>\d+) , )?"
    rf"(?:(?:(?P<outer>{_MERGE}) \( )?(?P<inner>{_MERGE}) (?:{_GROUPING} )?\( )?"
    rf"(?:(?P<function>{_FUNCTION}) \( )?(?P<stamps>timestamp \( )?{_SELECTOR}"
    rf"(?(function)(?(stamps)\) )\[ (?P<range>{_DURATION}) (?(stamps): (?P<step>{_DURATION}) )\] )"
    rf"{_OFFSET}(?(function)\) |(?(stamps)\) ))(?(inner)\) )(?(outer)\) )(?(top)\) )"
)


def answered(stored: Iterable[SimulatedSeries], text: str, at_ms: int) -> tuple[str, Tracks]:
    """Return the type of a query's answer and its series, or raise `QueryError`."""
    text = text.strip()
    if text == "vector(1)":
        return "vector", {frozenset(): [Sample(at_ms, 1.0)]}
    found = _TRACKS.fullmatch(text) or _POINTS.fullmatch(text)
    if found is None:
        raise QueryError(f"parse error: no shape of query that is simulated: {text[:400]!r}")
    asked = found.groupdict(default="")
    end_ms = at_ms - _milliseconds(asked["offset"])
    start_ms = end_ms - _milliseconds(asked["range"])
    seen = {
        frozenset(one.labels.items()): _samples(asked, one, start_ms, end_ms)
        for one in _selected(asked, stored)
    }
    tracks = {labels: samples for labels, samples in seen.items() if samples}
    if found.re is _TRACKS:
        return "matrix", tracks
    points = _aggregated(asked, _points(asked, tracks, start_ms, end_ms))
    return "vector", {labels: [Sample(at_ms, value)] for labels, value in points.items()}


def _milliseconds(duration: str) -> int:
    count, unit = re.findall(r"\d+|\D+", duration or "0ms")
    return int(count) * _UNITS_MS[unit]


def _selected(asked: Mapping[str, str], stored: Iterable[SimulatedSeries]) -> list[SimulatedSeries]:
    matchers = _MATCHER.findall(asked["braces"])
    if asked["name"]:
        if any(label == "__name__" for label, _, _ in matchers):
            raise QueryError("parse error: metric name must not be set twice")
        matchers.append(("__name__", "=", json.dumps(asked["name"])))
    holds = [_condition(*matcher) for matcher in matchers]
    if all(condition({}) for condition in holds):
        raise QueryError("parse error: a selector must contain at least one non-empty matcher")
    return [one for one in stored if all(condition(one.labels) for condition in holds)]


def _condition(label: str, operator: str, literal: str) -> Callable[[Mapping[str, str]], bool]:
    """Return whether labels fulfil a matcher; a pattern must match the whole of a value."""
    try:
        text = json.loads(literal, strict=False)
        whole = re.compile(text if "~" in operator else re.escape(text)).fullmatch
    except (ValueError, re.error) as error:
        raise QueryError(f"parse error: {literal} is not understood: {error}") from None
    return lambda labels: bool(whole(labels.get(label, ""))) == (operator[0] == "=")


def _samples(
    asked: Mapping[str, str], one: SimulatedSeries, start_ms: int, end_ms: int
) -> Sequence[Sample]:
    """Return a series' samples in a range, or what is seen at each of its steps or at its end."""
    step_ms = _milliseconds(asked.get("step", ""))
    if asked["range"] and not step_ms:
        return one.between(start_ms, end_ms)
    first_ms = -(-max(start_ms, one.begins_ms) // step_ms) * step_ms if step_ms else end_ms
    looks = ((at_ms, one.latest(at_ms)) for at_ms in range(first_ms, end_ms + 1, step_ms or 1))
    return [
        Sample(at_ms, sample.at_ms / 1000 if asked["stamps"] else sample.value)
        for at_ms, sample in looks
        if sample is not None and sample.at_ms > at_ms - LOOKBACK_MS
    ]


def _points(asked: Mapping[str, str], tracks: Tracks, start_ms: int, end_ms: int) -> Points:
    """Return what is made of each series: of its samples' values or, for a counter, of them all."""
    name = asked["function"] or "last_over_time"
    points = {}
    for labels, samples in tracks.items():
        kept = (
            labels
            if name == "last_over_time" and not asked["stamps"]
            else _rest(labels, ["__name__"])
        )
        if kept in points:
            raise QueryError("vector cannot contain metrics with the same labelset")
        if name in OVER_TIME:
            points[kept] = OVER_TIME[name]([sample.value for sample in samples])
        elif len(samples) > 1:
            points[kept] = OF_COUNTERS[name](samples, start_ms, end_ms)
    return points


def _rest(labels: LabelSet, left_out: Iterable[str]) -> LabelSet:
    return frozenset(label for label in labels if label[0] not in left_out)


def _aggregated(asked: Mapping[str, str], points: Points) -> Points:
    """Return what the aggregations around a query's function make of its points."""
    without = asked["how"] == "without"
    names = re.findall(_LABEL, asked["names"]) + ["__name__"] * without
    if asked["inner"]:
        points = _merged(points, asked["inner"], names, without)
    if asked["outer"]:
        points = _merged(points, asked["outer"], (), without=False)
    if asked["top"]:
        by_size = sorted(points.items(), key=lambda point: (point[1] == point[1], point[1]))
        points = dict(by_size[::-1][: int(asked["top"])])
    return points


def _merged(points: Points, merge: str, names: Iterable[str], without: bool) -> Points:
    """Return one point a group of those that have the labels `names` in common, or the rest."""
    groups: dict[LabelSet, list[float]] = {}
    for labels, value in points.items():
        rest = _rest(labels, names)
        groups.setdefault(rest if without else labels - rest, []).append(value)
    return {group: MERGES[merge](values) for group, values in groups.items()}
