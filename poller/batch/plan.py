"""What one batch asks: whose measurements, who needs `rate()` (how wide: `rates`), trails. Pure.

Asked for is what was measured since it was last read. A census, a row an exporter, tells now and
then what the rounds cannot: exporters that count none, kernels that vanished, new names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from poller.batch.capacities import Capacities
from poller.history.state import KernelState
from poller.rounds import rates
from poller.rounds.rounds import Rounds
from poller.values import Stamp, Survey, Window

GAP_S = 60.0
"""What happened longer ago than this is backfilled, not asked in the batch."""
LONG_WAIT_S = 180.0
"""What an interruption hid may wait for a later batch; it is a gap still if it is so long ago."""
TRAIL_MORE_S = 3.0
"""A trail reaches so much further back: a sample is stored some time after its timestamp."""
_SLIPS = 1.05
"""Scrapes further apart than this share of a poll cannot slip between two polls."""
_MOST_NAMED = 0.6
"""If more than this share of the exporters is asked for, all of them are."""
_NEWCOMERS = 0.25
"""So large a share of a full batch is kept for exporters that were never read."""
NEW_COSTS = 2.5
"""A kernel whose rates and capacities are asked for costs as much as so many others."""
_FEW = 300
"""The capacities of so few kernels are asked for each time. For 290 that took 4 to 7 ms of wall and
10 ms of Prometheus' processor time a cycle."""
_TRAIL_SAMPLES = 300_000
"""A longer trail than this is backfilled by the server instead."""

Instances = frozenset[str]
_NONE: Instances = frozenset()
WITHOUT_ROUNDS = ""
"""Stands for all exporters that count no rounds, where they are named together."""


@dataclass(frozen=True, slots=True)
class Read:
    """What was read before: the time of the last good batch, and which round of each exporter.

    `kernels` says how many kernels each exporter told of at its last answer, `known` is what is
    kept of each kernel. `waiting`: so many were read and cannot be written before their past is
    backfilled. `anew`: something failed since, so everything is counted again.
    """

    since: float | None
    stamps: Mapping[str, Stamp]
    kernels: Mapping[str, int]
    known: Mapping[str, KernelState] = field(default_factory=dict)
    waiting: int = 0
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What one batch asks. Instances: None stands for all of them.

    `asked`: whose gauges; `kernels`: about how many those are; `load`: how many of which nothing
    but gauges is asked would cost as much; `capacities`: whose capacities.
    `rates`: the windows in seconds, and whose rates are taken over each. `trail`: of whom every
    scrape since the last batch is read, `gaps`: of whom there are too many of those. `newest`: of
    whom, counting no rounds, it is asked whether there was a scrape at all. `late`: so many
    exporters measured and must wait. Then nobody's scrapes in between are read: they would
    take the time of the last ones. `unmet`: so many were never read, and there was no room for
    them.
    """

    asked: Instances | None
    kernels: int
    load: float = 0.0
    capacities: Instances | None = _NONE
    rates: Mapping[float, Instances | None] = field(default_factory=dict)
    windows: Mapping[str, Window] = field(default_factory=dict)
    trail: Instances = _NONE
    gaps: Instances = _NONE
    newest: Instances = _NONE
    late: int = 0
    unmet: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when a batch is planned.

    `census` is how many kernels each exporter has; `stamps` which round it is in; `scrapes` how
    many new rounds of it were scraped since the last batch; `capacities` when those were read;
    `given_s` a window from the settings; `most_load` how much may be asked.
    """

    census: Mapping[str, int]
    stamps: Mapping[str, Stamp]
    scrapes: Mapping[str, int]
    rounds: Rounds
    capacities: Capacities
    survey: Survey
    given_s: float | None
    most_load: float


def plan(at: float, read: Read, known: Known) -> Plan:
    """Return what to ask at the time `at`."""
    wanted = _wanted(read, known)
    if not wanted:
        # Where nothing at all is known, all is asked for: it costs nothing if nothing is there.
        all_or_none = _NONE if known.census or known.stamps else None
        return Plan(all_or_none, 0, capacities=all_or_none)
    chosen = _within(wanted, read, known)
    kernels = sum(known.census.get(name, 0) for name in chosen)
    everything = chosen >= known.census.keys() or (
        len(chosen) > _MOST_NAMED * len(known.census)
        and _load(known.census, read, known) <= known.most_load
    )
    asked = chosen | known.census.keys() if everything else chosen
    capacities: Instances | None = _capacities(at, asked, read, known)
    if everything and capacities == asked:
        capacities = None
    windows, groups = _windows(asked, everything, read, known)
    late = sum(1 for name in wanted - asked if name in read.stamps)
    trail, gaps = _between(at, asked, late > 0, read, known)
    return Plan(
        asked=None if everything else asked,
        kernels=kernels,
        load=_load(asked, read, known),
        capacities=capacities,
        rates=groups,
        windows=windows,
        trail=trail,
        gaps=gaps,
        newest=_NONE if read.since is None else asked - known.stamps.keys() - trail,
        late=late,
        unmet=_unmet(wanted - asked, read, known),
    )


def _wanted(read: Read, known: Known) -> Instances:
    """Return the exporters that measured since they were read, or of which that is not known."""
    return frozenset(
        name
        for name in known.census.keys() | known.stamps.keys()
        if name not in known.stamps  # it counts no rounds
        or name not in read.stamps
        or read.stamps[name].number != known.stamps[name].number
        or read.kernels.get(name, 0) != known.census.get(name, 0)
    )


def _unmet(left: Instances, read: Read, known: Known) -> int:
    """Return how many of those left out were never read, and not for the sake of the others."""
    if _past_goes_first(read, known):
        return 0
    return sum(1 for name in left if name not in read.stamps and name not in read.kernels)


def _past_goes_first(read: Read, known: Known) -> bool:
    """Whether a whole batch of kernels waits for the past, so that nobody new is read."""
    return read.waiting >= known.most_load


def _within(wanted: Instances, read: Read, known: Known) -> Instances:
    """Return as many of them as one batch carries: first those that were read longest ago.

    A share is kept for those that were never read, or they would wait for as long as the others
    fill every batch. They do wait while a whole batch of kernels waits for the past: to read more
    would only hold up what these wait for.
    """
    if _load(wanted, read, known) <= known.most_load:
        return wanted
    never = sorted(name for name in wanted if name not in read.stamps)
    again = sorted(wanted.difference(never), key=lambda name: (read.stamps[name].scraped, name))
    if _past_goes_first(read, known):
        never = []
    kept = min(_NEWCOMERS * known.most_load, _load(never, read, known))
    chosen = _filled(again, known.most_load - kept, read, known)
    chosen += _filled(never, known.most_load - _load(chosen, read, known), read, known)
    return frozenset(chosen)


def _filled(names: list[str], most: float, read: Read, known: Known) -> list[str]:
    """Return the first of some exporters that are no larger a load, and one at the least."""
    chosen: list[str] = []
    for name in names:
        load = _load((name,), read, known)
        if chosen and load > most:
            break
        chosen.append(name)
        most -= load
    return chosen


def _load(names: Iterable[str], read: Read, known: Known) -> float:
    """Return how many kernels of exporters that were read before would cost as much."""
    return sum(
        known.census.get(name, 0)
        * (1.0 if name in read.stamps and name in known.stamps else NEW_COSTS)
        for name in names
    )


def _capacities(at: float, asked: Instances, read: Read, known: Known) -> Instances:
    """Return whose capacities may have changed, as far as that is known before the answers."""
    if sum(known.census.get(name, 0) for name in asked) <= _FEW:
        return asked
    anew = {
        name
        for name in asked
        if name not in known.stamps
        or name not in read.stamps
        or known.stamps[name].number < read.stamps[name].number
    }
    return known.capacities.due(asked, at) | anew


def _windows(
    asked: Instances, everything: bool, read: Read, known: Known
) -> tuple[dict[str, Window], dict[float, Instances | None]]:
    """Return the windows of those whose rates Prometheus must give, and who asks over which."""
    survey = known.survey
    usual = rates.window(survey.scrape_s, survey.measure_s, known.given_s)
    own = {}
    for name in asked:
        if name in known.stamps and name in read.stamps:
            continue
        clock = known.rounds.of(name) if name in known.stamps else None
        if clock is None or known.given_s is not None:
            own[name] = usual
        else:
            own[name] = rates.rounded(rates.window(clock.scrape_s, clock.period_s))
    groups: dict[float, Instances | None] = {}
    for range_s in {one.range_s for one in own.values()}:
        groups[range_s] = frozenset(name for name, one in own.items() if one.range_s == range_s)
    if everything and len(own) == len(asked) and len(groups) == 1:
        groups = dict.fromkeys(groups)
    return own, groups


def _between(
    at: float, asked: Iterable[str], hurried: bool, read: Read, known: Known
) -> tuple[Instances, Instances]:
    """Return the exporters of which scrapes lie between the last batch and this one.

    The first are few enough to be read one by one, the others a gap. `hurried`: neither is worth
    the time, but what an interruption hid is a gap all the same.
    """
    if read.since is None or at <= read.since:
        return _NONE, _NONE
    between_s = at - read.since
    behind = {name for name in asked if name in read.stamps and known.scrapes.get(name, 0) > 1}
    roundless = {name for name in asked if name not in known.stamps and name in read.kernels}
    if between_s > GAP_S:
        return _NONE, frozenset(behind | {WITHOUT_ROUNDS})
    if hurried:
        waited = {name for name in behind if at - read.stamps[name].scraped > LONG_WAIT_S}
        return _NONE, frozenset(waited)
    scrape_s = known.survey.scrape_s
    if roundless and (scrape_s is None or scrape_s < _SLIPS * between_s):
        behind |= roundless
    samples = sum(
        known.census.get(name, 1) * len(known.survey.metrics) * known.scrapes.get(name, 1)
        for name in behind
    )
    if samples > _TRAIL_SAMPLES:
        return _NONE, frozenset(behind - roundless)
    return frozenset(behind), _NONE


def trail_range_s(at: float, read: Read) -> float:
    """Return how far back the scrapes since the last batch reach, in seconds."""
    return at - (read.since if read.since is not None else at) + TRAIL_MORE_S
