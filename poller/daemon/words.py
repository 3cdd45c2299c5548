"""Foreign text, numbers and times as they stand on the page. Pure."""

from __future__ import annotations

import html
from datetime import UTC, datetime

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
NOT_KNOWN = "–"


def text(foreign: object) -> str:
    """Return foreign text as HTML: escaped, and without marks that cannot be seen."""
    shown = "".join(mark if mark.isprintable() else " " for mark in str(foreign))
    return html.escape(shown, quote=True)


def lasting(seconds: float) -> str:
    """Return a duration in its two largest units, such as `2 h 5 min`."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
        if len(parts) == 2 or (parts and not count):
            break
    return " ".join(parts[:2])


def ago(then: float | None, now: float) -> str:
    """Return how long ago a time was."""
    return NOT_KNOWN if then is None else f"{lasting(now - then)} ago"


def clock(then: float) -> str:
    """Return a Unix time as date and time in UTC."""
    return datetime.fromtimestamp(then, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def number(value: float | None) -> str:
    """Return a number with a thin space between thousands."""
    return NOT_KNOWN if value is None else f"{value:,.0f}".replace(",", "\u202f")


def many(count: int, what: str) -> str:
    """Return a count and what is counted, in the singular or plural."""
    return f"{number(count)} {what}" if count == 1 else f"{number(count)} {what}s"


def told(count: int, one: str, several: str) -> str:
    """Return a count and what is told of so many: `1 key is`, `2 keys are`."""
    return f"{count} {one if count == 1 else several}"


def seconds(value: float) -> str:
    """Return a short duration in seconds or milliseconds."""
    return f"{value:.1f} s" if value >= 10 else f"{value:.2f} s" if value >= 1 else _ms(value)


def _ms(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value >= 0.01 else f"{value * 1000:.1f} ms"
