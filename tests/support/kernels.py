"""The scripted kernels of the live exporter: who they are, and how their metrics move."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from .openmetrics import UTILIZATION

_NAMESPACE = uuid.UUID("6b1f7a0e-0d0c-4c86-9d3e-6e6c1a5ab001")
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Metric:
    """How one metric moves: a counter by `step` a second or more, a gauge through five steps."""

    name: str
    is_counter: bool
    base: float
    step: float
    capacity: float | None = None


METRICS = (
    Metric("cpu_util", True, 0, 100, 1000),
    Metric("cpu_used", True, 0, 100),
    Metric("mem", False, 64 << 20, 1 << 20, _GIB),
    Metric("io_read", True, 0, 4096),
    Metric("io_write", True, 0, 8192),
    Metric("net_rx", True, 0, 1000),
    Metric("net_tx", True, 0, 500),
    Metric("io_scratch_size", False, 1 << 20, 4096),
    Metric("cuda_mem", False, _GIB, 16 << 20, 16 * _GIB),
    Metric("cuda_util", False, 10, 10, 100),
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """Who a kernel is. Its number, from 1, says how fast its counters run."""

    number: int
    agent_id: str
    kernel_id: str
    session_id: str
    user_id: str
    project_id: str

    def rate(self, metric: Metric) -> float:
        """Return how much a counter of this kernel grows in a second of work: 1 to 10 steps."""
        return metric.step * (1 + (self.number - 1) % 10)

    def current(self, metric: Metric, worked_s: float) -> float:
        """Return the value after so many seconds of work."""
        if metric.is_counter:
            return metric.base + self.rate(metric) * worked_s
        return metric.base + metric.step * ((worked_s + self.number) % 5)

    def labels(self, metric: Metric, value_type: str) -> dict[str, str]:
        """Return the labels of one series."""
        return {
            "__name__": UTILIZATION,
            "container_metric_name": metric.name,
            "agent_id": self.agent_id,
            "kernel_id": self.kernel_id,
            "session_id": self.session_id,
            "user_id": self.user_id,
            "project_id": self.project_id,
            "value_type": value_type,
        }


def make_kernel(number: int, agent_id: str) -> Kernel:
    """Return the kernel of a number: always with the same ids."""
    names = (f"{kind}-{number}" for kind in ("kernel", "session", "user", "project"))
    ids = [str(uuid.uuid5(_NAMESPACE, name)) for name in names]
    return Kernel(number, agent_id, *ids)
