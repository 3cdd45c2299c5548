"""Rounds scraped and not yet read; which exporters were scraped while a batch was being asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping, Sequence

from poller.batch.plan import Instances
from poller.batch.trail import Glimpses
from poller.prometheus import round_queries
from poller.prometheus.answers import Series
from poller.prometheus.client import Client
from poller.prometheus.selectors import EVERYTHING, Scope
from poller.rounds.rounds import Rounds
from poller.values import Batch, Stamp

LEARN_S = 300.0
"""So far back the rounds are looked at when they are seen for the first time."""
_STORED_S = 15.0
"""A scrape is stored some time after its timestamp: so much of the past is looked at again."""
_MOST_BEHIND = 100
"""So many exporters that are behind are looked for further back: those scraped last."""
_BACK_S = 1.0
"""A batch of an earlier time than the last one by more than this goes by another clock."""
_AT_ONCE = 50
"""So many targets' rounds are taken, or portions of series sorted, before others may run."""
_RangeQuery = Callable[[float, Scope], str]


class Unread:
    """The rounds of each exporter since it was read, and when those without rounds were.

    `answered`: the last look found samples. It goes back to the newest scrape that was seen, so
    where it finds none the server has lost them.
    """

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._trail: dict[str, list[Stamp]] = {}
        self._sampled: dict[str, float] = {}
        self.answered = False
        self._range_s = LEARN_S
        self._behind: Instances = frozenset()

    @property
    def trail(self) -> Mapping[str, Sequence[Stamp]]:
        """The new rounds of each exporter, in order."""
        return self._trail

    def glimpses(self, counting: Container[str], since: float) -> Glimpses:
        """Return what takes the scrapes since the last batch; `counting` are those with rounds."""
        trail = {name: new for name, new in self._trail.items() if name in counting}
        return Glimpses(trail, since, self._sampled)

    async def look(self, client: Client, at: float, read: Mapping[str, Stamp]) -> None:
        """Look at the rounds of every exporter; those that were read before are passed over.

        More than a first look would find is not kept, as while gauges cannot be read.
        """
        rounds = self._rounds
        if rounds.at is not None and at < rounds.at - _BACK_S:
            self.begin_anew()
        self._range_s = self._look_back_s(at)
        self._behind = rounds.behind(at - self._range_s, _MOST_BEHIND)
        answer = await self._samples(client, at, round_queries.rounds_query, None)
        self.answered = any(series.values for series in answer)
        for place, (instance, stamps) in enumerate(rounds.see(answer, at)):
            before = read.get(instance)
            after_s = before.scraped if before is not None else 0.0
            unread = [stamp for stamp in stamps if stamp.scraped > after_s]
            if unread:
                trail = self._trail.setdefault(instance, [])
                trail.extend(unread)
                while len(trail) > 2 and trail[0].scraped < at - LEARN_S:
                    del trail[0]
            if place % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)  # the first look at thousands must not block the loop
        rounds.lay_by_silent(2 * LEARN_S)

    def _look_back_s(self, at: float) -> float:
        """Return how far back there may be rounds that were not stored at the last look."""
        last, newest = self._rounds.at, self._rounds.latest
        if last is None or not 0 <= at - last < LEARN_S:
            return LEARN_S
        return min(LEARN_S, at - min(last, newest or last) + _STORED_S)

    async def _samples(
        self, client: Client, at: float, query: _RangeQuery, asked: Instances | None
    ) -> list[Series]:
        """Ask for samples as far back as this look goes; further of those that are behind.

        One may be dead, or what is scraped of it is stored later than what is of others.
        """
        answer = []
        for scope in EVERYTHING.on_each(asked):
            answer += await client.matrix(query(self._range_s, scope), at)
        behind = self._behind if asked is None else self._behind & asked
        if not behind:
            return answer
        there = [one for one in answer if one.metric.get("instance") not in behind]
        for scope in EVERYTHING.on_each(behind):
            there += await client.matrix(query(LEARN_S, scope), at)
        return there

    def begin_anew(self) -> None:
        """Forget what was looked at.

        Where the server's clock was set back, or is another server's, samples with the times of now
        would be passed over until that clock is where it was.
        """
        self._rounds.clear()
        self._trail.clear()
        self._sampled.clear()

    async def mixed(self, client: Client, at: float, asked: Instances | None) -> Instances:
        """Return the exporters of which another scrape was looked at than was read.

        One was stored while they were asked, or the look was into another server's samples.
        """
        clocks = self._rounds.exporters
        if not clocks:
            return frozenset()
        answer = await self._samples(client, at, round_queries.counters_query, asked)
        newest = self._rounds.newest_scrapes(answer)
        return frozenset(
            dict(target)["instance"]
            for target, scraped in newest.items()
            if target not in clocks or clocks[target].counted != scraped
        )

    def taken(self, batch: Batch) -> None:
        """Take that a batch is remembered.

        The rounds of exporters that were not read now are kept for the batch that reads them. Of a
        mixed one the last is kept: those before it are among the glimpses.
        """
        known = {**self._sampled, **batch.sampled}
        census = batch.census or {}
        self._sampled = {name: at for name, at in known.items() if name in census}
        looked_at = batch.mixed - batch.hidden
        self._trail = {
            name: stamps[-1:] if name in looked_at else stamps
            for name, stamps in self._trail.items()
            if name not in batch.stamps and self._rounds.of(name) is not None
        }
