"""The values shown at `/` and as JSON, typed; what is good or ready, `report` judges.

Times are Unix seconds, durations seconds; None is what is not known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Role = Literal["leads", "stands by", "does not lead"]
Result = Literal["success", "failed", "standby"]
KEPT_CYCLES = 60
"""So many of the last cycles are told, in the chart too."""


@dataclass(frozen=True, slots=True)
class CycleRecord:
    """One cycle; `parts` are its seconds by part, in the order in which they were run."""

    began: float
    result: Result
    reason: str
    seconds: float
    parts: Mapping[str, float]
    written: int = 0


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One agent. `counter` names what counts its rounds, `rounds` is its value, `measured` when the
    last round was first seen.

    `writes`: whether it still tries to write kernels' keys itself. `stalled`: it answers and
    measures nothing. `silent`: it was last seen with kernels, and no sample of it comes any more.
    """

    name: str
    kernels: int | None = None
    stalled: bool = False
    counter: str | None = None
    rounds: float | None = None
    interval_s: float | None = None
    measured: float | None = None
    writes: bool | None = None
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is not well now, since when, and what to do."""

    subject: str
    reason: str
    detail: str
    advice: str
    since: float
    count: int


@dataclass(frozen=True, slots=True)
class WithheldKernel:
    """A kernel that is not written, why, and since when."""

    kernel: str
    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that is told. Counts of kernels are the last finished cycle's.

    `publishes_since` is when the last failure ended, `fails_since` when it began; at most one
    is set. `withheld_kernels` names those that are withheld for more than a few cycles, up to
    a number; `withheld` counts them all, by reason.
    """

    version: str
    now: float
    started: float
    role: Role
    interval_s: float
    holder: str | None = None
    why_not_ready: str = ""
    publishes_since: float | None = None
    fails_since: float | None = None
    last_success: float | None = None
    kernels: int = 0
    written: int = 0
    withheld: Mapping[str, int] = field(default_factory=dict)
    failed_keys: Mapping[str, int] = field(default_factory=dict)
    rival_keys: int = 0
    troubles: tuple[Trouble, ...] = ()
    withheld_kernels: tuple[WithheldKernel, ...] = ()
    cycles: tuple[CycleRecord, ...] = ()
    agents: tuple[AgentStatus, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts; `ready` is what `/-/ready` says."""
        return {"ready": not self.why_not_ready, **asdict(self)}


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """One kernel from both sides, as `show` tells it.

    `lines` are said before the table, whose `rows` are (metric, field, what Prometheus says,
    what the key says).
    """

    kernel: str
    lines: tuple[str, ...] = ()
    rows: tuple[tuple[str, str, str, str], ...] = ()


LookUp = Callable[[str], Awaitable[KernelFacts]]
"""Looks one kernel up by its id; a `PollerError` says why it cannot."""
