"""How old a key may be that somebody still writes, and which keys are no older. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from poller.config import Config
from poller.rounds.exporter import ExporterState
from poller.store.keys import AGENTS_TTL_S
from poller.values import DEFAULT_INTERVAL_S

_POLLS = 3
_ROUNDS = 2


def lately_s(config: Config, exporters: Iterable[ExporterState]) -> float:
    """Return how old a key may be that somebody still writes, in seconds."""
    intervals = [one.interval_s or DEFAULT_INTERVAL_S for one in exporters]
    slowest_s = max([DEFAULT_INTERVAL_S, *intervals])
    return max(_POLLS * config.poll.interval_s, _ROUNDS * slowest_s)


def written_lately(ages: Mapping[str, float], ttl_s: int, within_s: float) -> dict[str, float]:
    """Return the age of each key written within so many seconds, with our TTL or agents'.

    Where ours is the longer one, `ages` cannot tell an agent's key from an old one of ours.
    """
    longer_s = AGENTS_TTL_S - ttl_s
    return {
        kernel: so_old_s
        for kernel, age_s in ages.items()
        for so_old_s in [age_s if 0 <= age_s < within_s else age_s + longer_s]
        if 0 <= so_old_s < within_s
    }
