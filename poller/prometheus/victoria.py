"""What is peculiar to VictoriaMetrics: how it is told, and what it is asked for. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

NAME = "VictoriaMetrics"
_AS_OF_NOW = {"nocache": "1"}
"""Asked without it, VictoriaMetrics tells of 30 s ago under the time that was asked for.

Its own setting is `-search.latencyOffset`. Others take no notice of the parameter.
"""
_FILTER = "extra_filters[]"
_FILTERS = frozenset((_FILTER, "extra_filters"))
_NO_LABEL = "livestat_poller_asked"
_DECIDES = frozenset(("nocache", "latency_offset"))


def is_victoria(headers: Collection[str], statistics: bytes = b"") -> bool:
    """Whether VictoriaMetrics answered: by the names of its headers, or by its own statistics.

    A proxy may take the header away, and so may a setting of its later versions, which have
    the statistics in every answer.
    """
    named = any(name.lower() == "x-server-hostname" for name in headers)
    return named or b'"seriesFetched"' in statistics


def beside(params: Mapping[str, str], at: float) -> dict[str, str]:
    """Return what VictoriaMetrics must be asked beside a query of the time `at`, Unix seconds.

    Which series a filter finds it remembers for up to ten seconds, so that a kernel that begins
    would be met late, with its first measurements behind it. A filter that it never saw before, and
    that all series pass, makes it look. Several filters would be alternatives, so where the
    settings have some, they stay as they are.
    """
    asked = {} if decided(params) else dict(_AS_OF_NOW)
    if _FILTERS.isdisjoint(params):
        asked[_FILTER] = f'{{{_NO_LABEL}!="{at:.3f}"}}'
    return asked


def decided(params: Mapping[str, str]) -> bool:
    """Whether the settings say themselves as of when VictoriaMetrics shall answer."""
    return not _DECIDES.isdisjoint(params)
