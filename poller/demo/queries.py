"""What the simulated Prometheus can be asked, and its answers by the rules of Prometheus 2. Pure.

Four patterns are the whole of it; what they do not match is refused, never answered wrongly. An
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


def rate(samples: Sequence[Sample], start_ms: int, end_ms: int) -> float:
    """Return a counter's growth per second over a whole range, of two samples or more.

    Where it falls, it started again from zero. Samples rarely reach the ends of the range: what is
    missing is taken to be like the rest, but for no more than half a sample distance where the
    gap is wide, and never below zero.
    """
    first, last, pairs = samples[0], samples[-1], zip(samples, samples[1:], strict=False)
    lost = (earlier.value for earlier, later in pairs if later.value < earlier.value)
    grown = sum(lost, start=last.value - first.value)
    covered_s = sampled_s = (last.at_ms - first.at_ms) / 1000
    distance_s = sampled_s / (len(samples) - 1)
    before_s, after_s = (first.at_ms - start_ms) / 1000, (end_ms - last.at_ms) / 1000
    if grown > 0 and first.value >= 0:
        before_s = min(before_s, sampled_s * (first.value / grown))
    for gap_s in (before_s, after_s):
        covered_s += gap_s if gap_s < _NEAR * distance_s else distance_s / 2
    return grown * (covered_s / sampled_s / ((end_ms - start_ms) / 1000))


def changes(values: Sequence[float]) -> float:
    """Return how often a value differs from the one before; NaN does not differ from NaN."""
    pairs = zip(values, values[1:], strict=False)
    return sum(a != b and not (math.isnan(a) and math.isnan(b)) for a, b in pairs)


# NaN, which does not equal itself, is the largest and the smallest only where all values are.
MERGES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "sum": math.fsum,
    "max": lambda values: max(values, key=lambda value: (value == value, value)),
    "min": lambda values: min(values, key=lambda value: (value != value, value)),
    "count": len,
    "group": lambda values: 1.0,
}
OVER_TIME: Mapping[str, Callable[[Sequence[float]], float]] = {
    **{f"{name}_over_time": MERGES[name] for name in ("sum", "max", "min", "count")},
    "last_over_time": lambda values: values[-1],
    "changes": changes,
}


def _pattern(text: str) -> re.Pattern[str]:
    """Compile a pattern in which a blank stands for any number of blanks."""
    return re.compile(text.replace(" ", r"\s*"), re.ASCII)


_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = r"[1-9]\d*(?:ms|[smhd])"
_LABEL, _OPERATOR, _STRING = r"[a-zA-Z_]\w*+", "=~|!~|!=|=", r'"(?:[^"\\\n]|\\.)*+"'
_MATCHER = _pattern(f"({_LABEL}) ({_OPERATOR}) ({_STRING})")
_BRACES = rf"\{{(?: {_LABEL} (?:{_OPERATOR}) {_STRING} (?:,|(?=\}})))* \}}"
_SELECTOR = rf"(?P<name>[a-zA-Z_:][\w:]*+)? (?P<braces>(?(name)(?!.*\b__name__)){_BRACES})? "
_OFFSET = rf"(?:\boffset\b (?P<offset>{_DURATION}) )?"
_GROUPING = rf"\b(?P<how>by|without) \((?P<names>(?: {_LABEL} (?:,|(?=\))))*) \)"
_TOPMOST = _pattern(r" topk \( (?P<count>\d+) ,(?P<inner>.+)\) ")
_MERGED = _pattern(rf" (?P<merge>{'|'.join(MERGES)}) (?:{_GROUPING} )?\((?P<inner>.+)\) ")
_SEEN = rf"(?P<stamps>timestamp \( )?{_SELECTOR}"
_WITHIN = rf"\[ (?P<range>{_DURATION}) (?(stamps): (?P<step>{_DURATION}) )\] "
_RANGE = _pattern(rf" {_SEEN}(?(stamps)\) ){_WITHIN}{_OFFSET}")
_MEASURED = _pattern(
    rf" (?:(?P<function>{'|'.join([*OVER_TIME, 'rate'])}) \( )?{_SEEN}"
    rf"(?(function)(?(stamps)\) ){_WITHIN}){_OFFSET}(?(function)\) |(?(stamps)\) ))"
)
"""A selector, its timestamps, or a function of its range or of its timestamps, step by step."""


def answered(stored: Sequence[SimulatedSeries], text: str, at_ms: int) -> tuple[str, Tracks]:
    """Return the type of a query's answer and its series, or raise `QueryError`."""
    if found := _RANGE.fullmatch(text):
        return "matrix", _tracks(stored, found.groupdict(""), at_ms)
    points = _points(stored, text, at_ms)
    return "vector", {labels: [Sample(at_ms, value)] for labels, value in points.items()}


def _points(stored: Sequence[SimulatedSeries], text: str, at_ms: int) -> Points:
    """Return a vector; the operand of what stands around it is a query, too."""
    if text.strip() == "vector(1)":
        return {frozenset(): 1.0}
    if found := _TOPMOST.fullmatch(text):
        points = _points(stored, found["inner"], at_ms).items()
        by_size = sorted(points, key=lambda point: (point[1] == point[1], point[1]))
        return dict(by_size[::-1][: int(found["count"])])
    if found := _MERGED.fullmatch(text):
        return _merged(_points(stored, found["inner"], at_ms), found.groupdict(""))
    if found := _MEASURED.fullmatch(text):
        asked = found.groupdict("")
        return _measured(_tracks(stored, asked, at_ms), asked, at_ms)
    raise QueryError(f"parse error: not understood: {text!r}")


def _merged(points: Points, asked: Mapping[str, str]) -> Points:
    """Return one point a group: of those with equal labels `by` some names, or `without` them."""
    without = asked["how"] == "without"
    names = {*re.findall(_LABEL, asked["names"])} | ({"__name__"} if without else set())
    groups: dict[LabelSet, list[float]] = {}
    for labels, value in points.items():
        group = frozenset(label for label in labels if (label[0] in names) != without)
        groups.setdefault(group, []).append(value)
    return {group: MERGES[asked["merge"]](values) for group, values in groups.items()}


def _measured(tracks: Tracks, asked: Mapping[str, str], at_ms: int) -> Points:
    """Return what a function makes of each series; without a function it is the last sample."""
    name, points = asked["function"] or "last_over_time", dict[LabelSet, float]()
    dropped = None if name == "last_over_time" and not asked["stamps"] else "__name__"
    for labels, samples in tracks.items():
        kept = frozenset(label for label in labels if label[0] != dropped)
        if kept in points:
            raise QueryError("vector cannot contain metrics with the same labelset")
        if name in OVER_TIME:
            points[kept] = OVER_TIME[name]([sample.value for sample in samples])
        elif len(samples) > 1:
            points[kept] = rate(samples, *_span(asked, at_ms))
    return points


def _tracks(stored: Iterable[SimulatedSeries], asked: Mapping[str, str], at_ms: int) -> Tracks:
    """Return the series of a selector that have samples in its range, or are seen at its end."""
    named = f'__name__="{asked["name"]}"' if asked["name"] else ""
    holds = [_condition(*matcher) for matcher in _MATCHER.findall(named + asked["braces"])]
    if all(condition({}) for condition in holds):
        raise QueryError("parse error: a selector must contain at least one non-empty matcher")
    chosen = [one for one in stored if all(condition(one.labels) for condition in holds)]
    tracks = {frozenset(one.labels.items()): _samples(one, asked, at_ms) for one in chosen}
    return {labels: samples for labels, samples in tracks.items() if samples}


def _condition(label: str, operator: str, literal: str) -> Callable[[Mapping[str, str]], bool]:
    """Return whether labels fulfil a matcher; a pattern must match the whole of a value."""
    try:
        text = json.loads(literal, strict=False)
        whole = re.compile(text if "~" in operator else re.escape(text)).fullmatch
    except (ValueError, re.error) as error:
        raise QueryError(f"parse error: not understood: {literal}: {error}") from None
    return lambda labels: bool(whole(labels.get(label, ""))) == (operator[0] == "=")


def _samples(one: SimulatedSeries, asked: Mapping[str, str], at_ms: int) -> Sequence[Sample]:
    """Return a series' samples in a range, or what is seen at each of its steps or at its end."""
    start_ms, end_ms = _span(asked, at_ms)
    if asked["range"] and not asked["stamps"]:
        return one.between(start_ms, end_ms)
    step_ms = _milliseconds(asked["step"]) or 1
    first_ms = -(-max(start_ms, one.begins_ms) // step_ms) * step_ms
    looks = ((look_ms, one.latest(look_ms)) for look_ms in range(first_ms, end_ms + 1, step_ms))
    return [
        Sample(look_ms, sample.at_ms / 1000 if asked["stamps"] else sample.value)
        for look_ms, sample in looks
        if sample is not None and sample.at_ms > look_ms - LOOKBACK_MS
    ]


def _span(asked: Mapping[str, str], at_ms: int) -> tuple[int, int]:
    end_ms = at_ms - _milliseconds(asked["offset"])
    return end_ms - _milliseconds(asked["range"]), end_ms


def _milliseconds(duration: str) -> int:
    count, unit = re.findall(r"\d+|\D+", duration or "0ms")
    return int(count) * _UNITS_MS[unit]
