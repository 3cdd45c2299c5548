"""What is raised on purpose. Each class says its consequence."""

from __future__ import annotations

from typing import Self


class PollerError(Exception):
    """Root of everything the poller raises on purpose."""


class ConfigError(PollerError):
    """The settings cannot work: nothing is started, exit status 2.

    `problems` holds (dotted key, what is wrong) pairs; no value of a setting is in them.
    """

    status = 2

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{key}: {text}" for key, text in problems))


class UnreadableFile(ConfigError):
    """A file that the settings name cannot be read now, exit status 3.

    It may come or be mended without a change of the settings, so another start is worth it.
    """

    status = 3


class RefusedRequest(PollerError):
    """What was asked for cannot be meant: nothing is done, exit status 2."""


class CycleError(PollerError):
    """The cycle fails whole and writes nothing more; the next one starts on time.

    `subject` is the neighbour at fault (`prometheus`, `redis`, `clock`), `reason` a short
    word fit for a metric label, `advice` what an operator can do. `address` is the server that was
    tried, without credentials; `detail` names it too.
    """

    subject = "cycle"

    def __init__(self, reason: str, detail: str, advice: str = "") -> None:
        self.reason = reason
        self.detail = detail
        self.advice = advice
        self.address = ""
        super().__init__(f"{reason}: {detail}")

    def at(self, address: str) -> Self:
        """Name the server that was tried, unless another one is named already; return it."""
        if address and not self.address:
            self.address = address
            self.telling(f"{self.detail} ({address})")
        return self

    def telling(self, detail: str) -> Self:
        """Tell this instead; return it."""
        self.detail = detail
        self.args = (f"{self.reason}: {detail}",)
        return self


class PrometheusError(CycleError):
    """Prometheus gave no usable answer."""

    subject = "prometheus"


class DroppedConnection(PrometheusError):
    """The connection broke before an answer came; the query may be sent once more."""


class PartialAnswer(PrometheusError):
    """The answer came with warnings: part of the data is missing."""


class StoreError(CycleError):
    """Redis could not be read or written."""

    subject = "redis"


class LeaseLost(StoreError):
    """Another poller holds the lease, or ours ran out: we must not write."""

    subject = "leader"


class ClockError(CycleError):
    """Our clock and the server's disagree too far to trust the evaluation time."""

    subject = "clock"


class EmptyAnswer(CycleError):
    """No kernel at all in the answer while there were some: not zero, not an error."""

    subject = "kernels"


class UnknownKernel(CycleError):
    """A kernel was asked for that nobody knows."""

    subject = "kernel"
