"""Which server answers, told from its answers, and what makes it answer as of now. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

VICTORIA = "VictoriaMetrics"
AS_OF_NOW = {"nocache": "1"}
"""Asked without it, VictoriaMetrics tells of 30 s ago under the time that was asked for.

Its own setting is `-search.latencyOffset`. Others take no notice of the parameter.
"""
_DECIDES = frozenset(("nocache", "latency_offset"))
_LATE_SCRAPES = 3.0
"""The newest sample of all is younger than one scrape interval, give or take a lost scrape."""
_LATE_S = 15.0
"""… where the scrape interval is not known."""


def is_victoria(headers: Collection[str], statistics: bytes = b"") -> bool:
    """Whether VictoriaMetrics answered: by the names of its headers, or by its own statistics.

    A proxy may take the header away, and so may a setting of its later versions, which have
    the statistics in every answer.
    """
    named = any(name.lower() == "x-server-hostname" for name in headers)
    return named or b'"seriesFetched"' in statistics


def decided(params: Mapping[str, str]) -> bool:
    """Whether the settings say themselves as of when VictoriaMetrics shall answer."""
    return not _DECIDES.isdisjoint(params)


def lags(seconds: float, scrape_s: float | None) -> bool:
    """Whether samples lag by more than a few scrapes: no server that is on time does so."""
    return seconds > (_LATE_SCRAPES * scrape_s if scrape_s else _LATE_S)
