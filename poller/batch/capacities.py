"""Whose capacities are asked for: of those kernels whose capacities may have changed. Pure.

An agent measures a capacity in every round, but it follows from what a kernel and its agent were
given at their start. So it is asked for then, where a value contradicts it, and now and then.
"""

from __future__ import annotations

import zlib
from collections.abc import Container, Iterable, Iterator, Mapping

from poller.format.catalog import Catalog
from poller.history.state import KernelState, MetricState

AGAIN_S = 300.0
"""The capacities of an exporter's kernels are asked for again after so long at the latest."""


class Capacities:
    """Knows when the capacities of each exporter's kernels were read last, by evaluation time."""

    def __init__(self) -> None:
        self._read: dict[str, float] = {}

    def due(self, instances: Iterable[str], at: float) -> frozenset[str]:
        """Return those of some exporters whose turn it is."""
        return frozenset(name for name in instances if self._is_due(name, at))

    def _is_due(self, instance: str, at: float) -> bool:
        last = self._read.get(instance)
        return last is None or not 0 <= at - last < _turn_s(instance)

    def were_read(self, instances: Iterable[str], at: float) -> None:
        """Take whose capacities were read."""
        self._read |= dict.fromkeys(instances, at)

    def keep(self, instances: Container[str]) -> None:
        """Forget all exporters but these."""
        self._read = {name: at for name, at in self._read.items() if name in instances}


def _turn_s(instance: str) -> float:
    """Return how long a capacity is believed; not equally long, or all were due at once."""
    return AGAIN_S * (0.5 + zlib.crc32(instance.encode()) % 1000 / 2000)


def may_have_changed(
    name: str,
    current: Mapping[str, str],
    asked: Container[str],
    kernels: Mapping[str, KernelState],
    catalog: Catalog,
) -> Iterator[str]:
    """Yield the kernels whose capacity of one metric is unknown, or not to be believed any more.

    `current` is what a batch says of them, `asked` those whose capacity it tells, `kernels` what
    was known before.
    """
    cumulative = catalog[name].cumulative
    for kernel_id, text in current.items():
        kernel = kernels.get(kernel_id)
        kept = kernel.metrics.get(name) if kernel is not None else None
        if (kept is None or _contradicts(text, kept, cumulative)) and kernel_id not in asked:
            yield kernel_id


def _contradicts(text: str, kept: MetricState, cumulative: bool) -> bool:
    """Whether a counter began anew, a gauge is larger than it can be, or no capacity was known."""
    if kept.capacity is None:
        return True
    return float(text) < kept.value if cumulative else float(text) > float(kept.capacity)
