"""The clocks of all exporters: raw samples sorted by target and scrape, and fed to theirs.

An agent measures in rounds, and everything it writes follows from its last two. Pure state; the
rules are the format description's, section "Rounds".
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import pairwise

from poller.format import numbers
from poller.prometheus.answers import Series
from poller.rounds.arrivals import Step
from poller.rounds.counters import Sorter, Target
from poller.rounds.exporter import Exporter, ExporterState
from poller.rounds.scrape import Scrape
from poller.values import DEFAULT_INTERVAL_S, Stamp

_LONGER = 1.5
"""So many scrape intervals without a scrape of anybody: nobody was scraped, and nobody silent."""
_PAUSES = 16
_LAID_BY_S = 86_400.0
"""So long an exporter that fell silent may come back, with kernels that lived on meanwhile."""
_SERIES = 10
"""So many series take about as long to sort as the scrapes of a target to take in."""
_PROOFS, _PROVEN_IN_S = 3, 300.0
"""Scrapes come in parts if so many looks within this time found a part that had come later: one
may be a server's that was asked in the moment of storing."""

New = tuple[str, list[Stamp]]
"""An exporter's instance, and rounds of it that were not seen before."""
Found = dict[Target, dict[float, Scrape]]
"""What each scrape saw, by its time."""


class Rounds:
    """Every exporter's clock, by its target's labels; fed with raw samples of their counters.

    `in_parts`: scrapes are not stored whole, as by remote write; it stays so.
    """

    def __init__(self) -> None:
        self.exporters: dict[Target, Exporter] = {}
        self.at: float | None = None
        self._of_instance: dict[str, list[Exporter]] = {}
        self._laid_by: dict[Target, Exporter] = {}
        self._sorter = Sorter()
        self._pauses: deque[tuple[float, float]] = deque(maxlen=_PAUSES)
        self.in_parts = False
        self._proofs: deque[float] = deque(maxlen=_PROOFS)

    def see(self, answer: Sequence[Series], at: float) -> Iterator[New]:
        """Take what was asked at the time `at`; yield each target's instance and new rounds.

        Rounds are in order; scrapes that were seen before are passed over. The caller may see to
        something else after each target, and while samples are sorted: then it gets none. What was
        yielded has been seen, also if the caller then breaks off; the time `at` has not.
        """
        latest, found = self.latest, (yield from self._unseen(answer, at))
        newest = max([latest, *(scraped for scrapes in found.values() for scraped in scrapes)])
        self._sorter.forget(len(answer))
        for target, scrapes in found.items():
            exporter = self.exporters[target]
            known = exporter.scraped is not None
            stamps = [exporter.see(scraped, scrapes[scraped]) for scraped in sorted(scrapes)]
            if known and scrapes:
                exporter.late_s = max(0.0, newest - max(scrapes))
            yield exporter.instance, [stamp for stamp in stamps if stamp is not None]
        self._note_pauses(latest, found)
        self.at = at

    def _note_pauses(self, last: float, found: Found) -> None:
        """Learn in which times nobody was scraped since the last scrape of all."""
        times = {scraped: target for target, scrapes in found.items() for scraped in scrapes}
        usual_s = {name: self.exporters[name].scrape_s or DEFAULT_INTERVAL_S for name in found}
        order = sorted(scraped for scraped in times if scraped > last)
        for before, scraped in pairwise([last, *order] if last else order):
            if scraped - before > _LONGER * usual_s[times[scraped]]:
                self._pauses.append((scraped, scraped - before))

    def _unseen(self, answer: Iterable[Series], at: float) -> Generator[New, None, Found]:
        """Sort raw samples that were not seen by target and scrape.

        Those of one scrape carry one timestamp. Most series of a large cluster have nothing new.
        """
        found: Found = {}
        torn = False
        for place, series in enumerate(answer):
            if place % _SERIES == _SERIES - 1:
                yield "", []
            told = self._sorter.told(series.metric)
            if told is None or not series.values:
                continue
            exporter = self._exporter(told.target)
            exporter.agent = told.agent or exporter.agent
            seen = exporter.scraped if exporter.scraped is not None else float("-inf")
            newest, before = series.values[-1].at, told.last
            if newest > before:
                told.last = newest
                if not torn and 0.0 < before < seen <= newest and _has(series, seen):
                    torn = True  # noted at once: the caller may break off
                    self._note_part(at)
            if newest <= seen:
                continue
            scrapes = found.setdefault(told.target, {})
            for sample in series.values:
                if sample.at > seen and numbers.fault(sample.text) is None:
                    scrape = scrapes.get(sample.at)
                    if scrape is None:
                        scrape = scrapes[sample.at] = Scrape()
                    if told.agent:
                        scrape.counted_by(told.agent)
                    told.put(scrape, float(sample.text))
        return found

    @property
    def parts_came_later(self) -> bool:
        """Whether a part of a scrape that had been seen without it has come, once at least."""
        return bool(self._proofs)

    def parts_are_missing(self) -> bool:
        """Whether the newest scrape of an exporter lacks a series that the one before it had."""
        clocks = self.exporters
        there = (told for told in self._sorter.all_told() if told.target in clocks)
        return any(clocks[told.target].misses(told.last, _LONGER) for told in there)

    def _note_part(self, at: float) -> None:
        """Take that a series got a sample of a scrape that had been seen without it.

        A series that is new tells nothing: a server may have found its samples later.
        """
        self._proofs.append(at)
        if len(self._proofs) == _PROOFS and at - self._proofs[0] <= _PROVEN_IN_S:
            self.in_parts = True

    def newest_scrapes(self, answer: Iterable[Series]) -> dict[Target, float]:
        """Return the time of the newest scrape of each series' target; nothing is taken."""
        found: dict[Target, float] = {}
        for series in answer:
            told = self._sorter.told(series.metric)
            if told is not None and series.values:
                found[told.target] = max(series.values[-1].at, found.get(told.target, 0.0))
        return found

    def _exporter(self, target: Target) -> Exporter:
        exporter = self.exporters.get(target)
        if exporter is None:
            instance = dict(target)["instance"]
            exporter = self._laid_by.pop(target, None) or Exporter(instance)
            self.exporters[target] = exporter
            other = self.of(instance)
            if other is not None:  # its labels have changed
                exporter.arrivals.suppose(other.interval_s)
            self._of_instance.setdefault(instance, []).append(exporter)
        return exporter

    def of(self, instance: str) -> Exporter | None:
        """Return the clock of an exporter; of several (replicas, restarts) the newest."""
        there = self._of_instance.get(instance)
        return _newest(there) if there else None

    def _newest(self) -> Iterator[Exporter]:
        """Yield the clock of every exporter, as `of` gives it."""
        return map(_newest, self._of_instance.values())

    def stamps(self, scraped_after: float) -> dict[str, Stamp]:
        """Return the round that the newest scrape of every exporter saw that is scraped still."""
        found = {}
        for instance, there in self._of_instance.items():
            exporter = _newest(there)
            if (exporter.scraped or 0.0) <= scraped_after:
                continue
            if len(there) > 1 and _tell_of_several(there, scraped_after):
                continue  # kernels are known by their instance: whose round they are in is not
            stamp = exporter.stamp
            if stamp is not None:
                found[instance] = stamp
        return found

    def step(self, before: Stamp, after: Stamp) -> Step | None:
        """Return how far apart two measurements of one exporter are; None: it began anew."""
        exporter = self.of(after.instance)
        return exporter.step(before, after) if exporter is not None else None

    def states(self) -> list[ExporterState]:
        """Return what to tell of every exporter, in the order of their names."""
        latest, there = self.latest, sorted(self._newest(), key=lambda one: one.instance)
        return [one.state(self._behind_s(one, latest)) for one in there]

    def _behind_s(self, exporter: Exporter, latest: float) -> float:
        """Return for how long others were scraped since an exporter was, in seconds."""
        scraped = exporter.scraped or 0.0
        paused_s = sum(length_s for ended, length_s in self._pauses if ended > scraped)
        return latest - scraped - paused_s

    @property
    def latest(self) -> float:
        """The time of the newest scrape of all; 0 if there is none."""
        return max((one.scraped or 0.0 for one in self.exporters.values()), default=0.0)

    @property
    def scrape_s(self) -> float | None:
        """How far apart the scrapes of most exporters are, in seconds."""
        found = [one.scrape_s for one in self.exporters.values() if one.scrape_s is not None]
        return statistics.median(found) if found else None

    @property
    def slowest_s(self) -> float:
        """How often the slowest exporter's agent measures, in seconds; 0 where nobody knows."""
        return max((one.period_s or 0.0 for one in self.exporters.values()), default=0.0)

    def lag_s(self, at: float) -> float | None:
        """Return how far the newest scrape of all is behind a time, in seconds."""
        latest = self.latest
        return at - latest if latest else None

    def living(self) -> set[str]:
        """Return the instances that count successes alone, and did so lately: a sign of life."""
        return {one.instance for one in self._newest() if one.lives}

    def stalled(self) -> set[str]:
        """Return the instances that answer while their rounds stand still."""
        return {one.instance for one in self._newest() if one.stalled}

    def clear(self) -> None:
        """Forget everything: the clock that all of it went by holds no more."""
        self.exporters.clear()
        self._of_instance.clear()
        self._laid_by.clear()
        self._pauses.clear()
        self._proofs.clear()
        self.at = None

    def behind(self, since: float, most: int) -> frozenset[str]:
        """Return the instances whose next scrape was due before that time, and was not seen.

        Of more than `most` those that were scraped last.
        """
        due = [one for one in self._newest() if one.scraped and one.is_behind(since)]
        if len(due) > most:
            due = sorted(due, key=lambda one: one.newest)[-most:]
        return frozenset(one.instance for one in due)

    def lay_by_silent(self, longer_s: float) -> None:
        """Drop exporters that were not scraped for longer while others were, until they come back;
        and those of which no scrape could be read.

        Where nobody was, as while Prometheus is down, rounds go on and are counted afterwards.
        """
        latest, there = self.latest, self.exporters.items()
        silent = [
            key
            for key, one in there
            if one.scraped is None or self._behind_s(one, latest) > longer_s
        ]
        laid_by = self._laid_by | {key: self.exporters[key] for key in silent}
        self._drop(silent)
        since = latest - _LAID_BY_S
        self._laid_by = {key: one for key, one in laid_by.items() if (one.scraped or 0.0) > since}

    def last_rounds(self) -> set[tuple[str, float]]:
        """Return (instance, number) of every exporter's last round, also of those laid by."""
        several = (*self.exporters.values(), *self._laid_by.values())
        stamps = (one.stamp for one in several)
        return {(stamp.instance, stamp.number) for stamp in stamps if stamp is not None}

    def _drop(self, gone: Iterable[Target]) -> None:
        for target in gone:
            exporter = self.exporters.pop(target)
            there = self._of_instance[exporter.instance]
            there.remove(exporter)
            if not there:
                del self._of_instance[exporter.instance]


def _has(series: Series, scraped: float) -> bool:
    return any(sample.at == scraped for sample in series.values)


def _newest(several: Sequence[Exporter]) -> Exporter:
    return several[0] if len(several) == 1 else max(several, key=lambda one: one.newest)


def _tell_of_several(exporters: Iterable[Exporter], scraped_after: float) -> bool:
    """Whether exporters of one instance that are scraped still are of several agents.

    Two clusters in one Prometheus may have the same addresses, told apart by another label. One
    that was scraped no more when another was first has gone: its agent was set up anew.
    """
    there = [one for one in exporters if (one.scraped or 0.0) > scraped_after]
    last = max((one.met or 0.0 for one in there), default=0.0)
    agents = {one.agent for one in there if one.agent and (one.scraped or 0.0) >= last}
    return len(agents) > 1
