"""A scripted cluster: answers the poller's queries for kernels whose values follow from the time.

`cpu_used` is the milliseconds since the world began, `io_read` four times, `mem` one MiB more:
a value that mixes two times does not add up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

from .answers import Answer, Row, Track, bad_query, matrix, vector
from .kernels import make_kernel
from .openmetrics import (
    DURATION_COUNT,
    DURATION_SUM,
    ROUNDS,
    STAGE_COUNT,
    STAGE_SECONDS,
    UTILIZATION,
)

MIB = 1 << 20
INSTANCE = "agent0:6003"
_SPEEDS = {"cpu_util": 0.3, "cpu_used": 1, "mem": 1, "io_read": 4}
_CAPACITIES = {"cpu_util": 1000, "mem": 1 << 40}
_TARGET = {"instance": INSTANCE, "job": "agents"}
_GATHERING, _LASTING = 0.1, 0.12
"""Shares of an interval that gathering takes, and a whole round."""

_SERIES = r"backendai_container_utilization\{(?P<matchers>[^{}]*)\}"
_RANGE = r"\[(?P<range>\d+m?s|\d+m)\]"
_BY = r"(?:max|min|sum|count) (?P<how>by|without) \((?P<labels>[\w, ]+)\) "
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"')
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}

Counting = Literal["rounds", "successes"]
Query = re.Match[str]


class _Series(NamedTuple):
    labels: dict[str, str]
    metric: str
    value_type: str


class World:
    """Kernels `ids` on one agent, all busy. `handler` is for `ScriptedPrometheus`.

    The agent measures every `measure_s`, by default so often that no two polls see the same; it
    was scraped at every full second, and is whenever somebody asks. `counts` says what it counts:
    its rounds, as agents do since 26.4.4, only their successes, as older ones, or nothing.
    From `stalled_at` on its measurements stand still.

    `rows` are answered to whom asks for metrics that have no query of their own, `more` beside
    the rows of a (metric, part). `gone`: Prometheus holds nothing any more. What is asked in words
    that nobody here knows is refused as a bad query.
    """

    def __init__(
        self, kernels: int = 3, born: float = 1_700_000_000.0, measure_s: float = 0.001
    ) -> None:
        made = [make_kernel(number, "i-agent0") for number in range(1, kernels + 1)]
        self.ids = [kernel.kernel_id for kernel in made]
        self.born = born
        self.measure_s = measure_s
        self.counts: Counting | None = "rounds"
        self.stalled_at: float | None = None
        self.rows: list[Row] = []
        self.more: dict[tuple[str, str], list[Row]] = {}
        self.gone = False
        self._forms = [(re.compile(form), answer) for form, answer in self._known_forms()]

    def rounds(self, time: float) -> int:
        """Return how many measurements there were by that time."""
        until = time if self.stalled_at is None else min(time, self.stalled_at)
        return round((until - self.born) * 1000) // round(self.measure_s * 1000)

    def measured(self, time: float) -> float:
        """Return when the last measurement was, at that time."""
        return self.born + self.rounds(time) * round(self.measure_s * 1000) / 1000

    def value(self, metric: str, time: float) -> float:
        """Return what every kernel's `current` series of a metric says at that time."""
        passed_ms = self.rounds(time) * round(self.measure_s * 1000)
        return _SPEEDS[metric] * passed_ms + (MIB if metric == "mem" else 0)

    def handler(self, query: str, time: float, params: Mapping[str, str]) -> Answer:
        """Answer one query."""
        for form, answer in self._forms:
            found = form.fullmatch(query)
            if found is not None:
                return answer(found, time)
        return bad_query(f"the scripted cluster knows no such query: {query[:200]}")

    def _known_forms(self) -> Iterator[tuple[str, Callable[[Query, float], Answer]]]:
        yield r"vector\(1\)", lambda found, time: vector([({}, 1)], time)
        yield rf"(?P<name>backendai_sta\w+)?\{{(?P<matchers>[^{{}}]*)\}}{_RANGE}", self._counters
        census = r"count by \(instance\) \(group by \(instance, kernel_id\) "
        yield rf"{census}\({_SERIES}\)\)", self._census
        yield rf"topk\(\d+, {_BY}\((?P<function>rate)\({_SERIES}{_RANGE}\)\)\)", self._over
        yield rf"{_BY}\({_SERIES}\)", self._now
        yield rf"{_BY}\({_SERIES} offset (?P<range>\d+ms)\)", self._earlier
        yield rf"{_BY}\((?P<function>\w+)\({_SERIES}{_RANGE}\)\)", self._over
        yield rf"{_BY}\(timestamp\({_SERIES}\)\)", self._stamps
        births = r"\[(?P<range>\d+ms):60s\]"
        yield rf"{_BY}\(min_over_time\(timestamp\({_SERIES}\){births}\)\)", self._births
        yield rf"{_SERIES}{_RANGE}", self._samples

    # --- what the agent counts ------------------------------------------------------------------

    def _counters(self, found: Query, time: float) -> Answer:
        tracks: list[Track] = []
        for labels, per_round in self._counted():
            asked = found["name"] in (None, labels["__name__"])
            if asked and not self.gone and _matches(labels, found["matchers"]):
                samples = [(at, self.rounds(at) * per_round) for at in _scrapes(time, found)]
                tracks.append((labels, samples))
        return matrix(tracks)

    def _counted(self) -> Iterator[tuple[dict[str, str], float]]:
        """Return the counters' labels, and how much each grows in a round."""
        task = {"agent_id": "i-agent0", "stat_scope": "container", **_TARGET}
        if self.counts is not None:
            yield {"__name__": ROUNDS, **task}, 1
        if self.counts == "rounds":
            stage = {"upper_layer": "collect_container_stat", **_TARGET}
            for name in ("gather_measures", "redis_write"):
                labels = {"__name__": STAGE_COUNT, "stage": name, "success": "True", **stage}
                yield labels, 1
            seconds = {"__name__": STAGE_SECONDS, "stage": "gather_measures", **stage}
            yield seconds, _GATHERING * self.measure_s
            yield {"__name__": DURATION_COUNT, **task}, 1
            yield {"__name__": DURATION_SUM, **task}, _LASTING * self.measure_s

    # --- the kernels ----------------------------------------------------------------------------

    def _series(self, matchers: str) -> Iterator[_Series]:
        kinds = [(metric, "current") for metric in _SPEEDS]
        kinds += [(metric, "capacity") for metric in _CAPACITIES]
        for kernel in () if self.gone else self.ids:
            for metric, value_type in kinds:
                labels = {
                    "__name__": UTILIZATION,
                    "kernel_id": kernel,
                    "container_metric_name": metric,
                    "value_type": value_type,
                    "agent_id": "i-agent0",
                    "session_id": f"session-of-{kernel}",
                    "user_id": "user",
                    "project_id": "project",
                    **_TARGET,
                }
                if _matches(labels, matchers):
                    yield _Series(labels, metric, value_type)

    def _at(self, one: _Series, time: float) -> float:
        if one.value_type == "capacity":
            return _CAPACITIES[one.metric]
        return self.value(one.metric, time)

    def _census(self, found: Query, time: float) -> Answer:
        there = {one.labels["kernel_id"] for one in self._series(found["matchers"])}
        return vector([({"instance": INSTANCE}, len(there))] if there else [], time)

    def _now(self, found: Query, time: float) -> Answer:
        rows = self._rows(found, lambda one: self._at(one, time))
        extra = self.rows if "!~" in found["matchers"] and not self.gone else []
        return self._answer(found, [*rows, *extra], time)

    def _earlier(self, found: Query, time: float) -> Answer:
        return self._answer(found, self._rows(found, lambda one: 1), time)

    def _stamps(self, found: Query, time: float) -> Answer:
        return self._answer(found, self._rows(found, lambda one: time), time)

    def _births(self, found: Query, time: float) -> Answer:
        first = -(-(time - _seconds(found["range"])) // 60) * 60
        return self._answer(found, self._rows(found, lambda one: first), time)

    def _over(self, found: Query, time: float) -> Answer:
        range_s = _seconds(found["range"])
        scrapes = max(1, int(range_s))

        def over(one: _Series) -> float:
            first, last = self._at(one, time - range_s), self._at(one, time)
            return {
                "rate": (last - first) / range_s,
                "changes": scrapes if last > first else 0,
                "min_over_time": first,
                "max_over_time": last,
                "sum_over_time": scrapes * (first + last) / 2,
                "count_over_time": scrapes,
            }[function]

        function = found["function"]
        if function not in _FUNCTIONS:
            return bad_query(f"the scripted cluster knows no function {function}")
        return self._answer(found, self._rows(found, over), time)

    def _samples(self, found: Query, time: float) -> Answer:
        times = list(_scrapes(time, found))
        return matrix(
            (one.labels, [(at, self._at(one, at)) for at in times])
            for one in self._series(found["matchers"])
        )

    def _rows(self, found: Query, value: Callable[[_Series], float]) -> Iterator[Row]:
        names = set(found["labels"].replace(" ", "").split(","))
        keeps = names.__contains__ if found["how"] == "by" else lambda name: name not in names
        rows: dict[tuple[tuple[str, str], ...], Row] = {}
        for one in self._series(found["matchers"]):
            labels = {k: v for k, v in one.labels.items() if k != "__name__" and keeps(k)}
            rows[tuple(labels.items())] = (labels, value(one))
        yield from rows.values()

    def _answer(self, found: Query, rows: Iterable[Row], time: float) -> Answer:
        asked = {name: text for name, _, text in _MATCHER.findall(found["matchers"])}
        part = found.groupdict().get("function") or asked.get("value_type", "")
        more = self.more.get((asked.get("container_metric_name", ""), part), [])
        return vector([*rows, *more], time)


_FUNCTIONS = {
    "rate", "changes", "min_over_time", "max_over_time", "sum_over_time", "count_over_time"
}  # fmt: skip


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)(ms|s|m)", text)
    assert found is not None
    return int(found[1]) * _UNITS[found[2]]


def _scrapes(time: float, found: Query) -> Iterator[float]:
    """Return when the agent was scraped in the range before a time: every second, and then."""
    first = int(time - _seconds(found["range"])) + 1
    yield from (float(second) for second in range(first, -int(-time // 1)) if second < time)
    yield time


def _matches(labels: Mapping[str, str], matchers: str) -> bool:
    tests = _parsed(matchers)
    return all(_fits(labels.get(name, ""), sign, text) for name, sign, text in tests)


@lru_cache(1000)
def _parsed(matchers: str) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = _MATCHER.findall(matchers)
    return found


@lru_cache(10_000)  # asked for each of hundreds of series, a query
def _fits(value: str, sign: str, text: str) -> bool:
    text = re.sub(r"\\(.)", r"\1", text)
    equal = re.fullmatch(text, value) is not None if "~" in sign else value == text
    return equal is not sign.startswith("!")
