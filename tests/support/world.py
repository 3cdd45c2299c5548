"""A scripted cluster: answers the poller's queries for kernels whose values follow from the time.

`cpu_used` is the milliseconds since the world began, `io_read` four times, `mem` one MiB more:
a value that mixes two times does not add up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .answers import Answer, Row, matrix, vector
from .kernels import make_kernel
from .openmetrics import ROUNDS

RATES = {"cpu_util": 300.0, "io_read": 4000.0}
MIB = 1 << 20
_METRICS = ("cpu_util", "cpu_used", "mem")
_METRIC = re.compile(r'container_metric_name=~?"([^"]+)"')
_VALUE_TYPE = re.compile(r'value_type="(\w+)"')
_KERNELS = re.compile(r'kernel_id=~"([^"]+)"')


class World:
    """Kernels `ids` on one agent, all busy. `handler` is for `ScriptedPrometheus`.

    `rows` are answered to whom asks for metrics that have no query of their own; `rounds_rate`
    None: no agent counts its rounds. `gone`: Prometheus holds nothing any more.
    """

    def __init__(self, kernels: int = 3, born: float = 1_700_000_000.0) -> None:
        made = [make_kernel(number, "i-agent0") for number in range(1, kernels + 1)]
        self.ids = [kernel.kernel_id for kernel in made]
        self.born = born
        self.rows: list[Row] = []
        self.more: dict[tuple[str, str], list[Row]] = {}
        self.rounds_rate: float | None = 1.0
        self.gone = False

    def value(self, metric: str, time: float) -> float:
        """Return what every kernel's `current` series of a metric says at that time."""
        passed_ms = round((time - self.born) * 1000)
        values = {
            "cpu_util": 0.3 * passed_ms,
            "cpu_used": passed_ms,
            "mem": MIB + passed_ms,
            "io_read": 4 * passed_ms,
        }
        return values[metric]

    def handler(self, query: str, time: float, params: Mapping[str, str]) -> Answer:
        """Answer one query."""
        if query == "vector(1)":
            return vector([({}, 1)], time)
        if self.gone:
            return matrix([]) if query.endswith("]") else vector([], time)
        if ROUNDS in query:
            return self._rounds(query, time)
        if query.startswith(("count by (container_metric_name", "count(group")):
            return self._survey(query, time)
        return self._kernels(query, time)

    def _rounds(self, query: str, time: float) -> Answer:
        labels = {"agent_id": "i-agent0", "stat_scope": "container"}
        if self.rounds_rate is None:
            return matrix([]) if query.endswith("]") else vector([], time)
        if query.endswith("]"):
            samples = [(float(second), second) for second in range(int(time) - 60, int(time))]
            return matrix([(labels, samples)])
        return vector([(labels, self.rounds_rate)], time)

    def _survey(self, query: str, time: float) -> Answer:
        if query.startswith("count(group"):
            return vector([({}, len(self.ids))], time)
        pairs = [(name, "current") for name in ("cpu_util", "cpu_used", "mem", "io_read")]
        pairs += [("cpu_util", "capacity"), ("mem", "capacity")]
        rows = [({"container_metric_name": a, "value_type": b}, len(self.ids)) for a, b in pairs]
        return vector(rows, time)

    def _kernels(self, query: str, time: float) -> Answer:
        if query.endswith("]"):
            return matrix([])  # no first samples: the first value seen stands in
        if 'container_metric_name!~"' in query:
            return vector(self.rows, time)
        found = _METRIC.search(query)
        by_metric = "by (kernel_id, container_metric_name)" in query
        metrics = found[1].split("|") if found else list(_METRICS) if by_metric else [""]
        more = self.more.get((metrics[0], self._part(query)), [])
        rows = [row for name in metrics for row in self._rows(query, name, time)]
        return vector([*rows, *more], time)

    def _part(self, query: str) -> str:
        for part, sign in (("rate", "(rate("), ("over", "_over_time("), ("moved", "(changes(")):
            if sign in query:
                return part
        found = _VALUE_TYPE.search(query)
        return found[1] if found else ""

    def _rows(self, query: str, metric: str, time: float) -> Iterator[Row]:
        part = self._part(query)
        value: Any = None
        if part == "current" and " offset " not in query:
            value = self.value(metric, time)
        elif part == "capacity":
            value = {"cpu_util": 1000, "mem": 1 << 40}.get(metric)
        elif part == "rate":
            value = RATES.get(metric)
        elif part == "moved" or "count_over_time" in query or " offset " in query:
            value = 1
        elif part == "over" and "timestamp(" not in query:
            value = self.value(metric, time)
        if value is not None:
            for kernel in self._asked(query):
                yield {"kernel_id": kernel, "container_metric_name": metric, **_AGENT}, value

    def _asked(self, query: str) -> list[str]:
        found = _KERNELS.search(query)
        return [kernel for kernel in self.ids if not found or re.fullmatch(found[1], kernel)]


_AGENT = {"agent_id": "i-agent0"}
