"""What scrapes between two batches saw: raw samples, sorted by scrape. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from poller.format import numbers
from poller.prometheus.answers import Row, Series
from poller.values import Glimpse, Stamp, is_canonical_uuid


class Glimpses:
    """Takes the answers of a trail; a scrape's values belong to the round that it saw first.

    `trail` holds the new rounds of each exporter in order; the last one is the batch's own. Of
    exporters without rounds every sample since the last one that was read is a glimpse of its own:
    `sampled` tells that one's time, `since` stands in where there is none. Where at most one can
    be new its time is enough (`take_newest`): the batch has its values.
    """

    def __init__(
        self,
        trail: Mapping[str, Sequence[Stamp]],
        since: float,
        sampled: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._since = since
        self._sampled = sampled
        self._stamps = {
            (stamp.instance, stamp.scraped): stamp
            for stamps in trail.values()
            for stamp in stamps[:-1]
        }
        self._counting = frozenset(trail)
        self._values: dict[tuple[float, str], dict[str, dict[str, str]]] = {}
        self._newest: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def take(self, answer: Iterable[Series]) -> None:
        """Sort the samples of an answer, or of a portion of one, by scrape."""
        for series in answer:
            labels = series.metric
            kernel, instance = labels.get("kernel_id", ""), labels.get("instance", "")
            name = labels.get("container_metric_name", "")
            if not name or not is_canonical_uuid(kernel):
                continue
            if series.values and instance not in self._counting:
                last = series.values[-1].at  # also one that is too old to be counted
                self._last[instance] = max(last, self._last.get(instance, last))
            for sample in series.values:
                if self._counts(instance, sample.at) and numbers.fault(sample.text) is None:
                    scrape = self._values.setdefault((sample.at, instance), {})
                    scrape.setdefault(kernel, {}).setdefault(name, sample.text)

    def take_newest(self, answer: Iterable[Row]) -> None:
        """Take when exporters without rounds were last scraped."""
        for row in answer:
            if row.value is not None and numbers.fault(row.value.text) is None:
                self._newest[row.metric.instance or ""] = float(row.value.text)

    def _counts(self, instance: str, at: float) -> bool:
        if instance in self._counting:
            return (instance, at) in self._stamps
        return self._is_new(instance, at)

    def _is_new(self, instance: str, at: float) -> bool:
        return at > self._sampled.get(instance, self._since)

    def repeated(self) -> frozenset[str]:
        """Return the exporters without rounds that were not scraped since they were last read."""
        newest = self._newest.items()
        return frozenset(instance for instance, at in newest if not self._is_new(instance, at))

    def newest(self) -> dict[str, float]:
        """Return the time of the last sample of each exporter without rounds."""
        return {**self._last, **self._newest}

    def in_order(self) -> list[Glimpse]:
        """Return what was seen, in the order of time."""
        return [
            Glimpse(self._stamps.get((instance, at)), values)
            for (at, instance), values in sorted(self._values.items(), key=lambda item: item[0])
        ]
