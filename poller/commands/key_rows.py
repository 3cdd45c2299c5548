"""What a table of keys holds: a row a key, its values and troubles, and the orders. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from poller.values import Fields, LiveStat

Order = Literal["wrong", "cpu", "memory", "id", "age"]
"""`wrong`: first what no reader can use, then what is stale, then the busiest."""
FIRST: dict[Order, str] = {
    "wrong": "what is wrong",
    "cpu": "the busiest",
    "memory": "the largest",
    "id": "the least id",
    "age": "the oldest",
}
"""What comes first in each order, in words."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One kernel's key: None for no value that can be read, or no TTL of ours.

    `trouble` is why there is no value.
    """

    kernel: str
    stat: LiveStat | None
    age_s: float | None = None
    trouble: str = ""


def in_order(rows: Iterable[KeyRow], order: Order, stale_after_s: float) -> list[KeyRow]:
    """Return rows in an order, those alike by their ids."""
    return sorted(rows, key=lambda row: (*_ORDERS[order](row, stale_after_s), row.kernel))


def _wrong(row: KeyRow, stale_after_s: float) -> tuple[float, ...]:
    """Order what no reader can use before what is stale, the oldest first, then by load."""
    if row.stat is None:
        return 0.0, 0.0
    if is_stale(row, stale_after_s):
        return 1.0, -(row.age_s or 0.0)
    return 2.0, -_cpu_percent(row.stat)


def is_stale(row: KeyRow, stale_after_s: float) -> bool:
    """Whether a key is older than that; of one without our TTL it is not known."""
    return row.age_s is not None and row.age_s > stale_after_s


def _memory(row: KeyRow, stale_after_s: float) -> tuple[float, ...]:
    return (-(number((row.stat or {}).get("mem", {}), "current") or 0.0),)


def _age_order(row: KeyRow, stale_after_s: float) -> tuple[float, ...]:
    return (-row.age_s if row.age_s is not None else math.inf,)


_ORDERS: dict[Order, Callable[[KeyRow, float], tuple[float, ...]]] = {
    "wrong": _wrong,
    "cpu": lambda row, stale: (-_cpu_percent(row.stat),),
    "memory": _memory,
    "id": lambda row, stale: (),
    "age": _age_order,
}


def _cpu_percent(stat: LiveStat | None) -> float:
    found = number((stat or {}).get("cpu_util", {}), "pct")
    return -1.0 if found is None else found


def number(fields: Fields, field: str) -> float | None:
    """Return a field as a number; whoever wrote the key may have written anything."""
    try:
        found = float(fields.get(field, ""))
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
