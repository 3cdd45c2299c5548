"""The types that pass between stages: queries, readings, batches, stamps, pasts; portions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

import msgspec

Kind = Literal["gauge", "diff", "rate"]
Part = Literal["current", "capacity", "rate", "samples"]
"""The parts of a batch, but for the rounds and the trails, which are raw samples."""
Drop = Literal[
    "bad_metric_name",
    "bad_uuid",
    "duplicate",
    "histogram",
    "infinite",
    "missing_label",
    "nan",
    "negative",
    "not_a_number",
]
"""Why a row of an answer cannot serve. `duplicate` is expected: two series tell of one kernel."""
Stage = Literal["rounds", "survey", "query", "merge", "settle", "history", "backfill", "write"]
"""The parts of a cycle that are timed, in the order in which they are run first."""
DEFAULT_INTERVAL_S = 30.0
"""How often an agent measures by default since 26.4.4; assumed until it is known better."""
Fields = dict[str, str]
"""One metric of one kernel as readers see it: `{"current": "12", "pct": "0.5", …}`."""

LiveStat = dict[str, Fields]
"""One kernel as readers see it, in the legacy order: `{metric: Fields}`."""

T = TypeVar("T")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_canonical_uuid(text: str) -> bool:
    """Whether text is a UUID in lower case with hyphens, the only key a kernel may have."""
    return _UUID.fullmatch(text) is not None


def portions(several: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield several in portions of at most so many, in their order."""
    for start in range(0, len(several), size):
        yield several[start : start + size]


class Query(NamedTuple):
    """One instant query of a batch: the part it plays, the metric it is about, its text.

    Without a metric it is about several, and each row of its answer names its own.
    """

    part: Part
    metric: str
    text: str


class Reading(msgspec.Struct, gc=False):
    """What one batch says of one metric of one kernel; numbers as text, None where silent."""

    current: str
    capacity: str | None = None
    rate: str | None = None


Observation = dict[str, Reading]
"""What one batch says of one kernel: `{metric: Reading}`. Empty: asked for, not found."""


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """Which measurement a reading is of: the `number`-th round of an exporter.

    `shift_s` is what the round's own duration puts its measurement off, `scraped` the Unix time
    of the first scrape that saw it.
    """

    instance: str
    number: float
    shift_s: float
    scraped: float

    def follows(self, before: Stamp | None) -> bool:
        """Whether it is of another measurement than the one before; None: there was none."""
        return before is None or self.number != before.number or self.instance != before.instance


class Glimpse(NamedTuple):
    """What one scrape between two batches saw: `{kernel: {metric: number as text}}`.

    `stamp` is None where the exporter counts no rounds.
    """

    stamp: Stamp | None
    values: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Window:
    """The range of a stand-in rate, and how far apart the samples in it should be, in seconds."""

    range_s: float
    scrape_s: float | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """One merged batch. `time` is the evaluation time of every query, in Unix seconds.

    `asked` are the exporters whose kernels were asked for, None for all of them. `census` is how
    many kernels every exporter has; `counting`: some agent counts its rounds, as
    the server tells now: it may have lost all that it told before.
    `agents` is the agent of each kernel, `instances` its exporter, `stamps` the round that each
    exporter's readings are of; an exporter without one counts no rounds. `own_stamps` goes before
    it for kernels that come in several series. `mixed` are exporters that were scraped in
    mid-batch, or that showed nothing because their last scrape failed; `hidden` those of the latter
    whose scrapes in between were not read. `glimpses` are the scrapes since the last batch, in
    order; `gaps` are exporters of which too many lie between, an empty name stands for those
    without rounds. `counted` are those without rounds whose newest sample is among the glimpses or
    was there before, `sampled` the time of each one's newest sample. `capacities` are exporters
    whose capacities were read. `late`: so many exporters measured and had to wait for a later
    batch. `unmet`: so many were never read, and there was no room for them. `samples` is how many
    samples of each kernel lie in the window of its rates, `windows` the windows of those exporters
    whose rates were asked for. `conflicts` are kernels whose duplicate series disagree.
    """

    time: float
    observations: Mapping[str, Observation]
    asked: frozenset[str] | None = None
    counting: bool = False
    census: Mapping[str, int] | None = None
    agents: Mapping[str, str] = field(default_factory=dict)
    instances: Mapping[str, str] = field(default_factory=dict)
    stamps: Mapping[str, Stamp] = field(default_factory=dict)
    own_stamps: Mapping[str, Stamp] = field(default_factory=dict)
    mixed: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    glimpses: Sequence[Glimpse] = ()
    gaps: frozenset[str] = frozenset()
    counted: frozenset[str] = frozenset()
    sampled: Mapping[str, float] = field(default_factory=dict)
    capacities: frozenset[str] = frozenset()
    late: int = 0
    unmet: int = 0
    samples: Mapping[str, float] = field(default_factory=dict)
    windows: Mapping[str, Window] = field(default_factory=dict)
    conflicts: frozenset[str] = frozenset()
    dropped: Counter[Drop] = field(default_factory=Counter)

    def stamp_of(self, kernel: str) -> Stamp | None:
        """Return which round a kernel's readings are of; None: its exporter counts none."""
        own = self.own_stamps.get(kernel)
        return own if own is not None else self.stamps.get(self.instances.get(kernel, ""))


@dataclass(frozen=True, slots=True)
class Survey:
    """What Prometheus holds now: {metric: has a capacity series}.

    `scrape_s` and `measure_s` are the intervals of exporters that count no rounds, None where
    Prometheus did not tell; `timed`: they were looked for.
    """

    metrics: Mapping[str, bool]
    scrape_s: float | None
    measure_s: float | None
    timed: bool
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
    """What is known of one metric of one kernel from before the poller looked.

    `total` and `samples` are of all scrapes, or of all measurements where it was `replayed`.
    """

    first: str | None = None
    maximum: str | None = None
    minimum: str | None = None
    total: float = 0.0
    samples: float = 0.0
    replayed: bool = False


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
    range of a rate. `older`: the kernel is older than the stretch, by
    about `spans` times.
    """

    moved: float | None
    born: float | None
    older: bool
    metrics: Mapping[str, Past]
    spans: float = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long standing still is believed, in seconds.

    `still_s`: a kernel of which nothing moved for longer is taken to have ended.
    `stall_s`: what moved within it is not at rest; an agent without rounds of which nothing moved
    for half of it is taken to have stalled (`withhold`).
    """

    still_s: float
    stall_s: float
