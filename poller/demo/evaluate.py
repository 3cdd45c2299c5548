"""The tree of a query and stored series into an answer, by the rules of Prometheus 2. Pure.

An instant vector sees a sample until it is as old as the lookback; a range includes both its
ends; `rate` extrapolates to the ends of its range as Prometheus does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from poller.demo import functions
from poller.demo.functions import Sample
from poller.demo.tree import (
    Aggregation,
    Constant,
    Expression,
    Matcher,
    OverRange,
    Range,
    Selector,
    Subquery,
    Timestamp,
)

LOOKBACK_MS = 300_000
Labels = Mapping[str, str]


class Stored(Protocol):
    """One stored series; times are Unix milliseconds."""

    @property
    def labels(self) -> Labels:
        """Every label, `__name__` among them."""

    @property
    def begins_ms(self) -> int:
        """Return a time before which there is no sample."""

    def between(self, start_ms: int, end_ms: int) -> Sequence[Sample]:
        """Return the samples from start to end, both included, in order of time."""

    def latest(self, end_ms: int) -> Sample | None:
        """Return the last sample at or before end."""


class Point(NamedTuple):
    """One series of an instant vector."""

    labels: Labels
    value: float


class Track(NamedTuple):
    """One series of a range vector."""

    labels: Labels
    samples: Sequence[Sample]


class Evaluator:
    """Answers one query; a selector's series are looked up once."""

    def __init__(self, stored: Iterable[Stored]) -> None:
        self._stored = list(stored)
        self._begins_ms = min((one.begins_ms for one in self._stored), default=0)
        self._found: dict[tuple[Matcher, ...], list[Stored]] = {}

    def tracks(self, expression: Range | Subquery, at_ms: int) -> list[Track]:
        """Return a range vector at the time `at_ms`."""
        if isinstance(expression, Subquery):
            return self._steps(expression, at_ms)
        end_ms = at_ms - expression.selector.offset_ms
        tracks = [
            Track(one.labels, one.between(end_ms - expression.range_ms, end_ms))
            for one in self._series(expression.selector)
        ]
        return [track for track in tracks if track.samples]

    def points(self, expression: Expression, at_ms: int) -> list[Point]:
        """Return an instant vector at the time `at_ms`."""
        if isinstance(expression, Selector):
            return [Point(labels, sample.value) for labels, sample in self._seen(expression, at_ms)]
        if isinstance(expression, Constant):
            return [Point({}, expression.value)]
        if isinstance(expression, Timestamp):
            return self._timestamps(expression.inner, at_ms)
        if isinstance(expression, OverRange):
            return self._over_range(expression, at_ms)
        assert isinstance(expression, Aggregation), "the parser lets no range in here"
        points = self.points(expression.inner, at_ms)
        if expression.operator == "topk":
            return _largest(expression, points)
        return _aggregated(expression, points)

    def _series(self, selector: Selector) -> list[Stored]:
        found = self._found.get(selector.matchers)
        if found is None:
            conditions = [(matcher.label, matcher.holds) for matcher in selector.matchers]
            found = self._found[selector.matchers] = [
                one
                for one in self._stored
                if all(holds(one.labels.get(label, "")) for label, holds in conditions)
            ]
        return found

    def _seen(self, selector: Selector, at_ms: int) -> list[tuple[Labels, Sample]]:
        end_ms = at_ms - selector.offset_ms
        seen = []
        for one in self._series(selector):
            sample = one.latest(end_ms)
            if sample is not None and sample.at_ms > end_ms - LOOKBACK_MS:
                seen.append((one.labels, sample))
        return seen

    def _timestamps(self, inner: Expression, at_ms: int) -> list[Point]:
        if isinstance(inner, Selector):
            return [
                Point(_unnamed(labels), sample.at_ms / 1000)
                for labels, sample in self._seen(inner, at_ms)
            ]
        return [Point(_unnamed(one.labels), at_ms / 1000) for one in self.points(inner, at_ms)]

    def _steps(self, expression: Subquery, at_ms: int) -> list[Track]:
        step_ms = expression.step_ms
        start_ms = max(at_ms - expression.range_ms, self._begins_ms)  # nothing is older
        first_ms = -(-start_ms // step_ms) * step_ms
        tracks: dict[frozenset[tuple[str, str]], tuple[Labels, list[Sample]]] = {}
        for step in range(first_ms, at_ms + 1, step_ms):
            for labels, value in self.points(expression.inner, step):
                track = tracks.setdefault(frozenset(labels.items()), (labels, []))
                track[1].append(Sample(step, value))
        return [Track(labels, samples) for labels, samples in tracks.values()]

    def _over_range(self, expression: OverRange, at_ms: int) -> list[Point]:
        samples = expression.samples
        end_ms = at_ms - (samples.selector.offset_ms if isinstance(samples, Range) else 0)
        over = functions.Span(end_ms - samples.range_ms, end_ms)
        points = []
        for labels, track in self.tracks(samples, at_ms):
            value = functions.OVER_RANGE[expression.function](track, over)
            if value is not None:
                points.append(Point(_unnamed(labels), value))
        return points


def _unnamed(labels: Labels) -> Labels:
    return {name: value for name, value in labels.items() if name != "__name__"}


def _grouper(expression: Aggregation) -> Callable[[Labels], Labels]:
    names = expression.labels
    if expression.without:
        left_out = names | {"__name__"}
        return lambda labels: {name: labels[name] for name in labels if name not in left_out}
    return lambda labels: {name: labels[name] for name in labels if name in names}


def _groups(expression: Aggregation, points: Iterable[Point]) -> list[tuple[Labels, list[Point]]]:
    group_of = _grouper(expression)
    groups: dict[frozenset[tuple[str, str]], tuple[Labels, list[Point]]] = {}
    for point in points:
        labels = group_of(point.labels)
        groups.setdefault(frozenset(labels.items()), (labels, []))[1].append(point)
    return list(groups.values())


def _aggregated(expression: Aggregation, points: Iterable[Point]) -> list[Point]:
    merge = functions.AGGREGATIONS[expression.operator]
    return [
        Point(labels, merge([point.value for point in group]))
        for labels, group in _groups(expression, points)
    ]


def _largest(expression: Aggregation, points: Iterable[Point]) -> list[Point]:
    """Return the `topk` of every group, the largest first and NaN last, with all their labels."""
    largest = []
    for _, group in _groups(expression, points):
        ordered = sorted(group, key=lambda point: functions.size(point.value), reverse=True)
        largest += ordered[: int(expression.parameter)]
    return largest
