"""The text of numbers: read as Prometheus writes it, written as the legacy format has it. Pure.

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
_SURE_DIGITS = 300
"""Fewer digits than this are within what a float64 can hold."""
_MOST_CHARACTERS = 1100
"""No float64 is longer in plain decimals."""
_MOST_HUNDREDTHS = 1e14
"""Up to here a float64 tells hundredths apart."""
_INFINITY = float("inf")


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
    """Return a number of any notation as the format writes it; None if it is no finite number."""
    if text.isdigit() and text.isascii() and text[0] != "0" and len(text) < _SURE_DIGITS:
        return text
    whole, _, fraction = text.partition(".")
    if (
        fraction.isdigit()
        and whole.isdigit()
        and text.isascii()
        and (whole[0] != "0" or whole == "0")
        and len(text) < _SURE_DIGITS
    ):
        return _rounded(whole, fraction)
    return None if fault(text) is not None else _plain(Decimal(text), _THOUSANDTH)


def _rounded(whole: str, fraction: str) -> str:
    """Return digits rounded half-even to three places."""
    kept = fraction[:3]
    if len(fraction) > 3 and fraction[3] > "5" and len(whole) < 10:
        # So far from a tie, and so short, that a float64 rounds to the same digits.
        whole, _, kept = f"{float(f'{whole}.{fraction[:8]}'):.3f}".partition(".")
    elif len(fraction) > 3 and fraction[3] >= "5":
        tie = fraction[3] == "5" and not fraction[4:].strip("0")
        thousandths = int(whole + kept)
        thousandths += thousandths & 1 if tie else 1
        whole, kept = str(thousandths // 1000), f"{thousandths % 1000:03}"
    if kept[-1] == "0":
        kept = kept.rstrip("0")
        return f"{whole}.{kept}" if kept else whole
    return f"{whole}.{kept}"


def _plain(value: Decimal, places: Decimal) -> str:
    """Return value rounded to places as plain digits: no exponent, trailing zero or minus zero."""
    digits = format(value.quantize(places, context=_WIDE), "f")
    digits = digits.rstrip("0").rstrip(".") if "." in digits else digits
    return "0" if digits == "-0" else digits


def whole_number(text: str) -> str:
    """Return a number of the format without its fraction, rounded half-even."""
    if "." not in text:
        return text
    digits = format(round(Decimal(text)), "d")
    return "0" if digits == "-0" else digits


def percentage(current: str, capacity: str | None) -> str:
    """Return `pct`: current / capacity x 100, or `0.00` where capacity cannot divide.

    Both are numbers as Prometheus writes them.
    """
    if capacity is None:
        return "0.00"
    divisor = float(capacity)
    if 1e-300 < divisor < _INFINITY:
        hundredths = float(current) / divisor * 10_000.0
        # Far enough from a tie both arithmetics round to the same hundredth.
        doubt = 1e-3 + hundredths * 2e-15
        if 0.0 <= hundredths < _MOST_HUNDREDTHS and abs(hundredths % 1.0 - 0.5) > doubt:
            digits = f"{abs(hundredths) / 100.0:.2f}"  # abs: minus zero is no number here
            if digits[-1] != "0":
                return digits
            return digits[:-1] if digits[-2] != "0" else digits[:-3]
    return _decimal_percentage(current, capacity)


def _decimal_percentage(current: str, capacity: str) -> str:
    """Return `pct` by the agent's own arithmetic, in 28 decimal digits."""
    divisor = Decimal(capacity)
    # The text comes from a float64, so its subnormals are those of float64.
    if not divisor.is_finite() or divisor < Decimal(sys.float_info.min):
        return "0.00"
    share = _AGENT.multiply(_AGENT.divide(Decimal(current), divisor), Decimal(100))
    return _plain(share, _HUNDREDTH)
