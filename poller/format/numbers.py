"""Numbers and percentages as text, 0.00 where nothing divides; who has which, `catalog` says. Pure.

Arithmetic is decimal: half-even rounding of the digits as they stand. The short cuts give the
same digits; where they cannot be sure of it they leave the number to `decimal`.
"""

from __future__ import annotations

import re
import sys
from decimal import ROUND_HALF_EVEN, Context, Decimal

from poller.values import Drop

_AGENT = Context(prec=28, rounding=ROUND_HALF_EVEN)
_WIDE = Context(prec=700, rounding=ROUND_HALF_EVEN)  # every float64 with 3 places fits
_THOUSANDTH = Decimal("0.001")
_HUNDREDTH = Decimal("0.01")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,4})?", re.ASCII)
_FLOAT_DIGITS = 15
"""A text of more digits is one of several that stand for the same float64."""
_WHOLE_FROM = 2**53
"""From here on a float64 has no fraction, and not every whole number is one."""
_WHOLE_BELOW = 10**25
"""The agent's own arithmetic gives up there: what it would write is no model."""
_SURE_DIGITS = 300
"""Fewer digits than this are within what a float64 can hold."""
_MOST_CHARACTERS = 1100
"""No float64 is longer in plain decimals."""
_SMALLEST_DIVISOR = 1e-300
_SURE = 0.495
"""So near to a whole number a float64 below `_SURE_BELOW` is on the same side of a tie as the
decimals that it stands for."""
_SURE_BELOW = 1e13
_SURE_IF_SMALL = 0.49999
_SMALL = 1e9
"""The same of smaller floats, which are nearer to their decimals. Without it every hundredth number
would take the long way."""
_INFINITY = float("inf")
_LARGEST = sys.float_info.max
_OF_A_HUNDRED = [f".{part:02}".rstrip("0").rstrip(".") for part in range(100)]
_OF_A_THOUSAND = [f".{part:03}".rstrip("0").rstrip(".") for part in range(1000)]
"""What stands behind the whole number, by hundredths and by thousandths."""


def fault(text: str) -> Drop | None:
    """Why text is no finite number, as a metric label; None if it is one."""
    if len(text) < _SURE_DIGITS and text.isdigit() and text.isascii():
        return None
    if len(text) <= _MOST_CHARACTERS and _NUMBER.fullmatch(text):
        return None if abs(float(text)) < _INFINITY else "infinite"
    if text == "NaN":
        return "nan"
    return "infinite" if text in ("+Inf", "-Inf", "Inf") else "not_a_number"


def number(text: str) -> str | None:
    """Return a number of any notation as the format writes it; None if it is no finite number.

    Of a large one Prometheus writes the shortest text that stands for the float64, and the agent
    its digits: 9223372036854772000 is its 9223372036854771712.
    """
    if text.isdigit() and text.isascii() and text[0] != "0" and len(text) <= _FLOAT_DIGITS:
        return text
    whole, _, fraction = text.partition(".")
    if fraction.isdigit() and whole.isdigit() and text.isascii() and len(text) < _SURE_DIGITS:
        return _rounded(float(text)) or _plain(_meant(text), _THOUSANDTH)
    return None if fault(text) is not None else _plain(_meant(text), _THOUSANDTH)


def _meant(text: str) -> Decimal:
    """Return the number that is meant: where a text is a large float64's shortest, that float64."""
    told = Decimal(text)
    if not _WHOLE_FROM <= abs(told) < _WHOLE_BELOW:
        return told
    value = float(text)
    return Decimal(value) if Decimal(repr(value)) == told else told


def written(text: str) -> str:
    """Return a number that is known to be finite as the format writes it."""
    return number(text) or "0"


def written_whole(text: str) -> str:
    """Return a number that is known to be finite as readers take it with `int()`."""
    return whole_number(written(text))


def of_float(value: float) -> str:
    """Return a float64 as the format writes it; what is beyond all numbers as the largest one."""
    return _rounded(value) or _plain(Decimal(repr(_finite(value))), _THOUSANDTH)


def _finite(value: float) -> float:
    """Return a number that fits: sums and rates of numbers near the largest one may not."""
    return min(max(value, -_LARGEST), _LARGEST) if value == value else 0.0


def _rounded(value: float) -> str | None:
    """Return a number with three places, or None where it must be rounded by its decimals."""
    nearest = _nearest(value * 1000.0)
    return None if nearest is None else f"{nearest // 1000}{_OF_A_THOUSAND[nearest % 1000]}"


def _nearest(value: float) -> int | None:
    """Return the nearest whole number, or None if the decimals may be on either side of a tie."""
    if not 0.0 <= value < _SURE_BELOW:
        return None
    nearest, sure = round(value), _SURE_IF_SMALL if value < _SMALL else _SURE
    return nearest if -sure <= value - nearest <= sure else None


def _plain(value: Decimal, places: Decimal) -> str:
    """Return value rounded to places as plain digits: no exponent, trailing zero or minus zero."""
    digits = format(value.quantize(places, context=_WIDE), "f")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if digits == "-0" else digits


def most_written_as(text: str) -> float:
    """Return the largest value that the format may have written as this number."""
    return float(text) + float(_THOUSANDTH) / 2


def whole_number(text: str) -> str:
    """Return a number of the format without its fraction, rounded half-even."""
    if "." not in text:
        return text
    digits = format(round(Decimal(text)), "d")
    return "0" if digits == "-0" else digits


def percentage(value: float, capacity: str | None, text: str | None = None) -> str:
    """Return `pct`: value / capacity x 100, or `0.00` where capacity cannot divide.

    `text` is the value as Prometheus writes it, `capacity` too.
    """
    if capacity is None:
        return "0.00"
    divisor = float(capacity)
    if _SMALLEST_DIVISOR < divisor < _INFINITY:
        nearest = _nearest(value / divisor * 10_000.0)
        if nearest is not None:
            return f"{nearest // 100}{_OF_A_HUNDRED[nearest % 100]}"
    return _decimal_percentage(repr(_finite(value)) if text is None else text, capacity)


def _decimal_percentage(text: str, capacity: str) -> str:
    """Return `pct` by the agent's own arithmetic, in 28 decimal digits."""
    divisor = Decimal(capacity)
    # The text comes from a float64, so its subnormals are those of float64.
    if not divisor.is_finite() or divisor < Decimal(sys.float_info.min):
        return "0.00"
    share = _AGENT.multiply(_AGENT.divide(Decimal(text), divisor), Decimal(100))
    return _plain(share, _HUNDREDTH)
