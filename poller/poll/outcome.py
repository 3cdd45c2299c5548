"""What a cycle did and saw: the values that metrics, log, page and commands are filled from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic, perf_counter

from poller.batch.batch import Observer
from poller.errors import PrometheusError
from poller.format import encode
from poller.history.history import History
from poller.poll import withhold
from poller.poll.publish import Publisher
from poller.rounds.exporter import ExporterState
from poller.values import Batch, Drop, LiveStat, Stage, portions

FOREIGN_NAMED = 5
"""Of so many kernels whose key has another type the names are told."""


@dataclass(slots=True)
class Outcome:
    """What a cycle saw and did. Filled while it runs, so that one that fails tells how far it came.

    The time: `time` was asked for, `offset_s` before the moment of asking; `skew_s` is how far
    Prometheus' clock is ahead of this host's, `lag_s` how far the newest sample is behind `time`;
    `seconds` are wall time by part. `in_parts`: scrapes are not stored whole, so an earlier time is
    asked for than the settings say.

    Exporters: `kernels_of` and `held_of` are how many kernels each has now, and had at its last
    measurement; `late` is how many measured and had to wait for a later cycle, `unmet` how many
    were never read so far.

    Kernels: `withheld` are not written, and why; `missing` is which metrics the incomplete ones of
    them lack; `absent` were asked for and are not there; `unwritten` is how many keys waited for
    want of time. Of so many the past was backfilled since the last cycle (`restored`), and so many
    cannot be written before it is (`waiting`).

    Servers: `passed_over` is why another Prometheus than the first one answered, `warned` a warning
    of missing data in answers that were taken nevertheless, `store_trouble` why older keys could
    not be read, where that was no reason to fail. `rivals_known`: keys were watched for long enough
    to say that there are no more rivals. `asks_lease`: whether the lease is ours is not known yet.
    """

    time: float = 0.0
    offset_s: float = 0.0
    kernels: int = 0
    written: int = 0
    unwritten: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    withheld: dict[str, withhold.Reason] = field(default_factory=dict)
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    dropped: Counter[Drop] = field(default_factory=Counter)
    stalled: frozenset[str] = frozenset()
    standing: frozenset[tuple[str, str]] = frozenset()
    exporters: tuple[ExporterState, ...] = ()
    kernels_of: Mapping[str, int] = field(default_factory=dict)
    held_of: Mapping[str, int] = field(default_factory=dict)
    late: int = 0
    unmet: int = 0
    roundless: tuple[str, ...] = ()
    roundless_agents: frozenset[str] = frozenset()
    restored: int = 0
    owing: int = 0
    waiting: int = 0
    rivals: int = 0
    rivals_known: bool = False
    foreign: int = 0
    foreign_kernels: tuple[str, ...] = ()
    invalid_keys: int = 0
    skew_s: float = 0.0
    window_s: float | None = None
    scrape_s: float | None = None
    lag_s: float | None = None
    observed: bool = False
    in_parts: bool = False
    passed_over: PrometheusError | None = None
    warned: str = ""
    store_trouble: str = ""
    asks_lease: bool = False
    stage: Stage | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=monotonic)

    @property
    def age_s(self) -> float:
        """How long ago the cycle began, in seconds."""
        return monotonic() - self.began

    @property
    def goes_on(self) -> bool:
        """Whether something was left for want of room or time: the next cycle is due at once.

        Where kernels wait for their past it is not: that is asked for between the batches.
        """
        return bool(self.unmet or self.late or self.unwritten) and not self.waiting

    @property
    def mixed(self) -> frozenset[str]:
        """The kernels that were scraped in mid-batch, or whose scrape failed."""
        return frozenset(kernel for kernel, why in self.withheld.items() if why == "mixed")

    @property
    def withheld_counts(self) -> dict[str, int]:
        """How many kernels are withheld, by reason in the order of its name."""
        return dict(sorted(Counter(self.withheld.values()).items()))

    def saw_batch(self, batch: Batch, observer: Observer) -> None:
        """Take what was asked and answered."""
        rounds = observer.rounds
        self.observed = True
        self.passed_over = observer.client.passed_over
        self.warned = observer.client.take_warning()
        self.dropped, self.late, self.unmet = batch.dropped, batch.late, batch.unmet
        self.exporters = tuple(rounds.states())
        self.scrape_s, self.lag_s = rounds.scrape_s, rounds.lag_s(self.time)
        self.window_s = max((one.range_s for one in batch.windows.values()), default=None)

    def saw_history(self, history: History) -> None:
        """Take which kernels there are now."""
        living = history.living
        self.kernels = living.count
        self.kernels_of = {name: len(there) for name, there in living.kernels.items()}
        self.held_of = dict(living.held)
        self.roundless = tuple(sorted(living.roundless))
        # What stood still when an agent went is told no more, and not forgotten: it may come back.
        there = (one for one in history.standing.plugins if one[0] in living.kernels)
        self.standing = frozenset(there)

    def saw_writers(self, publisher: Publisher) -> None:
        """Take who else writes, and which keys are none of ours."""
        self.rivals = len(publisher.rivals)
        self.rivals_known = publisher.has_watched(self.time)
        self.foreign = len(publisher.foreign)
        self.foreign_kernels = tuple(sorted(publisher.foreign)[:FOREIGN_NAMED])

    @contextmanager
    def timed(self, part: Stage) -> Iterator[None]:
        """Measure one part of the cycle, and know in which one it is."""
        started = perf_counter()
        self.stage = part
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + perf_counter() - started


@dataclass(frozen=True, slots=True)
class Computed:
    """What a poll would write: `kernels` are due and may be written, `absent` were asked for and
    are not there. The values are made when they are wanted."""

    time: float
    kernels: list[str]
    absent: tuple[str, ...]
    stats: Mapping[str, LiveStat]

    def live_stats(self) -> dict[str, LiveStat]:
        """Return every kernel that would be written; those absent are there, empty."""
        made = {kernel: self.stats[kernel] for kernel in self.kernels}
        return made | {kernel: {} for kernel in self.absent}

    def portions(self, size: int) -> Iterator[dict[str, bytes]]:
        """Yield the bytes of the kernels' keys, in portions of so many."""
        for portion in portions(self.kernels, size):
            yield {kernel: encode.pack(self.stats[kernel]) for kernel in portion}


class Stats(Mapping[str, LiveStat]):
    """Kernels as readers are to see them, each made when it is asked for."""

    def __init__(self, history: History, manners: Mapping[str, encode.Manner]) -> None:
        self._history = history
        self._manners = manners

    def __getitem__(self, kernel_id: str) -> LiveStat:
        kernel = self._history.kernels[kernel_id]
        return encode.live_stat(kernel.known(self._history.catalog), self._manners[kernel.instance])

    def __iter__(self) -> Iterator[str]:
        return iter(self._history.kernels)

    def __len__(self) -> int:
        return len(self._history.kernels)


class Manners(dict[str, encode.Manner]):
    """How the kernels of each exporter are written."""

    def __init__(self, capacity_of: str, observer: Observer) -> None:
        super().__init__()
        self._capacity_of = capacity_of
        self._observer = observer

    def __missing__(self, instance: str) -> encode.Manner:
        clock = self._observer.rounds.of(instance)
        survey = self._observer.surveyor.last
        period_s = clock.period_s if clock is not None else None
        found_s = period_s or (survey.measure_s if survey is not None else None)
        manner = self[instance] = encode.Manner(self._capacity_of, found_s or 1.0)
        return manner
