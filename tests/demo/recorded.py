"""Series for the simulated Prometheus whose samples are written out."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from poller.demo.cluster import Sample


@dataclass(frozen=True)
class Recorded:
    """A series like a simulated one, whose samples are written out."""

    labels: Mapping[str, str]
    samples: list[Sample]

    @property
    def begins_ms(self) -> int:
        return self.samples[0].at_ms

    def between(self, start_ms: int, end_ms: int) -> list[Sample]:
        stamps = [sample.at_ms for sample in self.samples]
        return self.samples[bisect_left(stamps, start_ms) : bisect_right(stamps, end_ms)]

    def latest(self, end_ms: int) -> Sample | None:
        before = self.between(0, end_ms)
        return before[-1] if before else None
