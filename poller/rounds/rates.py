"""How a rate is got, what it is where a counter fell, how long its window must be. Pure.

A rate is the difference between an agent's last two measurements over the time between them: from
two rounds in memory. Where there are none (a kernel that the poller meets, an exporter that counts
no rounds) Prometheus' `rate()` over a window stands in, if samples fill the window.
"""

from __future__ import annotations

from poller.values import DEFAULT_INTERVAL_S, Window

SCRAPES = 5
MEASUREMENTS = 4
DEFAULT_SCRAPE_S = 15.0
_LONGEST_S = 3600.0
"""What looks like a longer interval is rubbish: a window of it would ask for days."""
_FILLED = 0.75
"""A window with less than this share of its samples has a gap in it."""
_ONCE = 2.0
"""So many scrapes of a kernel's life hold one sample of it, unless there is a gap."""
_SIZES_S = (5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0, 600.0)


def between(before: float, after: float, elapsed_s: float) -> float:
    """Return the rate between two measurements of a counter; 0 where it began anew."""
    grown = after - before
    return grown / elapsed_s if grown > 0.0 else 0.0


def window(scrape_s: float | None, measure_s: float | None, given_s: float | None = None) -> Window:
    """Return the window that fits: five scrapes or four measurements, whichever is longer.

    Shorter, and a busy kernel reads 0 between two measurements; longer, and a burst is diluted.
    """
    scrape_s, measure_s = likely(scrape_s), likely(measure_s)
    longer = max(
        SCRAPES * (scrape_s or DEFAULT_SCRAPE_S), MEASUREMENTS * (measure_s or DEFAULT_INTERVAL_S)
    )
    return Window(given_s or longer, scrape_s)


def likely(seconds: float | None) -> float | None:
    """Return an interval, or None if no agent and no Prometheus would have it."""
    return seconds if seconds is not None and 0 < seconds <= _LONGEST_S else None


def rounded(one: Window) -> Window:
    """Return a window of one of a few ranges, so that many agents share a query."""
    fitting = next((size for size in _SIZES_S if size >= one.range_s), one.range_s)
    return Window(fitting, one.scrape_s)


def stand_in(rate: float | None, samples: float, over: Window, age_s: float | None) -> float | None:
    """Return a rate over a window as it may be written; None if it would be false.

    `age_s` is how long the kernel has lived, None if for long. Prometheus divides an
    increase by the whole range, and extrapolates by half a scrape: a young kernel's rate is scaled
    to its life. A window that is not filled, as far as the kernel has lived, holds a gap. The rate
    of a kernel that was scraped once is 0, as an agent writes it at a first measurement.
    """
    young = age_s is not None and age_s <= over.range_s
    lived_s = age_s if age_s is not None and young else over.range_s
    scrape_s = over.scrape_s
    if rate is None:
        return 0.0 if young and (not scrape_s or lived_s < _ONCE * scrape_s) else None
    if scrape_s and samples < _FILLED * lived_s / scrape_s:
        return None
    if not scrape_s and not rate:
        return None  # two scrapes of one measurement, perhaps
    return _scaled(rate, over, lived_s) if young else rate


def _scaled(rate: float, over: Window, age_s: float) -> float:
    scrape_s = over.scrape_s or 0.0
    covered_s = age_s + scrape_s / 2
    if covered_s >= over.range_s:
        return rate
    return rate * over.range_s / max(covered_s, scrape_s, 0.001)
