"""The values that travel between the stages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

Kind = Literal["gauge", "diff", "rate"]
Part = Literal[
    "current", "capacity", "rate", "peak", "trough", "mean", "samples", "rounds", "counted", "rest"
]
Coverage = Literal["instant", "between", "gap"]
Fields = dict[str, str]
"""One metric of one kernel as readers see it: `{"current": "12", "pct": "0.5", …}`."""

LiveStat = dict[str, Fields]
"""One kernel as readers see it, in the legacy order: `{metric: Fields}`."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_canonical_uuid(text: str) -> bool:
    """Whether text is a UUID in lower case with hyphens, the only key a kernel may have."""
    return _UUID.fullmatch(text) is not None


class Labels(msgspec.Struct, gc=False):
    """The labels of a series that the poller reads; Prometheus may send more."""

    kernel_id: str | None = None
    container_metric_name: str | None = None
    value_type: str | None = None
    agent_id: str | None = None


class Row(msgspec.Struct, gc=False):
    """One series of an instant vector. `value` is (Unix seconds, number as text).

    A native histogram comes without `value`.
    """

    metric: Labels
    value: tuple[float, str] | None = None

    def fault(self, part: Part) -> str | None:
        """Why this row cannot serve in that part of the batch, as a metric label; or None."""
        if self.value is None:
            return "histogram"
        labels = self.metric
        if part in ("rounds", "counted"):
            return None if labels.agent_id else "missing_label"
        if not labels.kernel_id:
            return "missing_label"
        if part == "rest" and not (labels.container_metric_name and labels.value_type):
            return "missing_label"
        return None if is_canonical_uuid(labels.kernel_id) else "bad_uuid"


class SetRow(msgspec.Struct, gc=False):
    """One series with every label it has: what tells duplicate series apart."""

    metric: dict[str, str]
    value: tuple[float, str] | None = None


class Series(msgspec.Struct, gc=False):
    """One series of a range vector. `values` are (Unix seconds, number as text), in order."""

    metric: dict[str, str]
    values: list[tuple[float, str]] = []


class Query(NamedTuple):
    """One instant query of a batch: the part it plays, the metric it is about, its text."""

    part: Part
    metric: str
    text: str


class Reading(msgspec.Struct, gc=False):
    """What one batch says of one metric of one kernel; numbers as text, None where silent.

    `peak`, `trough` and `mean` are over the time since the last good cycle.
    """

    current: str
    capacity: str | None = None
    rate: str | None = None
    peak: str | None = None
    trough: str | None = None
    mean: str | None = None


Observation = dict[str, Reading]
"""What one batch says of one kernel: `{metric: Reading}`. Empty: asked for, not found."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One merged batch. `time` is the evaluation time of every query, in Unix seconds.

    `coverage` says how the samples since the last good cycle are known: each was seen
    (`instant`), the batch asked for them (`between`; `samples` are then their number per
    kernel), or they must be recalled (`gap`). `agents` is the agent of each kernel, `rounds`
    are measurement rounds per second of each agent that counts them. `conflicts` are kernels
    whose duplicate series disagree.
    """

    time: float
    observations: Mapping[str, Observation]
    coverage: Coverage = "instant"
    samples: Mapping[str, float] = field(default_factory=dict)
    agents: Mapping[str, str] = field(default_factory=dict)
    rounds: Mapping[str, float] = field(default_factory=dict)
    conflicts: frozenset[str] = frozenset()
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Intervals:
    """What a survey found, in seconds; None where Prometheus did not tell.

    `window_s` is the range of every rate; `stall_s` how long an agent that counts no
    round is given before its kernels are withheld.
    """

    scrape_s: float | None
    measure_s: float | None
    window_s: float
    stall_s: float


@dataclass(frozen=True, slots=True)
class Survey:
    """What Prometheus holds now: {metric: has a capacity series}, kernels, intervals."""

    metrics: Mapping[str, bool]
    kernels: int
    intervals: Intervals
    time: float


class Remembered(NamedTuple):
    """What a key that is already there tells of one metric; None where it does not.

    `raw` is the last raw value where the format holds it, `capacity` a real or a stand-in one.
    """

    raw: str | None
    rate: str | None
    capacity: str | None
    maximum: str | None
    minimum: str | None
    average: str | None


class Past(NamedTuple):
    """What is known of one metric of one kernel from before the poller looked."""

    first: str | None = None
    maximum: str | None = None
    minimum: str | None = None
    total: float = 0.0
    samples: float = 0.0


class Owed(NamedTuple):
    """A stretch of time whose samples have not been counted: Unix seconds, start excluded.

    `start` None: from the metric's beginning, as far as the restore window reaches.
    """

    start: float | None
    end: float


@dataclass(frozen=True, slots=True)
class Life:
    """What Prometheus tells of one kernel over a stretch of its life.

    `moved` is the Unix time of its last known movement; None: it stands still for longer
    than `still_after_s`. `born` is the time of its first sample, None if that was before the
    range of a rate. `older`: the kernel is older than the stretch.
    """

    moved: float | None
    born: float | None
    older: bool
    metrics: Mapping[str, Past]
