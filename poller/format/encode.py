"""The legacy bytes: a metric's fields, packing, reading; what of a key is valid. Pure.

A value is MessagePack of `{metric: {"current", "capacity", "pct", "unit_hint", "stats.…"}}`,
every leaf a str. Numbers are decimal text, rounded half-even to 3 places (`pct` to 2), without
trailing zeros and never with an exponent: readers call `int()` on some of them.
Source: the agents' `Metric.to_serializable_dict` of 26.4 and 26.9, and the readers' conversions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import msgpack

from poller.format.catalog import Catalog, Metric
from poller.format.numbers import number, of_float, percentage, whole_number, written, written_whole
from poller.values import Fields, LiveStat, Remembered

SENTINEL: Final = "9223372036854775807"
"""The capacity that the manager's own Prometheus path makes up where there is none."""

_MAX_VALUE_BYTES = 1 << 20
_PACKER = msgpack.Packer(use_bin_type=True)


class Kept(Protocol):
    """What the encoder reads of one metric's history; raw values as text, `value` the current."""

    current: str
    value: float
    capacity: str | None
    first: str | None
    rate: float | None
    maximum: str | None
    minimum: str | None
    total: float
    count: float
    prior_average: str | None


@dataclass(frozen=True, slots=True)
class Manner:
    """How one kernel is written; `poll.outcome.Manners` makes one for each exporter.

    `capacity_of` is `first` or `sentinel`: what stands in where there is no capacity series.
    `measure_s` turns a rate into the difference between two measurements (`stats.diff`).
    """

    capacity_of: str = "first"
    measure_s: float = 1.0


PLAIN = Manner()


def fields(metric: Metric, kept: Kept, manner: Manner = PLAIN) -> Fields:
    """Return one metric as readers see it."""
    text_of = written_whole if metric.whole else written
    raw, rate, capacity = kept.current, kept.rate or 0.0, kept.capacity
    if capacity is None:
        capacity = SENTINEL if manner.capacity_of == "sentinel" else kept.first or raw
    if metric.kind == "gauge":
        current, pct = text_of(raw), percentage(kept.value, capacity, raw)
    else:
        current, pct = of_float(rate), percentage(rate, capacity)
        if metric.whole:
            current = whole_number(current)
    made = {
        "current": current,
        "capacity": text_of(capacity),
        "pct": pct,
        "unit_hint": metric.unit_hint,
    }
    for stat in metric.stats:
        if stat == "max":
            made["stats.max"] = text_of(kept.maximum or raw)
        elif stat == "min":
            made["stats.min"] = text_of(kept.minimum or raw)
        elif stat == "avg":
            made["stats.avg"] = _average(kept)
        elif stat == "rate":
            made["stats.rate"] = of_float(rate)
        elif stat == "diff":
            made["stats.diff"] = of_float(rate * manner.measure_s)
        else:
            made["stats.sum"] = of_float(kept.total)
    return made


def _average(kept: Kept) -> str:
    if kept.prior_average is not None:
        return written(kept.prior_average)
    return of_float(kept.total / kept.count) if kept.count else written(kept.current)


def live_stat(metrics: Iterable[tuple[Metric, Kept]], manner: Manner = PLAIN) -> LiveStat:
    """Return one kernel as readers see it. `metrics` are already in the outer order."""
    return {metric.name: fields(metric, kept, manner) for metric, kept in metrics}


def pack(stat: LiveStat) -> bytes:
    """Return the value of a kernel's key. The map must not be empty."""
    packed: bytes = _PACKER.pack(stat)
    return packed


def _refuse_ext(code: int, data: bytes) -> None:
    raise ValueError("an ext type has no place in a live stat")


def unpack(value: bytes) -> LiveStat | None:
    """Return what a key holds if it is a valid live stat, else None. Nothing in it is executed."""
    if len(value) > _MAX_VALUE_BYTES:
        return None
    try:
        stat = msgpack.unpackb(value, raw=False, strict_map_key=True, ext_hook=_refuse_ext)
    except Exception:  # msgpack raises half a dozen unrelated classes on rubbish
        return None
    return stat if _is_live_stat(stat) else None


def _is_live_stat(stat: object) -> bool:
    if not isinstance(stat, dict) or not stat:
        return False
    return all(
        isinstance(name, str)
        and isinstance(made, dict)
        and "current" in made
        and "unit_hint" in made
        and all(isinstance(field, str) for field in made)
        and all(text is None or isinstance(text, str) for text in made.values())
        for name, made in stat.items()
    )


def remembered(catalog: Catalog, stat: LiveStat) -> dict[str, Remembered]:
    """Return what a valid live stat tells of each metric that may be written again."""
    return {
        name: _remembered(catalog[name], made)
        for name, made in stat.items()
        if catalog.admits(name)
    }


def _remembered(metric: Metric, made: Fields) -> Remembered:
    def told(field: str) -> str | None:
        text = made.get(field)
        return number(text) if text else None

    capacity = told("capacity")
    is_rate = metric.kind != "gauge"
    return Remembered(
        raw=None if is_rate else told("current"),
        rate=told("current") if is_rate else told("stats.rate"),
        capacity=None if capacity == SENTINEL else capacity,
        maximum=told("stats.max"),
        minimum=told("stats.min"),
        average=told("stats.avg"),
    )
