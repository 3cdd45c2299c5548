"""The last cycles as a small chart: one bar a cycle, stacked by part. Pure: records to SVG.

Places and sizes are attributes and colours are classes, so that a Content-Security-Policy
without inline styles lets it stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import get_args

from poller.daemon.status import KEPT_CYCLES, CycleRecord
from poller.daemon.words import clock, many, seconds, text
from poller.values import Stage

PARTS = get_args(Stage)
_WIDTH = 10
_BAR = 8
_HEIGHT = 100.0
OTHER = "other"
"""What a cycle spent outside its parts: asking for the lease, waiting for a dead neighbour."""


def shares(record: CycleRecord) -> list[tuple[str, float]]:
    """Return the seconds of a cycle by part, what is left over last."""
    known = [(part, record.parts.get(part, 0.0)) for part in PARTS]
    left = record.seconds - sum(spent for _, spent in known)
    return [(part, spent) for part, spent in [*known, (OTHER, left)] if spent > 0]


def typical(records: Iterable[CycleRecord]) -> dict[str, float]:
    """Return the median seconds of each part over the good cycles that had it."""
    spent: dict[str, list[float]] = {}
    for record in records:
        if record.result == "success":
            for part, took in shares(record):
                spent.setdefault(part, []).append(took)
    return {part: median(spent[part]) for part in (*PARTS, OTHER) if part in spent}


def svg(records: Sequence[CycleRecord]) -> str:
    """Return the chart; the newest cycle is at the right end, a failed one is marked."""
    records = records[-KEPT_CYCLES:]
    highest = max((one.seconds for one in records), default=0.0) or 1.0
    first = KEPT_CYCLES - len(records)
    bars = [_bar(one, (first + place) * _WIDTH, highest) for place, one in enumerate(records)]
    return (
        f'<svg viewBox="0 0 {KEPT_CYCLES * _WIDTH} {_HEIGHT + 4:.0f}" preserveAspectRatio="none"'
        f' role="img" aria-label="{text(told(records))}">{"".join(bars)}</svg>'
    )


def told(records: Sequence[CycleRecord]) -> str:
    """Return in words what the chart shows."""
    if not records:
        return "No cycle yet"
    failed = sum(one.result == "failed" for one in records)
    middle = median(one.seconds for one in records)
    longest = max(one.seconds for one in records)
    return (
        f"The last {many(len(records), 'cycle')}: median {seconds(middle)}, "
        f"longest {seconds(longest)}, {failed} failed"
    )


def _bar(record: CycleRecord, left: int, highest: float) -> str:
    scale = _HEIGHT / highest
    top = _HEIGHT
    pieces = []
    for part, spent in shares(record):
        top -= spent * scale
        pieces.append(
            f'<rect class="p-{part}" x="{left}" y="{top:.2f}" width="{_BAR}"'
            f' height="{spent * scale:.2f}"/>'
        )
    if record.result == "failed":
        pieces.append(
            f'<rect class="p-failed" x="{left}" y="{_HEIGHT}" width="{_BAR}" height="4"/>'
        )
    return f"<g><title>{text(_title(record))}</title>{''.join(pieces)}</g>"


def _title(record: CycleRecord) -> str:
    outcome = f"failed: {record.reason}" if record.result == "failed" else f"{record.written} keys"
    parts = ", ".join(f"{part} {seconds(spent)}" for part, spent in shares(record))
    return f"{clock(record.began)}, {seconds(record.seconds)}, {outcome} ({parts})"
