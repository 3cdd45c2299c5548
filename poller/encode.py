"""The legacy bytes. Pure, and the only home of the format.

A value is MessagePack of `{metric: {"current", "capacity", "pct", "unit_hint", "stats.…"}}`,
every leaf a str. Numbers are decimal text, rounded half-even to 3 places (`pct` to 2), without
trailing zeros and never with an exponent: readers call `int()` on some of them.
Source: the agents' `Metric.to_serializable_dict` of 26.4 and 26.9, and the readers' conversions.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, Protocol

import msgpack

from poller.catalog import Catalog, Metric
from poller.model import Fields, LiveStat, Remembered

SENTINEL: Final = "9223372036854775807"
"""The capacity that the manager's own Prometheus path makes up where there is none."""

_AGENT = Context(prec=28, rounding=ROUND_HALF_EVEN)
_WIDE = Context(prec=700, rounding=ROUND_HALF_EVEN)  # every float64 with 3 places fits
_THOUSANDTH = Decimal("0.001")
_HUNDREDTH = Decimal("0.01")
_NUMBER = re.compile(r"([+-]?)(\d+)(?:\.(\d+))?([eE][+-]?\d{1,4})?", re.ASCII)
_FLOAT_DIGITS = 17  # up to here the integer path gives what 28 decimal digits give
_MAX_VALUE_BYTES = 1 << 20


class Kept(Protocol):
    """What the encoder reads of one metric's history; numbers as text."""

    current: str
    capacity: str | None
    first: str | None
    rate: str
    maximum: str | None
    minimum: str | None
    total: float
    count: float
    prior_average: str | None


def number(text: str) -> str | None:
    """Return a number of any notation as the format writes it; None if it is no finite number."""
    if text.isdigit() and text.isascii() and text[0] != "0":
        return text
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction, exponent = match.groups()
    if exponent:
        return _plain(Decimal(text), _THOUSANDTH)
    thousandths = _thousandths(whole, fraction or "")
    if not thousandths:
        return "0"
    whole_part, places = divmod(thousandths, 1000)
    digits = f"{whole_part}.{places:03}".rstrip("0") if places else str(whole_part)
    return "-" + digits if sign == "-" else digits


def _thousandths(whole: str, fraction: str) -> int:
    """Return digits rounded half-even to thousandths: exact, since it never leaves the digits."""
    kept = int(whole + (fraction + "000")[:3])
    dropped = fraction[3:]
    if not dropped or dropped[0] < "5":
        return kept
    tie = not dropped[1:].strip("0") and dropped[0] == "5"
    return kept + (kept & 1 if tie else 1)


def _plain(value: Decimal, places: Decimal) -> str:
    """Return value rounded to places as plain digits: no exponent, trailing zero or minus zero."""
    digits = format(value.quantize(places, context=_WIDE), "f")
    digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def percentage(current: str, capacity: str | None) -> str:
    """Return `pct`: current / capacity x 100, or `0.00` where capacity cannot divide."""
    if capacity is None:
        return "0.00"
    divisor = _scaled(capacity)
    dividend = _scaled(current)
    if divisor is None or dividend is None:
        return _decimal_percentage(current, capacity)
    if divisor[0] <= 0:
        return "0.00"
    return _ratio(dividend[0] * 10_000 * divisor[1], divisor[0] * dividend[1])


def _scaled(text: str) -> tuple[int, int] | None:
    """Return short plain decimal text as (integer, power of ten); None: leave it to decimal."""
    if len(text) > _FLOAT_DIGITS + 1:
        return None
    whole, point, fraction = text.partition(".")
    try:
        if not point:
            return int(text), 1
        return int(whole + fraction), 10 ** len(fraction)
    except ValueError:
        return None


def _ratio(dividend: int, divisor: int) -> str:
    """Return dividend / divisor hundredths, rounded half-even, as text."""
    quotient, rest = divmod(dividend, divisor)
    twice = rest * 2
    if twice > divisor or (twice == divisor and quotient & 1):
        quotient += 1
    if quotient < 0:
        return _plain(Decimal(quotient).scaleb(-2), _HUNDREDTH)
    whole, hundredths = divmod(quotient, 100)
    if not hundredths:
        return str(whole)
    return f"{whole}.{hundredths:02}".rstrip("0")


def _decimal_percentage(current: str, capacity: str) -> str:
    divisor = Decimal(capacity)
    # The text comes from a float64, so its subnormals are those of float64.
    if not divisor.is_finite() or divisor < Decimal(sys.float_info.min):
        return "0.00"
    share = _AGENT.multiply(_AGENT.divide(Decimal(current), divisor), Decimal(100))
    return _plain(share, _HUNDREDTH)


def _average(kept: Kept) -> str:
    if kept.prior_average is not None:
        return kept.prior_average
    return repr(kept.total / kept.count) if kept.count else kept.current


def fields(metric: Metric, kept: Kept, capacity_of: str, measure_s: float) -> Fields:
    """Return one metric as readers see it.

    `capacity_of` is `first` or `sentinel`: what stands in where there is no capacity series.
    `measure_s` turns a rate into the difference between two measurements (`stats.diff`).
    """
    raw = kept.rate if metric.kind != "gauge" else kept.current
    capacity = kept.capacity
    if capacity is None:
        capacity = SENTINEL if capacity_of == "sentinel" else (kept.first or kept.current)
    made = {
        "current": number(raw) or "0",
        "capacity": number(capacity) or "0",
        "pct": percentage(raw, capacity),
        "unit_hint": metric.unit_hint,
    }
    for stat in metric.stats:
        made[f"stats.{stat}"] = _statistic(stat, kept, measure_s)
    return made


def _statistic(stat: str, kept: Kept, measure_s: float) -> str:
    if stat == "max":
        text = kept.maximum or kept.current
    elif stat == "min":
        text = kept.minimum or kept.current
    elif stat == "avg":
        text = _average(kept)
    elif stat == "sum":
        text = repr(kept.total)
    elif stat == "diff":
        text = repr(float(kept.rate) * measure_s)
    else:
        text = kept.rate
    return number(text) or "0"


def live_stat(
    catalog: Catalog,
    metrics: Iterable[tuple[str, Kept]],
    capacity_of: str = "first",
    measure_s: float = 1.0,
) -> LiveStat:
    """Return one kernel as readers see it, in the outer order. `metrics` are already in it."""
    return {name: fields(catalog[name], kept, capacity_of, measure_s) for name, kept in metrics}


def pack(stat: LiveStat) -> bytes:
    """Return the value of a kernel's key. The map must not be empty."""
    packed: bytes = msgpack.packb(stat, use_bin_type=True)
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
