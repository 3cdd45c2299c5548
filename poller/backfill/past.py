"""Single questions after kernels' past over a range, and their answers: firsts, births, moves."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from poller.backfill.pace import Pace
from poller.format import numbers
from poller.format.catalog import ESSENTIAL
from poller.prometheus import lookup_queries, selectors
from poller.prometheus.answers import Row, Series
from poller.prometheus.client import Client
from poller.prometheus.selectors import Scope
from poller.rounds.rounds import Rounds
from poller.values import Past, Patience

_AGES_S = (900.0, 7200.0)
"""Kernels are sorted by age before their births are looked for: each step of it costs."""
Place = tuple[str, str]
"""(kernel id, metric)."""
Cells = dict[tuple[float, float], list[Place]]
"""Places by the stretch (end, length) that holds their first sample."""


async def kernel_cells(
    ask: Questioner, wanted: dict[str, list[str]], older: Container[str], range_s: float
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
    ask: Questioner, wanted: dict[str, list[str]], range_s: float
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


async def metric_cells(ask: Questioner, wanted: dict[str, list[str]], range_s: float) -> Cells:
    names = dict.fromkeys(name for row in wanted.values() for name in row)
    query = lookup_queries.births_query(names, range_s, Scope(kernels=tuple(wanted)))
    return _cells(wanted, await ask.numbers(query), ask.at)


async def in_cells(ask: Questioner, cells: Cells) -> dict[Place, str]:
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
    ask: Questioner, places: Iterable[Place], end: float, reach_s: float
) -> dict[Place, str]:
    kernels, names = zip(*places, strict=True)
    scope = Scope(kernels=tuple(dict.fromkeys(kernels)))
    text = selectors.samples(dict.fromkeys(names), reach_s, scope)
    first: dict[Place, tuple[float, bool, str]] = {}
    for series in await ask.series(text, end):
        place = _place_of(series)
        unowned = series.metric.get("session_id") == "undefined"
        samples = [one for one in series.values if numbers.number(one.text) is not None]
        if samples:
            claim = (samples[0].at, unowned, samples[0].text)
            first[place] = min(first.get(place, claim), claim)
    return {place: text for place, (_, _, text) in first.items()}


async def openings(
    ask: Questioner, young: Sequence[str], metrics: Iterable[str], patience: Patience
) -> dict[Place, list[Series]]:
    """Return all samples of some metrics of kernels that are younger than the range of a rate.

    A place has several series where several exporters tell of a kernel.
    """
    if not young:
        return {}
    scope = Scope(kernels=tuple(young))
    text = selectors.samples(metrics, patience.stall_s, scope)
    found: dict[Place, list[Series]] = {}
    for series in await ask.series(text, ask.at):
        if series.values:
            found.setdefault(_place_of(series), []).append(series)
    return found


def _place_of(series: Series) -> Place:
    return series.metric.get("kernel_id", ""), series.metric.get("container_metric_name", "")


def without_older(
    opened: Mapping[Place, list[Series]], past: Mapping[Place, Past]
) -> dict[Place, list[Series]]:
    """Leave out the kernels of which there are more samples: they only had a gap just then."""
    older = {
        place[0]
        for place, several in opened.items()
        if place in past and past[place].samples > sum(len(one.values) for one in several)
    }
    return {place: several for place, several in opened.items() if place[0] not in older}


def births(opened: Mapping[Place, Iterable[Series]], rounds: Rounds) -> dict[str, float]:
    """Return the time of the first sample of each kernel, if it began with it.

    What the first scrape of an exporter found may have lived before.
    """
    found: dict[str, float] = {}
    for (kernel, name), several in opened.items():
        if name == ESSENTIAL[0]:
            born, first = min((series.values[0].at, _exporter_of(series)) for series in several)
            clock = rounds.of(first)
            if clock is None or clock.began != born:
                found[kernel] = born
    return found


def _exporter_of(series: Series) -> str:
    return series.metric.get("instance", "")


async def movements(
    ask: Questioner, kernels: Sequence[str], patience: Patience
) -> tuple[dict[str, float | None], list[str]]:
    """Return when each kernel last moved, and which are younger than the patience with agents.

    None stands for a kernel that has stood still too long.
    """
    lately, older = await _moved_within(ask, kernels, patience.stall_s)
    moved = {kernel: ask.at if kernel in lately else None for kernel in kernels}
    resting = [kernel for kernel in kernels if kernel not in lately]
    if resting:
        before, _ = await _moved_within(ask, resting, patience.still_s)
        moved |= dict.fromkeys(before, ask.at - patience.stall_s - 1.0)
    return moved, [kernel for kernel in kernels if kernel not in older]


async def _moved_within(
    ask: Questioner, kernels: Sequence[str], range_s: float
) -> tuple[set[str], set[str]]:
    """Return those of some kernels that moved or began in the range, and those older than it."""
    scope = Scope(kernels=tuple(kernels))
    changes = await ask.numbers(lookup_queries.moved_query(range_s, scope))
    older = await ask.kernels(lookup_queries.older_query(range_s, scope))
    moved = {one for one in kernels if float(changes.get((one, ""), "0")) > 0 or one not in older}
    return moved, older


@dataclass(frozen=True, slots=True)
class Questioner:
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
            (row.metric.kernel_id, row.metric.container_metric_name or ""): row.value.text
            for row in await self._rows(text)
            if row.metric.kernel_id and row.value and numbers.number(row.value.text) is not None
        }

    async def kernels(self, text: str) -> set[str]:
        """Return the kernels in the answer."""
        return {row.metric.kernel_id for row in await self._rows(text) if row.metric.kernel_id}
