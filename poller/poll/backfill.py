"""What happened before the poller looked: asked once per kernel, in bounded chunks.

Reads the keys that are already there, and Prometheus over the restore window. A composition,
like the cycle; it never delays one: no question is put while a batch is asked, and where batches
are slow, chunks come one by one with pauses between them.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from poller.errors import PollerError, PrometheusError
from poller.format import encode, numbers
from poller.format.catalog import ESSENTIAL
from poller.poll.history import History
from poller.poll.state import KernelState
from poller.poll.withhold import Patience
from poller.prometheus import lookup_queries
from poller.prometheus.answers import Row, Series
from poller.prometheus.client import Client
from poller.prometheus.selectors import Scope
from poller.store.keys import Store
from poller.values import Life, Owed, Past

ATTEMPTS = 3
"""After so many failed recalls a kernel goes on with what is known of it."""
_TOO_MUCH = ("rejected", "oversized", "timeout")
"""Answers to a question that was too large: half of it may pass."""
_SLOW = 1 / 3
"""A batch that takes more than this share of its time leaves little for anything else."""
_AGES_S = (900.0, 7200.0)
"""Kernels are sorted by age before their births are looked for: each step of it costs."""


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


class Pace:
    """Lets questions of the past pass between the batches, fewer of them where those are slow."""

    def __init__(self) -> None:
        self.slow = False
        self._free = asyncio.Event()
        self._free.set()

    @contextmanager
    def batch(self, within_s: float) -> Iterator[None]:
        """Hold every new question back, and see how long this batch takes of `within_s`."""
        started = time.perf_counter()
        self._free.clear()
        try:
            yield
        finally:
            self.slow = time.perf_counter() - started > _SLOW * within_s
            self._free.set()

    async def turn(self) -> None:
        """Wait until no batch is asked."""
        await self._free.wait()

    async def rest(self, after_s: float) -> None:
        """Where batches are slow, leave as much time as the last chunk took."""
        if self.slow:
            await asyncio.sleep(after_s)


class _Queue:
    """The chunks that are still to be recalled: what a kernel without a key waits for, first."""

    def __init__(self, history: History, chunk: int) -> None:
        self._history, self._chunk = history, chunk
        self._chunks: list[tuple[int, int, int, Owed, list[str]]] = []
        self._number = itertools.count()
        self._taken: set[str] = set()

    async def next(self) -> tuple[Owed, list[str]] | None:
        """Return kernels that owe the same stretch; None if nothing is left to be taken."""
        await self._fill()
        while self._chunks:
            owed, chunk = heapq.heappop(self._chunks)[3:]
            kernels = [kernel for kernel in chunk if kernel in self._history.owing]
            self._taken.difference_update(set(chunk).difference(kernels))
            if kernels:
                return owed, kernels
        return None

    def done(self, kernels: Iterable[str]) -> None:
        """Let these be taken again if they owe something more."""
        self._taken.difference_update(kernels)

    async def _fill(self) -> None:
        """Put what came to be owed in its place: of one urgency, the fewest kernels first."""
        groups: dict[tuple[int, Owed], list[str]] = {}
        for place, kernel_id in enumerate(sorted(self._history.owing - self._taken)):
            kernel = self._history.kernels.get(kernel_id)
            owed = kernel.owing if kernel is not None else None
            if kernel is not None and owed is not None:
                groups.setdefault((_urgency(kernel), owed), []).append(kernel_id)
                self._taken.add(kernel_id)
            if place % 500 == 499:
                await asyncio.sleep(0)
        for (urgency, owed), kernels in groups.items():
            for start in range(0, len(kernels), self._chunk):
                chunk = kernels[start : start + self._chunk]
                entry = (urgency, len(kernels), next(self._number), owed, chunk)
                heapq.heappush(self._chunks, entry)


def _urgency(kernel: KernelState) -> int:
    """Return 0 for a kernel that cannot be written yet, 2 for one whose key told enough."""
    if not kernel.key_read:
        return 1
    return 2 if all(kept.known for kept in kernel.metrics.values()) else 0


class Backfiller:
    """Recalls what a history owes. `on_progress(left)` is told how many kernels are left.

    `pace` is to be told of every batch.
    """

    def __init__(
        self,
        history: History,
        reach: Reach,
        on_progress: Callable[[int], None] = lambda left: None,
    ) -> None:
        self._history = history
        self._reach = reach
        self._on_progress = on_progress
        self.pace = Pace()

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
        queue = _Queue(self._history, self._reach.chunk)
        given_up = 0
        running: set[asyncio.Task[int]] = set()
        try:
            while True:
                while len(running) < self._at_once and (chunk := await queue.next()):
                    running.add(asyncio.create_task(self._one(client, *chunk, patience, queue)))
                if not running:
                    return given_up
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                given_up += sum(task.result() for task in done)
                self._on_progress(len(self._history.owing))
        finally:
            for task in running:
                task.cancel()

    @property
    def _at_once(self) -> int:
        return 1 if self.pace.slow else self._reach.concurrency

    async def _one(
        self, client: Client, owed: Owed, kernels: list[str], patience: Patience, queue: _Queue
    ) -> int:
        """Recall one chunk and rest; return how many of it gave up."""
        started = time.perf_counter()
        given_up = await self._recall(client, owed, kernels, patience)
        queue.done(kernels)
        await self.pace.rest(time.perf_counter() - started)
        return given_up

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
        return 0

    async def _lives(
        self, client: Client, owed: Owed, kernels: list[str], patience: Patience
    ) -> dict[str, Life]:
        range_s = self._reach.window_s if owed.start is None else owed.end - owed.start
        ask = _Questioner(client, owed.end, self._reach.timeout_s, self.pace)
        scope = Scope(kernels=tuple(kernels))
        names = self._owed_metrics(kernels, owed)
        past = await self._past(ask, names, range_s, scope)
        moved, young = await _movements(ask, kernels, patience, owed.end, scope)
        born = await _births(ask, young, patience) if owed.start is None else {}
        older = await ask.kernels(lookup_queries.older_query(range_s, scope))
        if owed.start is None:
            await self._add_firsts(ask, past, kernels, older, range_s)
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
        past: dict[Place, Past],
        kernels: Iterable[str],
        older: Container[str],
        range_s: float,
    ) -> None:
        """Find the first sample of every metric that has no capacity of its own.

        A kernel's metrics are born together as a rule; those that were not are looked for alone.
        """
        wanted = self._without_first(kernels)
        cells = await _kernel_cells(ask, wanted, older, range_s)
        firsts = await _in_cells(ask, cells)
        late: dict[str, list[str]] = {}
        for kernel, names in wanted.items():
            left = [name for name in names if (kernel, name) not in firsts]
            if left:
                late[kernel] = left
        if late:
            firsts |= await _in_cells(ask, await _metric_cells(ask, late, range_s))
        for place, text in firsts.items():
            past[place] = past.get(place, Past())._replace(first=text)

    def _without_first(self, kernels: Iterable[str]) -> dict[str, list[str]]:
        """Return the metrics of each kernel whose first value is wanted, in their order."""
        wanted: dict[str, list[str]] = {}
        for kernel in kernels:
            history = self._history.kernels.get(kernel)
            for name, kept in history.metrics.items() if history else ():
                if kept.capacity is None and kept.first is None:
                    wanted.setdefault(kernel, []).append(name)
        return wanted


Place = tuple[str, str]
"""(kernel id, metric)."""
Cells = dict[tuple[float, float], list[Place]]
"""Places by the stretch (end, length) that holds their first sample."""


async def _kernel_cells(
    ask: _Questioner, wanted: dict[str, list[str]], older: Container[str], range_s: float
) -> Cells:
    """Find the births of kernels by one metric of theirs, over no longer than they may live."""
    step = lookup_queries.BIRTH_STEP_S
    oldest = (min(ask.at, ask.at - range_s + step), float(step))
    cells: Cells = {}
    left = [kernel for kernel in wanted if kernel not in older]
    for kernel in wanted.keys() - set(left):
        cells.setdefault(oldest, []).extend((kernel, name) for name in wanted[kernel])
    for age_s in (*(age_s for age_s in _AGES_S if age_s < range_s), range_s):
        if not left:
            break
        scope = Scope(kernels=tuple(left))
        query = lookup_queries.older_query(age_s, scope)
        beyond = await ask.kernels(query) if age_s < range_s else set()
        found = {kernel: wanted[kernel] for kernel in left if kernel not in beyond}
        births = await _births_of_kernels(ask, found, age_s)
        for cell, places in _cells(found, births, ask.at).items():
            cells.setdefault(cell, []).extend(places)
        left = [kernel for kernel in left if kernel in beyond]
    return cells


async def _births_of_kernels(
    ask: _Questioner, wanted: dict[str, list[str]], range_s: float
) -> dict[Place, str]:
    if not wanted:
        return {}
    scope = Scope(kernels=tuple(wanted))
    births = await ask.numbers(lookup_queries.births_query(ESSENTIAL[:1], range_s, scope))
    return {
        (kernel, name): born
        for (kernel, _), born in births.items()
        for name in wanted.get(kernel, ())
    }


async def _metric_cells(ask: _Questioner, wanted: dict[str, list[str]], range_s: float) -> Cells:
    names = dict.fromkeys(name for row in wanted.values() for name in row)
    query = lookup_queries.births_query(names, range_s, Scope(kernels=tuple(wanted)))
    return _cells(wanted, await ask.numbers(query), ask.at)


async def _in_cells(ask: _Questioner, cells: Cells) -> dict[Place, str]:
    firsts: dict[Place, str] = {}
    for (end, reach_s), places in cells.items():
        wanted = set(places)
        found = await _first_samples(ask, places, end, reach_s)
        firsts |= {place: text for place, text in found.items() if place in wanted}
    return firsts


def _cells(wanted: dict[str, list[str]], births: dict[Place, str], at: float) -> Cells:
    """Group places by the stretch that holds their first sample.

    A place without a birth on the grid was born after the last grid point.
    """
    step = lookup_queries.BIRTH_STEP_S
    last_point = math.floor(at / step) * step
    cells: Cells = {}
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
    for series in await ask.series(text, end):
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
    for series in await ask.series(text, ask.at):
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
    before_stall = await ask.kernels(lookup_queries.older_query(patience.stall_s, scope))
    moves = {
        kernel
        for kernel in kernels
        if float(lately.get((kernel, ""), "0")) > 0 or kernel not in before_stall
    }
    still = [kernel for kernel in kernels if kernel not in moves]
    moved: dict[str, float | None] = dict.fromkeys(moves, at)
    for kernel in still:
        moved[kernel] = None
    for kernel in await _moved_before(ask, still, patience):
        moved[kernel] = at - patience.stall_s - 1.0
    return moved, [kernel for kernel in kernels if kernel not in before_stall]


async def _moved_before(ask: _Questioner, kernels: Sequence[str], patience: Patience) -> list[str]:
    """Return those of some resting kernels that have not rested for too long."""
    if not kernels:
        return []
    scope = Scope(kernels=tuple(kernels))
    at_all = await ask.numbers(lookup_queries.moved_query(patience.still_s, scope))
    before_still = await ask.kernels(lookup_queries.older_query(patience.still_s, scope))
    return [
        kernel
        for kernel in kernels
        if float(at_all.get((kernel, ""), "0")) > 0 or kernel not in before_still
    ]


@dataclass(frozen=True, slots=True)
class _Questioner:
    """Asks the questions of one chunk, all at the time `at`."""

    client: Client
    at: float
    timeout_s: float
    pace: Pace

    async def _rows(self, text: str) -> list[Row]:
        await self.pace.turn()
        return await self.client.vector(text, self.at, self.timeout_s)

    async def series(self, text: str, at: float) -> list[Series]:
        """Return the raw samples that a query gives as of a time."""
        await self.pace.turn()
        return await self.client.matrix(text, at, self.timeout_s)

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
