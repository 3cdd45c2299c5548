"""What happened before the poller looked: asked once per kernel, in bounded chunks.

Reads the keys that are already there, and Prometheus over the restore window. A composition,
like the cycle; it never delays one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from poller.errors import PollerError, PrometheusError
from poller.format import encode, numbers
from poller.poll.history import History
from poller.poll.withhold import Patience
from poller.prometheus import lookup_queries
from poller.prometheus.answers import Row
from poller.prometheus.client import Client
from poller.prometheus.selectors import Scope
from poller.store.keys import Store
from poller.values import Life, Owed, Past

ATTEMPTS = 3
"""After so many failed recalls a kernel goes on with what is known of it."""
_TOO_MUCH = ("rejected", "oversized", "timeout")
"""Answers to a question that was too large: half of it may pass."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back and in what portions: seconds, kernels a query, queries at once."""

    window_s: float = 86_400.0
    chunk: int = 200
    concurrency: int = 2
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Keys:
    """What reading keys gave: values by kernel, how many were rubbish, keys of another type.

    `failed`: why a kernel's key could not be read; it is read again in the next cycle.
    """

    values: Mapping[str, bytes]
    invalid: int
    foreign: frozenset[str]
    failed: Mapping[str, str]


class Backfiller:
    """Recalls what a history owes. `on_progress(left)` is told how many kernels are left."""

    def __init__(
        self,
        history: History,
        reach: Reach,
        on_progress: Callable[[int], None] = lambda left: None,
    ) -> None:
        self._history = history
        self._reach = reach
        self._on_progress = on_progress
        self._busy: set[str] = set()

    async def read_keys(
        self,
        store: Store,
        kernels: Sequence[str],
        keep_missing: bool = True,
        fresh_s: Callable[[str], float] = lambda kernel: 0.0,
    ) -> Keys:
        """Read the keys of kernels and let the history learn what only they know.

        `fresh_s`: how old a kernel's key may be for its rates to be those of the last rounds.
        """
        invalid = 0
        found = await store.read(kernels)
        ages = await store.ages(list(found.values))
        readable = [kernel for kernel in kernels if kernel not in found.failed]
        for place, kernel in enumerate(readable):
            value = found.values.get(kernel)
            stat = encode.unpack(value) if value is not None else None
            invalid += value is not None and stat is None
            told = encode.remembered(self._history.catalog, stat) if stat else {}
            fresh = kernel in ages and ages[kernel] <= fresh_s(kernel)
            self._history.recall_key(kernel, told, keep_missing, fresh)
            if place % 500 == 499:
                await asyncio.sleep(0)  # thousands of keys must not block the loop
        return Keys(found.values, invalid, found.foreign, found.failed)

    async def backfill_all(self, client: Client, patience: Patience) -> int:
        """Recall everything that is owed, some chunks at a time; return how many gave up."""
        given_up = 0
        running: set[asyncio.Task[int]] = set()
        try:
            while True:
                while len(running) < self._reach.concurrency and (chunk := self._next()):
                    owed, kernels = chunk
                    running.add(asyncio.create_task(self._recall(client, owed, kernels, patience)))
                if not running:
                    return given_up
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                given_up += sum(task.result() for task in done)
                self._on_progress(len(self._history.owing))
        finally:
            for task in running:
                task.cancel()
            self._busy.clear()

    def _next(self) -> tuple[Owed, list[str]] | None:
        """Return the next chunk: kernels that owe the same stretch, fewest kernels first."""
        by_stretch: dict[Owed, list[str]] = {}
        for kernel_id in self._history.owing - self._busy:
            owed = self._history.kernels[kernel_id].owing
            if owed is not None:
                by_stretch.setdefault(owed, []).append(kernel_id)
        if not by_stretch:
            return None
        owed, kernels = min(by_stretch.items(), key=lambda item: len(item[1]))
        chunk = sorted(kernels)[: self._reach.chunk]
        self._busy.update(chunk)
        return owed, chunk

    async def _recall(
        self, client: Client, owed: Owed, kernels: list[str], patience: Patience
    ) -> int:
        """Recall one chunk, in halves where it is too much for the server."""
        try:
            lives = await self._lives(client, owed, kernels, patience)
        except PrometheusError as error:
            if error.reason in _TOO_MUCH and len(kernels) > 1:
                half = len(kernels) // 2
                parts = (kernels[:half], kernels[half:])
                return sum([await self._recall(client, owed, part, patience) for part in parts])
            return sum(self._history.give_up(kernel, ATTEMPTS) for kernel in kernels)
        except PollerError:
            return sum(self._history.give_up(kernel, ATTEMPTS) for kernel in kernels)
        for kernel, life in lives.items():
            self._history.recall_life(kernel, life, owed)
        self._busy.difference_update(kernels)
        return 0

    async def _lives(
        self, client: Client, owed: Owed, kernels: list[str], patience: Patience
    ) -> dict[str, Life]:
        range_s = self._reach.window_s if owed.start is None else owed.end - owed.start
        ask = _Questioner(client, owed.end, self._reach.timeout_s)
        scope = Scope(kernels=tuple(kernels))
        names = self._owed_metrics(kernels, owed)
        past = await self._past(ask, names, range_s, scope)
        moved, young = await _movements(ask, kernels, patience, owed.end, scope)
        born = await _births(ask, young, patience) if owed.start is None else {}
        older = await ask.kernels(lookup_queries.existed_query(range_s, scope))
        if owed.start is None:
            await self._add_firsts(ask, past, kernels, range_s)
        return {
            kernel: Life(
                moved=moved[kernel],
                born=born.get(kernel),
                older=kernel in older,
                metrics={name: past[kernel, name] for name in names if (kernel, name) in past},
            )
            for kernel in kernels
        }

    def _owed_metrics(self, kernels: Iterable[str], owed: Owed) -> list[str]:
        names = {
            name
            for kernel in kernels
            if kernel in self._history.kernels
            for name, kept in self._history.kernels[kernel].metrics.items()
            if kept.owed == owed
        }
        return self._history.catalog.ordered(names)

    async def _past(
        self, ask: _Questioner, names: list[str], range_s: float, scope: Scope
    ) -> dict[tuple[str, str], Past]:
        queries = lookup_queries.past_queries(self._history.catalog, names, range_s, scope)
        past: dict[tuple[str, str], Past] = {}
        for text, field in (
            (queries.peaks, "maximum"),
            (queries.troughs, "minimum"),
            (queries.sums, "total"),
            (queries.counts, "samples"),
        ):
            if text is None:
                continue
            for place, number in (await ask.numbers(text)).items():
                value = number if field in ("maximum", "minimum") else float(number)
                past[place] = past.get(place, Past())._replace(**{field: value})  # type: ignore[arg-type]
        return past

    async def _add_firsts(
        self,
        ask: _Questioner,
        past: dict[tuple[str, str], Past],
        kernels: Iterable[str],
        range_s: float,
    ) -> None:
        """Find the first sample of every metric that has no capacity of its own."""
        wanted: dict[str, list[str]] = {}
        for kernel in kernels:
            history = self._history.kernels.get(kernel)
            for name, kept in history.metrics.items() if history else ():
                if kept.capacity is None and kept.first is None:
                    wanted.setdefault(kernel, []).append(name)
        if not wanted:
            return
        names = self._history.catalog.ordered({name for row in wanted.values() for name in row})
        scope = Scope(kernels=tuple(wanted))
        births = await ask.numbers(lookup_queries.births_query(names, range_s, scope))
        for (end, reach_s), places in _cells(wanted, births, ask.at).items():
            firsts = await _first_samples(ask, places, end, reach_s)
            for place, text in firsts.items():
                past[place] = past.get(place, Past())._replace(first=text)


Place = tuple[str, str]
"""(kernel id, metric)."""


def _cells(
    wanted: dict[str, list[str]], births: dict[Place, str], at: float
) -> dict[tuple[float, float], list[Place]]:
    """Group places by the stretch (end, length) that holds their first sample.

    A place without a birth on the grid was born after the last grid point.
    """
    step = lookup_queries.BIRTH_STEP_S
    last_point = math.floor(at / step) * step
    cells: dict[tuple[float, float], list[Place]] = {}
    for kernel, names in wanted.items():
        for name in names:
            birth = births.get((kernel, name))
            if birth is None:
                cell = (at, max(at - last_point, 0.001))
            else:
                cell = (math.ceil(float(birth) / step) * step, float(step))
            cells.setdefault(cell, []).append((kernel, name))
    return cells


async def _first_samples(
    ask: _Questioner, places: Iterable[Place], end: float, reach_s: float
) -> dict[Place, str]:
    kernels, names = zip(*places, strict=True)
    scope = Scope(kernels=tuple(dict.fromkeys(kernels)))
    text = lookup_queries.first_samples_query(dict.fromkeys(names), reach_s, scope)
    first: dict[Place, tuple[float, bool, str]] = {}
    for series in await ask.client.matrix(text, end, ask.timeout_s):
        place = (
            series.metric.get("kernel_id", ""),
            series.metric.get("container_metric_name", ""),
        )
        unowned = series.metric.get("session_id") == "undefined"
        samples = [(at, text) for at, text in series.values if numbers.number(text) is not None]
        if samples:
            claim = (samples[0][0], unowned, samples[0][1])
            first[place] = min(first.get(place, claim), claim)
    return {place: text for place, (_, _, text) in first.items()}


async def _births(ask: _Questioner, young: Sequence[str], patience: Patience) -> dict[str, float]:
    """Return the time of the first sample of kernels that are younger than the range of a rate."""
    if not young:
        return {}
    text = lookup_queries.openings_query(patience.stall_s, Scope(kernels=tuple(young)))
    births: dict[str, float] = {}
    for series in await ask.client.matrix(text, ask.at, ask.timeout_s):
        kernel = series.metric.get("kernel_id", "")
        if series.values:
            first = series.values[0][0]
            births[kernel] = min(first, births.get(kernel, first))
    return births


async def _movements(
    ask: _Questioner, kernels: Sequence[str], patience: Patience, at: float, scope: Scope
) -> tuple[dict[str, float | None], list[str]]:
    """Return when each kernel last moved, and which are younger than the patience with agents.

    None stands for a kernel that has stood still too long.
    """
    lately = await ask.numbers(lookup_queries.moved_query(patience.stall_s, scope))
    before_stall = await ask.kernels(lookup_queries.existed_query(patience.stall_s, scope))
    at_all = await ask.numbers(lookup_queries.moved_query(patience.still_s, scope))
    before_still = await ask.kernels(lookup_queries.existed_query(patience.still_s, scope))

    def moved(kernel: str) -> float | None:
        if float(lately.get((kernel, ""), "0")) > 0 or kernel not in before_stall:
            return at
        if float(at_all.get((kernel, ""), "0")) > 0 or kernel not in before_still:
            return at - patience.stall_s - 1.0
        return None

    young = [kernel for kernel in kernels if kernel not in before_stall]
    return {kernel: moved(kernel) for kernel in kernels}, young


@dataclass(frozen=True, slots=True)
class _Questioner:
    """Asks the questions of one chunk, all at the time `at`."""

    client: Client
    at: float
    timeout_s: float

    async def _rows(self, text: str) -> list[Row]:
        return await self.client.vector(text, self.at, self.timeout_s)

    async def numbers(self, text: str) -> dict[Place, str]:
        """Return {(kernel, metric or ""): number as text}; what is no number is left out."""
        return {
            (row.metric.kernel_id, row.metric.container_metric_name or ""): row.value[1]
            for row in await self._rows(text)
            if row.metric.kernel_id and row.value and numbers.number(row.value[1]) is not None
        }

    async def kernels(self, text: str) -> set[str]:
        """Return the kernels in the answer."""
        return {row.metric.kernel_id for row in await self._rows(text) if row.metric.kernel_id}
