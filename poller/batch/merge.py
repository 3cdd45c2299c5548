"""Rows of one batch in, one observation per kernel out. Pure and total.

A row that cannot serve is dropped and counted by reason; it never costs another row. Duplicate
series with one value are one row; with differing values the kernel is a conflict, settled from
what tells the series apart (`duplicates`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat

from poller.format import numbers
from poller.format.catalog import ESSENTIAL, Catalog
from poller.prometheus.answers import Row
from poller.values import Batch, Drop, Observation, Part, Query, Reading, is_canonical_uuid

Column = dict[str, str]
_VALUE_TYPES = ("current", "capacity")
_PLAIN = re.compile(r"(?:[0-9]{1,300}+(?:\.[0-9]{1,300}+)?+(?: |\Z))++", re.ASCII)
"""Plain decimals without a sign, one blank between two."""


def _size(text: str) -> tuple[float, str]:
    return float(text), text


@dataclass(slots=True)
class Merger:
    """Takes the answers of one batch as they come, in any order; `finish` gives the batch."""

    catalog: Catalog
    ids: dict[str, str] = field(default_factory=dict)
    """Canonical kernel ids met so far, one str object each; the caller may keep it."""
    dropped: Counter[Drop] = field(default_factory=Counter)
    columns: dict[tuple[Part, str], Column] = field(default_factory=dict)
    conflicts: set[str] = field(default_factory=set)
    agents: dict[str, str] = field(default_factory=dict)
    instances: dict[str, str] = field(default_factory=dict)
    observations: dict[str, Observation] = field(default_factory=dict)

    def take(self, query: Query, rows: Sequence[Row]) -> None:
        """Fold an answer, or a portion of one, into the columns."""
        if not query.metric:
            self._take_several(query.part, rows)
        else:
            column = self.columns.setdefault((query.part, query.metric), {})
            self._take_column(query, rows, column)
            if query.metric in ESSENTIAL and query.part == "current":
                self._take_agents(rows)

    def _take_agents(self, rows: Iterable[Row]) -> None:
        for row in rows:
            labels = row.metric
            kernel = labels.kernel_id
            if row.value is None or kernel not in self.ids:
                continue
            if labels.agent_id and labels.agent_id > self.agents.get(kernel, ""):
                self.agents[kernel] = labels.agent_id
            if labels.instance and labels.instance > self.instances.get(kernel, ""):
                self.instances[kernel] = labels.instance

    def _take_column(self, query: Query, rows: Sequence[Row], column: Column) -> None:
        clean = self._clean(rows)
        if clean and column.keys().isdisjoint(clean):
            column.update(clean)
            return
        counts_up = query.part == "current" and self.catalog[query.metric].cumulative
        self._take_row_by_row(query, rows, column, signed=not counts_up and query.part != "rate")

    def _clean(self, rows: Sequence[Row]) -> Column:
        """Return what all rows say at once if nothing in them is odd, else nothing."""
        ids = self.ids
        try:
            column = {ids[row.metric.kernel_id]: row.value.text for row in rows}  # type: ignore[index, union-attr]
        except (KeyError, AttributeError):  # a kernel seen for the first time, or a histogram
            return {}
        odd = len(column) != len(rows) or not _PLAIN.fullmatch(" ".join(column.values()))
        return {} if odd else column

    def _take_row_by_row(
        self, query: Query, rows: Iterable[Row], column: Column, signed: bool
    ) -> None:
        ids = self.ids
        for row in rows:
            value = row.value
            kernel = ids.get(row.metric.kernel_id)  # type: ignore[arg-type]
            if value is None or kernel is None:
                kernel = self._admitted(row)
                if kernel is None or value is None:
                    continue
            text = value.text
            if not (text.isdigit() and text.isascii() and len(text) < 300):
                fault = numbers.fault(text)
                if fault is None and not signed and text[0] == "-":
                    fault = "negative"
                if fault is not None:
                    self.dropped[fault] += 1
                    continue
            if kernel in column:
                self._collide(query.part, column, kernel, text)
            else:
                column[kernel] = text

    def _collide(self, part: Part, column: Column, kernel: str, text: str) -> None:
        self.dropped["duplicate"] += 1
        if column[kernel] != text:
            if part in _VALUE_TYPES:
                self.conflicts.add(kernel)
            column[kernel] = max(column[kernel], text, key=_size)

    def _admitted(self, row: Row) -> str | None:
        fault = _fault(row)
        if fault is not None:
            self.dropped[fault] += 1
            return None
        kernel = row.metric.kernel_id
        assert kernel is not None
        return self.ids.setdefault(kernel, kernel)

    def _take_several(self, part: Part, rows: Iterable[Row]) -> None:
        """Sort the rows of several metrics into their columns."""
        by_metric: dict[str, list[Row]] = {}
        for row in rows:
            by_metric.setdefault(row.metric.container_metric_name or "", []).append(row)
        for name, own in by_metric.items():
            if self.catalog.admits(name):
                self.take(Query(part, name, ""), own)
            else:
                self.dropped["bad_metric_name" if name else "missing_label"] += len(own)

    def found(self) -> dict[str, bool]:
        """Return the metrics that were met: {name: has a capacity series}."""
        return {
            name: bool(self.columns.get(("capacity", name)))
            for (part, name), column in self.columns.items()
            if part == "current" and column
        }

    def fold(self) -> Iterator[None]:
        """Put together what each metric's columns say of the kernels, when all have come.

        The caller may see to something else after each metric.
        """
        observations = self.observations
        names = [name for part, name in self.columns if part == "current"]
        for name in names:
            current = self.columns["current", name]
            for kernel, reading in self._readings(name, current):
                try:
                    observations[kernel][name] = reading
                except KeyError:
                    observations[kernel] = {name: reading}
            yield

    def finish(self, at: float, asked: Iterable[str] = ()) -> Batch:
        """Return the batch, when all is folded. Kernels `asked` for and not found are empty."""
        observations = self.observations
        for kernel in asked:
            observations.setdefault(kernel, {})
        samples = self.columns.get(("samples", ESSENTIAL[0]), {})
        return Batch(
            time=at,
            observations=observations,
            samples={kernel: float(text) for kernel, text in samples.items()},
            agents=self.agents,
            instances=self.instances,
            conflicts=frozenset(self.conflicts & observations.keys()),
            dropped=self.dropped,
        )

    def _readings(self, name: str, current: Column) -> Iterator[tuple[str, Reading]]:
        """Return each kernel's reading of one metric; what is silent on it is None."""
        beside = [
            map(column.get, current) if (column := self.columns.get((part, name))) else repeat(None)
            for part in _BESIDE
        ]
        return zip(current, map(Reading, current.values(), *beside), strict=True)


def _fault(row: Row) -> Drop | None:
    """Why a row cannot serve, as a metric label; or None."""
    if row.value is None:
        return "histogram"
    kernel = row.metric.kernel_id
    if not kernel:
        return "missing_label"
    return None if is_canonical_uuid(kernel) else "bad_uuid"


_BESIDE: tuple[Part, ...] = ("capacity", "rate")
